// Drives reports in a real browser: `node page.mjs REPORT_FOLDER HOSTILE_FOLDER SCRATCH`.
//
// GLASSBOX_PLAYWRIGHT names a folder with playwright-core in it, GLASSBOX_CHROMIUM the browser. Each check prints a line; the
// first that fails ends the run with an error.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const { chromium } = createRequire(resolve(process.env.GLASSBOX_PLAYWRIGHT, "x.js"))("playwright-core");
const [report, hostile, scratch] = process.argv.slice(2).map((folder) => resolve(folder));
const address = (folder) => pathToFileURL(join(folder, "index.html")).href;

const browser = await chromium.launch({
  executablePath: process.env.GLASSBOX_CHROMIUM,
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
  ],
});

/** A page that writes down whatever it should not do. */
async function open(url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, acceptDownloads: true, ...options });
  const page = await context.newPage();
  const wrong = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && wrong.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => wrong.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => (wrong.push(`dialog: ${dialog.message()}`), dialog.dismiss()));
  page.on("request", (request) => {
    const at = request.url();
    if (!at.startsWith("data:") && !at.startsWith("blob:") && at.split("#")[0] !== url.split("#")[0]) wrong.push(`request: ${at}`);
  });
  await page.goto(url);
  return { page, wrong, close: () => context.close() };
}

const checks = [];
const check = (name, run) => checks.push([name, run]);
const panel = (page, id) => page.locator(`[data-panel="${id}"]`);
const hash = (page) => page.evaluate(() => location.hash);
const state = async (page) => Object.fromEntries(new URLSearchParams((await hash(page)).slice(1)));
const title = (page, id) => panel(page, id).locator("h3").innerText();
const readout = (page, id) => panel(page, id).locator(".readout").innerText();

/** Clicks the cell of a head in the map of heads. */
async function clickHead(page, layer, head, layers) {
  const svg = panel(page, "heads").locator(".plot svg");
  const box = await svg.boundingBox();
  // the grid starts at (28, 6); its cells are squares
  const size = await svg.evaluate((node) => Number(node.querySelector("g rect").getAttribute("width")) + 1);
  const scale = box.width / (await svg.evaluate((node) => node.viewBox.baseVal.width));
  await svg.click({ position: { x: (28 + (head + 0.5) * size) * scale, y: (6 + (layer + 0.5) * size) * scale } });
  void layers;
}

let last = 0;

/** What a click downloads. Chromium drops, unsaid, what is more than ten downloads in a second, so a click waits its turn. */
async function downloaded(page, act) {
  await new Promise((done) => setTimeout(done, last + 150 - Date.now()));
  last = Date.now();
  const [file] = await Promise.all([page.waitForEvent("download"), act()]);
  const path = join(scratch, `${checks.length}-${file.suggestedFilename()}`);
  await file.saveAs(path);
  return { name: file.suggestedFilename(), bytes: readFileSync(path) };
}

/** Opens a panel's menu and saves it in a form. */
async function saved(page, where, form) {
  const box = where.locator("details.menu");
  if (!(await box.evaluate((node) => node.open))) await box.locator("summary").click();
  return downloaded(page, () => box.locator(`[data-save="${form}"]`).click());
}

function csvRows(text) {
  return text.trimEnd().split("\n").map((line) => {
    const cells = [];
    for (const [, quoted, plain] of line.matchAll(/(?:"((?:[^"]|"")*)"|([^,]*))(?:,|$)/g)) {
      cells.push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    }
    return cells.slice(0, -1);
  });
}

/** The same cells, numbers by their value. */
function sameCells(a, b) {
  assert.equal(a.length, b.length, "rows");
  a.forEach((row, i) => row.forEach((cell, at) => {
    const same = cell === b[i][at] || (cell !== "" && Number(cell) === Number(b[i][at]));
    assert.ok(same, `row ${i}, ${a[0][at]}: ${cell} and ${b[i][at]}`);
  }));
}

check("the page loads without an error or a request, and fast", async () => {
  const { page, wrong, close } = await open(address(report));
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable", { timeDomain: "threadTicks" });
  await page.reload();
  await panel(page, "heads").locator(".plot svg").waitFor();
  const time = await page.evaluate(() => {
    const [entry] = performance.getEntriesByType("navigation");
    return Math.round(entry.loadEventEnd - entry.startTime);
  });
  const { metrics } = await session.send("Performance.getMetrics");
  const took = (what) => Math.round(1000 * metrics.find(({ name }) => name === what).value);
  const size = statSync(join(report, "index.html")).size;
  console.log(`  ${(size / 1e6).toFixed(2)} MB, loaded in ${time} ms; processor: ${took("TaskDuration")} ms, scripts ${took("ScriptDuration")} ms`);
  assert.ok(size < 5e6);
  assert.deepEqual(wrong, []);
  await close();
});

check("panels show one selection; a click holds it, Esc lets go", async () => {
  const { page, wrong, close } = await open(address(report));
  const ids = await page.locator(".panel").evaluateAll((all) => all.map((node) => node.dataset.panel));
  assert.deepEqual(ids, ["heads", "attention", "places", "card", "lens", "each"]);
  const before = await title(page, "card");
  assert.equal(await hash(page), "");
  await clickHead(page, 0, 1);
  assert.equal(await title(page, "card"), "a0.h1");
  assert.equal(await title(page, "attention"), "Attention of a0.h1");
  assert.deepEqual(await state(page), { v: "1", L: "0", H: "1" });
  assert.match(await readout(page, "heads"), /^a0\.h1: .* \[.*\] logits$/);
  await page.locator('.prompt button[data-pos="3"]').click();
  assert.equal((await state(page)).q, "3");
  assert.equal(await page.locator('.prompt button[aria-pressed="true"]').getAttribute("data-pos"), "3");
  await page.locator('.prompt button[aria-label="Next prompt"]').click();
  assert.equal((await state(page)).ex, "1");
  const held = await hash(page);
  await page.keyboard.press("Escape");
  assert.equal(await hash(page), "");
  assert.equal(await title(page, "card"), before);
  // the address brings it back
  const again = await open(address(report) + held);
  assert.equal(await title(again.page, "attention"), "Attention of a0.h1");
  assert.deepEqual(await state(again.page), Object.fromEntries(new URLSearchParams(held.slice(1))));
  assert.match(await again.page.locator(".prompt .where").innerText(), /^Prompt 2 of/);
  await again.page.evaluate(() => (location.hash = "v=1&L=99&H=m&q=9999&k=5&ex=100000&m=%E0%A4%A&s=no"));
  await again.page.waitForFunction(() => document.querySelector('[data-panel="card"] h3').textContent.match(/^m\d/));
  assert.deepEqual([...wrong, ...again.wrong], []);
  await close();
  await again.close();
});

check("links to sections still lead to them", async () => {
  const { page, wrong, close } = await open(`${address(report)}#patching`);
  await page.waitForFunction(() => Math.abs(document.getElementById("patching").getBoundingClientRect().top) < 200);
  await page.locator('nav a[href="#explore"]').click();
  assert.equal(await hash(page), "#explore");
  assert.deepEqual(wrong, []);
  await close();
});

check("hovering previews and leaves no trace", async () => {
  const { page, close } = await open(address(report));
  const before = await title(page, "card");
  const svg = panel(page, "heads").locator(".plot svg");
  await svg.scrollIntoViewIfNeeded();
  const box = await svg.boundingBox();
  await page.mouse.move(box.x + 40, box.y + 20);
  await page.waitForFunction(() => document.querySelector('[data-panel="card"] h3').textContent === "a0.h0");
  assert.equal(await hash(page), "");
  await page.mouse.move(2, 2);
  await page.waitForFunction((name) => document.querySelector('[data-panel="card"] h3').textContent === name, before);
  await close();
});

check("keys move the selection, export and copy", async () => {
  const { page, wrong, close } = await open(address(report), { permissions: ["clipboard-read", "clipboard-write"] });
  await clickHead(page, 0, 0);
  const plot = panel(page, "heads").locator(".plot");
  await plot.focus();
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowDown");
  assert.equal(await title(page, "card"), "a1.h1");
  await page.keyboard.press("]");
  assert.equal(await title(page, "card"), "a2.h1");
  await page.keyboard.press("[");
  assert.equal(await title(page, "card"), "a1.h1");
  await panel(page, "attention").locator(".plot").focus();
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("ArrowLeft");
  const { q, k } = await state(page);
  assert.ok(Number(q) >= 0 && Number(k) >= 0);
  const file = await downloaded(page, () => page.keyboard.press("e"));
  assert.match(file.name, /^attention-a1\.h1-prompt1\.svg$/);
  await page.keyboard.press("c");
  await page.waitForFunction(() => document.querySelector(".toast.on")?.textContent === "Command copied");
  const command = await page.evaluate(() => navigator.clipboard.readText());
  assert.match(command, /^glassbox heads --model textbook --task ioi --n \d+ (--corruption flip )?--seed 0 --heads a1\.h1 --table attention --format csv$/);
  await page.keyboard.press("?");
  assert.ok(await page.locator('dialog[aria-label="Keys"]').evaluate((node) => node.open));
  await page.keyboard.press("Escape");
  assert.ok(!(await page.locator('dialog[aria-label="Keys"]').evaluate((node) => node.open)));
  assert.equal(await title(page, "card"), "a1.h1", "Esc closed the list of keys only");
  assert.match(await page.locator("#explore > .sr").innerText(), /a1\.h1/);
  assert.deepEqual(wrong, []);
  await close();
});

check("where the clipboard is refused the command is shown, selected", async () => {
  const { page, close } = await open(address(report));
  await page.evaluate(() => Object.defineProperty(navigator, "clipboard", { value: undefined }));
  await panel(page, "heads").locator(".plot").focus();
  await page.keyboard.press("c");
  const chosen = await page.waitForFunction(() => {
    const field = document.activeElement;
    return field?.tagName === "INPUT" && field.value.slice(field.selectionStart, field.selectionEnd);
  });
  assert.match(await chosen.jsonValue(), /^glassbox /);
  await close();
});

check("panels and figures export SVG, PNG and CSV", async () => {
  const { page, wrong, close } = await open(address(report));
  for (const id of ["heads", "card", "attention", "lens", "places", "each"]) {
    const where = panel(page, id);
    const svg = await saved(page, where, "svg");
    assert.equal(await page.evaluate((text) => {
      const read = new DOMParser().parseFromString(text, "image/svg+xml");
      return read.documentElement.tagName + read.querySelectorAll("parsererror").length;
    }, svg.bytes.toString()), "svg0", id);
    const [width, height] = /viewBox="0 0 ([\d.]+) ([\d.]+)"/.exec(svg.bytes.toString()).slice(1).map(Number);
    for (const [form, scale] of [["png", 300 / 96], ["png2", 2]]) {
      const png = await saved(page, where, form);
      assert.equal(png.bytes.subarray(0, 8).toString("latin1"), "\x89PNG\r\n\x1a\n");
      assert.ok(Math.abs(png.bytes.readUInt32BE(16) - width * scale) <= 1, `${id}: width`);
      assert.ok(Math.abs(png.bytes.readUInt32BE(20) - height * scale) <= 1, `${id}: height`);
      assert.ok(png.bytes.length > 1500, `${id}: a picture of nothing`);
    }
    const csv = await saved(page, where, "csv");
    assert.ok(csvRows(csv.bytes.toString()).length > 1, id);
  }
  const components = await saved(page, panel(page, "heads"), "csv");
  sameCells(csvRows(components.bytes.toString()), csvRows(readFileSync(join(report, "tables/components.csv"), "utf8")));
  const figure = page.locator("#figure-patch_head");
  const rows = await saved(page, figure, "csv");
  sameCells(csvRows(rows.bytes.toString()), csvRows(readFileSync(join(report, "tables/patch_head.csv"), "utf8")));
  const drawing = await saved(page, figure, "svg");
  assert.match(drawing.bytes.toString(), /^<svg [^>]*xmlns="http:\/\/www.w3.org\/2000\/svg"/);
  const picture = await saved(page, figure, "png");
  const wide = Number(/viewBox="0 0 ([\d.]+)/.exec(drawing.bytes.toString())[1]);
  assert.ok(Math.abs(picture.bytes.readUInt32BE(16) - (wide * 300) / 72) <= 1);
  assert.deepEqual(wrong, []);
  await close();
});

check("every number that a panel exports is the run's own, however small", async () => {
  const { page, wrong, close } = await open(address(report));
  const read = (folder, name) => {
    const [names, ...rows] = csvRows(readFileSync(join(folder, `${name}.csv`), "utf8"));
    return rows.map((row) => Object.fromEntries(names.map((name, at) => [name, row[at]])));
  };
  const each = Object.fromEntries(["attention", "lens", "components", "patch_head"].map((name) => [name, read(scratch, `examples_${name}`)]));
  /** What a panel saves, beside the rows of a table that say the same of `names`, in the same columns. */
  const compare = async (id, table, names, columns, filled = {}) => {
    const [own, ...rows] = csvRows((await saved(page, panel(page, id), "csv")).bytes.toString());
    assert.ok(rows.length > 0, id);
    for (const row of rows) {
      const cells = { ...filled, ...Object.fromEntries(own.map((name, at) => [name, row[at]])) };
      const found = table.filter((other) => names.every((name) => other[name] === cells[name]));
      assert.equal(found.length, 1, `${id}: ${row}`);
      const mine = Object.keys(columns).map((name) => cells[name]);
      sameCells([mine], [Object.values(columns).map((name) => found[0][name])]);
    }
    return rows;
  };
  let small = 0;
  for (const [ex, L, H, m] of [[0, 2, 0, "total"], [3, 0, 1, "direct"], [1, 1, 2, "patch_head.z.noise"]]) {
    await page.evaluate((hash) => (location.hash = hash), `v=1&ex=${ex}&L=${L}&H=${H}&m=${m}`);
    await page.waitForFunction((name) => document.querySelector('[data-panel="card"] h3').textContent === name, `a${L}.h${H}`);
    const rows = await compare("attention", each.attention, ["example", "layer", "head", "query", "key"], { weight: "weight" });
    assert.equal(rows.length, each.attention.filter((row) => row.example === rows[0][0] && row.layer === `${L}` && row.head === `${H}`).length);
    small += rows.filter((row) => Number(row.at(-1)) > 0 && Number(row.at(-1)) < 1e-3).length;
    const read = Object.fromEntries(["top", "prob", "rank", "logit_diff", "entropy", "kl"].map((name) => [name, name]));
    const pos = await page.locator('.prompt button[aria-pressed="true"]').getAttribute("data-pos");
    await compare("lens", each.lens, ["example", "pos", "site", "layer"], read, { example: rows[0][0], pos });
    const patched = m.startsWith("patch");
    const what = patched ? { layer: `${L}`, head: `${H}`, site: "z", direction: "noise" } : { component: `a${L}.h${H}` };
    await compare("each", patched ? each.patch_head : each.components, ["example", ...Object.keys(what)], { value: patched ? "effect" : m }, what);
  }
  assert.ok(small > 20, `only ${small} small weights were compared`);
  const places = csvRows((await saved(page, panel(page, "places"), "csv")).bytes.toString());
  const shown = new Set(places.slice(1).map((row) => row.slice(0, 2).join()));
  assert.equal(shown.size, 1);
  const all = csvRows(readFileSync(join(report, "tables/resid_by_pos.csv"), "utf8"));
  sameCells(places, [all[0], ...all.slice(1).filter((row) => shown.has(row.slice(0, 2).join()))]);
  assert.deepEqual(wrong, []);
  await close();
});

check("a palette goes to heads, tokens, panels and prompts", async () => {
  const { page, wrong, close } = await open(address(report));
  const find = async (text) => {
    await page.keyboard.press("/");
    await page.keyboard.type(text);
    return page.locator('[role="option"][aria-selected="true"]').innerText();
  };
  const goTo = async (text) => {
    const name = await find(text);
    await page.keyboard.press("Enter");
    return name;
  };
  for (const text of ["2.0", "L2H0", "a2.h0"]) {
    await page.keyboard.press("Escape");
    assert.equal(await goTo(text), "a2.h0");
    assert.deepEqual(await state(page), { v: "1", L: "2", H: "0" });
  }
  assert.equal(await goTo("m1"), "m1");
  assert.equal(await title(page, "card"), "m1");
  assert.match(await goTo("3"), /^prompt 3: /);
  assert.equal((await state(page)).ex, "2");
  const word = await page.locator('.prompt button[data-pos="2"]').innerText();
  assert.match(await goTo(word), /\(2\)$/);
  assert.equal((await state(page)).q, "2");
  await goTo("lens");
  assert.equal(await page.evaluate(() => document.activeElement.closest("[data-panel]")?.dataset.panel), "lens");
  const before = await hash(page);
  await find("a");
  await page.keyboard.press("ArrowDown");
  const field = page.locator('[role="combobox"]');
  assert.equal(await field.getAttribute("aria-activedescendant"), "offer-1");
  assert.equal(await page.locator("#offer-1").getAttribute("aria-selected"), "true");
  await page.keyboard.press("Escape");
  assert.ok(!(await field.isVisible()));
  await page.keyboard.press("/");
  await page.keyboard.type("no such thing");
  assert.equal(await page.locator('[role="option"]').count(), 0);
  await page.keyboard.press("Enter");
  assert.equal(await hash(page), before, "neither Esc nor finding nothing changes what is held");
  await page.getByRole("button", { name: "Go to" }).click();
  await page.keyboard.type("0.1");
  await page.locator("#offer-0").click();
  assert.equal(await title(page, "card"), "a0.h1");
  assert.deepEqual(wrong, []);
  await close();
});

check("figures of the page select, and mark what is selected", async () => {
  const { page, close } = await open(address(report));
  await page.locator("#figure-patch_head g.pick").first().click();
  assert.equal(await title(page, "card"), "a0.h0");
  assert.ok((await page.locator("#figure-patch_head .on").count()) >= 1);
  await close();
});

check("every panel has its numbers as a table, and a name", async () => {
  const { page, close } = await open(address(report));
  for (const id of ["heads", "card", "attention", "lens", "places", "each"]) {
    const numbers = panel(page, id).locator("details.numbers");
    await numbers.locator("summary").click();
    assert.ok((await numbers.locator("tbody tr").count()) > 0, id);
  }
  const nameless = await page.evaluate(() => {
    const named = (node) => node.getAttribute("aria-label") || node.getAttribute("aria-labelledby") || node.textContent.trim();
    return [...document.querySelectorAll("button, select, a[href], summary, [role=application], svg[role=img]")]
      .filter((node) => !named(node)).map((node) => node.outerHTML.slice(0, 80));
  });
  assert.deepEqual(nameless, []);
  await close();
});

check("paper shows the story and what is selected, and nothing to press", async () => {
  const { page, close } = await open(address(report));
  await page.emulateMedia({ media: "print" });
  const shown = await page.evaluate(() => [...document.querySelectorAll("button, select, input, summary, .toast, dialog")]
    .filter((node) => node.checkVisibility() && !node.closest("thead, .prompt ol") && node.getBoundingClientRect().height > 0)
    .map((node) => node.outerHTML.slice(0, 90)));
  assert.deepEqual(shown, []);
  assert.ok(await panel(page, "heads").locator("svg").isVisible());
  const pdf = await page.pdf({ format: "A4" });
  assert.equal(pdf.subarray(0, 4).toString(), "%PDF");
  await close();
});

check("a dark page is dark, and its exports are not", async () => {
  const { page, wrong, close } = await open(address(report), { colorScheme: "dark" });
  const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.equal(ground, "rgb(21, 23, 26)");
  const svg = panel(page, "heads").locator(".plot svg");
  assert.match(await svg.evaluate((node) => node.outerHTML), /#dcdee1/);
  const file = await saved(page, panel(page, "heads"), "svg");
  assert.doesNotMatch(file.bytes.toString(), /#dcdee1/);
  assert.deepEqual(wrong, []);
  await close();
});

check("a narrow page needs no scrolling sideways", async () => {
  const { page, close } = await open(address(report), { viewport: { width: 420, height: 800 } });
  const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(over <= 0, `${over} pixels too wide`);
  await close();
});

check("hostile tokens are shown and inert", async () => {
  const { page, wrong, close } = await open(address(hostile));
  await panel(page, "heads").locator(".plot svg").waitFor();
  const token = page.locator('.prompt button[data-pos="1"]');
  assert.equal(await token.innerText(), "<script>alert(1)</script>");
  const n = await page.locator(".prompt li").count();
  for (let pos = 0; pos < n; pos++) {
    await page.locator(`.prompt button[data-pos="${pos}"]`).click();
    for (const id of ["attention", "lens"]) await panel(page, id).locator(".plot").focus();
  }
  for (const id of ["attention", "lens", "places"]) {
    await panel(page, id).locator("details.numbers summary").click();
    await saved(page, panel(page, id), "svg");
    await saved(page, panel(page, id), "csv");
  }
  await page.keyboard.press("/");
  await page.keyboard.type("<script>");
  assert.equal(await page.locator("#offer-0").innerText(), "<script>alert(1)</script> (1)");
  await page.locator('[role="combobox"]').fill("xxx");
  const box = await page.locator("dialog[open]").evaluate((node) => node.scrollWidth - node.clientWidth);
  assert.ok(box <= 0, "a long token is wider than the palette");
  await page.keyboard.press("Enter");
  assert.equal(await page.locator("script").count(), 2);
  assert.equal(await page.locator("img, iframe, object, embed, link, base").count(), 0);
  const acting = await page.evaluate(() => /[\u202a-\u202e\u2066-\u2069\u200b]/.test(document.body.innerText));
  assert.ok(!acting, "a mark of direction stands in the text");
  const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(over <= 0, `a long token makes the page ${over} pixels too wide`);
  assert.deepEqual(wrong, []);
  await close();
});

mkdirSync(scratch, { recursive: true });
const only = process.env.GLASSBOX_CHECK;
let failed = 0;
for (const [name, run] of checks) {
  if (only && !name.includes(only)) continue;
  try {
    await run();
    console.log(`ok: ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAILED: ${name}\n${error.stack}`);
  }
}
await browser.close();
process.exit(failed ? 1 : 0);
