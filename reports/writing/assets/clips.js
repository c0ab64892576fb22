"use strict";
// Clips: their FLAC lies in the page as text; it is decoded when it is asked for.
const encoded = new Map();
const clipBytes = (number) => {
  if (!encoded.has(number)) {
    const text = atob(document.getElementById(`clip-${number}`).textContent);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
    encoded.set(number, bytes);
  }
  return encoded.get(number);
};

// The channels of an encoded clip at its own rate (at 48 kHz where the browser knows no such context).
const contexts = new Map();
const contextOf = (rate) => {
  if (!contexts.has(rate)) {
    let context;
    try { context = new OfflineAudioContext(1, 1, rate); } catch { context = new OfflineAudioContext(1, 1, 48000); }
    contexts.set(rate, context);
  }
  return contexts.get(rate);
};
const decode = (bytes, rate) => contextOf(rate).decodeAudioData(bytes.slice().buffer); // which takes the copy away

// What is played is a WAV made of it: browsers do not find a place within a FLAC that has no table of places.
const wave = (decoded) => {
  const { numberOfChannels: channels, length, sampleRate } = decoded;
  const view = new DataView(new ArrayBuffer(44 + 2 * channels * length));
  const word = (at, text) => [...text].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  word(0, "RIFF"); view.setUint32(4, view.byteLength - 8, true);
  word(8, "WAVEfmt "); view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); view.setUint16(22, channels, true);
  view.setUint32(24, sampleRate, true); view.setUint32(28, 2 * channels * sampleRate, true);
  view.setUint16(32, 2 * channels, true); view.setUint16(34, 16, true);
  word(36, "data"); view.setUint32(40, view.byteLength - 44, true);
  for (let c = 0; c < channels; c += 1) {
    decoded.getChannelData(c).forEach((v, i) => view.setInt16(44 + 2 * (i * channels + c), Math.min(32767, Math.max(-32768, Math.round(v * 32768))), true));
  }
  return new Blob([view], { type: "audio/wav" });
};
const urls = new Map();
const clipUrl = (audio) => {
  if (!urls.has(audio.clip)) urls.set(audio.clip, decode(clipBytes(audio.clip), audio.rate).then((decoded) => URL.createObjectURL(wave(decoded))));
  return urls.get(audio.clip);
};
