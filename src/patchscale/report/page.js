"use strict";

/* Number at the start of a cell: 20K-h1 is 20,000, +7 [+1, +13] is 7, < 0.001 is 0.001. */
function numberOf(text) {
  const found = /^[<±]?\s*([+-]?\d[\d,]*\.?\d*)([KMB]?)/.exec(text);
  if (!found) return null;
  const unit = { "": 1, K: 1e3, M: 1e6, B: 1e9 }[found[2]];
  return parseFloat(found[1].replaceAll(",", "")) * unit;
}

function compare(a, b) {
  const [x, y] = [numberOf(a), numberOf(b)];
  if (x !== null && y !== null) return x - y || a.localeCompare(b);
  if (x !== null || y !== null) return x !== null ? -1 : 1;
  return a.localeCompare(b);
}

/* Empty cells stay at the end in both directions. */
function sort(table, column, direction) {
  const text = (row) => row.cells[column].textContent.trim();
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => {
    const [x, y] = [text(a), text(b)];
    if (!x || !y) return (x ? 0 : 1) - (y ? 0 : 1);
    return direction * compare(x, y);
  });
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const ascending = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      sort(table, column, ascending ? 1 : -1);
    });
  });
}

/* Paper has no clicks: everything is unfolded for it. */
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((part) => { part.open = true; });
});
addEventListener("afterprint", () => folded.forEach((part) => { part.open = false; }));
