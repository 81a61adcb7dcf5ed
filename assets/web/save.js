// What leaves the page: drawings, pictures, tables, commands.

import { all, on } from "./page.js";
import { csv, rowsOf } from "./data.js";
import { button, h } from "./draw.js";

/** Dots for each inch of a printed picture. */
const DPI = 300;

const FORMS = [
  ["svg", "SVG"], ["png", "PNG", `${DPI} dots per inch, for paper`], ["png2", "PNG 2×", "twice the pixels of the screen"], ["csv", "CSV"],
];

/** Hands a file to the reader. @param {Blob} blob @param {string} name */
export function download(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

/** A drawing as a file's text, with a size of its own. @param {SVGSVGElement} svg @param {"pt" | "px"} unit */
export function svgText(svg, unit) {
  const copy = /** @type {SVGSVGElement} */ (svg.cloneNode(true));
  for (const node of copy.querySelectorAll("[class]")) node.removeAttribute("class");
  const { width, height } = svg.viewBox.baseVal;
  copy.setAttribute("width", `${width}${unit}`);
  copy.setAttribute("height", `${height}${unit}`);
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  return new XMLSerializer().serializeToString(copy);
}

/** A drawing as a picture. @param {SVGSVGElement} svg @param {"pt" | "px"} unit @param {boolean} print for paper, or for a screen */
export async function pngBlob(svg, unit, print) {
  const { width, height } = svg.viewBox.baseVal;
  const inch = unit === "pt" ? 72 : 96;
  const scale = print ? DPI / inch : (2 * 96) / inch;
  // no browser draws a canvas much larger
  const most = Math.min(scale, 16000 / Math.max(width, height));
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svgText(svg, unit))}`;
  await image.decode();
  const canvas = h("canvas", { width: Math.round(width * most), height: Math.round(height * most) });
  const ink = canvas.getContext("2d");
  ink.fillStyle = "#ffffff";
  ink.fillRect(0, 0, canvas.width, canvas.height);
  ink.drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

let told;
/** Says what was done, to eyes and ears. @param {string} words */
export function tell(words) {
  told ??= document.body.appendChild(h("div", { class: "toast", role: "status", "aria-live": "polite" }));
  told.textContent = words;
  told.classList.add("on");
  clearTimeout(told.timer);
  told.timer = setTimeout(() => told.classList.remove("on"), 2200);
}

/** Copies a command; where the browser refuses, shows it selected. @param {string} command @param {HTMLElement} near */
export async function copyCommand(command, near) {
  try {
    await navigator.clipboard.writeText(command);
    tell("Command copied");
  } catch {
    near.querySelector("input")?.remove();
    const field = h("input", { readonly: true, "aria-label": "The command, to be copied", value: command });
    near.append(field);
    near.closest("details")?.setAttribute("open", "");
    field.focus();
    field.select();
    tell("Press Ctrl+C or ⌘C to copy");
  }
}

/**
 * What can be saved of a drawing.
 * @typedef {object} Source
 * @property {() => SVGSVGElement} svg in the colours of paper
 * @property {"pt" | "px"} unit what its view box is in
 * @property {(form: string) => string} name of the file, without ending
 * @property {() => ({ columns: string[], rows: any[][] } | undefined)} table
 * @property {() => string} [absent] why there is nothing to save, if there is nothing
 */

/** Saves a drawing in one form. @param {Source} from @param {string} form */
export async function save(from, form) {
  const absent = from.absent?.();
  if (absent) return tell(absent);
  const rows = form === "csv" && from.table();
  const made = rows ? new Blob([csv(rows.columns, rows.rows)], { type: "text/csv" })
    : form === "svg" ? new Blob([svgText(from.svg(), from.unit)], { type: "image/svg+xml" })
    : await pngBlob(from.svg(), from.unit, form === "png");
  const name = `${from.name(form)}${form === "png2" ? "@2x" : ""}.${form.slice(0, 3)}`;
  download(made, name);
  return tell(`Saved ${name}`);
}

/** The menu of a panel. @param {Source} from @param {() => string} command */
export function menu(from, command) {
  const files = h("p", { class: "files" });
  const none = h("p", { class: "files" });
  for (const [form, called, title] of FORMS) {
    files.append(button(called, () => save(from, form), { "data-save": form, title }), " ");
  }
  const code = h("code");
  const where = h("span", {}, "run in this report’s folder");
  const line = h("p", { class: "command" }, code, " ", where, " ", button("Copy command", () => copyCommand(command(), line)));
  const refresh = () => {
    none.textContent = from.absent();
    files.hidden = none.textContent !== "";
    code.textContent = command();
    line.hidden = code.textContent === "";
    // as `figure.rs` has it
    where.hidden = !/ study[.]toml|[.]jsonl| gains[.]json/.test(code.textContent);
  };
  const box = h("details", { class: "menu" }, h("summary", {}, "Save"), none, files, line);
  on(box, "toggle", refresh);
  return { box, line, refresh };
}

/** Lets the links beneath the page's figures save from the page itself. @param {any} data the page's, if it has any */
export function figureMenus(data) {
  for (const figure of all("figure[id^=figure-]")) {
    const links = all("[data-save]", figure);
    if (!links.length) continue;
    const csvLink = links.find((link) => link.dataset.save === "csv");
    const rows = csvLink && data?.table(csvLink.dataset.table);
    const from = {
      svg: () => figure.querySelector(".paper > svg"),
      unit: /** @type {"pt"} */ ("pt"),
      name: (form) => (form === "csv" ? csvLink.dataset.table : figure.id.slice(7)),
      table: () => rows && rowsOf(rows),
    };
    for (const link of links) {
      // what the page does not hold is in the file beside it
      if (!["svg", "png"].includes(link.dataset.save) && !(link === csvLink && rows)) continue;
      on(link, "click", (event) => {
        event.preventDefault();
        save(from, link.dataset.save);
      });
    }
    const twice = button("PNG 2×", () => save(from, "png2"), { "data-save": "png2" });
    links.find((link) => link.dataset.save === "png")?.after(" ", twice);
    const line = figure.querySelector(".command");
    line?.append(" ", button("Copy command", () => copyCommand(line.firstChild.textContent, line)));
  }
}
