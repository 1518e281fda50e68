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
// a spreadsheet would run a cell that begins like a formula; a number is safe
const isNumber = (text) => /^[-+]?(\d[\d,]*\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text); // the whole text must be a number: +1+cmd only begins like one
const cellText = (text) => (/^[=+\-@\t\r]/.test(text) && !isNumber(text) ? "'" + text : text).replaceAll('"', '""');
const toCsv = (table) =>
  [...table.rows].map((r) => [...r.cells].map((c) => `"${cellText(c.textContent.trim())}"`).join(",")).join("\n");
const SHORT = 12, FOLD = 16; // rows that a folded table shows; tables up to FOLD rows are not folded
const action = (text, act) => {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  button.addEventListener("click", () => act(button));
  return button;
};
const sortable = (table) => {
  [...table.tHead.rows[table.tHead.rows.length - 1].cells].forEach((header, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "sort by this column";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => sortBy(table, header, i));
  });
};
document.querySelectorAll("table.dataframe").forEach((table, number) => {
  if (!table.tHead || !table.tBodies.length) return;
  sortable(table);
  const frame = document.createElement("div"), actions = document.createElement("div"), rows = table.tBodies[0].rows.length;
  frame.className = "wide";
  actions.className = "actions";
  table.replaceWith(frame);
  frame.append(table);
  frame.after(actions);
  if (rows > FOLD) {
    const words = () => (table.classList.contains("folded") ? `show all ${rows} rows` : `show ${SHORT} rows`);
    table.classList.add("folded");
    actions.append(action(words(), (button) => {
      table.classList.toggle("folded");
      button.textContent = words();
    }));
  }
  actions.append(action("download as CSV", () => {
    const link = document.createElement("a");
    link.href = "data:text/csv;charset=utf-8," + encodeURIComponent(toCsv(table));
    link.download = `table-${number + 1}.csv`;
    link.click();
  }));
});
