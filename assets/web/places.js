// What patching one activation at one position does: layer by position.

import { floor, max, min, rowsOf, sayCell } from "./data.js";
import { scaleOver } from "./color.js";
import { by, colorBar, fit, grid, label, layerStep, ring, sheet, slanted, ticks, vertical } from "./draw.js";
import { sweeps } from "./heads.js";

/** The panel. @param {any} data */
export function placesPanel(data) {
  const table = data.table("resid_by_pos");
  const [layers, names, tokens, values, lo, hi] =
    ["layer", "pos", "token", "effect", "ci_lo", "ci_hi"].map((name) => table.get(name));
  const all = sweeps(table, data.task.metric).map((one) => ({ ...one, name: `${one.site}, ${one.way}` }));
  const chosen = (now) => all.find(({ name }) => name === now.s) ?? all[0];
  const maps = new Map();
  /** The cells of one site and direction, the order of its columns, its colours. */
  const map = ({ name: pair, keep }) => {
    if (!maps.has(pair)) {
      const [cells, columns] = [new Map(), []];
      for (let row = 0; row < table.rows; row++) {
        if (!keep(row)) continue;
        if (!columns.some(({ name }) => name === names[row])) columns.push({ name: names[row], token: tokens[row] });
        cells.set(`${layers[row]}.${names[row]}`, { v: values[row] ?? NaN, lo: lo[row], hi: hi[row] });
      }
      // one scale for all, so that maps can be compared
      maps.set(pair, { cells, columns, scale: scaleOver(values, "diverging") });
    }
    return maps.get(pair);
  };
  /** The position in the selected prompt that a column stands for. */
  const positionOf = (name, now) => (/^\d+$/.test(name) ? Number(name) : now.prompt.pos[name]);
  const columnOf = (now) => map(chosen(now)).columns.findIndex(({ name }) => positionOf(name, now) === now.q);
  const place = (now) => {
    const { columns } = map(chosen(now));
    const rows = data.model.layers;
    const w = min(44, 372 / columns.length);
    const height = max(4, min(32, 400 / rows, max(w, 16)));
    return { columns, rows, w, h: height, x: 28, y: 6, bottom: 6 + rows * height };
  };
  const word = ({ name, token }, now) => fit(/^\d+$/.test(name) ? now.prompt.clean[name] ?? token : name, 200);
  return {
    id: "places",
    title: "Positions",
    choose: {
      label: "Patched", key: "s", now: (now) => chosen(now).name,
      options: all.map(({ name }) => ({ value: name, name })),
    },
    readout: (now) => {
      const { cells, columns } = map(chosen(now));
      const at = columnOf(now);
      if (at < 0) return "This position has no column: prompts are compared at named positions.";
      const cell = cells.get(`${now.L}.${columns[at].name}`);
      return `layer ${now.L}, ${word(columns[at], now)}: ${cell ? `${sayCell(cell)} ${chosen(now).unit}` : "no value"}`;
    },
    draw(tone, now) {
      const { columns, rows, w, h: height, x, y, bottom } = place(now);
      const { cells, scale } = map(chosen(now));
      const own = columnOf(now);
      const svg = sheet(bottom + 84, tone);
      grid(svg, { x, y, w, h: height, columns: columns.length, rows }, tone, scale, (L, c) => cells.get(`${L}.${columns[c].name}`)?.v);
      ticks(rows, height, 13, now.L, tone, (L, look) => label(svg, x - 6, y + (L + 0.5) * height, L, "end", look));
      ticks(columns.length, w, 12, own < 0 ? null : own, tone, (c, look) => slanted(svg, x + (c + 0.5) * w + 3, bottom + 8,
        fit(word(columns[c], now), 54), "end", look));
      if (own >= 0) ring(svg, x + own * w, y + now.L * height, w, height, tone.mark);
      colorBar(svg, x, bottom + 62, scale, tone, chosen(now).unit);
      return svg;
    },
    at(px, py, now) {
      const { columns, rows, w, h: height, x, y } = place(now);
      const [c, L] = [floor((px - x) / w), floor((py - y) / height)];
      if (L < 0 || L >= rows || c < 0 || c >= columns.length) return null;
      const q = positionOf(columns[c].name, now);
      return q === undefined ? { L } : { L, q, k: null };
    },
    move(key, now) {
      const { columns } = place(now);
      if (vertical(key)) return layerStep(data, now, key);
      const next = columns[columnOf(now) + by(key)];
      const q = next && positionOf(next.name, now);
      return q === undefined ? null : { q, k: null };
    },
    table: (now) => rowsOf(table, chosen(now).keep),
    command: () => data.commands.resid_by_pos ?? "",
    name: (now) => `positions-${chosen(now).name.replace(", ", "-")}`,
  };
}
