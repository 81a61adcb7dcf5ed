// What the page carries: tables, prompts, attention.

export const finite = Number.isFinite;
export const max = Math.max;
export const min = Math.min;
export const floor = Math.floor;
export const abs = Math.abs;

/** @param {string} base64 @returns {DataView} */
function bytes(base64) {
  const text = atob(base64);
  const out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
  return new DataView(out.buffer);
}

/** Little-endian 32-bit numbers. @param {string} base64 */
export function floats(base64) {
  const view = bytes(base64);
  return Float32Array.from({ length: view.byteLength / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

/** Little-endian 16-bit counts. @param {string} base64 */
export function shorts(base64) {
  const view = bytes(base64);
  return Uint16Array.from({ length: view.byteLength / 2 }, (_, i) => view.getUint16(2 * i, true));
}

/**
 * @typedef {object} Table
 * @property {string} name @property {number} rows
 * @property {{ name: string, about: string, kind: string }[]} columns
 * @property {(name: string) => any[]} get a column's cells; none if it is not there
 */

/** @returns {Table} */
function table(name, raw) {
  const word = { NaN: NaN, inf: Infinity, "-inf": -Infinity };
  const cells = new Map();
  const kinds = ["text", "num", "int", "bool"];
  const columns = raw.columns.map((column) => {
    const kind = kinds.find((kind) => kind in column);
    const read = {
      text: () => column.text.map((at) => (at === null ? null : column.words[at])),
      num: () => column.num.map((x) => (typeof x === "string" ? word[x] : x)),
    };
    let made;
    cells.set(column.name, () => (made ??= (read[kind] ?? (() => column[kind]))()));
    return { name: column.name, about: column.about, kind };
  });
  return { name, rows: raw.rows, columns, get: (name) => cells.get(name)?.() ?? [] };
}

/** The page's data, decoded as it is asked for. @param {any} raw */
export function decode(raw) {
  const tables = new Map();
  const words = raw.prompts.words;
  // where tokens carry their own spaces, text has no others
  const joint = words.some((word) => word.startsWith("␣")) ? "" : " ";
  const spell = (list) => list?.map((at) => words[at]);
  const prompts = raw.prompts.all.map((one) => ({
    ...one,
    clean: spell(one.clean),
    corrupt: spell(one.corrupt),
    answers: spell(one.answers),
    wrong: spell(one.wrong),
    text: spell(one.clean).join(joint).replaceAll("␣", " "),
  }));
  const patterns = new Map();
  return {
    model: raw.model,
    task: raw.task,
    commands: raw.commands,
    prompts,
    /** @param {string} name @returns {Table | undefined} */
    table(name) {
      if (!tables.has(name) && raw.tables[name]) tables.set(name, table(name, raw.tables[name]));
      return tables.get(name);
    },
    /** A row's values on the first prompts; none where they are not carried.
     * @param {string} name @param {string} column @param {number} row */
    each(name, column, row) {
      const own = raw.each[name];
      if (!own?.[column]) return undefined;
      if (typeof own[column] === "string") own[column] = floats(own[column]);
      return own[column].subarray(row * own.prompts, (row + 1) * own.prompts);
    },
    /** Prompts whose attention is carried. */
    attended: (raw.attention?.examples ?? []).map((one) => one.example),
    causal: raw.attention?.causal ?? true,
    /** Weights `[query][key]` of a head on a prompt; NaN where a weight is not carried. None where the head is not.
     * @param {number} example @param {number} layer @param {number} head @returns {Float32Array[] | undefined} */
    pattern(example, layer, head) {
      const one = raw.attention?.examples.find((one) => one.example === example);
      if (!one) return undefined;
      if (!patterns.has(example)) patterns.set(example, unpack(one, prompts[example].clean.length, raw.attention.one));
      return patterns.get(example).get(`${layer}.${head}`);
    },
    readings: raw.readings && readings(raw.readings),
  };
}

/** The patterns of one prompt by head. */
function unpack(one, n, whole) {
  const [counts, weights] = [shorts(one.counts), shorts(one.weights)];
  const keys = one.keys && shorts(one.keys);
  const found = new Map();
  let at = 0;
  one.heads.forEach(([layer, head], place) => {
    const pattern = [];
    for (let query = 0; query < n; query++) {
      const row = new Float32Array(n).fill(NaN);
      for (let i = 0; i < counts[place * n + query]; i++, at++) {
        row[keys ? keys[at] : i] = weights[at] > whole ? NaN : weights[at] / whole;
      }
      pattern.push(row);
    }
    found.set(`${layer}.${head}`, pattern);
  });
  return found;
}

/** Readings of the lens by prompt and position. */
function readings(raw) {
  const numbers = ["prob", "rank", "logit_diff", "entropy", "kl"].map((name) => [name, floats(raw[name])]);
  const found = new Map();
  for (let i = 0; i < raw.rows; i++) {
    const key = `${raw.example[i]}.${raw.pos[i]}`;
    if (!found.has(key)) found.set(key, []);
    const own = { site: raw.site.words[raw.site.text[i]], layer: raw.layer[i], top: raw.top.words[raw.top.text[i]] };
    for (const [name, cells] of numbers) own[name] = cells[i];
    found.get(key).push(own);
  }
  return (example, pos) => found.get(`${example}.${pos}`);
}

/** A number as a sentence says it. @param {number | null | undefined} x */
export function say(x) {
  if (x === null || x === undefined || Number.isNaN(x)) return "no value";
  const size = abs(x);
  if (size === 0) return "0";
  if (!finite(x)) return x > 0 ? "∞" : "−∞";
  const text = size < 0.001 ? x.toExponential(1) : x.toFixed(size < 0.1 ? 3 : size < 1000 ? 2 : 0);
  return text.replaceAll("-", "−").replace("e+", "e");
}

/** A number with its interval. @param {{ v: number, lo?: number, hi?: number }} cell */
export function sayCell({ v, lo, hi }) {
  const known = (x) => x !== null && x !== undefined && !Number.isNaN(x);
  return known(lo) && known(hi) ? `${say(v)} [${say(lo)}, ${say(hi)}]` : say(v);
}

/** Rows as CSV, in the spelling of the files beside the page: each text in quotes, and none that a spreadsheet would run.
 * @param {string[]} columns @param {any[][]} rows */
export function csv(columns, rows) {
  const quoted = (text) => `"${text.replaceAll('"', '""')}"`;
  const cell = (x) => {
    if (x === null || x === undefined) return "";
    if (typeof x === "number") return finite(x) ? String(x) : Number.isNaN(x) ? "NaN" : x > 0 ? "inf" : "-inf";
    return quoted(/^['=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/.test(String(x)) ? `'${x}` : String(x));
  };
  return [columns.map(quoted), ...rows.map((row) => row.map(cell))].map((row) => row.join(",") + "\n").join("");
}

/** All rows of a table, or those that `keep` says yes to. @param {Table} from @param {(row: number) => boolean} [keep] */
export function rowsOf(from, keep = () => true) {
  const cells = from.columns.map((column) => from.get(column.name));
  const rows = [];
  for (let i = 0; i < from.rows; i++) if (keep(i)) rows.push(cells.map((column) => column[i]));
  return { columns: from.columns.map((column) => column.name), rows };
}
