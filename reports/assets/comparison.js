"use strict";
// Players of the comparison page: the FLAC of a clip lies in the page as text and becomes a sound when it is asked for. One sound at a time.
const sounds = new Map();
let playing = null;
const soundOf = (number) => {
  if (!sounds.has(number)) {
    const text = atob(document.getElementById(`clip-${number}`).textContent);
    const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0));
    sounds.set(number, new Audio(URL.createObjectURL(new Blob([bytes], { type: "audio/flac" }))));
  }
  return sounds.get(number);
};
for (const button of document.querySelectorAll("button[data-clip]")) {
  const words = button.textContent.replace("▶", "").trim();
  const item = button.closest("tr").cells[0].textContent;
  const label = (verb) => button.setAttribute("aria-label", `${verb} ${words}, ${item}`);
  label("Play");
  const stop = () => {
    button.textContent = `▶ ${words}`;
    button.classList.remove("playing");
    label("Play");
  };
  button.addEventListener("click", () => {
    const sound = soundOf(Number(button.dataset.clip));
    const own = playing?.button === button && !sound.paused;
    if (playing) { playing.sound.pause(); playing.stop(); playing = null; }
    if (own) return;
    sound.currentTime = 0;
    sound.onended = () => { stop(); playing = null; };
    playing = { button, sound, stop };
    button.textContent = `❚❚ ${words}`;
    button.classList.add("playing");
    label("Pause");
    sound.play().catch((problem) => {
      stop();
      if (problem.name !== "AbortError") button.title = `cannot be played: ${problem.message}`;
    });
  });
}
