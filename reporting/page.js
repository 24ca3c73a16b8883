"use strict";
// Tables sort by the column that is clicked; curves show and hide by method.
const numberOf = (text) => {
  const found = text.trim().match(/^[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?/i);
  return found ? Number(found[0].replaceAll(",", "")) : null;
};
for (const table of document.querySelectorAll("table.sorts")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].map((row, place) => {
        const text = row.cells[column].textContent;
        return { row, place, text, value: numberOf(text) };
      });
      rows.sort((a, b) => {
        if (!a.text.trim() || !b.text.trim()) return (!a.text.trim()) - (!b.text.trim());
        const order = a.value !== null && b.value !== null ? a.value - b.value : a.text.localeCompare(b.text);
        return (down ? -order : order) || a.place - b.place;
      });
      table.tBodies[0].append(...rows.map((one) => one.row));
    });
  });
}
for (const box of document.querySelectorAll(".keys input")) {
  box.addEventListener("change", () => {
    for (const line of box.closest("section").querySelectorAll("[data-method]")) {
      if (line.dataset.method === box.value) line.style.display = box.checked ? "" : "none";
    }
  });
}
document.documentElement.dataset.ready = "yes";
