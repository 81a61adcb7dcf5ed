// What the page carries: tables, prompts, attention.

export const finite = Number.isFinite;
export const isNaN = Number.isNaN;
export const max = Math.max;
export const min = Math.min;
export const floor = Math.floor;
export const abs = Math.abs;

/** Whether there is nothing, which is not the same as no number. */
export const none = (x) => x === null || x === undefined;

const words = { NaN: NaN, inf: Infinity, "-inf": -Infinity };
const number = (x) => (typeof x === "string" ? words[x] : x);

/** Numbers, packed as `packed.rs` has it: the bytes that each takes, then all of them in base64; or written out.
 * @param {string | any[]} packed @returns {any[]} */
export function numbers(packed) {
  if (typeof packed !== "string") return packed.map(number);
  const size = Number(packed[0]);
  const view = new DataView(Uint8Array.from(atob(packed.slice(1)), (c) => c.charCodeAt(0)).buffer);
  const read = { 2: "getUint16", 4: "getFloat32", 8: "getFloat64" }[size];
  return Array.from({ length: view.byteLength / size }, (_, i) => view[read](size * i, true));
}

/**
 * @typedef {object} Table
 * @property {string} name @property {number} rows
 * @property {{ name: string, about: string, kind: string }[]} columns
 * @property {(name: string) => any[]} get a column's cells; none if it is not there
 */

/** @returns {Table} */
function table(name, raw) {
  const cells = new Map();
  const kinds = ["text", "num", "int", "bool"];
  const columns = raw.columns.map((column) => {
    const kind = kinds.find((kind) => kind in column);
    const read = {
      text: () => column.text.map((at) => (at === null ? null : column.words[at])),
      num: () => numbers(column.num),
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
      own.read ??= {};
      const cells = (own.read[column] ??= numbers(own[column]));
      return cells.slice(row * own.prompts, (row + 1) * own.prompts);
    },
    /** Prompts whose attention is carried. */
    attended: (raw.attention?.examples ?? []).map((one) => one.example),
    causal: raw.attention?.causal ?? true,
    /** Weights `[query][key]` of a head on a prompt; none where a weight is not carried, or the head is not.
     * @param {{ ex: number, L: number, H: number | "m" }} now @returns {number[][] | undefined} */
    pattern({ ex, L, H }) {
      const one = raw.attention?.examples.find(({ example }) => example === ex);
      if (!one) return undefined;
      if (!patterns.has(ex)) patterns.set(ex, unpack(one, prompts[ex].clean.length));
      return patterns.get(ex).get(`${L}.${H}`);
    },
    readings: raw.readings && readings(raw.readings),
  };
}

/** The patterns of one prompt by head. */
function unpack(one, n) {
  const [counts, weights, keys] = [one.counts, one.weights, one.keys].map((packed) => packed && numbers(packed));
  const found = new Map();
  let at = 0;
  one.heads.forEach(([layer, head], place) => {
    const pattern = [];
    for (let query = 0; query < n; query++) {
      const row = Array(n);
      for (let i = 0; i < counts[place * n + query]; i++, at++) row[keys ? keys[at] : i] = weights[at];
      pattern.push(row);
    }
    found.set(`${layer}.${head}`, pattern);
  });
  return found;
}

/** Readings of the lens by prompt and position. */
function readings(raw) {
  const read = ["prob", "rank", "logit_diff", "entropy", "kl"].map((name) => [name, numbers(raw[name])]);
  const found = new Map();
  for (let i = 0; i < raw.rows; i++) {
    const key = `${raw.example[i]}.${raw.pos[i]}`;
    if (!found.has(key)) found.set(key, []);
    const own = { site: raw.site.words[raw.site.text[i]], layer: raw.layer[i], top: raw.top.words[raw.top.text[i]] };
    for (const [name, cells] of read) own[name] = cells[i];
    found.get(key).push(own);
  }
  return (example, pos) => found.get(`${example}.${pos}`);
}

/** A number as a sentence says it. @param {number | null | undefined} x */
export function say(x) {
  if (none(x) || isNaN(x)) return "no value";
  const size = abs(x);
  if (size === 0) return "0";
  if (!finite(x)) return x > 0 ? "∞" : "−∞";
  const text = size < 0.001 ? x.toExponential(1) : size < 0.1 ? x.toPrecision(2) : x.toFixed(size < 1000 ? 2 : 0);
  return text.replaceAll("-", "−").replace("e+", "e");
}

/** A number with its interval. @param {{ v: number | null, lo?: number, hi?: number }} cell */
export function sayCell({ v, lo, hi }) {
  const known = (x) => !none(x) && !isNaN(x);
  return known(lo) && known(hi) ? `${say(v)} [${say(lo)}, ${say(hi)}]` : say(v);
}

/** Rows as CSV, in the spelling of the files beside the page: each text in quotes, and none that a spreadsheet would run.
 * @param {string[]} columns @param {any[][]} rows */
export function csv(columns, rows) {
  const quoted = (text) => `"${text.replaceAll('"', '""')}"`;
  const cell = (x) => {
    if (none(x)) return "";
    if (typeof x === "number") return finite(x) ? String(x) : isNaN(x) ? "NaN" : x > 0 ? "inf" : "-inf";
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
