// The map of heads and MLPs, coloured by whichever of their numbers is asked for.

import { finite, floor, max, min, rowsOf, sayCell } from "./data.js";
import { inkOn, scaleOver } from "./color.js";
import { by, colorBar, grid, label, layerStep, ring, sheet, tickLook, ticks, vertical } from "./draw.js";

/**
 * Something that every head has a number for.
 * @typedef {object} Measure
 * @property {string} key @property {string} name what it is @property {string} group whose method it is
 * @property {string} unit words for the colour bar @property {"diverging" | "sequential"} kind
 * @property {string} table @property {string} column
 * @property {Map<string, { v: number | null, lo?: number, hi?: number, row: number }>} cells by `2.0` or `2.m`
 * @property {(row: number) => boolean} keep which rows of the table belong to it
 */

/** The head that a component's name names, `[2, 0]`, or the MLP, `[2, "m"]`. @param {string} name */
export function headOf(name) {
  const found = /^a(\d+)\.h(\d+)$/.exec(name) ?? /^m(\d+)$/.exec(name);
  return found && [Number(found[1]), found[2] === undefined ? "m" : Number(found[2])];
}

/** What is selected, as tables and the command line call it: `a2.h0` or `m2`. */
export const named = ({ L, H }) => (H === "m" ? `m${L}` : `a${L}.h${H}`);

/** What a measure says of the selection. @param {Measure} measure */
export const cellOf = (measure, { L, H }) => measure.cells.get(`${L}.${H}`);

const SCORES = [
  ["previous", "previous token"], ["duplicate", "duplicate token"], ["induction", "induction"], ["prefix", "prefix matching"],
  ["bos", "first position"], ["copying", "copying (weights)"], ["entropy", "entropy of attention"],
];
const WEIGHTS = [["matching", "matching (weights)"], ["preserving", "preserving (weights)"]];

/** Every measure that the page has numbers for. @param {any} data @returns {Measure[]} */
export function measures(data) {
  const found = [];
  /** One measure: a column of a table, or of those of its rows that `keep` says yes to. */
  const add = (key, name, group, unit, table, column, stem = "", keep = () => true, kind = "diverging") => {
    const [layers, heads, names, values, lo, hi] =
      ["layer", "head", "component", column, `${stem}ci_lo`, `${stem}ci_hi`].map((of) => table.get(of));
    const cells = new Map();
    for (let row = 0; row < table.rows; row++) {
      const place = layers.length ? [layers[row], heads[row]] : headOf(names[row] ?? "");
      if (!keep(row) || !place || place.includes(null)) continue;
      cells.set(place.join("."), { v: values[row], lo: lo[row], hi: hi[row], row });
    }
    if (cells.size) found.push({ key, name, group, unit, kind, table: table.name, column, cells, keep });
  };
  const components = data.table("components");
  const direct = data.table("attribution_head");
  if (components) {
    add("total", "total effect", "effects", "logits", components, "total", "total_");
    add("direct", "direct effect", "effects", "logits", components, "direct", "direct_");
  } else if (direct) add("direct", "direct effect", "effects", "logits", direct, "direct");
  for (const [name, group] of [["patch_head", "patching"], ["atp_head", "patching, estimated"]]) {
    const table = data.table(name);
    if (!table) continue;
    for (const { site, way, unit, keep } of sweeps(table, data.task.metric)) {
      add(`${name}.${site}.${way}`, `${site}, ${way}`, group, unit, table, "effect", "", keep);
    }
  }
  const ablated = data.table("ablate_head");
  const kinds = ablated?.get("kind");
  for (const kind of new Set(kinds)) {
    add(`ablate.${kind}`, kind, "taken out", `change of ${data.task.metric}`, ablated, "change", "", (row) => kinds[row] === kind);
  }
  const score = (table, list) => {
    for (const [column, name] of list) {
      const values = table.get(column);
      const kind = values.some((x) => x < 0) ? "diverging" : "sequential";
      if (values.some((x) => x !== null)) add(`score.${column}`, name, "habits", "score", table, column, `${column}_`, undefined, kind);
    }
  };
  const [scores, weights] = [data.table("head_scores"), data.table("weights")];
  if (scores) score(scores, SCORES);
  if (weights) score(weights, scores ? WEIGHTS : [...WEIGHTS, SCORES[5]]);
  return found;
}

/** The sites and directions of a table of patching, the outputs of heads first; what an effect is there, and which rows.
 * @param {any} table @param {string} metric */
export function sweeps(table, metric) {
  const [sites, ways, units] = ["site", "direction", "unit"].map((of) => table.get(of));
  const found = [];
  sites.forEach((site, row) => {
    const way = ways[row];
    if (found.some((one) => one.site === site && one.way === way)) return;
    const gap = units.length ? units[row] === "gap" : way !== "insert";
    const unit = gap ? `share of the gap ${way === "noise" ? "lost" : "restored"}` : `change of ${metric}`;
    found.push({ site, way, unit, keep: (i) => sites[i] === site && ways[i] === way });
  });
  return found.sort((a, b) => Number(b.site === "z") - Number(a.site === "z"));
}

/** The panel. @param {any} data @param {Measure[]} list */
export function headsPanel(data, list) {
  const { layers, heads } = data.model;
  const chosen = (now) => list.find((measure) => measure.key === now.m) ?? list[0];
  const mlp = list.some((measure) => [...measure.cells.keys()].some((key) => key.endsWith("m")));
  const size = max(4, min(56, floor((mlp ? 384 : 392) / (heads + Number(mlp))), floor(620 / layers)));
  const place = {
    size,
    order: [...Array(heads).keys(), ...(mlp ? ["m"] : [])],
    // the MLPs stand a little apart
    x: (H) => 28 + (H === "m" ? heads * size + 8 : H * size),
    y: (L) => 6 + L * size,
    bottom: 6 + layers * size,
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
    readout: (now) => {
      const cell = cellOf(chosen(now), now);
      return `${named(now)}: ${cell ? `${sayCell(cell)} ${chosen(now).unit}` : "no value"}`;
    },
    draw(tone, now) {
      const measure = chosen(now);
      const { order, size, x, y, bottom } = place;
      const svg = sheet(bottom + 46, tone);
      const scale = scaleOver([...measure.cells.values()].map((cell) => cell.v), measure.kind);
      const value = (L, H) => {
        const cell = cellOf(measure, { L, H });
        return cell && (cell.v ?? NaN);
      };
      const frame = { x: x(0), y: y(0), w: size, h: size, columns: heads, rows: layers };
      grid(svg, frame, tone, scale, (L, H) => value(L, H) ?? NaN);
      if (mlp) grid(svg, { ...frame, x: x("m"), columns: 1 }, tone, scale, (L) => value(L, "m"));
      for (let L = 0; L < layers; L++) {
        for (const H of order) {
          const v = value(L, H);
          if (size < 26 || !finite(v)) continue;
          label(svg, x(H) + (size - 1) / 2, y(L) + (size - 1) / 2, short(v, scale.hi), "middle", { fill: inkOn(scale.color(tone, v)) });
        }
      }
      ticks(layers, size, 16, now.L, tone, (L, look) => label(svg, 22, y(L) + size / 2, L, "end", look));
      const under = (H, look) => label(svg, x(H) + size / 2, bottom + 8, H === "m" ? "MLP" : H, "middle", look);
      ticks(heads, size, 16, now.H === "m" ? null : now.H, tone, under);
      if (mlp) under("m", tickLook(tone, now.H === "m"));
      if (order.includes(now.H)) ring(svg, x(now.H), y(now.L), size, size, tone.mark);
      colorBar(svg, x(0), bottom + 24, scale, tone, `${measure.name} (${measure.unit})`);
      return svg;
    },
    at(px, py) {
      const { order, size, x, y } = place;
      const L = floor((py - y(0)) / size);
      const H = order.find((H) => px >= x(H) && px < x(H) + size);
      return L >= 0 && L < layers && H !== undefined ? { L, H } : null;
    },
    move(key, now) {
      if (vertical(key)) {
        const change = layerStep(data, now, key);
        return change && { ...change, H: now.H };
      }
      const H = place.order[place.order.indexOf(now.H) + by(key)];
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
  const text = x.toFixed(most >= 100 ? 0 : most >= 10 ? 1 : 2);
  return Number(text) === 0 ? "0" : text.replace("-", "−").replace(/^(−?)0\./, "$1.");
}
