"use strict";
// Sorting is all that the page needs a script for.

// The value that a line is sorted by, or null where there is none.
function sortKey(line, column, words) {
  const text = line.cells[column].dataset.sort;
  if (text === undefined) return null;
  return words ? text : Number(text);
}

function compare(a, b) {
  if (typeof a === "string") return a.localeCompare(b, "en");
  return a - b;
}

// Put lines in order; those without a value stay last, equal ones stay in their first order.
function ordered(lines, column, words, sign) {
  const keyed = lines.map((line, place) => ({ line, place, key: sortKey(line, column, words) }));
  keyed.sort((a, b) => {
    if (a.key === null || b.key === null) {
      return (a.key === null) - (b.key === null) || a.place - b.place;
    }
    return sign * compare(a.key, b.key) || a.place - b.place;
  });
  return keyed.map((each) => each.line);
}

function makeSortable(table) {
  const body = table.tBodies[0];
  const original = Array.from(body.rows);
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    const words = head.dataset.sort === "text";
    // The first press shows the best first, or A; the second turns it round; the third undoes it.
    const states = words || head.dataset.first === "low" ? ["ascending", "descending", "none"] : ["descending", "ascending", "none"];
    const title = head.querySelector(".title");
    const button = document.createElement("button");
    button.type = "button";
    button.append(...title.childNodes);
    title.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const next = states[(states.indexOf(head.getAttribute("aria-sort")) + 1) % states.length];
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", next);
      const sign = next === "ascending" ? 1 : -1;
      body.append(...(next === "none" ? original : ordered(original, column, words, sign)));
    });
  });
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
