// Colours: those of the figures in light, and the same order of hues on a dark ground.

import { abs, finite, floor, max, min } from "./data.js";

/**
 * @typedef {object} Palette
 * @property {string} ink @property {string} soft @property {string} line @property {string} paper
 * @property {string} masked @property {string} missing @property {string} accent @property {string} mark
 * @property {string[]} diverging negative to positive, neutral in the middle
 * @property {string[]} sequential from nothing to all
 */

const stops = (text) => text.split(" ").map((hex) => `#${hex}`);

/** @type {Palette} */
export const LIGHT = {
  ink: "#222222", soft: "#595959", line: "#dddddd", paper: "#ffffff",
  masked: "#f4f4f4", missing: "#d0d0d0", accent: "#20558a", mark: "#000000",
  diverging: stops("67001f b2182b d6604d f4a582 fddbc7 f7f7f7 d1e5f0 92c5de 4393c3 2166ac 053061"),
  sequential: stops("ffffff deebf7 c6dbef 9ecae1 6baed6 4292c6 2171b5 08519c 08306b"),
};

/** @type {Palette} */
export const DARK = {
  ink: "#dcdee1", soft: "#9aa1ab", line: "#33373d", paper: "#15171a",
  masked: "#1a1c20", missing: "#4a4f57", accent: "#8dbbe8", mark: "#ffffff",
  diverging: stops("ffc9b3 f59a80 dd6852 a8402f 5c2a24 25282d 1f3f5b 2a6496 4d94d8 86b9ea c6e0fb"),
  sequential: stops("1d2024 1f3247 21476b 265d90 3477b3 4d94d8 7db3e6 aed1f2 dcecfb"),
};

const parts = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/** The colour at `t` from 0 to 1 between stops.
 * @param {string[]} stops @param {number} t */
export function between(stops, t) {
  const last = stops.length - 1;
  const place = min(1, max(0, t)) * last;
  const below = min(floor(place), last - 1);
  const [a, b] = [parts(stops[below]), parts(stops[below + 1])];
  const hex = (x) => Math.round(x).toString(16).padStart(2, "0");
  return "#" + a.map((x, i) => hex(x + (b[i] - x) * (place - below))).join("");
}

/** Black or white, whichever is read more easily on a colour.
 * @param {string} hex */
export function inkOn(hex) {
  const [r, g, b] = parts(hex).map((x) => (x / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000000" : "#ffffff";
}

/**
 * Values to colours: diverging symmetric about zero, sequential from 0 to 1 or to the largest.
 * @param {Iterable<number>} values @param {"diverging" | "sequential"} kind
 */
export function scaleOver(values, kind) {
  let most = 0;
  for (const x of values) if (finite(x)) most = max(most, abs(x));
  const hi = kind === "sequential" && most <= 1 ? 1 : most || 1;
  const lo = kind === "sequential" ? 0 : -hi;
  /** @param {Palette} palette @param {number} x */
  const color = (palette, x) => between(palette[kind], (x - lo) / (hi - lo));
  return { lo, hi, kind, color };
}
