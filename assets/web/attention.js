// Where the selected head looks on the selected prompt.

import { say } from "./data.js";
import { scaleOver } from "./color.js";
import { colorBar, fit, grid, label, s, sheet, slanted, tickLook, ticks, vertical } from "./draw.js";
import { spokenHead } from "./heads.js";

/** The panel. @param {any} data */
export function attentionPanel(data) {
  const scale = scaleOver([0, 1], "sequential");
  const pattern = (now) => (now.H === "m" ? undefined : data.pattern(now.ex, now.L, now.H));
  const place = (now) => {
    const n = data.prompts[now.ex].clean.length;
    const size = Math.min(30, 318 / n);
    return { n, size, x: 92, y: 58 };
  };
  const why = (now) => {
    if (now.H === "m") return "An MLP looks at no other position. Select a head to see where it looks.";
    if (!data.attended.includes(now.ex)) {
      const n = data.attended.length;
      return `The page carries attention for ${n === 1 ? "the first prompt" : `the first ${n} prompts`}; this is prompt ${now.ex + 1}.`;
    }
    return "On prompts this long the page carries the strongest heads only.";
  };
  return {
    id: "attention",
    title: (now) => (now.H === "m" ? "Attention" : `Attention of ${spokenHead(now.L, now.H)}`),
    keys: "Up and down: the position that looks. Left and right: the one looked at.",
    absent: (now) => (pattern(now) ? "" : why(now)),
    readout: (now) => {
      const [prompt, weights] = [data.prompts[now.ex], pattern(now)?.[now.q]];
      if (!weights) return "";
      const k = now.k ?? [...weights.keys()].reduce((best, k) => (weights[k] > weights[best] ? k : best), 0);
      const weight = Number.isNaN(weights[k]) ? (data.causal && k > now.q ? "ahead of it" : "not carried: small") : say(weights[k]);
      return `${prompt.clean[now.q]} (${now.q}) → ${prompt.clean[k]} (${k}): ${weight}`;
    },
    draw(palette, now) {
      const weights = pattern(now);
      const tokens = data.prompts[now.ex].clean;
      const { n, size, x, y } = place(now);
      const bottom = y + n * size;
      const svg = sheet(420, bottom + 34, `Attention of ${spokenHead(now.L, now.H)} on prompt ${now.ex + 1}`);
      grid(svg, { x, y, w: size, h: size, columns: n, rows: n }, (q, k) => {
        if (data.causal && k > q) return palette.masked;
        return scale.color(palette, weights[q][k] || 0);
      });
      const font = Math.max(7, Math.min(10.5, size * 0.8));
      ticks(n, size, 11, now.q, (i, on) => svg.append(label(x - 5, y + (i + 0.5) * size, fit(tokens[i], 84, font),
        { ...tickLook(palette, on, font), "text-anchor": "end" })));
      ticks(n, size, 11, now.k, (i, on) =>
        slanted(svg, x + (i + 0.5) * size, y - 4, fit(tokens[i], 62, font), tickLook(palette, on, font)));
      const width = data.causal ? now.q + 1 : n;
      svg.append(s("rect", {
        x: x - 0.5, y: y + now.q * size - 0.5, width: width * size, height: size, fill: "none", stroke: palette.accent, "stroke-width": 1.5,
      }));
      if (now.k !== null) {
        svg.append(s("rect", {
          x: x + now.k * size - 0.5, y: y + now.q * size - 0.5, width: size, height: size, fill: "none", stroke: palette.mark, "stroke-width": 2,
        }));
      }
      colorBar(svg, x, bottom + 12, 130, scale, palette, "attention; a row sums to 1", say);
      return svg;
    },
    at(px, py, now) {
      if (!pattern(now)) return null;
      const { n, size, x, y } = place(now);
      const [k, q] = [Math.floor((px - x) / size), Math.floor((py - y) / size)];
      if (q < 0 || q >= n || k >= n || px < 0) return null;
      return k < 0 || (data.causal && k > q) ? { q, k: null } : { q, k };
    },
    move(key, now) {
      const { n } = place(now);
      if (vertical(key)) {
        const q = now.q + (key === "ArrowUp" ? -1 : 1);
        return q >= 0 && q < n ? { q, k: null } : null;
      }
      const most = data.causal ? now.q : n - 1;
      const k = now.k === null ? most : now.k + (key === "ArrowLeft" ? -1 : 1);
      return k >= 0 && k <= most ? { k } : null;
    },
    table(now) {
      const tokens = data.prompts[now.ex].clean;
      const rows = (pattern(now) ?? []).flatMap((row, q) =>
        [...row.keys()].filter((k) => !Number.isNaN(row[k]))
          .map((k) => [data.prompts[now.ex].id, now.L, now.H, q, k, tokens[q], tokens[k], Number(row[k].toFixed(5))]));
      return { columns: ["example", "layer", "head", "query", "key", "query_token", "key_token", "weight"], rows };
    },
    command: (now) => (data.commands.examples_attention ?? "").replace("{head}", now.H === "m" ? `L${now.L}H0` : `L${now.L}H${now.H}`),
    name: (now) => `attention-${spokenHead(now.L, now.H)}-prompt${now.ex}`,
  };
}
