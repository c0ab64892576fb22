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
    place.append(button, make("span", "small soft", ` ${audio.rate / 1000} kHz`));
    if (audio.clipped) place.append(make("div", "small missing", `${audio.clipped} samples beyond ±1 are clipped in this player`));
    return place;
  };

  const outputRow = (output) => {
    const row = rows[output.row];
    const line = make("tr", row.calibration ? "calibration" : "");
    const name = make("th", "", row.label);
    name.scope = "row";
    if (data.seeds) name.append(make("span", "more", `seed ${output.seed}`));
    line.append(name);
    const cell = make("td", "player");
    cell.append(player(output.audio, row.label));
    line.append(cell);
    columns.forEach((column, i) => {
      const value = output.values[i];
      const missing = output.missing?.[i];
      const td = make("td");
      if (value !== null) td.append(make("span", "value", value.toLocaleString("en", { minimumFractionDigits: column.decimals, maximumFractionDigits: column.decimals })));
      else if (missing) {
        const mark = make("span", "why missing", missing.split(":")[0].replaceAll("_", " "));
        mark.title = missing;
        td.append(mark);
      } else td.append("–");
      line.append(td);
    });
    return line;
  };

  const inside = (item) => {
    const body = make("div", "inside");
    if (item.about.length || item.prompt) body.append(make("p", "small soft", [...item.about, item.prompt && `prompt: ${item.prompt}`].filter(Boolean).join(" · ")));
    const scroll = make("div", "scroll");
    scroll.tabIndex = 0;
    const table = make("table");
    const head = table.createTHead().insertRow();
    for (const [text, left] of [["system", true], ["audio", true], ...columns.map((c) => [c.heading, false])]) {
      const th = make("th", left ? "left" : "", text);
      th.scope = "col";
      head.append(th);
    }
    const rowsHere = table.createTBody();
    if (Object.keys(item.reference).length) {
      const line = rowsHere.insertRow();
      line.append(make("th", "", "reference"));
      const cell = make("td", "player");
      cell.append(player(item.reference, `the reference of ${item.id}`));
      line.append(cell);
      columns.forEach(() => line.append(make("td")));
    }
    for (const output of item.outputs) rowsHere.append(outputRow(output));
    scroll.append(table);
    body.append(scroll);
    for (const output of item.outputs) {
      for (const [i, words] of Object.entries(output.words ?? {})) {
        for (const [key, text] of Object.entries(words)) {
          const line = make("p", "words small");
          line.append(make("b", "", rows[output.row].label), make("span", "soft", ` ${columns[i].name} ${key}: `), text);
          body.append(line);
        }
      }
      for (const reason of new Set(Object.values(output.missing ?? {}))) {
        const line = make("p", "words small");
        line.append(make("b", "", rows[output.row].label), make("span", "missing", ` ${reason}`));
        body.append(line);
      }
    }
    return body;
  };

  const list = make("div");
  const pager = make("div", "pager");
  const search = document.getElementById("search");
  const order = document.getElementById("order");
  const PAGE = 25;
  let page = 0;
  const text = items.map((item) => `${item.id} ${item.text} ${item.about.join(" ")}`.toLowerCase());
  // The mean over the systems under test orders the items of a metric.
  const level = (item, column) => {
    const values = item.outputs.filter((o) => !rows[o.row].calibration).map((o) => o.values[column]).filter((v) => v !== null);
    return values.length ? values.reduce((a, b) => a + b, 0) / values.length : NaN;
  };
  const chosen = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = items.map((item, i) => i).filter((i) => words.every((word) => text[i].includes(word)));
    if (order.value === "failures") {
      const failures = (i) => items[i].outputs.reduce((n, o) => n + Object.keys(o.missing ?? {}).length, 0);
      return found.sort((a, b) => failures(b) - failures(a));
    }
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
      line.append(make("span", "id", items[i].id), make("span", "text", items[i].text || "(no text)"));
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
  for (const control of [search, order]) control.addEventListener("input", () => { page = 0; show(); });
  section.append(list, pager);
  show();
})();
