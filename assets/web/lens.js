// What the model would say at the selected position if it stopped after each layer.

import { finite, floor, max, min, say } from "./data.js";
import { box, by, fit, label, layerStep, ring, sheet, tickLook, vertical } from "./draw.js";

/** What is read after a layer. */
const READ = ["site", "layer", "top", "prob", "rank", "logit_diff", "entropy", "kl"];

const sayRank = (rank) => say(rank).replace(/[.]00$/, "");

/** The panel. @param {any} data */
export function lensPanel(data) {
  const means = data.table("lens");
  const first = data.table("lens_first");
  /** Readings of a table at the places called so. */
  const from = (table, isHere) => {
    const columns = READ.map((name) => table.get(name));
    const [places, found] = [table.get("pos"), []];
    for (let i = 0; i < table.rows; i++) {
      if (isHere(places[i])) found.push(Object.fromEntries(READ.map((name, at) => [name, columns[at][i]])));
    }
    return found;
  };
  /** Readings along the stream: what comes in, then what each block leaves. */
  const readings = (now) => {
    const { prompt } = now;
    const names = Object.keys(prompt.pos).filter((name) => prompt.pos[name] === now.q);
    const isHere = (place) => place === String(now.q) || names.includes(place);
    let [found, whose, of] = [data.readings?.(now.ex, now.q) ?? [], "this prompt", "examples_lens"];
    if (!found.length && first && now.ex === 0) [found, of] = [from(first, isHere), "lens_first"];
    if (!found.length && means) {
      [found, whose, of] = [from(means, isHere), `mean over ${data.task.n} prompts; the token read most often`, "lens"];
    }
    const after = found.filter(({ site, layer }) => site === "resid_post" || (site === "resid_pre" && layer === 0));
    const depth = ({ site, layer }) => (site === "resid_pre" ? 0 : layer + 1);
    after.sort((a, b) => depth(a) - depth(b));
    return { rows: after, depth, whose, of };
  };
  const height = () => max(14, min(26, 380 / (data.model.layers + 1)));
  return {
    id: "lens",
    title: (now) => {
      const token = fit(now.prompt.clean[now.q], 200);
      return ["If it stopped early, after ", { token }];
    },
    absent: (now) => (readings(now).rows.length ? "" : "The lens was not read at this position of this prompt."),
    readout: (now) => {
      const { rows, depth } = readings(now);
      const own = rows.find((row) => depth(row) === now.L + 1);
      if (!own) return "";
      const answer = own.prob === null ? "" : ` · answer ${say(own.prob)}, rank ${sayRank(own.rank)}`;
      return `after layer ${now.L}: ${fit(own.top ?? "", 200)}${answer}`;
    },
    draw(tone, now) {
      const { rows, depth, whose } = readings(now);
      const step = height();
      const top = 24;
      const svg = sheet(top + rows.length * step + 22, tone);
      const [tokenX, barX, barW, rankX] = [58, 190, 150, 412];
      label(svg, tokenX, 9, "first token");
      label(svg, barX, 9, "probability of the answer");
      label(svg, rankX, 9, "rank", "end");
      rows.forEach((row, i) => {
        const [y, on] = [top + (i + 0.5) * step, depth(row) === now.L + 1];
        const ink = { ...tickLook(tone, on, 11), fill: tone.ink };
        label(svg, 48, y, depth(row) ? String(row.layer) : "input", "end", tickLook(tone, on));
        label(svg, tokenX, y, fit(row.top ?? "", 124, 11), "start", ink);
        box(svg, barX, y - 4, barW, 8, tone.masked);
        if (finite(row.prob)) {
          box(svg, barX, y - 4, barW * row.prob, 8, tone.accent);
          label(svg, barX + barW + 6, y, say(row.prob), "start", { fill: tone.ink });
        }
        if (finite(row.rank)) label(svg, rankX, y, sayRank(row.rank), "end", { fill: tone.ink });
        if (on) ring(svg, 4, top + i * step, 414, step, tone.mark, 1);
      });
      label(svg, 4, top + rows.length * step + 14, fit(whose, 400));
      return svg;
    },
    at(px, py, now) {
      const { rows, depth } = readings(now);
      const i = floor((py - 24) / height());
      return rows[i] && depth(rows[i]) > 0 ? { L: rows[i].layer } : null;
    },
    move(key, now) {
      if (vertical(key)) return layerStep(data, now, key);
      const q = now.q + by(key);
      return q >= 0 && q < now.prompt.clean.length ? { q, k: null } : null;
    },
    table: (now) => ({ columns: READ, rows: readings(now).rows.map((row) => READ.map((name) => row[name])) }),
    command: (now) => data.commands[readings(now).of] ?? "",
    name: (now) => `lens-prompt${now.ex + 1}-position${now.q}`,
  };
}
