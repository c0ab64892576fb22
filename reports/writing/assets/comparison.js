"use strict";
// Players of the comparison page, one sound at a time.
let playing = null;
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
  const fail = (problem) => {
    stop();
    if (problem.name !== "AbortError") button.title = `cannot be played: ${problem.message}`;
  };
  let sound = null;
  button.addEventListener("click", async () => {
    const own = playing?.button === button;
    if (playing) { playing.sound.pause(); playing.stop(); playing = null; }
    if (own) return;
    try {
      sound ??= new Audio(await clipUrl({ clip: Number(button.dataset.clip), rate: Number(button.dataset.rate) }));
    } catch (problem) {
      fail(problem);
      return;
    }
    if (playing) { playing.sound.pause(); playing.stop(); } // another was asked for while this one was decoded
    sound.currentTime = 0;
    sound.onended = () => { stop(); playing = null; };
    playing = { button, sound, stop };
    button.textContent = `❚❚ ${words}`;
    button.classList.add("playing");
    label("Pause");
    sound.play().catch(fail);
  });
}
