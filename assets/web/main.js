// Brings the page to life.

import { all, followContents, sortable, unfoldLinked } from "./page.js";
import { decode } from "./data.js";
import { h } from "./draw.js";
import { figureMenus } from "./save.js";
import { explore } from "./explore.js";

function main() {
  all("table").forEach(sortable);
  const carried = document.getElementById("data");
  const data = carried ? decode(JSON.parse(carried.textContent)) : undefined;
  figureMenus(data);
  const store = data && explore(data);
  if (store) document.querySelector("nav ol")?.prepend(h("li", {}, h("a", { href: "#explore" }, "Explore")));
  followContents();
  unfoldLinked();
}

main();
