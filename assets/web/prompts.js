// The prompts: the selected one as tokens, and what the selected component does on each.

import { finite, isNaN, max, say } from "./data.js";
import { all, current, on, sortable } from "./page.js";
import { between, inkOn } from "./color.js";
import { axisOver, box, button, by, chip, h, label, rule, s, sheet, valueAxis, vertical } from "./draw.js";
import { cellOf, named } from "./heads.js";

/** Holds or previews a change; to another prompt a held position goes along by its name.
 * @param {any} data @param {any} store @param {any} change @param {"hold" | "peek"} how */
export function go(data, store, change, how = "hold") {
  if (!change && how === "hold") return;
  const ex = change?.ex;
  if (ex !== undefined && store.held().q !== undefined) {
    const now = store.now();
    const pos = now.prompt.pos;
    const name = Object.keys(pos).find((name) => pos[name] === now.q);
    change = { ex, q: data.prompts[ex].pos[name] ?? now.q, k: null };
  }
  store[how](change);
}

/** The selected prompt: its tokens, coloured by the attention of the selected head from the selected position.
 * @param {any} data @param {any} store */
export function promptStrip(data, store) {
  const n = data.prompts.length;
  const step = (way) => {
    const ex = store.now().ex + way;
    if (ex >= 0 && ex < n) go(data, store, { ex });
  };
  const back = button("‹", () => step(-1), { "aria-label": "Previous prompt" });
  const next = button("›", () => step(1), { "aria-label": "Next prompt" });
  const where = h("span", { class: "where" });
  const asked = h("span", { class: "asked" });
  const tokens = h("ol", { "aria-label": "The tokens of the prompt" });
  const steps = n > 1 ? [back, where, next] : [where];
  const node = h("div", { class: "prompt" }, h("p", {}, h("span", { class: "steps" }, ...steps), asked), tokens);
  const at = (event) => event.target.closest?.("button[data-pos]")?.dataset.pos;
  on(tokens, "pointerover", (event) => {
    const q = at(event);
    if (q !== undefined && !event.shiftKey && event.pointerType !== "touch") store.peek({ q: Number(q), k: null });
  });
  on(tokens, "pointerleave", () => store.peek(null));
  on(tokens, "click", (event) => {
    const q = at(event);
    if (q !== undefined) store.hold({ q: Number(q), k: null });
  });
  on(tokens, "keydown", (event) => {
    if (!event.key.startsWith("Arrow") || vertical(event.key)) return;
    event.preventDefault();
    const now = store.now();
    const q = now.q + by(event.key);
    if (q < 0 || q >= now.prompt.clean.length) return;
    store.hold({ q, k: null });
    tokens.querySelector(`[data-pos="${q}"]`)?.focus();
  });
  let shown = -1;
  const build = (now) => {
    const { prompt } = now;
    shown = now.ex;
    const items = prompt.clean.map((token, pos) => {
      const button = h("button", { type: "button", "data-pos": pos, tabindex: -1 }, chip(token));
      const names = Object.keys(prompt.pos).filter((name) => prompt.pos[name] === pos);
      const other = prompt.corrupt?.[pos];
      const marks = h("small", {}, names.join(" "));
      if (other !== undefined && other !== token) {
        button.firstChild.classList.add("strong");
        marks.append(names.length ? " " : "", h("span", { class: "other", title: "in the corrupt prompt" }, `⇄ ${other}`));
      }
      return h("li", {}, button, marks);
    });
    tokens.replaceChildren(...items);
    where.textContent = n > 1 ? `Prompt ${now.ex + 1} of ${n}` : "The prompt";
    asked.replaceChildren();
    if (prompt.answers.length) asked.append("answer ", ...prompt.answers.slice(0, 3).map((token) => chip(token)));
    if (prompt.wrong.length) asked.append(" rather than ", ...prompt.wrong.slice(0, 3).map((token) => chip(token)));
  };
  /** @param {any} now @param {any} tone */
  const update = (now, tone) => {
    if (shown !== now.ex) build(now);
    back.disabled = now.ex === 0;
    next.disabled = now.ex === n - 1;
    const weights = data.pattern(now)?.[now.q];
    [...tokens.children].forEach((item, pos) => {
      const button = item.firstChild;
      const weight = weights?.[pos];
      const known = weight !== undefined && !isNaN(weight);
      const color = known ? between(tone.sequential, weight * 0.7) : "";
      Object.assign(button.firstChild.style, { background: color, color: known ? inkOn(color) : "" });
      button.title = `position ${pos}${known ? `; attention ${say(weight)} from ${named(now)}` : ""}`;
      button.setAttribute("aria-pressed", String(pos === now.q));
      button.tabIndex = pos === now.q ? 0 : -1;
    });
    // what stands below must not jump when prompts of other lengths are previewed
    tokens.style.minHeight = `${tokens.offsetHeight}px`;
  };
  return { node, update };
}

/** The panel of values by prompt. @param {any} data @param {any[]} list the measures */
export function eachPanel(data, list) {
  const has = (measure) => data.each(measure.table, measure.column, 0);
  const chosen = (now) => {
    const measure = list.find(({ key }) => key === now.m);
    return measure && has(measure) ? measure : list.find(has);
  };
  const own = (now) => {
    const measure = chosen(now);
    const cell = cellOf(measure, now);
    return { measure, cell, values: cell ? data.each(measure.table, measure.column, cell.row) : undefined };
  };
  // one axis for all components, so that they can be compared
  const axes = new Map();
  const axis = (measure) => {
    if (!axes.has(measure.key)) {
      const values = [...measure.cells.values()].flatMap(({ row }) => data.each(measure.table, measure.column, row));
      axes.set(measure.key, axisOver(values, 14, 406));
    }
    return axes.get(measure.key);
  };
  // spread by the golden ratio: no two neighbours touch, and no chance is involved
  const y = (i) => 12 + ((i * 0.618034) % 1) * 52;
  let listed = { key: "", node: h("div") };
  return {
    id: "each",
    title: "Prompt by prompt",
    absent: (now) => (own(now).values ? "" : `${named(now)} has no values by prompt.`),
    readout: (now) => {
      const { measure, values } = own(now);
      const text = values && now.ex < values.length ? say(values[now.ex]) : "no value carried";
      return `${measure.name} of ${named(now)} on prompt ${now.ex + 1}: ${text}`;
    },
    draw(tone, now) {
      const { measure, cell, values } = own(now);
      const { x } = axis(measure);
      const svg = sheet(106, tone);
      rule(svg, x(0), 4, x(0), 74, tone.line);
      const { v: mean, lo, hi } = cell;
      if (finite(lo) && finite(hi)) box(svg, x(lo), 4, max(1, x(hi) - x(lo)), 70, tone.accent, { opacity: 0.14 });
      if (finite(mean)) rule(svg, x(mean), 4, x(mean), 74, tone.accent, { "stroke-width": 1.5 });
      const dot = (i, r, look) => finite(values[i]) && svg.append(s("circle", { cx: x(values[i]), cy: y(i), r, ...look }));
      values.forEach((_, i) => i !== now.ex && dot(i, 3, { "fill-opacity": 0.55 }));
      dot(now.ex, 5, { fill: tone.accent, stroke: tone.paper, "stroke-width": 1.5 });
      valueAxis(svg, tone, axis(measure), 76);
      const some = values.length < data.task.n ? `; ${values.length} of ${data.task.n} prompts` : "";
      label(svg, 210, 99, `${measure.name} (${measure.unit}); line and band: mean and interval${some}`, "middle");
      return svg;
    },
    at(px, py, now) {
      const { measure, values } = own(now);
      if (!values) return null;
      const { x } = axis(measure);
      let [best, near] = [null, 10];
      values.forEach((v, i) => {
        const far = Math.hypot(x(v) - px, y(i) - py);
        if (far < near) [best, near] = [i, far];
      });
      return best === null ? null : { ex: best };
    },
    move(key, now) {
      const ex = now.ex + by(key);
      return ex >= 0 && ex < data.prompts.length ? { ex } : null;
    },
    /** The same numbers as a list to choose from. */
    below(now) {
      const { measure, values } = own(now);
      const key = `${measure.key} ${now.L}.${now.H}`;
      if (listed.key !== key && values) {
        const rows = values.map((v, i) => {
          const { id, text } = data.prompts[i];
          const pick = button(id, () => undefined);
          return h("tr", { "data-ex": i }, h("th", { scope: "row" }, pick), h("td", { class: "n" }, say(v)),
            h("td", { class: "text" }, text.slice(0, 300)));
        });
        const head = h("tr", {}, h("th", {}, "prompt"), h("th", { class: "n" }, "value"), h("th", {}, "text"));
        const table = h("table", {}, h("thead", {}, head), h("tbody", {}, ...rows));
        sortable(table);
        on(table, "keydown", (event) => {
          const row = vertical(event.key) && event.target.closest("tbody tr");
          if (!row) return;
          event.preventDefault();
          const next = row[by(event.key) < 0 ? "previousElementSibling" : "nextElementSibling"]?.querySelector("button");
          next?.focus();
          next?.click();
        });
        listed = { key, node: h("div", { class: "list", role: "region", "aria-label": "Values by prompt" }, table) };
      }
      const rows = all("tr[data-ex]", listed.node);
      const chosen = rows.find(({ dataset }) => Number(dataset.ex) === now.ex);
      for (const row of rows) {
        current(row, row === chosen);
        // one stop of the Tab key; the arrows go on from there
        row.querySelector("button").tabIndex = row === (chosen ?? rows[0]) ? 0 : -1;
      }
      return listed.node;
    },
    table(now) {
      const { measure, values } = own(now);
      const rows = (values ?? []).map((v, i) => {
        const { id, text } = data.prompts[i];
        return [id, named(now), measure.name, measure.unit, v, text];
      });
      return { columns: ["example", "component", "measure", "unit", "value", "prompt"], rows };
    },
    command: (now) => data.commands[chosen(now).table] ?? "",
    name: (now) => `prompts-${chosen(now).key}-${named(now)}`,
  };
}
