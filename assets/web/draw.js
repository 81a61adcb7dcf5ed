// Drawing: nodes, text that fits, grids of coloured cells, colour bars.

const SVG = "http://www.w3.org/2000/svg";
export const FONT = "system-ui, 'DejaVu Sans', Verdana, Arial, sans-serif";

/** An SVG element. @param {string} tag @param {Record<string, any>} [attributes] @param {...(Node | string)} inside */
export function s(tag, attributes = {}, ...inside) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) node.setAttribute(name, String(value));
  }
  node.append(...inside);
  return node;
}

/** An HTML element; `class` and others are attributes, texts stay texts.
 * @param {string} tag @param {Record<string, any>} [attributes] @param {...(Node | string)} inside @returns {any} */
export function h(tag, attributes = {}, ...inside) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== undefined && value !== null && value !== false) node.setAttribute(name, String(value));
  }
  node.append(...inside);
  return node;
}

/** A token as it stands in the page's text. @param {string} token @param {string} [more] */
export const chip = (token, more = "") => h("code", { class: `tok ${more}`, dir: "auto" }, token);

/** An empty drawing. @param {number} width @param {number} height @param {string} label */
export function sheet(width, height, label) {
  return s("svg", {
    viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label,
    "font-family": FONT, "font-size": 11,
  });
}

let pen;
/** How wide a text is. @param {string} text @param {number} [size] */
export function wide(text, size = 11) {
  pen ??= document.createElement("canvas").getContext("2d");
  pen.font = `${size}px ${FONT}`;
  return pen.measureText(text).width;
}

/** A text cut to a width. @param {string} text @param {number} most @param {number} [size] */
export function fit(text, most, size = 11) {
  const letters = [...text.slice(0, 200)];
  if (letters.length === text.length && wide(text, size) <= most) return text;
  while (letters.length && wide(letters.join("") + "…", size) > most) letters.pop();
  return letters.length ? letters.join("") + "…" : "";
}

/** A text. @param {number} x @param {number} y its middle @param {string} text @param {Record<string, any>} look */
export function label(x, y, text, look = {}) {
  return s("text", { x, y: y + (look["font-size"] ?? 11) * 0.36, ...look }, text);
}

/** Cells drawn one by one up to this number; more become one image. */
const ONE_BY_ONE = 2600;

/**
 * A grid of cells.
 * @param {any} svg
 * @param {{ x: number, y: number, w: number, h: number, columns: number, rows: number }} frame
 * @param {(row: number, column: number) => string | null} fill a colour; null for a cell that is not there
 */
export function grid(svg, frame, fill) {
  const { x, y, w, h: height, columns, rows } = frame;
  if (columns * rows > ONE_BY_ONE) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [columns, rows];
    const ink = canvas.getContext("2d");
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) {
        const color = fill(r, c);
        if (color) [ink.fillStyle] = [color], ink.fillRect(c, r, 1, 1);
      }
    }
    svg.append(s("image", {
      x, y, width: columns * w, height: rows * height, href: canvas.toDataURL(), preserveAspectRatio: "none",
      style: "image-rendering:pixelated",
    }));
    return;
  }
  const gap = Math.min(w, height) > 14 ? 1 : 0;
  const cells = s("g", gap ? {} : { "shape-rendering": "crispEdges" });
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      const color = fill(r, c);
      if (color) cells.append(s("rect", { x: x + c * w, y: y + r * height, width: w - gap, height: height - gap, fill: color }));
    }
  }
  svg.append(cells);
}

/** The hatching of a cell without a value. */
export function hatch(svg, x, y, w, height, palette) {
  svg.append(s("rect", { x, y, width: w, height, fill: palette.missing, opacity: 0.35 }));
  for (let at = 3; at < w + height; at += 5) {
    const [x1, y1] = at < height ? [x, y + at] : [x + at - height, y + height];
    const [x2, y2] = at < w ? [x + at, y] : [x + w, y + at - w];
    svg.append(s("line", { x1, y1, x2, y2, stroke: palette.missing, "stroke-width": 1 }));
  }
}

/** A frame around what is selected. */
export function ring(svg, x, y, w, height, palette, strength = 2) {
  svg.append(s("rect", {
    x: x - 0.5, y: y - 0.5, width: w, height, fill: "none", stroke: palette.mark, "stroke-width": strength, rx: 1.5,
  }));
}

/** A colour bar with its ends, zero, and what it measures. */
export function colorBar(svg, x, y, w, scale, palette, words, sayNumber) {
  const steps = 52;
  for (let i = 0; i < steps; i++) {
    const fill = scale.color(palette, scale.lo + ((scale.hi - scale.lo) * (i + 0.5)) / steps);
    svg.append(s("rect", { x: x + (i * w) / steps, y, width: w / steps + 0.3, height: 6, fill, "shape-rendering": "crispEdges" }));
  }
  svg.append(s("rect", { x, y, width: w, height: 6, fill: "none", stroke: palette.line, "stroke-width": 0.5 }));
  const look = { fill: palette.soft, "font-size": 10 };
  svg.append(label(x, y + 14, sayNumber(scale.lo), look));
  svg.append(label(x + w, y + 14, sayNumber(scale.hi), { ...look, "text-anchor": "end" }));
  if (scale.lo < 0) svg.append(label(x + w / 2, y + 14, "0", { ...look, "text-anchor": "middle" }));
  svg.append(label(x + w + 10, y + 3, words, look));
}

/**
 * Labels along an axis: the selected one, and every k-th other that has room.
 * @param {number} n @param {number} size the room of one @param {number} need what a label takes
 * @param {number | null} on the selected one @param {(i: number, on: boolean) => void} put
 */
export function ticks(n, size, need, on, put) {
  const step = Math.max(1, Math.ceil(need / size));
  for (let i = 0; i < n; i++) {
    const free = i % step === 0 && (on === null || Math.abs(i - on) * size >= need * 0.8);
    if (i === on || free) put(i, i === on);
  }
}

/** How a label along an axis is set. */
export const tickLook = (palette, on, size = 10) =>
  ({ fill: on ? palette.ink : palette.soft, "font-weight": on ? 700 : 400, "font-size": size });

/** A text at 45 degrees. */
export function slanted(svg, x, y, text, look) {
  svg.append(s("text", { x, y, transform: `rotate(-45 ${x} ${y})`, ...look }, text));
}

/** A line of values: its ends, and zero where there is room for it.
 * @param {any} svg @param {any} palette @param {{ least: number, most: number, x: (v: number) => number }} axis */
export function valueAxis(svg, palette, { least, most, x }, y, say) {
  svg.append(s("line", { x1: x(least), x2: x(most), y1: y, y2: y, stroke: palette.line }));
  const room = (v) => v === 0 || Math.abs(x(v) - x(0)) > 34;
  for (const [v, anchor] of [[least, "start"], [most, "end"], [0, "middle"]]) {
    const look = { ...tickLook(palette, false), "text-anchor": v || least === most ? anchor : v === least ? "start" : v === most ? "end" : anchor };
    if (v === 0 ? anchor === "middle" : room(v)) svg.append(label(x(v), y + 10, say(v), look));
  }
}

/** The axis of some values, zero among them. @param {Iterable<number>} values */
export function axisOver(values, left, right) {
  let [least, most] = [0, 0];
  for (const v of values) if (Number.isFinite(v)) [least, most] = [Math.min(least, v), Math.max(most, v)];
  return { least, most, x: (v) => left + ((v - least) / (most - least || 1)) * (right - left) };
}

/** A layer further up or down; none beyond the ends. */
export function layerStep(data, now, key) {
  const L = now.L + (key === "ArrowUp" ? -1 : 1);
  return L >= 0 && L < data.model.layers ? { L } : null;
}

/** Whether an arrow points up or down. */
export const vertical = (key) => key === "ArrowUp" || key === "ArrowDown";
