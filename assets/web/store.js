// One selection for all panels: what is held, and what the pointer previews over it.

/**
 * @typedef {object} Selection
 * @property {number} ex the prompt @property {number} L the layer
 * @property {number | "m"} H the head, or the MLP @property {number} q the position that reads
 * @property {number | null} k the position that is read @property {string} m which measure colours the map
 * @property {string} s which site and direction the map of positions shows
 * @property {any} [prompt] the prompt itself, where `within` puts it there
 */

const NUMBERS = ["L", "H", "q", "k", "ex"];
const WORDS = ["m", "s"];

/** The part of an address that names a selection: `v=1&L=2&H=0&q=14&ex=3`. @param {Partial<Selection>} held */
export function toHash(held) {
  const known = [...NUMBERS, ...WORDS].filter((key) => (held[key] ?? null) !== null);
  return String(new URLSearchParams([["v", "1"], ...known.map((key) => [key, held[key]])]));
}

/** What an address selects; none if it is the address of something else. @param {string} hash */
export function fromHash(hash) {
  const parts = new URLSearchParams(hash.replace("#", ""));
  if (parts.get("v") !== "1") return undefined;
  /** @type {any} */
  const held = {};
  for (const [key, value] of parts) {
    if (NUMBERS.includes(key) && /^\d{1,6}$/.test(value)) held[key] = Number(value);
    else if (WORDS.includes(key) || (key === "H" && value === "m")) held[key] = value;
  }
  return held;
}

/**
 * @param {() => Selection} start what is shown while nothing is held
 * @param {(selection: Selection) => Selection} within puts a selection inside of what there is
 */
export function makeStore(start, within) {
  /** @type {Partial<Selection>} */
  let held = {};
  /** @type {Partial<Selection> | null} */
  let peeked = null;
  const listeners = [];
  const tell = (why) => listeners.forEach((listen) => listen(why));
  const set = (next, why) => {
    [held, peeked] = [next, null];
    tell(why);
  };
  return {
    /** What is to be shown. */
    now: () => within({ ...start(), ...held, ...peeked }),
    /** What is held. */
    held: () => ({ ...held }),
    /** Holds a change. */
    hold: (change) => set({ ...held, ...change }, "hold"),
    /** Holds this and nothing else. */
    restore: (whole) => set({ ...whole }, "restore"),
    /** Shows a change for as long as the pointer stays. */
    peek(change) {
      if (JSON.stringify(change) === JSON.stringify(peeked)) return;
      peeked = change;
      tell("peek");
    },
    /** Lets go of everything. */
    release: () => set({}, "release"),
    onChange: (listen) => listeners.push(listen),
  };
}
