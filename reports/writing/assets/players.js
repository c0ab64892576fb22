"use strict";
// Players of clips, with a line that shows where in the sound one is.
// One sound at a time. Whoever starts says where from; whoever is stopped shows it.
const stage = { current: null };
const stopAll = () => stage.current?.pause();

// A button that plays a clip. `before` is asked for the position to start from.
const playButton = (audio, name, words, before = () => 0) => {
  const button = make("button", "act play", `▶ ${words}`);
  button.type = "button";
  button.setAttribute("aria-label", `Play ${name}, ${audio.s.toFixed(2)} seconds`);
  const player = { button, sound: null, name, audio };
  const fail = (problem) => {
    // Another button was pressed before this one began: that is how one switches.
    if (problem.name !== "AbortError") button.after(make("div", "small missing", `cannot be played: ${problem.message || "unknown format"}`));
  };
  player.pause = () => player.sound?.pause();
  const load = async () => {
    const sound = new Audio(await clipUrl(audio));
    player.sound = sound;
    const mark = (playing) => {
      button.textContent = `${playing ? "❚❚" : "▶"} ${words}`;
      button.setAttribute("aria-label", `${playing ? "Pause" : "Play"} ${name}, ${audio.s.toFixed(2)} seconds`);
      button.classList.toggle("playing", playing);
    };
    sound.addEventListener("play", () => {
      if (stage.current && stage.current !== player) stage.current.pause();
      stage.current = player;
      mark(true);
    });
    sound.addEventListener("pause", () => mark(false));
    sound.addEventListener("error", () => fail(sound.error));
    player.onload?.(sound);
  };
  let loading = null;
  player.load = () => { loading ??= load(); return loading; };
  player.toggle = async () => {
    try {
      await player.load();
      const { sound } = player;
      if (!sound.paused) { sound.pause(); return; }
      const from = before(player);
      if (from > 0 && from < audio.s) sound.currentTime = from;
      await sound.play();
    } catch (problem) { fail(problem); }
  };
  button.addEventListener("click", player.toggle);
  return player;
};

// A card for one clip of an utterance: name, spectrogram with a playhead, button, position.
// group: what the cards of an utterance share ({cards, keep}).
const card = (audio, name, label, group) => {
  const box = make("div", "clip");
  const top = make("div", "clip-head");
  const key = group.cards.length < 10 ? String(group.cards.length) : "";
  top.append(make("span", "name", label));
  if (audio.rate) top.append(make("span", "soft", `${audio.rate / 1000} kHz`));
  box.append(top);
  if (audio.problem) box.append(make("p", "small missing", audio.problem));
  if (audio.clip === undefined) {
    if (!audio.problem) box.append(make("p", "small soft", "no player"));
    return box;
  }
  if (key) top.append(make("kbd", "", key));
  const canvas = make("canvas");
  canvas.width = 480;
  canvas.height = 120;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Spectrogram of ${name}`);
  const place = make("div", "spectrogram");
  const line = make("i");
  line.hidden = true;
  place.append(canvas, line);
  // What was heard last of this utterance goes on here, where that is wanted.
  const player = playButton(audio, name, `${audio.s.toFixed(2)} s`, () => {
    const last = group.last;
    const from = group.keep() && last && last !== player && last.sound && !last.sound.ended ? last.sound.currentTime : player.sound.ended ? 0 : player.sound.currentTime;
    group.last = player;
    return from;
  });
  const seek = make("input");
  seek.type = "range";
  seek.min = "0";
  seek.max = audio.s;
  seek.step = "0.01";
  seek.value = "0";
  seek.setAttribute("aria-label", `Position in ${name}, seconds`);
  const follow = () => {
    const now = player.sound ? player.sound.currentTime : 0;
    seek.value = now;
    line.hidden = now === 0;
    line.style.left = `${(100 * now) / (group.seconds ?? audio.s)}%`;
    if (player.sound && !player.sound.paused) requestAnimationFrame(follow);
  };
  player.onload = (sound) => { for (const event of ["play", "pause", "seeked", "ended"]) sound.addEventListener(event, follow); };
  const go = async (seconds) => {
    await player.load();
    player.sound.currentTime = Math.min(Math.max(seconds, 0), audio.s);
    group.last = player;
    follow();
  };
  seek.addEventListener("input", () => go(Number(seek.value)));
  canvas.addEventListener("click", (event) => go((event.offsetX / canvas.clientWidth) * (group.seconds ?? audio.s)));
  const transport = make("div", "transport");
  transport.append(player.button, seek);
  box.append(place, transport);
  if (audio.clipped) box.append(make("div", "small missing", `${audio.clipped} samples beyond ±1 are clipped in this player`));
  group.cards.push({ player, canvas, audio });
  return box;
};
