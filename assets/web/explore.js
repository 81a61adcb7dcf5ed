// The explorer: panels around one selection.

import { LIGHT, DARK } from "./color.js";
import { abs, max, min, none, say } from "./data.js";
import { all, on } from "./page.js";
import { fromHash, makeStore, toHash } from "./store.js";
import { alone, button, chip, dialog, h } from "./draw.js";
import { copyCommand, menu, save, tell } from "./save.js";
import { headOf, headsPanel, measures, named } from "./heads.js";
import { cardPanel } from "./card.js";
import { attentionPanel } from "./attention.js";
import { lensPanel } from "./lens.js";
import { placesPanel } from "./places.js";
import { eachPanel, go, promptStrip } from "./prompts.js";
import { palette } from "./palette.js";

/** Rows of a panel's table that are shown; its CSV has all. */
const LISTED = 400;

const KEYS = [
  ["point, click", "preview, hold"], ["Esc", "let go of everything"], ["arrows", "move in the panel in focus"],
  ["[ ]", "one layer less, more"], ["/", "go to a head, token, panel, prompt"], ["Shift", "no previews"], ["e", "save as SVG"],
  ["c", "copy the command"], ["?", "this list"],
];

/** Builds the explorer; none if there is nothing to explore. @param {any} data */
export function explore(data) {
  const root = document.getElementById("explore");
  if (!root || !data.prompts.length) return undefined;
  const list = measures(data);
  const panels = [];
  if (list.length) panels.push(headsPanel(data, list), cardPanel(data, list));
  if (data.attended.length) panels.push(attentionPanel(data));
  if (data.readings || data.table("lens") || data.table("lens_first")) panels.push(lensPanel(data));
  if (data.table("resid_by_pos")) panels.push(placesPanel(data));
  if (data.task.n > 1 && list.some(({ table, column }) => data.each(table, column, 0)?.length > 1)) panels.push(eachPanel(data, list));
  if (!panels.length) return undefined;

  const store = makeStore(() => strongest(list), (now) => within(data, now));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const print = matchMedia("print");
  const tone = () => (dark.matches && !print.matches ? DARK : LIGHT);

  const strip = promptStrip(data, store);
  const grid = h("div", { class: "panels" });
  const held = h("span", { class: "held" });
  const free = button("Let go", () => store.release(), { hidden: true });
  const help = helpBox();
  const keys = button("Keys", () => help.showModal(), { "aria-haspopup": "dialog" });
  const views = panels.map((panel) => view(panel, data, store, tone));
  const find = palette(data, store, views);
  const heard = h("p", { class: "sr", role: "status", "aria-live": "polite" });
  root.append(
    h("h2", {}, h("a", { href: "#explore" }, "Explore")),
    h("p", { class: "hint" }, h("span", {}, "Point to preview, click to hold, Esc lets go. "), keys, button("Go to", find.open, { "aria-haspopup": "dialog" }), h("span", { class: "now" }, held, " ", free)),
    strip.node, grid, help, find.box, heard,
  );
  // two columns that fill up by themselves; on a narrow page one, in the order of `panels`
  const columns = [["heads", "attention", "places"], ["card", "lens", "each"]];
  grid.append(...columns.map((ids) =>
    h("div", { class: "column" }, ...views.map(({ node }) => node).filter(({ dataset }) => ids.includes(dataset.panel)))));
  views.forEach(({ node }, i) => node.style.setProperty("--order", String(i)));
  root.hidden = false;

  /** The panel that keys mean: where the focus is, or was last. */
  let focused = views[0];
  for (const one of views) {
    on(one.node, "focusin", () => (focused = one));
    on(one.node, "pointerdown", () => (focused = one));
  }

  let waiting = false;
  const paint = () => {
    waiting = false;
    const now = store.now();
    strip.update(now, tone());
    views.forEach((one) => one.paint(now));
    const names = Object.keys(store.held());
    held.textContent = names.length ? `held: ${spoken(now, names, list)}` : "";
    free.hidden = !names.length;
  };
  const soon = () => {
    if (!waiting) requestAnimationFrame(paint);
    waiting = true;
  };
  const address = () => {
    const names = Object.keys(store.held());
    try {
      history.replaceState(null, "", names.length ? `#${toHash(store.held())}` : location.href.split("#")[0]);
    } catch {
      // a page inside of another has no address of its own
    }
  };
  store.onChange((why) => {
    if (why === "peek") return soon();
    paint();
    if (why !== "restore") address();
    if (why === "release") heard.textContent = "Nothing is held";
    if (why === "hold") heard.textContent = `${spoken(store.now(), ["L", "q", "ex"])}. ${focused.say(store.now())}`;
    return undefined;
  });
  on(dark, "change", paint);
  on(print, "change", paint);
  on(window, "beforeprint", paint);

  const read = () => {
    const selection = fromHash(location.hash);
    if (selection) store.restore(selection);
    return selection;
  };
  on(window, "hashchange", () => read() || location.hash || store.restore({}));
  if (read()) root.scrollIntoView();
  else paint();

  on(document, "keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (!alone(event) || target.closest("input, textarea, select, dialog")) return;
    const now = store.now();
    const does = {
      Escape: () => (store.release(), all(".menu[open]").forEach((box) => (box.open = false))),
      "[": () => store.hold({ L: max(0, now.L - 1) }),
      "]": () => store.hold({ L: min(data.model.layers - 1, now.L + 1) }),
      "/": find.open,
      "?": () => help.showModal(),
      e: () => focused.save("svg"),
      c: () => focused.copy(),
    }[event.key];
    if (!does) return;
    event.preventDefault();
    does();
  });
  linkFigures(data, store);
  return store;
}

/** The head with the largest effect, and the end of the first prompt. @param {any[]} list */
function strongest(list) {
  let [best, most] = [["0", "0"], -1];
  for (const [key, { v }] of list[0]?.cells ?? []) {
    if (!key.endsWith("m") && abs(v) > most) [best, most] = [key.split("."), abs(v)];
  }
  return { ex: 0, L: Number(best[0]), H: Number(best[1]), q: -1, k: null, m: list[0]?.key ?? "", s: "" };
}

/** A selection put inside of what there is; by default the position where the answer is due. */
function within(data, now) {
  const inside = (x, n) => max(0, min(n - 1, x));
  const ex = inside(now.ex, data.prompts.length);
  const { clean, end } = data.prompts[ex];
  const q = now.q < 0 ? end : inside(now.q, clean.length);
  const k = none(now.k) ? null : inside(now.k, data.causal ? q + 1 : clean.length);
  const H = now.H === "m" ? "m" : inside(now.H, data.model.heads);
  return { ...now, ex, q, k, H, L: inside(now.L, data.model.layers), prompt: data.prompts[ex] };
}

/** What is selected, in words. */
function spoken(now, names, list = []) {
  const has = (...some) => some.some((name) => names.includes(name));
  const parts = [];
  if (has("L", "H")) parts.push(named(now));
  if (has("q")) parts.push(`${now.prompt.clean[now.q]} (${now.q})`);
  if (has("k")) parts.push(now.k === null ? "" : `its look at ${now.prompt.clean[now.k]} (${now.k})`);
  if (has("ex")) parts.push(`prompt ${now.ex + 1}`);
  if (has("m")) parts.push(`colours: ${(list.find(({ key }) => key === now.m) ?? list[0])?.name}`);
  if (has("s")) parts.push(`patched: ${now.s}`);
  return parts.filter(Boolean).join(", ");
}

function helpBox() {
  const rows = KEYS.map(([key, what]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)));
  const box = dialog("Keys", h("h3", {}, "Keys"), h("dl", {}, ...rows), button("Close", () => box.close()));
  return box;
}

/** One panel on the page: its heading, choices, drawing, numbers. */
function view(panel, data, store, tone) {
  const title = h("h3", { id: `panel-${panel.id}` });
  const readout = h("p", { class: "readout" });
  const plot = h("div", { class: "plot", tabindex: 0, role: "application", "aria-labelledby": `panel-${panel.id}` });
  const below = h("div", { class: "below" });
  const source = {
    svg: () => panel.draw(LIGHT, store.now()),
    unit: /** @type {"px"} */ ("px"),
    name: () => panel.name(store.now()).replace(/[^\w.-]+/g, "-"),
    table: () => panel.table(store.now()),
    absent: () => panel.absent?.(store.now()) ?? "",
  };
  const command = () => panel.command(store.now());
  const { box, line, refresh } = menu(source, command);
  const head = h("header", {}, title);
  let select;
  if (panel.choose && panel.choose.options.length > 1) {
    select = h("select", { "aria-label": panel.choose.label });
    const groups = new Map();
    for (const { value, name, group } of panel.choose.options) {
      if (group && !groups.has(group)) {
        groups.set(group, h("optgroup", { label: group }));
        select.append(groups.get(group));
      }
      (groups.get(group) ?? select).append(h("option", { value }, name));
    }
    on(select, "change", () => store.hold({ [panel.choose.key]: select.value }));
    head.append(select);
  }
  head.append(box);
  const numbers = h("details", { class: "numbers" }, h("summary", {}, "The numbers"));
  on(numbers, "toggle", list);
  const node = h("section", { class: "panel", "data-panel": panel.id, "aria-labelledby": `panel-${panel.id}` },
    head, readout, plot, below, numbers);

  /** The table behind the drawing, made when it is asked for. */
  function list() {
    while (numbers.children.length > 1) numbers.lastChild.remove();
    if (!numbers.open) return undefined;
    const absent = source.absent();
    if (absent) return numbers.append(h("p", { class: "absent" }, absent));
    const { columns, rows } = panel.table(store.now());
    const isNumber = columns.map((_, at) => rows.some((row) => typeof row[at] === "number"));
    const cell = (x, at) => h("td", isNumber[at] ? { class: "n" } : { class: "s" },
      none(x) ? "" : typeof x === "number" && !Number.isInteger(x) ? say(x) : String(x));
    const table = h("table", {},
      h("thead", {}, h("tr", {}, ...columns.map((name, at) => h("th", { scope: "col", class: isNumber[at] ? "n" : "s" }, name.replaceAll("_", " "))))),
      h("tbody", {}, ...rows.slice(0, LISTED).map((row) => h("tr", {}, ...row.map(cell)))));
    const more = rows.length > LISTED ? `${LISTED} of ${rows.length} rows; the CSV has all.` : "";
    return numbers.append(h("div", { class: "table", tabindex: 0, role: "region", "aria-label": "The numbers" }, table, more));
  }

  /** Where in the drawing the pointer is. */
  const at = (event) => {
    const svg = plot.querySelector("svg");
    if (!svg) return null;
    const box = svg.getBoundingClientRect();
    const { width, height } = svg.viewBox.baseVal;
    const [x, y] = [((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height];
    return panel.at?.(x, y, store.now()) ?? null;
  };
  on(plot, "pointermove", (event) => {
    if (!event.shiftKey && event.pointerType !== "touch") go(data, store, at(event), "peek");
  });
  on(plot, "pointerleave", () => store.peek(null));
  on(plot, "click", (event) => go(data, store, at(event)));
  on(plot, "keydown", (event) => {
    if (!event.key.startsWith("Arrow") || !alone(event) || !panel.move) return;
    event.preventDefault();
    go(data, store, panel.move(event.key, store.now()));
  });
  on(below, "click", (event) => {
    const row = event.target.closest?.("tbody tr[data-ex]");
    if (row) go(data, store, { ex: Number(row.dataset.ex) });
  });

  return {
    node,
    focus: () => plot.focus(),
    say: (now) => (source.absent() ? "" : panel.readout(now)),
    save: (form) => save(source, form),
    copy: () => (command() ? copyCommand(command(), line) : tell("No command computes this")),
    paint(now) {
      const heading = typeof panel.title === "function" ? panel.title(now) : panel.title;
      title.replaceChildren(...[heading].flat().map((part) => (typeof part === "string" ? part : chip(part.token))));
      if (select) select.value = panel.choose.now(now);
      const absent = source.absent();
      readout.textContent = absent ? "" : panel.readout(now);
      plot.replaceChildren(absent ? h("p", { class: "absent" }, absent) : panel.draw(tone(), now));
      const more = absent ? undefined : panel.below?.(now);
      if (more !== below.firstChild) below.replaceChildren(...(more ? [more] : []));
      if (box.open) refresh();
      list();
    },
  };
}

/** Cells and bars of the page's figures select what they show, and are marked when it is selected. */
function linkFigures(data, store) {
  /** @type {{ node: Element, head?: any[], L?: number, place?: string }[]} */
  const marks = [];
  for (const title of all(".paper svg g > title")) {
    const text = title.textContent;
    const cell = /^(?:after )?layer (\d+), (head|position) ([^:]+):/.exec(text);
    const name = /^(a\d+\.h\d+|m\d+)\b/.exec(text);
    const node = title.parentElement;
    if (cell?.[2] === "head") marks.push({ node, head: [Number(cell[1]), Number(cell[3])] });
    else if (cell) marks.push({ node, L: Number(cell[1]), place: cell[3] });
    else if (name) marks.push({ node, head: headOf(name[1]) });
  }
  const position = (place, now) => (/^\d+$/.test(place) ? Number(place) : now.prompt.pos[place]);
  for (const mark of marks) {
    mark.node.classList.add("pick");
    on(mark.node, "click", () => {
      const q = mark.head ? undefined : position(mark.place, store.now());
      store.hold(mark.head ? { L: mark.head[0], H: mark.head[1] } : q === undefined ? { L: mark.L } : { L: mark.L, q, k: null });
      tell(`Selected ${spoken(store.now(), mark.head ? ["L"] : ["L", "q"])}`);
    });
  }
  const show = (why) => {
    if (why === "peek") return;
    const [now, held] = [store.now(), store.held()];
    for (const { node, head, L, place } of marks) {
      const chosen = head
        ? held.H !== undefined && head[0] === now.L && head[1] === now.H
        : held.q !== undefined && held.L !== undefined && L === now.L && position(place, now) === now.q;
      node.classList.toggle("on", chosen);
    }
  };
  store.onChange(show);
  show("restore");
}
