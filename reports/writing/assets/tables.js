"use strict";
// The scripts of the page share one scope; this is the first. Everything shown is set as text, never as markup: ids,
// transcripts and reasons come from outside.
const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};
const data = JSON.parse(document.getElementById("data").textContent);

// A figure as the tables print it: in the printed unit, with the column's digits or, for rates, three significant ones.
const shown = (column, value) => {
  const figure = value * column.factor;
  let digits = column.decimals;
  if (column.significant) digits = figure === 0 ? 0 : Math.min(9, Math.max(0, 2 - Number(figure.toExponential(2).split("e")[1])));
  const text = figure.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return /[1-9]/.test(text) ? text : text.replace("-", "");
};

// A table made here: heads are [text, "left" or "", unit], cells are text or nodes.
const tableOf = (name, heads, lines) => {
  const scroll = make("div", "scroll");
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", name);
  const table = make("table");
  const top = table.createTHead().insertRow();
  for (const [text, className, unit] of heads) {
    const cell = make("th", className, text);
    cell.scope = "col";
    if (unit) cell.append(make("span", "unit", unit));
    top.append(cell);
  }
  const body = table.createTBody();
  for (const line of lines) {
    const row = body.insertRow();
    line.forEach((content, i) => {
      const cell = make(i ? "td" : "th", heads[i][1]);
      if (!i) cell.scope = "row";
      cell.append(content);
      row.append(cell);
    });
  }
  scroll.append(table);
  return scroll;
};

// Each head cell's button sorts the rows within every body of its table; missing values stay last.
const sortBy = (head) => {
  const table = head.closest("table");
  const column = [...head.parentNode.children].indexOf(head);
  const before = head.getAttribute("aria-sort");
  const order = before ? (before === "ascending" ? "descending" : "ascending") : head.dataset.first || "ascending";
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  for (const body of table.tBodies) {
    const keyed = [...body.rows].filter((row) => !row.classList.contains("group")).map((row) => {
      const cell = row.cells[column];
      const number = cell.dataset.v;
      return { row, number: number === undefined || number === "" ? NaN : Number(number), text: cell.dataset.t ?? cell.textContent };
    });
    keyed.sort((a, b) => {
      if (head.dataset.kind === "text") return sign * a.text.localeCompare(b.text, undefined, { numeric: true });
      if (Number.isNaN(a.number) || Number.isNaN(b.number)) return Number.isNaN(a.number) - Number.isNaN(b.number);
      return sign * (a.number - b.number);
    });
    for (const { row } of keyed) body.append(row);
  }
};

// What stands behind a metric or a system, in a dialog that gives the focus back where it came from.
const dialog = make("dialog", "behind");
document.body.append(dialog);
const tell = (title, facts, more = []) => {
  const close = make("button", "act close", "Close");
  close.type = "button";
  close.autofocus = true;
  close.addEventListener("click", () => dialog.close());
  const heading = make("h2", "", title);
  heading.id = "behind";
  dialog.setAttribute("aria-labelledby", heading.id);
  const list = make("dl", "words");
  for (const [name, text] of facts) list.append(make("dt", "", name), make("dd", name === "signature" || name.includes("digest") ? "code" : "", text));
  dialog.replaceChildren(close, heading, list, ...more);
  dialog.showModal();
  dialog.scrollTop = 0;
};
const CELL_HEADS = ["figure", "interval", "scored", "records", "failures as worst", "clusters", "interval by", "no figure because"];
const aboutColumn = (column) => {
  const lines = data.rows.map((row, i) => [row.label, ...column.cells[i]])
    // Reference rows have few metrics by design.
    .filter((line, i) => line[4] || !data.rows[i].calibration);
  // A column in which nothing stands is left out.
  const kept = CELL_HEADS.map((_, i) => i).filter((i) => lines.some((line) => line[i + 1]));
  const heads = [["system", "left"], ...kept.map((i) => [CELL_HEADS[i], i === 3 || i > 5 ? "left" : ""])];
  const figures = tableOf(`Figures of ${column.name}`, heads, lines.map((line) => [line[0], ...kept.map((i) => line[i + 1])]));
  tell(column.name, column.facts, [figures]);
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) {
    if (event.target === dialog) dialog.close(); // the backdrop
    return;
  }
  if (button.dataset.column !== undefined) aboutColumn(data.columns[Number(button.dataset.column)]);
  else if (button.dataset.row !== undefined) tell(data.rows[Number(button.dataset.row)].label, data.rows[Number(button.dataset.row)].facts);
  else if (button.classList.contains("sort")) sortBy(button.closest("th"));
});

// Paper has no button to open what is folded: the tables are printed open. What would not fit a sheet, for which the browser would
// shrink all else, is printed only where the reader opened it.
addEventListener("beforeprint", () => {
  for (const box of document.querySelectorAll("details:not(.item, .item *, .broad)")) if (!box.open && !box.querySelector("pre")) { box.open = true; box.dataset.printed = ""; }
});
addEventListener("afterprint", () => {
  for (const box of document.querySelectorAll("details[data-printed]")) { box.open = false; delete box.dataset.printed; }
});
