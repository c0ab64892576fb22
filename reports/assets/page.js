"use strict";
(() => {
  // Everything shown is set as text, never as markup: ids, transcripts and reasons come from outside.
  const make = (tag, className, text) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  };

  // Tables: each head cell's button sorts the rows within every body of its table; missing values stay last.
  const sortBy = (head) => {
    const table = head.closest("table");
    const column = [...head.parentNode.children].indexOf(head);
    const before = head.getAttribute("aria-sort");
    const first = head.dataset.first || "ascending";
    const order = before ? (before === "ascending" ? "descending" : "ascending") : first;
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    for (const body of table.tBodies) {
      const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
      const keyed = rows.map((row) => {
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
  for (const head of document.querySelectorAll("table.sortable thead th")) {
    head.querySelector("button")?.addEventListener("click", () => sortBy(head));
  }

  const section = document.getElementById("items");
  if (!section) return;
  const data = JSON.parse(document.getElementById("data").textContent);
  const { columns, rows, items } = data;

  // Players: the FLAC of a clip lies in the page as text and becomes a Blob when it is asked for.
  const urls = new Map();
  const clipUrl = (number) => {
    if (!urls.has(number)) {
      const text = atob(document.getElementById(`clip-${number}`).textContent);
      const bytes = new Uint8Array(text.length);
      for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
      urls.set(number, URL.createObjectURL(new Blob([bytes], { type: "audio/flac" })));
    }
    return urls.get(number);
  };
  const playing = new Set();
  const player = (audio, name) => {
    const place = make("div");
    if (audio.problem) place.append(make("span", "small missing", audio.problem));
    if (audio.clip === undefined) {
      if (!audio.problem) place.append(make("span", "small soft", "–"));
      return place;
    }
    const button = make("button", "act", `▶ ${audio.s.toFixed(2)} s`);
    button.type = "button";
    button.append(make("span", "soft", ` · ${audio.rate / 1000} kHz`));
    button.setAttribute("aria-label", `Play ${name}, ${audio.s.toFixed(2)} seconds`);
    button.addEventListener("click", () => {
      const sound = document.createElement("audio");
      sound.controls = true;
      sound.src = clipUrl(audio.clip);
      sound.setAttribute("aria-label", name);
      sound.addEventListener("play", () => { for (const other of playing) if (other !== sound) other.pause(); });
      playing.add(sound);
      button.replaceWith(sound);
      sound.focus();
      sound.play().catch(() => undefined); // A browser may refuse to start by itself; the controls are there.
    });
    place.append(button);
    if (audio.clipped) place.append(make("div", "small missing", `${audio.clipped} samples beyond ±1 are clipped in this player`));
    return place;
  };

  // A figure as the tables above print it: in the printed unit, with the column's digits or, for rates, three significant ones.
  const shown = (column, value) => {
    const figure = value * column.factor;
    let digits = column.decimals;
    if (column.significant) digits = figure === 0 ? 0 : Math.min(9, Math.max(0, 2 - Number(figure.toExponential(2).split("e")[1])));
    const text = figure.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
    return /[1-9]/.test(text) ? text : text.replace("-", "");
  };
  const nameOf = (output) => rows[output.row].label + (data.seeds ? `, seed ${output.seed}` : "");
  const SHORT = { skipped_by_policy: "skipped", metric_undefined: "undefined", invalid_input: "invalid" };

  const outputRow = (output, shownColumns) => {
    const row = rows[output.row];
    const line = make("tr", row.calibration ? "calibration" : "");
    const name = make("th");
    name.append(make("span", "name", row.label));
    name.scope = "row";
    if (data.seeds) name.append(make("span", "more", `seed ${output.seed}`));
    line.append(name);
    const cell = make("td", "player");
    cell.append(player(output.audio, nameOf(output)));
    line.append(cell);
    for (const i of shownColumns) {
      const value = output.values[i];
      const missing = output.missing[i];
      const td = make("td");
      if (value !== null) td.append(make("span", "value", shown(columns[i], value)));
      else if (missing) td.append(make("span", missing === "skipped_by_policy" ? "why" : "why missing", SHORT[missing] ?? missing));
      else td.append(make("span", "soft", "–"));
      line.append(td);
    }
    return line;
  };

  // Whose text or reason it is: "all systems" where every output of the item has it.
  const owners = (item, at) => {
    const tested = item.outputs.filter((o) => !rows[o.row].calibration).length;
    const mine = at.filter((i) => !rows[item.outputs[i].row].calibration).length;
    return mine > 1 && mine === tested && at.length === mine ? "all systems" : at.map((i) => nameOf(item.outputs[i])).join(", ");
  };
  const lines = (title, entries) => {
    if (!entries.length) return [];
    const block = make("dl", "words small");
    for (const [who, what, text, className] of entries) {
      const value = make("dd", className);
      value.append(make("span", "soft", `${what}: `), text);
      block.append(make("dt", "", who), value);
    }
    return [make("h4", "small", title), block];
  };

  const inside = (item) => {
    const body = make("div", "inside");
    if (item.about.length || item.prompt) body.append(make("p", "small soft", [...item.about, item.prompt && `prompt: ${item.prompt}`].filter(Boolean).join(" · ")));
    // A metric that no output of this item has a figure or a failure of would be an empty column.
    const some = (i) => item.outputs.some((o) => o.values[i] !== null || (o.missing[i] && o.missing[i] !== "skipped_by_policy"));
    const shownColumns = data.order.filter(some);
    const scroll = make("div", "scroll");
    scroll.tabIndex = 0;
    const table = make("table");
    const head = table.createTHead().insertRow();
    for (const [text, left, unit] of [["system", true], ["audio", true], ...shownColumns.map((i) => [columns[i].heading, false, columns[i].unit])]) {
      const th = make("th", left ? "left" : "", text);
      if (unit) th.append(make("span", "unit", unit));
      th.scope = "col";
      head.append(th);
    }
    const rowsHere = table.createTBody();
    if (Object.keys(item.reference).length) {
      const line = rowsHere.insertRow();
      const name = make("th");
      name.scope = "row";
      name.append(make("span", "name", "reference"));
      const cell = make("td", "player");
      cell.append(player(item.reference, `the reference of ${item.id}`));
      line.append(name, cell);
      for (const _ of shownColumns) line.append(make("td"));
    }
    for (const output of item.outputs) rowsHere.append(outputRow(output, shownColumns));
    scroll.append(table);
    body.append(scroll);
    const failed = item.reasons.filter((r) => r.status !== "skipped_by_policy");
    const skipped = item.reasons.filter((r) => r.status === "skipped_by_policy");
    const reason = (r) => [owners(item, r.outputs), r.metrics.join(", "), r.text, r.status === "skipped_by_policy" ? "" : "missing"];
    body.append(...lines("Without a figure", failed.map(reason)));
    body.append(...lines("Texts", item.words.map((w) => [owners(item, w.outputs), `${w.metrics.join(", ")} ${w.name}`, w.text])));
    body.append(...lines("Skipped", skipped.map(reason)));
    return body;
  };

  const list = make("div");
  const pager = make("div", "pager");
  const search = document.getElementById("search");
  const order = document.getElementById("order");
  const PAGE = 25;
  let page = 0;
  const text = items.map((item) => `${item.id} ${item.text} ${item.about.join(" ")}`.toLowerCase());
  // The chosen system, or the mean over all systems under test, orders the items.
  const whose = document.getElementById("whose");
  const counted = (item) => item.outputs.filter((o) => (whose.value === "" ? !rows[o.row].calibration : o.row === Number(whose.value)));
  const level = (item, column) => {
    const values = counted(item).map((o) => o.values[column]).filter((v) => v !== null);
    return values.length ? values.reduce((a, b) => a + b, 0) / values.length : NaN;
  };
  const failures = (item) => counted(item).reduce((n, o) => n + Object.values(o.missing).filter((m) => m !== "skipped_by_policy").length, 0);
  const standing = (item) => {
    if (order.value === "") return "";
    if (order.value === "failures") return `${failures(item)} failed`;
    const column = columns[Number(order.value)];
    const value = level(item, Number(order.value));
    return Number.isNaN(value) ? "–" : `${column.name} ${shown(column, value)}`;
  };
  const chosen = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = items.map((item, i) => i).filter((i) => words.every((word) => text[i].includes(word)));
    if (order.value === "failures") return found.sort((a, b) => failures(items[b]) - failures(items[a]) || a - b);
    if (order.value !== "") {
      const column = Number(order.value);
      const sign = columns[column].better === "higher" ? 1 : -1;
      const key = new Map(found.map((i) => [i, level(items[i], column)]));
      found.sort((a, b) => Number.isNaN(key.get(a)) - Number.isNaN(key.get(b)) || sign * (key.get(a) - key.get(b)) || a - b);
    }
    return found;
  };
  const step = (label, by) => {
    const button = make("button", "act", label);
    button.type = "button";
    button.addEventListener("click", () => { page += by; show(); section.scrollIntoView(); });
    return button;
  };
  const show = () => {
    for (const sound of playing) sound.pause();
    playing.clear();
    const found = chosen();
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    list.replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map((i) => {
      const box = make("details", "item");
      const line = make("summary");
      const said = make("span", "text", items[i].text || "(no text)");
      // Which of several shapes of a character is drawn, and how it is read aloud, follows the language.
      if (items[i].language) said.lang = items[i].language;
      line.append(make("span", "id", items[i].id), said);
      if (standing(items[i])) line.append(make("span", "standing", standing(items[i])));
      box.append(line);
      box.addEventListener("toggle", () => { if (box.open && box.children.length === 1) box.append(inside(items[i])); });
      return box;
    }));
    const back = step("Back", -1);
    const next = step("Next", 1);
    back.disabled = page === 0;
    next.disabled = page === pages - 1;
    pager.replaceChildren(back, make("span", "small soft", `${found.length} items, page ${page + 1} of ${pages}`), next);
  };
  for (const control of [search, order, whose]) control.addEventListener("input", () => { page = 0; show(); });
  section.append(list, pager);
  show();
})();
