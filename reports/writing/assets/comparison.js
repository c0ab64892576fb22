"use strict";
// Players of the comparison page: each starts anew, so that two can be held against each other.
for (const place of document.querySelectorAll("button[data-clip]")) {
  const { clip, rate, seconds } = place.dataset, words = place.textContent.replace("▶", "").trim();
  const audio = { clip: Number(clip), rate: Number(rate), s: Number(seconds) };
  const anew = ({ sound }) => { sound.currentTime = 0; return 0; };
  const { button } = playButton(audio, `${words}, ${place.closest("tr").cells[0].textContent}`, words, anew);
  button.dataset.clip = clip;
  place.replaceWith(button);
}
