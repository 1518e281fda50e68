"use strict";
const cellValue = (row, i) => row.cells[i].textContent.trim();
const number = (text) => {
  const plain = text.replaceAll(",", "").replace("−", "-");
  return /^[-+]?[\d.]/.test(plain) ? parseFloat(plain) : NaN;
};
const compare = (a, b) => {
  const x = number(a), y = number(b);
  if (isNaN(x) && isNaN(y)) return a.localeCompare(b);
  return isNaN(x) ? 1 : isNaN(y) ? -1 : x - y;
};
const sortBy = (table, header, i) => {
  const up = header.getAttribute("aria-sort") !== "ascending";
  table.querySelectorAll("thead th").forEach((h) => h.removeAttribute("aria-sort"));
  header.setAttribute("aria-sort", up ? "ascending" : "descending");
  const body = table.tBodies[0], rows = [...body.rows];
  const isWord = (row) => isNaN(number(cellValue(row, i)));
  rows.sort((a, b) => (isWord(a) !== isWord(b) ? isWord(a) - isWord(b) : (up ? 1 : -1) * compare(cellValue(a, i), cellValue(b, i))));
  rows.forEach((row) => body.appendChild(row));
};
const toCsv = (table) =>
  [...table.rows].map((r) => [...r.cells].map((c) => `"${c.textContent.trim().replaceAll('"', '""')}"`).join(",")).join("\n");
document.querySelectorAll("table.dataframe").forEach((table, number) => {
  if (!table.tHead || !table.tBodies.length) return;
  const headers = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  headers.forEach((header, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "sort by this column";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => sortBy(table, header, i));
  });
  const save = document.createElement("button");
  save.type = "button";
  save.className = "csv";
  save.textContent = "download as CSV";
  save.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = "data:text/csv;charset=utf-8," + encodeURIComponent(toCsv(table));
    link.download = `table-${number + 1}.csv`;
    link.click();
  });
  const frame = document.createElement("div");
  frame.className = "output";
  table.replaceWith(frame);
  frame.append(table, save);
});
