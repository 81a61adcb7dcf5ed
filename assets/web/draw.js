// Drawing: nodes, text that fits, grids of coloured cells, colour bars.

import { on } from "./page.js";
import { abs, finite, isNaN, max, min, none, say } from "./data.js";

const SVG = "http://www.w3.org/2000/svg";
export const FONT = "system-ui, 'DejaVu Sans', Verdana, Arial, sans-serif";

/** A node with attributes and what is inside; texts stay texts. */
function filled(node, attributes, inside) {
  for (const [name, value] of Object.entries(attributes)) {
    if (!none(value) && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...inside);
  return node;
}

/** An SVG element. @param {string} tag @param {Record<string, any>} [attributes] @param {...(Node | string)} inside */
export const s = (tag, attributes = {}, ...inside) => filled(document.createElementNS(SVG, tag), attributes, inside);

/** An HTML element. @param {string} tag @param {Record<string, any>} [attributes] @param {...(Node | string)} inside
 * @returns {any} */
export const h = (tag, attributes = {}, ...inside) => filled(document.createElement(tag), attributes, inside);

/** A button that looks like a link. @param {string} text @param {(event: any) => void} act */
export function button(text, act, look = {}) {
  const node = h("button", { type: "button", class: "link", ...look }, text);
  on(node, "click", act);
  return node;
}

/** A box before the page; a click beside it closes it. @param {string} name @param {...Node} inside */
export function dialog(name, ...inside) {
  const box = h("dialog", { "aria-label": name }, ...inside);
  on(box, "click", ({ target }) => target === box && box.close());
  return box;
}

/** A token as it stands in the page's text. @param {string} token @param {string} [more] */
export const chip = (token, more = "") => h("code", { class: `tok ${more}`, dir: "auto" }, token);

/** An empty drawing, as wide as a panel; what is written on it is small and soft unless it is set otherwise. */
export const sheet = (height, tone) => s("svg", {
  viewBox: `0 0 420 ${height}`, width: 420, height, "font-family": FONT, "font-size": 10, fill: tone.soft,
});

let pen;
/** How wide a text is. @param {string} text @param {number} [size] */
export function wide(text, size = 10) {
  pen ??= h("canvas").getContext("2d");
  pen.font = `${size}px ${FONT}`;
  return pen.measureText(text).width;
}

/** A text cut to a width. @param {string} text @param {number} most @param {number} [size] */
export function fit(text, most, size = 10) {
  const letters = [...text.slice(0, 200)];
  if (text.length <= 200 && wide(text, size) <= most) return text;
  while (letters.length && wide(letters.join("") + "…", size) > most) letters.pop();
  return letters.length ? letters.join("") + "…" : "";
}

/** A text around the height `y`. @param {string} anchor `start`, `middle`, `end` @param {Record<string, any>} look */
export function label(svg, x, y, text, anchor = "start", look = {}) {
  svg.append(s("text", { x, y: y + (look["font-size"] ?? 10) * 0.36, "text-anchor": anchor, ...look }, text));
}

/** A line. */
export function rule(svg, x1, y1, x2, y2, stroke, look = {}) {
  svg.append(s("line", { x1, y1, x2, y2, stroke, ...look }));
}

/** A rectangle. */
export function box(svg, x, y, width, height, fill, look = {}) {
  svg.append(s("rect", { x, y, width, height, fill, ...look }));
}

/** Cells drawn one by one up to this number; more become one image. */
const ONE_BY_ONE = 2600;

/**
 * A grid of cells, hatched where they are no number.
 * @param {any} svg
 * @param {{ x: number, y: number, w: number, h: number, columns: number, rows: number }} frame
 * @param {(row: number, column: number) => number | undefined} value none for a cell that is not there
 */
export function grid(svg, frame, tone, scale, value) {
  const { x, y, w, h: height, columns, rows } = frame;
  const fill = (put) => {
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) {
        const v = value(r, c);
        if (isNaN(v)) hatch(svg, x + c * w, y + r * height, w - 1, height - 1, tone);
        else if (v !== undefined) put(r, c, scale.color(tone, v));
      }
    }
  };
  if (columns * rows > ONE_BY_ONE) {
    const canvas = h("canvas", { width: columns, height: rows });
    const ink = canvas.getContext("2d");
    fill((r, c, color) => {
      ink.fillStyle = color;
      ink.fillRect(c, r, 1, 1);
    });
    svg.append(s("image", {
      x, y, width: columns * w, height: rows * height, href: canvas.toDataURL(), preserveAspectRatio: "none",
      style: "image-rendering:pixelated",
    }));
    return;
  }
  const gap = min(w, height) > 14 ? 1 : 0;
  const cells = s("g", gap ? {} : { "shape-rendering": "crispEdges" });
  fill((r, c, color) => box(cells, x + c * w, y + r * height, w - gap, height - gap, color));
  svg.append(cells);
}

/** The hatching of a cell without a value. */
function hatch(svg, x, y, w, height, { missing }) {
  box(svg, x, y, w, height, missing, { opacity: 0.35 });
  for (let at = 3; at < w + height; at += 5) {
    const [x1, y1] = at < height ? [x, y + at] : [x + at - height, y + height];
    const [x2, y2] = at < w ? [x + at, y] : [x + w, y + at - w];
    rule(svg, x1, y1, x2, y2, missing);
  }
}

/** A frame around what is selected. */
export function ring(svg, x, y, w, height, stroke, strength = 2) {
  box(svg, x - 0.5, y - 0.5, w, height, "none", { stroke, "stroke-width": strength, rx: 1.5 });
}

/** A colour bar with its ends, zero, and what it measures. */
export function colorBar(svg, x, y, scale, tone, words) {
  const [w, steps] = [130, 52];
  for (let i = 0; i < steps; i++) {
    const fill = scale.color(tone, scale.lo + ((scale.hi - scale.lo) * (i + 0.5)) / steps);
    box(svg, x + (i * w) / steps, y, w / steps + 0.3, 6, fill, { "shape-rendering": "crispEdges" });
  }
  label(svg, x, y + 14, say(scale.lo));
  label(svg, x + w, y + 14, say(scale.hi), "end");
  if (scale.lo < 0) label(svg, x + w / 2, y + 14, "0", "middle");
  label(svg, x + w + 10, y + 3, fit(words, 240));
}

/**
 * Labels along an axis: the selected one, and every k-th other that has room.
 * @param {number} n @param {number} size the room of one @param {number} need what a label takes
 * @param {number | null} on the selected one @param {any} tone @param {(i: number, look: any) => void} put @param {number} [font]
 */
export function ticks(n, size, need, on, tone, put, font = 10) {
  const step = max(1, Math.ceil(need / size));
  for (let i = 0; i < n; i++) {
    const free = i % step === 0 && (on === null || abs(i - on) * size >= need * 0.8);
    if (i === on || free) put(i, tickLook(tone, i === on, font));
  }
}

/** How a label along an axis is set. */
export const tickLook = (tone, on, size = 10) =>
  on ? { fill: tone.ink, "font-weight": 700, "font-size": size } : { "font-size": size };

/** A text at 45 degrees. */
export const slanted = (svg, x, y, text, anchor, look) =>
  label(svg, x, y, text, anchor, { transform: `rotate(-45 ${x} ${y})`, ...look });

/** The axis of some values, zero among them. @param {Iterable<number>} values */
export function axisOver(values, left, right) {
  let [least, most] = [0, 0];
  for (const v of values) if (finite(v)) [least, most] = [min(least, v), max(most, v)];
  return { least, most, x: (v) => left + ((v - least) / (most - least || 1)) * (right - left) };
}

/** A line of values: zero, and its ends where they leave room for it. */
export function valueAxis(svg, tone, { least, most, x }, y) {
  rule(svg, x(least), y, x(most), y, tone.line);
  label(svg, x(0), y + 10, "0", least === 0 ? "start" : most === 0 ? "end" : "middle");
  if (x(0) - x(least) > 34) label(svg, x(least), y + 10, say(least));
  if (x(most) - x(0) > 34) label(svg, x(most), y + 10, say(most), "end");
}

/** A layer further up or down; none beyond the ends. */
export function layerStep(data, now, key) {
  const L = now.L + by(key);
  return L >= 0 && L < data.model.layers ? { L } : null;
}

/** Whether a key is pressed by itself. */
export const alone = (event) => !(event.ctrlKey || event.metaKey || event.altKey);

/** Which way along its axis an arrow goes. */
export const by = (key) => (key === "ArrowLeft" || key === "ArrowUp" ? -1 : 1);

/** Whether an arrow points up or down. */
export const vertical = (key) => key === "ArrowUp" || key === "ArrowDown";
