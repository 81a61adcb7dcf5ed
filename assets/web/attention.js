// Where the selected head looks on the selected prompt.

import { floor, max, min, say } from "./data.js";
import { scaleOver } from "./color.js";
import { box, by, colorBar, fit, grid, label, ring, sheet, slanted, ticks, vertical } from "./draw.js";
import { named } from "./heads.js";

/** The panel. @param {any} data */
export function attentionPanel(data) {
  const scale = scaleOver([0, 1], "sequential");
  const place = (now) => {
    const n = now.prompt.clean.length;
    const size = min(30, 300 / n);
    return { n, size, x: 92, y: 58 };
  };
  const why = (now) => {
    if (now.H === "m") return "An MLP looks at no other position.";
    if (data.attended.includes(now.ex)) return "On long prompts the page carries the strongest heads only.";
    const n = data.attended.length;
    return `The page carries the attention on the first ${n > 1 ? `${n} prompts` : "prompt"}; this is prompt ${now.ex + 1}.`;
  };
  return {
    id: "attention",
    title: (now) => (now.H === "m" ? "Attention" : `Attention of ${named(now)}`),
    absent: (now) => (data.pattern(now) ? "" : why(now)),
    readout: (now) => {
      const [{ clean }, weights] = [now.prompt, data.pattern(now)?.[now.q]];
      if (!weights) return "";
      const k = now.k ?? weights.reduce((best, weight, k) => (weight > (weights[best] ?? -1) ? k : best), 0);
      const weight = k in weights ? say(weights[k]) : data.causal && k > now.q ? "ahead of it" : "not carried: small";
      return `${fit(clean[now.q], 200)} (${now.q}) → ${fit(clean[k], 200)} (${k}): ${weight}`;
    },
    draw(tone, now) {
      const weights = data.pattern(now);
      const tokens = now.prompt.clean;
      const { n, size, x, y } = place(now);
      const bottom = y + n * size;
      const svg = sheet(bottom + 34, tone);
      box(svg, x, y, n * size, n * size, tone.masked);
      grid(svg, { x, y, w: size, h: size, columns: n, rows: n }, tone, scale, (q, k) =>
        data.causal && k > q ? undefined : weights[q][k] ?? 0);
      const font = max(7, min(10.5, size * 0.8));
      ticks(n, size, 9, now.q, tone, (i, look) =>
        label(svg, x - 5, y + (i + 0.5) * size, fit(tokens[i], 84, font), "end", look), font);
      ticks(n, size, 9, now.k, tone, (i, look) =>
        slanted(svg, x + (i + 0.5) * size, y - 4, fit(tokens[i], 62, font), "start", look), font);
      ring(svg, x, y + now.q * size, (data.causal ? now.q + 1 : n) * size, size, tone.accent, 1.5);
      if (now.k !== null) ring(svg, x + now.k * size, y + now.q * size, size, size, tone.mark);
      colorBar(svg, x, bottom + 12, scale, tone, "attention; a row sums to 1");
      return svg;
    },
    at(px, py, now) {
      if (!data.pattern(now)) return null;
      const { n, size, x, y } = place(now);
      const [k, q] = [floor((px - x) / size), floor((py - y) / size)];
      if (q < 0 || q >= n || k >= n || px < 0) return null;
      return k < 0 || (data.causal && k > q) ? { q, k: null } : { q, k };
    },
    move(key, now) {
      const { n } = place(now);
      if (vertical(key)) {
        const q = now.q + by(key);
        return q >= 0 && q < n ? { q, k: null } : null;
      }
      const most = data.causal ? now.q : n - 1;
      const k = now.k === null ? most : now.k + by(key);
      return k >= 0 && k <= most ? { k } : null;
    },
    table(now) {
      const tokens = now.prompt.clean;
      const rows = (data.pattern(now) ?? []).flatMap((row, q) =>
        row.map((weight, k) => [now.prompt.id, now.L, now.H, q, k, tokens[q], tokens[k], weight]));
      return { columns: ["example", "layer", "head", "query", "key", "query_token", "key_token", "weight"], rows };
    },
    // the method's own command prints the first prompt only
    command: (now) => (now.H === "m" ? "" : data.commands[now.ex ? "study" : "examples_attention"]?.replace("{head}", named(now)) ?? ""),
    name: (now) => `attention-${named(now)}-prompt${now.ex + 1}`,
  };
}
