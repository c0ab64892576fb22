"use strict";
// A listening test, a question at a time. The page knows letters and clips, no names; answers leave it as a file only.
const { session, design, trials } = data;
const place = document.getElementById("test");
const LETTERS = "ABCDEFGHIJ";
const letter = (trial, i) => (design === "abx" && i === 2 ? "X" : LETTERS[i]);
const answers = trials.map((trial) => ({ values: design === "rating" ? trial.samples.map(() => null) : [null], plays: 0, seconds: 0 }));
const complete = (number) => answers[number].values.every((value) => value !== null);
let at = -1;
let listener = "";
let began = 0;
let saved = true;

const button = (text, action, className = "act") => {
  const node = make("button", className, text);
  node.type = "button";
  node.addEventListener("click", action);
  return node;
};

// Letters, digits and dashes only: the name goes into a file name and a table.
const cleaned = (name) => name.trim().replace(/[^\p{L}\p{N}_-]+/gu, "-").slice(0, 40);

const csv = () => {
  const lines = [["session", "listener", "design", "trial", "sample", "answer", "plays", "seconds"]];
  answers.forEach((answer, n) => {
    answer.values.forEach((value, i) => {
      if (value !== null) lines.push([session, listener, design, n + 1, design === "rating" ? letter(trials[n], i) : "", value, answer.plays, answer.seconds.toFixed(1)]);
    });
  });
  return `${lines.map((line) => line.join(",")).join("\n")}\n`;
};

const download = () => {
  const link = make("a", "act download", "Download the answers");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = `ratings_${session}_${listener}.csv`;
  link.addEventListener("click", () => { saved = true; });
  return link;
};

const choice = (number, value, words, name) => {
  const label = make("label", "choice");
  const input = make("input");
  input.type = "radio";
  input.name = name;
  input.checked = answers[number].values[0] === value;
  input.addEventListener("input", () => { answers[number].values[0] = value; saved = false; refresh(); });
  label.append(input, ` ${words}`);
  return label;
};
const slider = (number, i, name) => {
  const box = make("div", "rate");
  const input = make("input");
  input.type = "range";
  input.min = "0";
  input.max = "100";
  input.step = "1";
  const said = make("output", "", "");
  const tell = () => { said.textContent = answers[number].values[i] ?? "–"; };
  // An untouched slider is no answer: it has to be moved, or taken at where it stands by a key or a click.
  const take = () => { answers[number].values[i] = Number(input.value); saved = false; tell(); refresh(); };
  input.value = answers[number].values[i] ?? 50;
  input.setAttribute("aria-label", `Rating of ${name}, 0 to 100`);
  input.addEventListener("input", take);
  input.addEventListener("click", take);
  input.addEventListener("keydown", (event) => { if (event.key === "Enter") take(); });
  tell();
  box.append(input, said);
  return box;
};

let next = null;
let byDigit = {};
place.addEventListener("keydown", (event) => {
  const player = /^[0-9]$/.test(event.key) && !event.ctrlKey && !event.metaKey && !event.altKey && at >= 0 ? byDigit[event.key] : null;
  if (player) { event.preventDefault(); player.button.focus(); player.toggle(); }
});
const refresh = () => { if (next) next.disabled = !complete(at); };
const leave = () => {
  stopAll();
  if (at >= 0 && at < trials.length) answers[at].seconds += (performance.now() - began) / 1000;
};
const go = (number) => {
  leave();
  at = number;
  began = performance.now();
  show();
  place.querySelector("h2").focus();
};

const ask = (number) => {
  const trial = trials[number];
  const heading = make("h2", "", `Question ${number + 1} of ${trials.length}`);
  heading.tabIndex = -1;
  const players = [];
  const row = (audio, name) => {
    const line = make("div", "sample");
    const player = playButton(audio, name, name, (mine) => { answers[number].plays += 1; mine.sound.currentTime = 0; return 0; });
    players.push(player);
    line.append(make("kbd", "", String(players.length - (trial.reference ? 1 : 0))), player.button);
    return line;
  };
  const box = make("div", "samples");
  if (trial.reference) box.append(row(trial.reference, "Reference"));
  trial.samples.forEach((audio, i) => {
    const line = row(audio, letter(trial, i));
    if (design === "rating") line.append(slider(number, i, letter(trial, i)));
    box.append(line);
  });
  if (design !== "rating") {
    const group = make("fieldset", "choices");
    group.append(make("legend", "", design === "ab" ? "Which sounds better?" : "X is"));
    const options = design === "ab" ? [["A", "A"], ["B", "B"], ["neither", "no difference"]] : [["A", "A"], ["B", "B"]];
    for (const [value, words] of options) group.append(choice(number, value, words, `question-${number}`));
    box.append(group);
  }
  byDigit = Object.fromEntries(players.map((player, i) => [i + (trial.reference ? 0 : 1), player]));
  next = button(number + 1 < trials.length ? "Next" : "Finish", () => go(number + 1));
  const back = button("Back", () => go(number - 1));
  back.disabled = number === 0;
  const bar = make("progress");
  bar.max = trials.length;
  bar.value = number;
  bar.setAttribute("aria-label", "progress");
  const steps = make("div", "pager");
  steps.append(back, next, bar);
  place.replaceChildren(heading, box, steps);
  refresh();
};

const begin = () => {
  const heading = make("h2", "", `${trials.length} questions`);
  heading.tabIndex = -1;
  const form = make("form", "controls");
  const label = make("label", "", "Your name or number ");
  const input = make("input");
  input.id = "listener";
  input.required = true;
  input.autocomplete = "off";
  label.append(input);
  const start = make("button", "act", "Begin");
  form.append(label, start);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    listener = cleaned(input.value);
    if (listener) go(0);
  });
  place.replaceChildren(heading, form);
};

const finish = () => {
  const heading = make("h2", "", "Thank you");
  heading.tabIndex = -1;
  place.replaceChildren(heading, make("p", "", `${answers.filter((_, n) => complete(n)).length} of ${trials.length} questions are answered.`), download(), " ", button("Back", () => go(trials.length - 1)));
};

const show = () => {
  next = null;
  byDigit = {};
  if (at < 0) begin();
  else if (at < trials.length) ask(at);
  else finish();
};
addEventListener("beforeunload", (event) => { if (!saved) event.preventDefault(); });
addEventListener("DOMContentLoaded", show);
