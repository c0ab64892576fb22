"use strict";
// The utterances: chosen by the filters, ordered, a page at a time; each opens to its players, figures and transcripts.
const { columns, rows, items } = data;
const byId = (id) => document.getElementById(id);
const nameOf = (output) => rows[output.row].label + (data.seeds ? `, seed ${output.seed}` : "");
const SHORT = { skipped_by_policy: "skipped", metric_undefined: "undefined", invalid_input: "invalid" };
const excluded = columns.map((column) => new Set(column.excluded));

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

// What was said and what was heard: struck through is what was missed, underlined what was heard instead.
const UNITS = { word: ["word", "words"], char: ["character", "characters"] };
const aligned = (line, language) => {
  const text = make("dd", "aligned");
  if (language) text.lang = language;
  const [substituted, deleted, inserted] = line.errors;
  line.parts.forEach(([sign, said, heard], i) => {
    if (i && line.unit === "word") text.append(" ");
    if (sign === "=") text.append(said);
    if (sign === "~" || sign === "-") text.append(make("del", "", said));
    if (sign === "~" && line.unit === "word") text.append(" ");
    if (sign === "~" || sign === "+") text.append(make("ins", "", heard));
  });
  if (line.more) text.append(make("span", "soft", ` … and ${line.more} more stretches`));
  const wrong = substituted + deleted + inserted;
  const units = UNITS[line.unit][line.length === 1 ? 0 : 1];
  const told = [[substituted, "replaced"], [deleted, "missed"], [inserted, "added"]].filter(([n]) => n).map(([n, word]) => `${n} ${word}`);
  text.append(make("span", "counts", wrong ? `${wrong} of ${line.length} ${units}: ${told.join(", ")}` : `all ${line.length} ${units}`));
  return text;
};
const transcripts = (item) => item.heard.map((block, i) => {
  const box = make("details");
  box.open = i === 0;
  box.append(make("summary", "small", `Heard against ${block.reference ? "the transcript of the reference" : "the text"} (${block.metrics})`));
  const list = make("dl", "words small");
  if (block.reference) list.append(make("dt", "soft", "reference"), make("dd", "soft", block.reference));
  for (const line of block.lines) list.append(make("dt", "", owners(item, line.outputs)), aligned(line, item.language));
  box.append(list);
  return box;
});

// The cards of an utterance; the digits play them, so that one can switch without looking.
const gallery = (item) => {
  const outputs = item.outputs.filter((o) => Object.keys(o.audio).length);
  const box = make("div", "gallery");
  if (!outputs.length && !Object.keys(item.reference).length) return [];
  const keep = make("input");
  keep.type = "checkbox";
  keep.checked = data.aligned;
  const group = { cards: [], last: null, keep: () => keep.checked };
  if (Object.keys(item.reference).length) box.append(card(item.reference, `the reference of ${item.id}`, "reference", group));
  else group.cards.push(null); // the digit 0 is the reference’s
  for (const output of outputs) box.append(card(output.audio, `${nameOf(output)}, ${item.id}`, nameOf(output), group));
  const cards = group.cards.filter(Boolean);
  if (!cards.length) return [box];
  const note = make("p", "soft small");
  const option = make("label", "small");
  option.append(keep, " go on at the same place when switching");
  drawTogether(cards.map(({ canvas, audio }) => ({ canvas, bytes: clipBytes(audio.clip), rate: audio.rate, seconds: audio.s }))).then(({ seconds, top }) => {
    group.seconds = seconds;
    note.textContent = `Spectrograms: 0 to ${top / 1000} kHz, 0 to ${seconds.toFixed(2)} s, ${FLOOR_DB} dB below the loudest point of all, drawn here from the audio. Digits 0 to 9 play.`;
    box.dataset.drawn = cards.length;
  }, (problem) => { note.textContent = `Spectrograms cannot be drawn: ${problem.message || problem}`; });
  box.addEventListener("keydown", (event) => {
    const typed = event.target.matches("input:not([type=range]):not([type=checkbox])") || event.ctrlKey || event.metaKey || event.altKey;
    const chosen = /^[0-9]$/.test(event.key) && !typed ? group.cards[Number(event.key)] : null;
    if (!chosen) return;
    event.preventDefault();
    chosen.player.button.focus();
    chosen.player.toggle();
  });
  const below = make("div", "below");
  below.append(note, option);
  box.append(below);
  return [box];
};

const figures = (item) => {
  // A metric that no output of this item has a figure or a failure of would be an empty column.
  const some = (i) => item.outputs.some((o) => o.values[i] !== null || (o.missing[i] && o.missing[i] !== "skipped_by_policy"));
  const kept = data.order.filter(some);
  if (!kept.length) return [];
  const value = (output, i) => {
    if (output.values[i] !== null) return make("span", "value", shown(columns[i], output.values[i]));
    const missing = output.missing[i];
    return make("span", missing ? `why${missing === "skipped_by_policy" ? "" : " missing"}` : "soft", missing ? SHORT[missing] ?? missing : "–");
  };
  const heads = [["system", "left"], ...kept.map((i) => [columns[i].heading, "", columns[i].unit])];
  return [tableOf(`Figures of ${item.id}`, heads, item.outputs.map((o) => [nameOf(o), ...kept.map((i) => value(o, i))]))];
};

const inside = (item, number) => {
  const body = make("div", "inside");
  const about = [item.language, item.speaker, item.s !== null && `${item.s.toFixed(2)} s`, item.synthetic && "synthetic", item.prompt && `prompt: ${item.prompt}`];
  const facts = make("p", "small soft", about.filter(Boolean).join(" · "));
  const link = make("a", "", "link");
  link.href = `#item-${number}`;
  link.setAttribute("aria-label", `Link to ${item.id}`);
  facts.append(facts.textContent ? " · " : "", link);
  body.append(facts, ...gallery(item), ...figures(item), ...transcripts(item));
  const failed = item.reasons.filter((r) => r.status !== "skipped_by_policy");
  const skipped = item.reasons.filter((r) => r.status === "skipped_by_policy");
  const reason = (r) => [owners(item, r.outputs), r.metrics.join(", "), r.text, r.status === "skipped_by_policy" ? "" : "missing"];
  body.append(...lines("Without a figure", failed.map(reason)));
  body.append(...lines("Texts", item.words.map((w) => [owners(item, w.outputs), `${w.metrics.join(", ")} ${w.name}`, w.text])));
  body.append(...lines("Skipped", skipped.map(reason)));
  return body;
};

// Who is chosen. A filter that the data make pointless is not in the page.
const haystack = items.map((item) => [item.id, item.text, item.language, item.speaker].join(" ").toLowerCase());
const FILTERS = ["search", "language", "speaker", "shortest", "longest"].map(byId).filter(Boolean);
const filtered = () => FILTERS.some((control) => control.value !== "");
const chosen = () => {
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const isWanted = (name, item) => {
    const control = byId(name);
    return !control || control.value === "" || item[name] === data.choices[name][Number(control.value)];
  };
  const limit = (name) => (byId(name)?.value ? Number(byId(name).value) : NaN);
  const shortest = limit("shortest"), longest = limit("longest");
  const fits = (s) => (Number.isNaN(shortest) || (s !== null && s >= shortest)) && (Number.isNaN(longest) || (s !== null && s <= longest));
  return items.map((_, i) => i).filter((i) => {
    const item = items[i];
    return words.every((word) => haystack[i].includes(word)) && isWanted("language", item) && isWanted("speaker", item) && fits(item.s);
  });
};

// Means over the chosen utterances, of the metrics whose figure is a plain mean; the intervals stand with the whole run only.
const means = (found) => {
  const kept = data.headline.filter((i) => columns[i].plain);
  if (!filtered() || !kept.length) return [];
  const heads = [["system", "left"], ...kept.map((i) => [columns[i].heading, "", columns[i].unit])];
  const cell = (row, column) => {
    const values = [];
    let wanted = 0;
    for (const i of found) {
      if (excluded[column].has(i)) continue;
      for (const o of items[i].outputs) {
        if (o.row !== row || (o.values[column] === null && (o.missing[column] ?? "skipped_by_policy") === "skipped_by_policy")) continue;
        wanted += 1;
        if (o.values[column] !== null) values.push(o.values[column]);
      }
    }
    const box = make("span");
    box.append(make("span", "value", values.length ? shown(columns[column], values.reduce((a, b) => a + b, 0) / values.length) : "–"));
    if (wanted) box.append(make("span", `n${values.length < wanted ? " short" : ""}`, `${values.length}/${wanted}`));
    return box;
  };
  const table = tableOf("Means over the chosen utterances", heads, rows.map((row, i) => [row.label, ...kept.map((c) => cell(i, c))]));
  return [make("h3", "", `Means over the ${found.length} chosen`), table, make("p", "soft small", "Without intervals: a choice made after seeing the figures has none.")];
};

// The list, a page at a time.
const PAGE = 25;
let page = 0;
const list = byId("list"), order = byId("order"), whose = byId("whose");
const pager = make("div", "pager");
list.after(pager);
// The chosen system, or the mean over all systems under test, orders the items.
const counted = (item) => item.outputs.filter((o) => (whose.value === "" ? !rows[o.row].calibration : o.row === Number(whose.value)));
const level = (item, column) => {
  const values = counted(item).map((o) => o.values[column]).filter((v) => v !== null);
  return values.length ? values.reduce((a, b) => a + b, 0) / values.length : NaN;
};
const failures = (item) => counted(item).reduce((n, o) => n + Object.values(o.missing).filter((m) => m !== "skipped_by_policy").length, 0);
const standing = (item) => {
  if (order.value === "") return "";
  if (order.value === "failures") return `${failures(item)} failed`;
  const value = level(item, Number(order.value));
  return Number.isNaN(value) ? "–" : `${columns[Number(order.value)].name} ${shown(columns[Number(order.value)], value)}`;
};
const ordered = (found) => {
  if (order.value === "failures") return found.sort((a, b) => failures(items[b]) - failures(items[a]) || a - b);
  if (order.value !== "") {
    const sign = columns[Number(order.value)].better === "higher" ? 1 : -1;
    const key = new Map(found.map((i) => [i, level(items[i], Number(order.value))]));
    found.sort((a, b) => Number.isNaN(key.get(a)) - Number.isNaN(key.get(b)) || sign * (key.get(a) - key.get(b)) || a - b);
  }
  return found;
};
const step = (label, by, disabled) => {
  const button = make("button", "act", label);
  button.type = "button";
  button.disabled = disabled;
  button.addEventListener("click", () => { page += by; showList(); byId("list").scrollIntoView(); });
  return button;
};
const entry = (number) => {
  const item = items[number];
  const box = make("details", "item");
  box.id = `item-${number}`;
  const line = make("summary");
  const said = make("span", "text", item.text || "(no text)");
  // Which of several shapes of a character is drawn, and how it is read aloud, follows the language.
  if (item.language) said.lang = item.language;
  line.append(make("span", "id", item.id), said);
  const stands = standing(item);
  if (stands) line.append(make("span", "standing", stands));
  box.append(line);
  box.addEventListener("toggle", () => { if (box.open && box.children.length === 1) box.append(inside(item, number)); });
  return box;
};
const showList = () => {
  stopAll();
  const found = ordered(chosen());
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  page = Math.min(Math.max(page, 0), pages - 1);
  list.replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map(entry));
  const where = make("span", "small soft", `${found.length} utterances, page ${page + 1} of ${pages}`);
  pager.replaceChildren(step("Back", -1, page === 0), where, step("Next", 1, page === pages - 1));
};
