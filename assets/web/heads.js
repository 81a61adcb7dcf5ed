// The map of heads and MLPs, coloured by whichever of their numbers is asked for.

import { rowsOf, say, sayCell } from "./data.js";
import { inkOn, scaleOver } from "./color.js";
import { colorBar, fit, grid, hatch, label, layerStep, ring, sheet, tickLook, ticks, vertical } from "./draw.js";

/**
 * Something that every head has a number for.
 * @typedef {object} Measure
 * @property {string} key @property {string} name what it is @property {string} group whose method it is
 * @property {string} unit words for the colour bar @property {"diverging" | "sequential"} kind
 * @property {string} table @property {string} column
 * @property {Map<string, { v: number, lo?: number, hi?: number, row: number }>} cells by `2.0` or `2.m`
 * @property {(row: number) => boolean} keep which rows of the table belong to it
 */

/** The head that a component's name names, `[2, 0]`, or the MLP, `[2, "m"]`. @param {string} name */
export function headOf(name) {
  const found = /^a(\d+)\.h(\d+)$/.exec(name) ?? /^m(\d+)$/.exec(name);
  return found && [Number(found[1]), found[2] === undefined ? "m" : Number(found[2])];
}

/** `L2H0`, `MLP 2`. */
export const spokenHead = (L, H) => (H === "m" ? `MLP ${L}` : `L${L}H${H}`);

const SCORES = [
  ["previous", "attention to the previous token"], ["duplicate", "attention to the same token before"],
  ["induction", "attention to what followed the same token"], ["prefix", "prefix matching"],
  ["bos", "attention to the first position"], ["copying", "copying, by the weights"], ["entropy", "entropy of attention"],
];
const WEIGHTS = [["matching", "matching, by the weights"], ["preserving", "preserving, by the weights"]];

/** Every measure that the page has numbers for. @param {any} data @returns {Measure[]} */
export function measures(data) {
  const found = [];
  const { metric } = data.task;
  const add = (key, name, group, unit, kind, table, column, ends, keep = () => true) => {
    const [layers, heads, names] = ["layer", "head", "component"].map((of) => table.get(of));
    const [values, lo, hi] = [column, ...ends].map((of) => table.get(of));
    const cells = new Map();
    for (let row = 0; row < table.rows; row++) {
      if (!keep(row)) continue;
      const place = layers.length ? [layers[row], heads[row]] : headOf(names[row] ?? "");
      if (!place || place[0] === null || place[1] === null) continue;
      cells.set(place.join("."), { v: values[row] ?? NaN, lo: lo[row], hi: hi[row], row });
    }
    if (cells.size) found.push({ key, name, group, unit, kind, table: table.name, column, cells, keep });
  };
  const components = data.table("components");
  if (components) {
    const of = (column, name) => add(column, name, "effects", "logits", "diverging", components, column,
      [`${column}_ci_lo`, `${column}_ci_hi`]);
    of("total", "total effect");
    of("direct", "direct effect");
  }
  const direct = !components && data.table("attribution_head");
  if (direct) add("direct", "direct effect", "effects", "logits", "diverging", direct, "direct", ["ci_lo", "ci_hi"]);
  for (const [name, group] of [["patch_head", "patching"], ["atp_head", "patching, estimated"]]) {
    const table = data.table(name);
    if (!table) continue;
    const [sites, ways, units] = ["site", "direction", "unit"].map((of) => table.get(of));
    const pairs = [...new Set(sites.map((site, i) => `${site}\n${ways[i]}`))].map((pair) => pair.split("\n"));
    pairs.sort(([a], [b]) => Number(b === "z") - Number(a === "z"));
    for (const [site, way] of pairs) {
      const keep = (row) => sites[row] === site && ways[row] === way;
      const gap = units.length ? units.find((_, row) => keep(row)) === "gap" : way !== "insert";
      const unit = gap ? (way === "noise" ? "share of the gap lost" : "share of the gap restored") : `change of ${metric}`;
      add(`${name}.${site}.${way}`, `${site}, ${way}`, group, unit, "diverging", table, "effect", ["ci_lo", "ci_hi"], keep);
    }
  }
  const ablated = data.table("ablate_head");
  if (ablated) {
    const kinds = ablated.get("kind");
    for (const kind of new Set(kinds)) {
      add(`ablate.${kind}`, kind, "taken out", `change of ${metric}`, "diverging", ablated, "change", ["ci_lo", "ci_hi"],
        (row) => kinds[row] === kind);
    }
  }
  const scores = data.table("head_scores");
  const score = (table, list) => {
    for (const [column, name] of list) {
      const kind = table.get(column).some((x) => x < 0) ? "diverging" : "sequential";
      if (table.get(column).some((x) => x !== null)) {
        add(`score.${column}`, name, "habits", "score", kind, table, column, [`${column}_ci_lo`, `${column}_ci_hi`]);
      }
    }
  };
  if (scores) score(scores, SCORES);
  const weights = data.table("weights");
  if (weights) score(weights, scores ? WEIGHTS : [...WEIGHTS, ["copying", "copying, by the weights"]]);
  return found;
}

/** The panel. @param {any} data @param {Measure[]} list */
export function headsPanel(data, list) {
  const { layers, heads } = data.model;
  const chosen = (now) => list.find((measure) => measure.key === now.m) ?? list[0];
  const place = () => {
    const mlp = list.some((measure) => [...measure.cells.keys()].some((key) => key.endsWith("m")));
    const columns = heads + (mlp ? 1 : 0);
    const size = Math.max(4, Math.min(40, Math.floor((392 - (mlp ? 8 : 0)) / columns), Math.floor(620 / layers)));
    // the MLPs stand a little apart
    const x = (H) => 28 + (H === "m" ? heads * size + 8 : H * size);
    return { mlp, columns, size, x, y: (L) => 6 + L * size, width: 420, bottom: 6 + layers * size };
  };
  return {
    id: "heads",
    title: "Heads and MLPs",
    choose: {
      label: "Coloured by",
      key: "m",
      options: list.map((measure) => ({ value: measure.key, name: measure.name, group: measure.group })),
      now: (now) => chosen(now).key,
    },
    keys: "Left and right: head. Up and down: layer.",
    readout: (now) => {
      const cell = chosen(now).cells.get(`${now.L}.${now.H}`);
      return `${spokenHead(now.L, now.H)}: ${cell ? `${sayCell(cell)} ${chosen(now).unit}` : "no value"}`;
    },
    draw(palette, now) {
      const measure = chosen(now);
      const { mlp, columns, size, x, y, width, bottom } = place();
      const svg = sheet(width, bottom + 46, `${measure.name} of every head; ${spokenHead(now.L, now.H)} is selected`);
      const scale = scaleOver([...measure.cells.values()].map((cell) => cell.v), measure.kind);
      const cell = (L, H) => measure.cells.get(`${L}.${H}`);
      const color = (L, H) => {
        const own = cell(L, H);
        return own && !Number.isNaN(own.v) ? scale.color(palette, own.v) : null;
      };
      grid(svg, { x: 28, y: 6, w: size, h: size, columns: heads, rows: layers }, color);
      if (mlp) grid(svg, { x: x("m"), y: 6, w: size, h: size, columns: 1, rows: layers }, (L) => color(L, "m"));
      const all = [...Array(heads).keys(), ...(mlp ? ["m"] : [])];
      for (let L = 0; L < layers; L++) {
        for (const H of all) {
          const own = cell(L, H);
          if ((!own && H !== "m") || (own && Number.isNaN(own.v))) hatch(svg, x(H), y(L), size - 1, size - 1, palette);
          if (own && size >= 26 && !Number.isNaN(own.v)) {
            const text = short(own.v, scale.hi);
            svg.append(label(x(H) + (size - 1) / 2, y(L) + (size - 1) / 2, text,
              { "text-anchor": "middle", "font-size": Math.min(10.5, size * 0.32), fill: inkOn(color(L, H)) }));
          }
        }
      }
      ticks(layers, size, 16, now.L, (L, on) =>
        svg.append(label(22, y(L) + size / 2, String(L), { ...tickLook(palette, on), "text-anchor": "end" })));
      const under = (H, on) => svg.append(label(x(H) + size / 2, bottom + 8, H === "m" ? "MLP" : String(H),
        { ...tickLook(palette, on), "text-anchor": "middle" }));
      ticks(heads, size, 16, now.H === "m" ? null : now.H, under);
      if (mlp) under("m", now.H === "m");
      if (now.H !== "m" || mlp) ring(svg, x(now.H), y(now.L), size, size, palette);
      colorBar(svg, 28, bottom + 24, 130, scale, palette, fit(`${measure.name} (${measure.unit})`, 240, 10), say);
      return svg;
    },
    at(px, py) {
      const { mlp, size, x, bottom } = place();
      const L = Math.floor((py - 6) / size);
      if (L < 0 || L >= layers || py >= bottom) return null;
      if (mlp && px >= x("m") && px < x("m") + size) return { L, H: "m" };
      const H = Math.floor((px - 28) / size);
      return H >= 0 && H < heads ? { L, H } : null;
    },
    move(key, now) {
      if (vertical(key)) {
        const change = layerStep(data, now, key);
        return change && { ...change, H: now.H };
      }
      const order = [...Array(heads).keys(), ...(place().mlp ? ["m"] : [])];
      const H = order[order.indexOf(now.H) + (key === "ArrowLeft" ? -1 : 1)];
      return H === undefined ? null : { L: now.L, H };
    },
    table(now) {
      const measure = chosen(now);
      return rowsOf(data.table(measure.table), measure.keep);
    },
    command: (now) => data.commands[chosen(now).table] ?? "",
    name: (now) => `heads-${chosen(now).key}`,
  };
}

/** A number in the little room of a cell. */
function short(x, most) {
  const size = Math.abs(x);
  if (size < most * 0.005) return "0";
  const text = most >= 100 ? x.toFixed(0) : most >= 10 ? x.toFixed(1) : x.toFixed(2);
  return text.replace("-", "−").replace(/^(−?)0\./, "$1.");
}
