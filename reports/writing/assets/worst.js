"use strict";
// The worst utterances by one metric among the chosen ones, and what keeps all lists in step. Of all systems together those come first
// that fall furthest behind their own system's median: by the bare figure the list would be of the weakest system alone.
const WORST = 8;
let worstShown = WORST;
const worstBy = byId("worst-by"), worstOf = byId("worst-of");
const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};
const quick = (audio, name, words) => {
  if (audio.clip === undefined) return make("span", "soft small", "–");
  return playButton(audio, name, words).button;
};
const showWorst = () => {
  const place = byId("worst-list");
  if (!worstBy.options.length) {
    place.replaceChildren(make("p", "soft small", "No metric of this run has a better and a worse."));
    return;
  }
  const number = Number(worstBy.value), column = columns[number];
  const wanted = (o) => (worstOf.value === "" ? !rows[o.row].calibration : o.row === Number(worstOf.value));
  const found = [];
  const usual = new Map();
  let failed = 0;
  for (const i of chosen()) {
    if (excluded[number].has(i)) continue;
    for (const output of items[i].outputs.filter(wanted)) {
      const value = output.values[number];
      if (value === null) failed += (output.missing[number] ?? "skipped_by_policy") !== "skipped_by_policy";
      else {
        found.push({ i, output, value });
        usual.set(output.row, [...(usual.get(output.row) ?? []), value]);
      }
    }
  }
  const sign = column.better === "higher" ? 1 : -1;
  for (const [row, values] of usual) usual.set(row, median(values));
  const apart = ({ output, value }) => value - usual.get(output.row);
  found.sort((a, b) => sign * (apart(a) - apart(b)) || a.i - b.i || a.output.row - b.output.row);
  const line = (one) => {
    const { i, output, value } = one;
    const item = items[i];
    const link = make("a", "", item.id);
    link.href = `#item-${i}`;
    const words = make("span");
    const said = make("span", "said", item.text);
    if (item.language) said.lang = item.language;
    words.append(link, said);
    const listen = make("span", "listen");
    listen.append(quick(output.audio, `${nameOf(output)}, ${item.id}`, "output"));
    if (Object.keys(item.reference).length) listen.append(quick(item.reference, `the reference of ${item.id}`, "reference"));
    return [make("span", "value", shown(column, value)), nameOf(output), `${apart(one) > 0 ? "+" : ""}${shown(column, apart(one))}`, words, listen];
  };
  const heads = [[column.heading, "", column.unit], ["system", "left"], ["from its median", ""], ["utterance", "left"], ["listen", "left"]];
  const parts = found.length ? [tableOf(`Worst by ${column.name}`, heads, found.slice(0, worstShown).map(line))] : [];
  const told = [found.length ? `${Math.min(worstShown, found.length)} of ${found.length} outputs, those first that are furthest behind their system’s median.` : "No output of these has a figure."];
  if (failed) told.push(`${failed} more failed and have no figure; see Failures.`);
  const note = make("p", "soft small", told.join(" "));
  if (found.length > worstShown) {
    const more = make("button", "act", "Show more");
    more.type = "button";
    more.addEventListener("click", () => { worstShown += 3 * WORST; showWorst(); });
    note.append(" ", more);
  }
  place.replaceChildren(...parts, note);
};

const showChosen = () => {
  const found = chosen();
  byId("chosen").textContent = filtered() ? `${found.length} of ${items.length} utterances` : "";
  byId("clear").hidden = !filtered();
  byId("means").replaceChildren(...means(found));
  page = 0;
  worstShown = WORST;
  showList();
  showWorst();
};
for (const control of FILTERS) control.addEventListener("input", showChosen);
for (const control of [order, whose]) control.addEventListener("input", () => { page = 0; showList(); });
for (const control of [worstBy, worstOf]) control.addEventListener("input", () => { worstShown = WORST; stopAll(); showWorst(); });
byId("clear").addEventListener("click", () => {
  for (const control of FILTERS) control.value = "";
  showChosen();
  byId("search").focus();
});

// An address that names an utterance (#item-12) opens it, wherever in the list it stands.
const goTo = () => {
  const match = /^#item-(\d+)$/.exec(location.hash);
  const number = match ? Number(match[1]) : -1;
  if (!(number in items)) return;
  if (!chosen().includes(number)) {
    for (const control of FILTERS) control.value = "";
    showChosen();
  }
  const at = Math.floor(ordered(chosen()).indexOf(number) / PAGE);
  if (at !== page) {
    page = at;
    showList();
  }
  const box = byId(`item-${number}`);
  box.open = true;
  box.scrollIntoView();
  box.querySelector("summary").focus({ preventScroll: true });
};
addEventListener("hashchange", goTo);
document.addEventListener("click", (event) => {
  // To go where the address already points changes no address.
  if (event.target.closest("a")?.hash && event.target.closest("a").hash === location.hash) goTo();
});
// The clips follow the scripts: until they are read there is nothing to play, and the browser has its own say in where the focus is.
addEventListener("DOMContentLoaded", showChosen);
addEventListener("load", goTo);
