// The palette: whatever can be selected, found by any of its names.

import { max, min } from "./data.js";
import { on } from "./page.js";
import { by, dialog, h, vertical } from "./draw.js";
import { named } from "./heads.js";
import { go } from "./prompts.js";

/** Places that are listed at most. */
const OFFERED = 10;

/** Every place: its name, the words that find it, and how to get there.
 * @param {any} data @param {any} store @param {any[]} views the panels */
function placesOf(data, store, views) {
  const found = [];
  const add = (name, more, act) => found.push({ name, text: ` ${name} ${more} `.replaceAll("␣", "").toLowerCase(), act });
  const { layers, heads } = data.model;
  for (let L = 0; L < layers; L++) {
    for (const H of [...Array(heads).keys(), "m"]) {
      add(named({ L, H }), H === "m" ? `MLP ${L}` : `L${L}H${H} ${L}.${H}`, () => store.hold({ L, H }));
    }
  }
  store.now().prompt.clean.forEach((token, q) => add(`${token} (${q})`, "position", () => store.hold({ q, k: null })));
  for (const { node, focus } of views) add(node.querySelector("h3").textContent, `${node.dataset.panel} panel`, focus);
  data.prompts.forEach(({ id, text }, ex) => add(`prompt ${ex + 1}: ${text.slice(0, 90)}`, `${ex + 1} ${id}`, () => go(data, store, { ex })));
  return found;
}

/** A list to choose from. @param {any} data @param {any} store @param {any[]} views the panels */
export function palette(data, store, views) {
  const field = h("input", {
    role: "combobox", "aria-label": "Go to", "aria-autocomplete": "list", "aria-expanded": "true", "aria-controls": "offers",
    autocomplete: "off", spellcheck: "false", placeholder: "2.0, a token, a panel, a prompt",
  });
  const list = h("ul", { id: "offers", role: "listbox", "aria-label": "Places" });
  const box = dialog("Go to", field, list);
  let [places, offered, at] = [[], [], 0];
  const mark = (place) => {
    at = max(0, min(offered.length - 1, place));
    [...list.children].forEach((row, i) => row.setAttribute("aria-selected", String(i === at)));
    field.setAttribute("aria-activedescendant", `offer-${at}`);
  };
  const offer = () => {
    const asked = field.value.trim().toLowerCase();
    // a whole word before the start of one, and that before the rest
    const far = ({ text }) => (text.includes(` ${asked} `) ? 0 : text.includes(` ${asked}`) ? 1 : 2);
    offered = places.filter(({ text }) => text.includes(asked)).sort((a, b) => far(a) - far(b)).slice(0, OFFERED);
    list.replaceChildren(...offered.map(({ name }, i) => h("li", { role: "option", id: `offer-${i}` }, name)));
    if (!offered.length) list.append("Nothing is called so.");
    mark(0);
  };
  const choose = (place) => {
    box.close();
    views[0].node.parentNode.scrollIntoView();
    offered[place]?.act();
  };
  on(field, "input", offer);
  on(field, "keydown", (event) => {
    if (event.key !== "Enter" && !vertical(event.key)) return;
    event.preventDefault();
    if (event.key === "Enter") choose(at);
    else mark(at + by(event.key));
  });
  on(list, "click", ({ target }) => choose([...list.children].indexOf(target)));
  const open = () => {
    places = placesOf(data, store, views);
    field.value = "";
    offer();
    box.showModal();
  };
  return { box, open };
}
