"use strict";
// Spectrograms drawn from the clips that the page carries anyway: pictures of them would cost bytes, this costs 20 ms a clip.
const FLOOR_DB = 80;
const MAGMA = [[0, 0, 4], [29, 17, 71], [81, 18, 124], [131, 38, 129], [183, 55, 121], [231, 82, 99], [252, 137, 97], [254, 196, 136], [252, 253, 191]];
const SHADES = new Uint32Array(256);
{
  const bytes = new Uint8ClampedArray(SHADES.buffer);
  for (let i = 0; i < 256; i += 1) {
    const at = (i / 255) * (MAGMA.length - 1);
    const low = Math.min(Math.floor(at), MAGMA.length - 2);
    for (let c = 0; c < 3; c += 1) bytes[4 * i + c] = MAGMA[low][c] + (at - low) * (MAGMA[low + 1][c] - MAGMA[low][c]);
    bytes[4 * i + 3] = 255;
  }
}

// Radix-2 transform in place; the length is a power of two.
const transform = (re, im) => {
  const n = re.length;
  for (let i = 1, j = 0; i < n; i += 1) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) { [re[i], re[j]] = [re[j], re[i]]; [im[i], im[j]] = [im[j], im[i]]; }
  }
  for (let size = 2; size <= n; size *= 2) {
    const half = size / 2;
    for (let k = 0; k < half; k += 1) {
      const c = Math.cos((-2 * Math.PI * k) / size), s = Math.sin((-2 * Math.PI * k) / size);
      for (let a = k; a < n; a += size) {
        const b = a + half;
        const x = re[b] * c - im[b] * s, y = re[b] * s + im[b] * c;
        re[b] = re[a] - x; im[b] = im[a] - y; re[a] += x; im[a] += y;
      }
    }
  }
};

// Power of `samples` in dB on a grid of columns over `seconds` and rows from 0 to `top` Hz, row 0 lowest; -Infinity where there is nothing.
const powers = (samples, rate, columns, rows, seconds, top) => {
  const size = 2 ** Math.round(Math.log2(0.032 * rate));
  const hann = Float64Array.from({ length: size }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / size));
  const grid = new Float32Array(columns * rows).fill(-Infinity);
  const re = new Float64Array(size), im = new Float64Array(size);
  for (let x = 0; x < columns; x += 1) {
    const start = Math.round(((x + 0.5) / columns) * seconds * rate - size / 2);
    if (start + size / 2 >= samples.length) break;
    for (let i = 0; i < size; i += 1) { re[i] = (samples[start + i] ?? 0) * hann[i]; im[i] = 0; }
    transform(re, im);
    for (let y = 0; y < rows; y += 1) {
      const first = Math.floor((y / rows) * (top / rate) * size);
      const last = Math.max(first + 1, Math.floor(((y + 1) / rows) * (top / rate) * size));
      // The loudest bin of a row: an average would hide a thin harmonic.
      let most = 0;
      for (let k = first; k < last && k <= size / 2; k += 1) most = Math.max(most, re[k] * re[k] + im[k] * im[k]);
      if (first <= size / 2 && most > 0) grid[x * rows + y] = 10 * Math.log10(most / (size * size));
    }
  }
  return grid;
};

const mono = (decoded) => {
  const mixed = new Float32Array(decoded.length);
  for (let c = 0; c < decoded.numberOfChannels; c += 1) decoded.getChannelData(c).forEach((v, i) => { mixed[i] += v / decoded.numberOfChannels; });
  return mixed;
};

const paint = (canvas, grid, loudest) => {
  const { width, height } = canvas;
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let x = 0; x < width; x += 1) {
    for (let y = 0; y < height; y += 1) {
      const level = (grid[x * height + y] - loudest) / FLOOR_DB + 1;
      pixels[(height - 1 - y) * width + x] = SHADES[Math.round(255 * Math.min(1, Math.max(0, level)))];
    }
  }
  pen.putImageData(image, 0, 0);
};

// All clips of an utterance on one scale of time, frequency and level, so that they can be compared.
// clips: [{canvas, bytes, rate, seconds}]; answers the scale.
const drawNow = async (clips) => {
  const seconds = Math.max(...clips.map((c) => c.seconds));
  const top = Math.min(16000, Math.max(...clips.map((c) => c.rate)) / 2);
  const grids = [];
  let loudest = -Infinity;
  for (const clip of clips) {
    const decoded = await decode(clip.bytes, clip.rate);
    const grid = powers(mono(decoded), decoded.sampleRate, clip.canvas.width, clip.canvas.height, seconds, top);
    for (const v of grid) if (v > loudest) loudest = v;
    grids.push(grid);
  }
  // Silence alone has no loudest point; against 0 dB it is drawn black.
  clips.forEach((clip, i) => paint(clip.canvas, grids[i], Number.isFinite(loudest) ? loudest : 0));
  return { seconds, top };
};
// One utterance after the other, so that opening many leaves the page usable.
let drawing = Promise.resolve();
const drawTogether = (clips) => {
  const mine = drawing.then(() => drawNow(clips));
  drawing = mine.catch(() => undefined); // told where it was asked for; the next one is drawn all the same
  return mine;
};
