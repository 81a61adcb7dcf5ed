// What patching one activation at one position does: layer by position.

import { rowsOf, say, sayCell } from "./data.js";
import { scaleOver } from "./color.js";
import { colorBar, fit, grid, hatch, label, layerStep, ring, sheet, slanted, tickLook, ticks, vertical } from "./draw.js";

/** The panel. @param {any} data */
export function placesPanel(data) {
  const table = data.table("resid_by_pos");
  const [sites, ways, layers, names, tokens, units] =
    ["site", "direction", "layer", "pos", "token", "unit"].map((name) => table.get(name));
  const [values, lo, hi] = ["effect", "ci_lo", "ci_hi"].map((name) => table.get(name));
  const pairs = [...new Set(sites.map((site, i) => `${site}, ${ways[i]}`))];
  const chosen = (now) => (pairs.includes(now.s) ? now.s : pairs[0]);
  const maps = new Map();
  /** The cells of one site and direction, the order of its columns, its colours. */
  const map = (pair) => {
    if (!maps.has(pair)) {
      const [cells, columns] = [new Map(), []];
      for (let row = 0; row < table.rows; row++) {
        if (`${sites[row]}, ${ways[row]}` !== pair) continue;
        if (!columns.some(({ name }) => name === names[row])) columns.push({ name: names[row], token: tokens[row] });
        cells.set(`${layers[row]}.${names[row]}`, { v: values[row] ?? NaN, lo: lo[row], hi: hi[row] });
      }
      // one scale for all, so that maps can be compared
      maps.set(pair, { cells, columns, scale: scaleOver(values, "diverging") });
    }
    return maps.get(pair);
  };
  /** The position in the selected prompt that a column stands for. */
  const positionOf = (name, now) => (/^\d+$/.test(name) ? Number(name) : data.prompts[now.ex].pos[name]);
  const columnOf = (now) => map(chosen(now)).columns.findIndex(({ name }) => positionOf(name, now) === now.q);
  const place = (now) => {
    const { columns } = map(chosen(now));
    const rows = data.model.layers;
    const w = Math.min(44, 372 / columns.length);
    const height = Math.max(4, Math.min(32, 400 / rows, Math.max(w, 16)));
    return { columns, rows, w, h: height, x: 28, y: 6, bottom: 6 + rows * height };
  };
  const unit = (now) => {
    const pair = chosen(now);
    const row = sites.findIndex((site, i) => `${site}, ${ways[i]}` === pair);
    if ((units[row] ?? "gap") !== "gap") return `change of ${data.task.metric}`;
    return ways[row] === "noise" ? "share of the gap lost" : "share of the gap restored";
  };
  const word = (column, now) => (/^\d+$/.test(column.name) ? data.prompts[now.ex].clean[Number(column.name)] ?? column.token : column.name);
  return {
    id: "places",
    title: "Positions",
    choose: {
      label: "Patched", key: "s", now: chosen,
      options: pairs.map((pair) => ({ value: pair, name: pair, group: "" })),
    },
    keys: "Up and down: layer. Left and right: position.",
    readout: (now) => {
      const { cells, columns } = map(chosen(now));
      const at = columnOf(now);
      if (at < 0) return "This position has no column: prompts are compared at named positions.";
      const cell = cells.get(`${now.L}.${columns[at].name}`);
      return `layer ${now.L}, ${word(columns[at], now)}: ${cell ? `${sayCell(cell)} ${unit(now)}` : "no value"}`;
    },
    draw(palette, now) {
      const { columns, rows, w, h: height, x, y, bottom } = place(now);
      const { cells, scale } = map(chosen(now));
      const own = columnOf(now);
      const svg = sheet(420, bottom + 84, `${chosen(now)} by layer and position`);
      const cell = (L, c) => cells.get(`${L}.${columns[c].name}`);
      grid(svg, { x, y, w, h: height, columns: columns.length, rows }, (L, c) => {
        const found = cell(L, c);
        return found && !Number.isNaN(found.v) ? scale.color(palette, found.v) : null;
      });
      for (let L = 0; L < rows; L++) {
        for (let c = 0; c < columns.length; c++) {
          if (Number.isNaN(cell(L, c)?.v)) hatch(svg, x + c * w, y + L * height, w - 1, height - 1, palette);
        }
      }
      ticks(rows, height, 13, now.L, (L, on) =>
        svg.append(label(x - 6, y + (L + 0.5) * height, String(L), { ...tickLook(palette, on), "text-anchor": "end" })));
      ticks(columns.length, w, 12, own < 0 ? null : own, (c, on) => slanted(svg, x + (c + 0.5) * w + 3, bottom + 8,
        fit(word(columns[c], now), 54, 10), { ...tickLook(palette, on), "text-anchor": "end" }));
      if (own >= 0) ring(svg, x + own * w, y + now.L * height, w, height, palette);
      colorBar(svg, x, bottom + 62, 130, scale, palette, fit(unit(now), 240, 10), say);
      return svg;
    },
    at(px, py, now) {
      const { columns, rows, w, h: height, x, y } = place(now);
      const [c, L] = [Math.floor((px - x) / w), Math.floor((py - y) / height)];
      if (L < 0 || L >= rows || c < 0 || c >= columns.length) return null;
      const q = positionOf(columns[c].name, now);
      return q === undefined ? { L } : { L, q, k: null };
    },
    move(key, now) {
      const { columns } = place(now);
      if (vertical(key)) return layerStep(data, now, key);
      const next = columns[columnOf(now) + (key === "ArrowLeft" ? -1 : 1)];
      const q = next && positionOf(next.name, now);
      return q === undefined ? null : { q, k: null };
    },
    table(now) {
      const pair = chosen(now);
      return rowsOf(table, (row) => `${sites[row]}, ${ways[row]}` === pair);
    },
    command: () => data.commands.resid_by_pos ?? "",
    name: (now) => `positions-${chosen(now).replace(", ", "-")}`,
  };
}
