// The page as it is read: tables that sort, contents that follow, places that unfold.

/** Every element that a selector finds.
 * @param {string} what @param {ParentNode} [within] @returns {any[]} */
export const all = (what, within = document) => [...within.querySelectorAll(what)];

/** Listens. @param {EventTarget} where @param {string} what @param {(event: any) => any} act */
export const on = (where, what, act) => where.addEventListener(what, act);

/** Marks what is current among its like, or does not. @param {Element} node @param {boolean} is */
export const current = (node, is) => (is ? node.setAttribute("aria-current", "true") : node.removeAttribute("aria-current"));

const inOrder = new Intl.Collator("en", { numeric: true });

/** Sort a table by a click on its heading: numbers from the largest, words from A; missing cells stay last.
 * @param {HTMLTableElement} table */
export function sortable(table) {
  const heads = all("thead th", table);
  const body = table.tBodies[0];
  if (!body || body.rows.length < 2) return;
  heads.forEach((head, at) => {
    const number = head.classList.contains("n");
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    const read = (row) => {
      const text = row.cells[at].textContent;
      if (!number || text === "") return text;
      return parseFloat(text.replace(/[−[]/g, (c) => (c === "−" ? "-" : "")).replace("inf", "Infinity"));
    };
    on(button, "click", () => {
      const was = head.getAttribute("aria-sort");
      const down = was ? was === "ascending" : number;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const gone = (x) => x === "" || Number.isNaN(x);
      const rows = [...body.rows].map((row) => [read(row), row]);
      rows.sort(([a], [b]) => {
        if (gone(a) || gone(b)) return gone(a) - gone(b);
        const order = number ? a - b : inOrder.compare(a, b);
        return down ? -order : order;
      });
      body.append(...rows.map(([, row]) => row));
    });
  });
}

/** Mark in the contents the section that is being read. */
export function followContents() {
  const links = new Map(all("nav a").map((link) => [link.getAttribute("href").slice(1), link]));
  const seen = new Set();
  const watch = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) seen[isIntersecting ? "add" : "delete"](target.id);
      const now = [...links.keys()].find((id) => seen.has(id));
      if (now === undefined) return;
      for (const [id, link] of links) current(link, id === now);
    },
    { rootMargin: "-10% 0px -70% 0px" },
  );
  for (const id of links.keys()) {
    const section = document.getElementById(id);
    if (section) watch.observe(section);
  }
}

/** Paper shows what is folded up only where the reader unfolded it; a linked place unfolds itself. */
export function unfoldLinked() {
  const unfold = () => {
    let id = location.hash.slice(1);
    try {
      id = decodeURIComponent(id);
    } catch {
      return;
    }
    const place = id && document.getElementById(id);
    if (!place) return;
    place.closest("details")?.setAttribute("open", "");
    // the script may have moved it
    place.scrollIntoView();
  };
  on(window, "hashchange", unfold);
  unfold();
}
