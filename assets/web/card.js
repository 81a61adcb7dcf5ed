// The selected component: its direct and total effect among all others, its part, its habits, where it looks.

import { say, sayCell } from "./data.js";
import { axisOver, chip, h, label, s, sheet, valueAxis } from "./draw.js";
import { headOf, spokenHead } from "./heads.js";

/** The panel. @param {any} data @param {any[]} list the measures */
export function cardPanel(data, list) {
  const components = data.table("components");
  const effects = list.filter((measure) => measure.group === "effects");
  const rowOf = (now) => components?.get("component").findIndex((name) => {
    const head = headOf(name);
    return head && head[0] === now.L && head[1] === now.H;
  }) ?? -1;
  const cellOf = (measure, now) => measure.cells.get(`${now.L}.${now.H}`);
  const facts = (now) => {
    const row = rowOf(now);
    const rows = [];
    const word = (column) => (row >= 0 ? components.get(column)[row] : null);
    if (word("role")) rows.push(["Part", word("role")]);
    if (word("rank")) rows.push(["Rank", `${word("rank")} of ${components.rows}, by total effect`]);
    if (word("note")) rows.push(["Note", word("note")]);
    if (word("q") !== null && word("q") !== undefined) rows.push(["q value", say(word("q"))]);
    const habits = list.filter((measure) => measure.group === "habits" && measure.column !== "entropy")
      .map((measure) => [measure.column, cellOf(measure, now)]).filter(([, cell]) => cell && !Number.isNaN(cell.v));
    habits.sort(([, a], [, b]) => b.v - a.v);
    if (habits.length) {
      rows.push(["Habits", habits.slice(0, 3).map(([name, cell]) => `${name} ${say(cell.v)}`).join(", ")]);
    }
    const prompt = data.prompts[now.ex];
    const weights = now.H === "m" ? undefined : data.pattern(now.ex, now.L, now.H)?.[now.q];
    if (weights && prompt) {
      const looks = h("span", {}, "from ", chip(prompt.clean[now.q]), " at ");
      [...weights.keys()].filter((k) => weights[k] > 0.005).sort((a, b) => weights[b] - weights[a]).slice(0, 3)
        .forEach((k, i) => looks.append(i ? ", " : "", chip(prompt.clean[k]), ` ${say(weights[k])}`));
      rows.push(["Looks", looks]);
    }
    return rows;
  };
  return {
    id: "card",
    title: (now) => spokenHead(now.L, now.H),
    readout: (now) => (effects.length ? effects : list.slice(0, 2)).map((measure) => {
      const cell = cellOf(measure, now);
      return `${measure.name} ${cell ? sayCell(cell) : "–"}`;
    }).join(" · "),
    draw(palette, now) {
      const shown = effects.length ? effects : list.slice(0, 1);
      const svg = sheet(420, 24 + 34 * shown.length + 22, `Effects of ${spokenHead(now.L, now.H)} among those of all`);
      const ends = shown.flatMap((measure) => [...measure.cells.values()].flatMap(({ v, lo, hi }) => [v, lo, hi]));
      const axis = axisOver(ends, 92, 392);
      const { x } = axis;
      const bottom = 10 + 34 * shown.length;
      svg.append(s("line", { x1: x(0), x2: x(0), y1: 4, y2: bottom, stroke: palette.line }));
      shown.forEach((measure, i) => {
        const y = 24 + 34 * i;
        svg.append(label(80, y, measure.name, { "text-anchor": "end", fill: palette.ink }));
        for (const { v } of measure.cells.values()) {
          if (Number.isFinite(v)) {
            svg.append(s("line", { x1: x(v), x2: x(v), y1: y - 5, y2: y + 5, stroke: palette.soft, opacity: 0.4 }));
          }
        }
        const own = cellOf(measure, now);
        if (!own || !Number.isFinite(own.v)) return;
        if (Number.isFinite(own.lo) && Number.isFinite(own.hi)) {
          svg.append(s("line", { x1: x(own.lo), x2: x(own.hi), y1: y, y2: y, stroke: palette.accent, "stroke-width": 2 }));
        }
        svg.append(s("circle", { cx: x(own.v), cy: y, r: 4.5, fill: palette.accent }));
      });
      valueAxis(svg, palette, axis, bottom, say);
      svg.append(label(392, bottom + 24, shown[0]?.unit ?? "", { fill: palette.soft, "font-size": 10, "text-anchor": "end" }));
      return svg;
    },
    below(now) {
      const list = h("dl", { class: "facts" });
      for (const [name, what] of facts(now)) list.append(h("div", {}, h("dt", {}, name), h("dd", {}, what)));
      return list;
    },
    table(now) {
      const rows = list.map((measure) => {
        const cell = cellOf(measure, now);
        return [measure.group, measure.name, measure.unit, cell?.v ?? null, cell?.lo ?? null, cell?.hi ?? null, measure.table];
      });
      return { columns: ["method", "measure", "unit", "value", "ci_lo", "ci_hi", "table"], rows };
    },
    command: () => data.commands.components ?? data.commands[list[0].table] ?? "",
    name: (now) => `component-${spokenHead(now.L, now.H).replace(" ", "")}`,
  };
}
