// The selected component: its direct and total effect among all others, its part, its habits, where it looks.

import { finite, say, sayCell } from "./data.js";
import { axisOver, chip, fit, h, label, rule, s, sheet, valueAxis } from "./draw.js";
import { cellOf, headOf, named } from "./heads.js";

/** The panel. @param {any} data @param {any[]} list the measures */
export function cardPanel(data, list) {
  const components = data.table("components");
  const effects = list.filter((measure) => measure.group === "effects");
  const rowOf = (now) => components?.get("component").findIndex((name) => {
    const head = headOf(name);
    return head && head[0] === now.L && head[1] === now.H;
  }) ?? -1;
  const facts = (now) => {
    const row = rowOf(now);
    const rows = [];
    const word = (column) => (row >= 0 ? components.get(column)[row] : null);
    if (components) {
      const q = word("q") ?? null;
      rows.push(["Part", word("role") || "none known"], ["Note", word("note") || "–"]);
      rows.push(["Rank", `${word("rank") ?? "–"} of ${components.rows} by total effect${q === null ? "" : `; q = ${say(q)}`}`]);
    }
    const habits = list.filter((measure) => measure.group === "habits" && measure.column !== "entropy")
      .map((measure) => [measure.column, cellOf(measure, now)]).filter(([, cell]) => cell && finite(cell.v));
    habits.sort(([, a], [, b]) => b.v - a.v);
    if (habits.length) {
      rows.push(["Habits", habits.slice(0, 3).map(([name, cell]) => `${name} ${say(cell.v)}`).join(", ")]);
    }
    const { prompt } = now;
    const weights = data.pattern(now)?.[now.q];
    if (weights && prompt) {
      const look = (k) => chip(fit(prompt.clean[k], 90));
      const looks = h("span", {}, "from ", look(now.q), " at ");
      [...weights.keys()].filter((k) => weights[k] > 0.005).sort((a, b) => weights[b] - weights[a]).slice(0, 3)
        .forEach((k, i) => looks.append(i ? ", " : "", look(k), ` ${say(weights[k])}`));
      rows.push(["Looks", looks]);
    }
    return rows;
  };
  return {
    id: "card",
    title: (now) => named(now),
    readout: (now) => (effects.length ? effects : list.slice(0, 2)).map((measure) => {
      const cell = cellOf(measure, now);
      return `${measure.name} ${cell ? sayCell(cell) : "–"}`;
    }).join(" · "),
    draw(tone, now) {
      const shown = effects.length ? effects : list.slice(0, 1);
      const svg = sheet(46 + 34 * shown.length, tone);
      const axis = axisOver(shown.flatMap((measure) => [...measure.cells.values()].flatMap(({ v, lo, hi }) => [v, lo, hi])), 92, 392);
      const { x } = axis;
      const bottom = 10 + 34 * shown.length;
      rule(svg, x(0), 4, x(0), bottom, tone.line);
      shown.forEach((measure, i) => {
        const y = 24 + 34 * i;
        label(svg, 80, y, measure.name, "end", { fill: tone.ink, "font-size": 11 });
        for (const { v } of measure.cells.values()) {
          if (finite(v)) rule(svg, x(v), y - 5, x(v), y + 5, tone.soft, { opacity: 0.4 });
        }
        const { v, lo, hi } = cellOf(measure, now) ?? { v: NaN };
        if (finite(lo) && finite(hi)) rule(svg, x(lo), y, x(hi), y, tone.accent, { "stroke-width": 2 });
        if (finite(v)) svg.append(s("circle", { cx: x(v), cy: y, r: 4.5, fill: tone.accent }));
      });
      valueAxis(svg, tone, axis, bottom);
      label(svg, 392, bottom + 24, `${shown[0]?.unit ?? ""}; grey: all others`, "end");
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
    name: (now) => `component-${named(now)}`,
  };
}
