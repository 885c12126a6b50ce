"use strict";
/* Nothing here is needed to read the page: it sorts, filters and switches the theme. */
const root = document.documentElement;

const theme = document.querySelector(".theme");
const dark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
const label = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
theme.hidden = false;
theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; label(); });
dark.addEventListener("change", label);
label();

/* Numbers by value, and before text either way; text as a person orders it: a2 before a10. */
const inOrder = new Intl.Collator("en", { numeric: true }).compare;
const key = (row, column) => {
  const cell = row.cells[column];
  return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent;
};
const order = (a, b, sign) => {
  if (typeof a === typeof b) return sign * (typeof a === "number" ? a - b : inOrder(a, b));
  return typeof a === "number" ? -1 : 1;
};
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort((a, b) => order(key(a, column), key(b, column), sign)));
    });
  });
}

const LONG = 10;
for (const table of document.querySelectorAll("table.sortable")) {
  const rows = [...table.tBodies[0].rows];
  if (rows.length < LONG) continue;
  const line = document.createElement("label");
  line.className = "filter";
  const box = document.createElement("input");
  box.type = "search";
  const shown = document.createElement("span");
  shown.setAttribute("role", "status");
  line.append("Rows with", box, shown);
  table.parentElement.before(line);
  box.addEventListener("input", () => {
    const wanted = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !wanted.every((word) => text.includes(word));
    }
    const left = rows.filter((row) => !row.hidden).length;
    shown.textContent = wanted.length ? `${left} of ${rows.length}` : "";
  });
}

/* A region is a stop for the keyboard only while it has something to scroll. */
const regions = [...document.querySelectorAll(".scroll, pre")];
const stops = () => {
  for (const region of regions) {
    if (region.scrollWidth > region.clientWidth) region.tabIndex = 0;
    else region.removeAttribute("tabindex");
  }
};
for (const folded of document.querySelectorAll("details")) folded.addEventListener("toggle", stops);
addEventListener("resize", stops);
stops();

addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});
