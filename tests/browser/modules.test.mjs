// The page's modules on their own: `node --test tests/browser`.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { csv, decode, numbers, say, sayCell } from "../../assets/web/data.js";
import { fromHash, makeStore, toHash } from "../../assets/web/store.js";
import { between, DARK, inkOn, LIGHT, scaleOver } from "../../assets/web/color.js";
import { headOf, measures, named } from "../../assets/web/heads.js";

const packed = (array) => array.BYTES_PER_ELEMENT + Buffer.from(array.buffer).toString("base64");

test("addresses keep a selection and refuse what is none", () => {
  const held = { L: 2, H: 0, q: 14, ex: 3, m: "patch_head.z.denoise", s: "resid_pre, denoise" };
  assert.equal(toHash({ L: 2, H: 0, q: 14, ex: 3 }), "v=1&L=2&H=0&q=14&ex=3");
  assert.deepEqual(fromHash(`#${toHash(held)}`), held);
  assert.deepEqual(fromHash("#v=1&H=m&L=-1&q=1e9&x=1&m=%"), { H: "m", m: "%" });
  assert.equal(fromHash("#patching"), undefined);
  assert.equal(fromHash("#v=12"), undefined);
});

test("a preview hides what is held until it goes", () => {
  const store = makeStore(() => ({ L: 0, H: 0, q: 1 }), (now) => now);
  const heard = [];
  store.onChange((why) => heard.push(why));
  store.hold({ L: 2 });
  store.peek({ L: 1 });
  store.peek({ L: 1 });
  assert.equal(store.now().L, 1);
  store.peek(null);
  assert.deepEqual([store.now().L, store.held()], [2, { L: 2 }]);
  store.release();
  assert.equal(store.now().L, 0);
  assert.deepEqual(heard, ["hold", "peek", "peek", "release"]);
});

test("CSV quotes text, guards formulas and keeps digits", () => {
  const rows = [["a\"b", 0.1 + 0.2, null], ["=1+1", -1.5, NaN], ["-2", 3, Infinity]];
  assert.equal(csv(["t", "x", "y"], rows),
    '"t","x","y"\n"a""b",0.30000000000000004,\n"\'=1+1",-1.5,NaN\n"\'-2",3,inf\n');
});

test("numbers read as in the text of the page", () => {
  assert.deepEqual([0, 1.234, -0.05, 0.00123, 1e-5, 1234.5, NaN, null].map(say),
    ["0", "1.23", "−0.050", "0.0012", "1.0e−5", "1235", "no value", "no value"]);
  assert.equal(sayCell({ v: 1, lo: 0.5, hi: 2 }), "1.00 [0.50, 2.00]");
  assert.equal(sayCell({ v: 1, lo: null, hi: null }), "1.00");
});

test("colours meet at zero and their text can be read", () => {
  const scale = scaleOver([3, -1, NaN], "diverging");
  assert.deepEqual([scale.lo, scale.hi], [-3, 3]);
  assert.equal(scale.color(LIGHT, 0), "#f7f7f7");
  assert.equal(scale.color(DARK, 0), DARK.diverging[5]);
  assert.equal(scaleOver([0.2], "sequential").hi, 1);
  assert.equal(between(["#000000", "#ffffff"], 0.5), "#808080");
  assert.deepEqual([inkOn("#ffffff"), inkOn("#053061")], ["#000000", "#ffffff"]);
});

test("packed numbers unpack", () => {
  assert.deepEqual(numbers(packed(new Float32Array([1.5, -2, NaN]))), [1.5, -2, NaN]);
  assert.deepEqual(numbers(packed(new Float64Array([0.1 + 0.2, 5e-324]))), [0.1 + 0.2, 5e-324]);
  assert.deepEqual(numbers(packed(new Uint16Array([0, 65535]))), [0, 65535]);
  assert.deepEqual(numbers([0.1, null, "NaN", "-inf"]), [0.1, null, NaN, -Infinity]);
});

const page = {
  model: { name: "m", layers: 1, heads: 2 },
  task: { name: "t", n: 1, metric: "logit-diff", paired: true },
  prompts: { words: ["<script>", "b"], all: [{ id: "0", clean: [0, 1], pos: { end: 1 }, end: 1, answers: [1], wrong: [] }] },
  tables: {
    components: {
      rows: 3,
      columns: [
        { name: "component", about: "", words: ["a0.h1", "m0", "embed"], text: [0, 1, 2] },
        { name: "total", about: "", num: [1, "NaN", 3] },
        { name: "direct", about: "", num: [0.5, null, 0] },
      ],
    },
  },
  each: { components: { prompts: 1, total: packed(new Float32Array([7, 8, 9])) } },
  commands: {},
  attention: {
    causal: true,
    examples: [{
      example: 0, heads: [[0, 1]], counts: packed(new Uint16Array([1, 2])),
      weights: packed(new Float32Array([1, 1e-7, NaN])),
    }],
  },
};

test("a page's data decodes", () => {
  const data = decode(structuredClone(page));
  assert.deepEqual(data.prompts[0].clean, ["<script>", "b"]);
  // what is not carried is not the same as no number
  assert.deepEqual(data.pattern({ ex: 0, L: 0, H: 1 }), [[1, ,], [Math.fround(1e-7), NaN]]);
  for (const H of [0, "m"]) assert.equal(data.pattern({ ex: 0, L: 0, H }), undefined);
  assert.deepEqual([...data.each("components", "total", 1)], [8]);
  assert.equal(data.each("components", "direct", 1), undefined);
});

test("measures find heads and MLPs, and leave out what is neither", () => {
  const [total] = measures(decode(structuredClone(page)));
  assert.deepEqual([...total.cells.keys()], ["0.1", "0.m"]);
  assert.ok(Number.isNaN(total.cells.get("0.m").v));
  assert.deepEqual([headOf("a10.h3"), headOf("m2"), headOf("embed")], [[10, 3], [2, "m"], null]);
  assert.deepEqual([named({ L: 2, H: 0 }), named({ L: 1, H: "m" })], ["a2.h0", "m1"]);
});

test("every module is in the page", () => {
  const here = (path) => new URL(`../../${path}`, import.meta.url);
  const files = readdirSync(here("assets/web")).filter((name) => name.endsWith(".js"));
  const joined = [...readFileSync(here("src/report/html/script.rs"), "utf8").matchAll(/\("(\w+\.js)"/g)].map(([, name]) => name);
  assert.deepEqual(joined.sort(), files.sort());
});
