"""Training data: recordings decoded once into memory, batches drawn from them by number, and frames derived from them.

A batch depends on (seed, stream, number, process) and on nothing else, so the order of the data needs no saved state: a resumed run
asks for the next number. There are no worker processes; drawing a batch is a few slices of one int16 array.

Shape letters: B batch, N samples, I recordings.
"""

from __future__ import annotations

import hashlib
import math
import uuid
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.api import FAR_OVER, Item
from systems.training.recipe import BadRecordings, BatchSpec, Derived

Int16Array = npt.NDArray[np.int16]
Int64Array = npt.NDArray[np.int64]

_SHOWN = 20  # bad recordings named in full
_MARGIN_S = 0.05  # read on both sides of a piece that is resampled by itself; the resampler's filter is shorter


@dataclass(frozen=True, eq=False)
class Corpus:
    """Recordings at one rate.

    Args:
        items: I of them, as the manifest describes them.
        sample_rate: of ``lengths`` and of everything that is read.
        lengths: int64 [I], samples.
        starts: int64 [I], offsets into ``samples``.
        samples: int16 [sum of lengths], or None where they stay on disk.
        digest: of sound and text where in memory; of file sizes, lengths and text where on disk.
    """

    items: tuple[Item, ...]
    sample_rate: int
    lengths: Int64Array
    starts: Int64Array
    samples: Int16Array | None
    digest: str

    @property
    def duration_s(self) -> float:
        """All recordings together."""
        return float(self.lengths.sum()) / self.sample_rate

    def read(self, index: int, start: int, count: int) -> Int16Array:
        """``count`` samples of recording ``index`` from ``start``; fewer where it ends.

        Raises:
            BadRecordings: the file on disk cannot be read any more, or holds what is no audio.
        """
        count = min(count, int(self.lengths[index]) - start)
        if self.samples is not None:
            first = int(self.starts[index]) + start
            return self.samples[first : first + count]
        return _read_piece(_path(self.items[index]), self.sample_rate, start, count)

    def subset(self, indices: Sequence[int]) -> Corpus:
        """Some of the recordings; the samples are shared."""
        chosen, items = np.asarray(indices, dtype=np.int64), tuple(self.items[i] for i in indices)
        return Corpus(items, self.sample_rate, self.lengths[chosen], self.starts[chosen], self.samples, self.digest)


@dataclass(frozen=True)
class Split:
    """A corpus in two parts."""

    training: Corpus
    held_out: Corpus


def split(corpus: Corpus, held_out: int) -> Split:
    """Keeps ``held_out`` recordings back, chosen by the hash of their ids: the same ones whatever the seed or the order.

    Raises:
        BadRecordings: nothing would be left to train on.
    """
    if held_out >= len(corpus.items):
        raise BadRecordings(
            f"{held_out} recordings are to be held out, but there are only {len(corpus.items)}; give more data or held_out=0"
        )
    ranked = sorted(range(len(corpus.items)), key=lambda i: hashlib.sha256(corpus.items[i].id.encode()).digest())
    return Split(corpus.subset(sorted(ranked[held_out:])), corpus.subset(sorted(ranked[:held_out])))


def load_corpus(items: Sequence[Item], sample_rate: int, memory_gib: float = 8.0, threads: int = 2) -> Corpus:
    """Opens every recording, and keeps all of them as int16 when they fit.

    Args:
        items: with paths.
        sample_rate: wanted; soxr VHQ resamples once, here. Several channels are averaged.
        memory_gib: what the samples may take; beyond it each crop is read from disk when it is drawn.
        threads: decoding at the same time.

    Raises:
        BadRecordings: some cannot be read, are cut short or are empty; the first twenty are named.
    """
    if not items:
        raise BadRecordings("there are no recordings to train on")
    with ThreadPoolExecutor(threads) as pool:
        headers = _each(pool, _header, items, items)
        lengths = np.array([round(frames * sample_rate / rate) for frames, rate in headers], dtype=np.int64)
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
        total = int(lengths.sum())
        digest = hashlib.sha256()
        samples: Int16Array | None = None
        if 2 * total <= memory_gib * 2**30:
            samples = np.zeros(total, dtype=np.int16)
            whole = samples

            def fill(index: int) -> None:
                begin = int(starts[index])
                whole[begin : begin + int(lengths[index])] = _decode(items[index], sample_rate, int(lengths[index]))

            _each(pool, fill, range(len(items)), items)
            digest.update(samples.data)
    for item, length in zip(items, lengths, strict=True):
        size = 0 if samples is not None else _path(item).stat().st_size
        digest.update(f"{item.id}\t{item.text}\t{item.language}\t{length}\t{size}\n".encode())
    return Corpus(tuple(items), sample_rate, lengths, starts, samples, digest.hexdigest())


@dataclass(frozen=True, eq=False)
class HostBatch:
    """A batch before it travels to the device, see `Batch`: int16 audio [B, N], and int64 [B] of each row its samples, its recording's number in
    the corpus and its first sample in that.
    """

    audio: Int16Array
    lengths: Int64Array
    indices: Int64Array
    texts: tuple[str, ...]
    languages: tuple[str, ...]
    starts: Int64Array


class Stream:
    """The batches of one `BatchSpec`, by number; streams of different names draw differently, and so do processes.

    Raises:
        BadRecordings: no recording of the corpus is what the spec asks for.
    """

    def __init__(self, corpus: Corpus, name: str, spec: BatchSpec, seed: int, rank: int = 0, processes: int = 1) -> None:
        self._corpus, self._spec, self._seed, self._rank, self._processes = corpus, spec, seed, rank, processes
        self._key = zlib.crc32(name.encode())
        self._crop = round(spec.crop_s * corpus.sample_rate)
        self._step = math.lcm(*(derived.hop for derived in spec.derived))
        fits = [
            (not spec.with_text or bool(item.text))
            and (not spec.languages or item.language in spec.languages)
            and (not spec.whole or length <= self._crop)
            for item, length in zip(corpus.items, corpus.lengths, strict=True)
        ]
        self._eligible = np.flatnonzero(fits)
        if not self._eligible.size:
            wanted = [f"of {spec.crop_s:g} s at most"] * spec.whole + ["with a text"] * spec.with_text
            wanted += [f"in {' or '.join(spec.languages)}"] * bool(spec.languages)
            raise BadRecordings(f"stream '{name}' wants recordings {', '.join(wanted)}; none of the {len(corpus.items)} is")
        self._ends = np.cumsum(corpus.lengths[self._eligible])
        self._epoch = -1
        self._plan: npt.NDArray[np.int64] = np.empty((0, spec.batch_size), dtype=np.int64)

    @property
    def num_recordings(self) -> int:
        """Recordings that may be drawn."""
        return int(self._eligible.size)

    def draw(self, number: int) -> HostBatch:
        """Batch ``number`` of this process, the same whenever it is asked for."""
        return self._utterances(number) if self._spec.whole else self._crops(number)

    def _crops(self, number: int) -> HostBatch:
        """Every stretch of sound equally likely: recordings by their duration, positions uniformly."""
        corpus, size = self._corpus, self._spec.batch_size
        rng = np.random.default_rng([self._seed, self._key, number, self._rank])
        indices = self._eligible[np.searchsorted(self._ends, rng.integers(self._ends[-1], size=size), side="right")]
        starts = rng.integers(np.maximum(corpus.lengths[indices] - self._crop, 0) // self._step + 1) * self._step
        return self._assembled(indices, starts, self._crop)

    def _utterances(self, number: int) -> HostBatch:
        """Batches of neighbours in length, each epoch neighbours of another kind and in another order."""
        size = self._spec.batch_size
        position = number * self._processes + self._rank
        batches = -(-self._eligible.size // size)
        epoch, place = divmod(position, batches)
        if epoch != self._epoch:
            rng = np.random.default_rng([self._seed, self._key, epoch])
            blurred = self._corpus.lengths[self._eligible] * rng.uniform(0.9, 1.1, self._eligible.size)
            order = np.resize(self._eligible[np.argsort(blurred, kind="stable")], batches * size)
            self._plan, self._epoch = rng.permutation(order.reshape(batches, size)), epoch
        indices = self._plan[place]
        return self._assembled(indices, np.zeros(size, dtype=np.int64), int(self._corpus.lengths[indices].max()))

    def _assembled(self, indices: Int64Array, starts: Int64Array, width: int) -> HostBatch:
        corpus = self._corpus
        audio = np.zeros((len(indices), width), dtype=np.int16)
        lengths = np.zeros(len(indices), dtype=np.int64)
        for row, (index, start) in enumerate(zip(indices.tolist(), starts.tolist(), strict=True)):
            piece = corpus.read(index, start, width)
            audio[row, : piece.size], lengths[row] = piece, piece.size
        chosen = [corpus.items[i] for i in indices]
        texts = tuple(item.text if lengths[row] == corpus.lengths[indices[row]] else "" for row, item in enumerate(chosen))
        return HostBatch(audio, lengths, indices, texts, tuple(item.language for item in chosen), starts)


def _each(pool: Executor, call: Callable[[Any], Any], arguments: Iterable[Any], items: Sequence[Item]) -> list[Any]:
    """What ``call`` gives for each argument; all recordings that cannot be used are reported together."""

    def attempt(argument: Any) -> Any:
        try:
            return call(argument)
        except (OSError, RuntimeError, ValueError) as error:  # soundfile's errors are RuntimeErrors
            return error

    results = list(pool.map(attempt, arguments))
    bad = [f"{item.path}: {result}" for item, result in zip(items, results, strict=True) if isinstance(result, Exception)]
    if bad:
        more = f"\n  ... and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise BadRecordings(f"{len(bad)} of {len(items)} recordings cannot be used:\n  " + "\n  ".join(bad[:_SHOWN]) + more)
    return results


def _path(item: Item) -> Path:
    if item.path is None:
        raise BadRecordings(f"item {item.id} has no recording")
    return item.path


def _header(item: Item) -> tuple[int, int]:
    """(frames, rate)."""
    import soundfile

    if item.path is None:
        raise ValueError("has no recording")
    if item.path.exists() and not item.path.is_file():
        raise ValueError("is not a regular file")  # a pipe would be waited for
    info = soundfile.info(str(item.path))
    if info.frames < 1:
        raise ValueError("is empty")
    return info.frames, info.samplerate


def _decode(item: Item, sample_rate: int, length: int) -> Int16Array:
    import soundfile

    with soundfile.SoundFile(str(item.path)) as file:
        declared, rate = file.frames, file.samplerate
        sound = file.read(dtype="float32", always_2d=True)
    if len(sound) != declared:
        raise ValueError(f"is cut short: {len(sound)} of {declared} frames")
    return _converted(sound, rate, sample_rate, length)


def _read_piece(path: Path, sample_rate: int, start: int, count: int) -> Int16Array:
    """A piece of a file on disk, resampled with a margin so that its ends are as in the whole."""
    import soundfile

    try:
        with soundfile.SoundFile(str(path)) as file:
            rate = file.samplerate
            # The margin starts at a whole number of both rates' samples, or the piece would be shifted by a fraction of one.
            step = rate // np.gcd(rate, sample_rate)
            first = max(0, int((start * rate // sample_rate - _MARGIN_S * rate) // step) * step) if rate != sample_rate else start
            last = min(file.frames, -(-(start + count) * rate // sample_rate) + round(_MARGIN_S * rate))
            file.seek(first)
            sound = file.read(last - first, dtype="float32", always_2d=True)
        offset = start - first * sample_rate // rate
        return _converted(sound, rate, sample_rate, offset + count)[offset:]
    except (OSError, RuntimeError, ValueError) as error:
        raise BadRecordings(f"{path} cannot be used: {error}") from error


def _converted(sound: npt.NDArray[np.float32], rate: int, sample_rate: int, length: int) -> Int16Array:
    """float32 [frames, channels] at ``rate`` as int16 [length] at ``sample_rate``."""
    mono = sound.mean(axis=1) if sound.shape[1] > 1 else sound[:, 0]
    if not np.isfinite(mono).all():
        raise ValueError("holds values that are not finite")
    if mono.size and (peak := float(np.abs(mono).max())) > FAR_OVER:
        raise ValueError(f"has samples of {peak:g} where full scale is 1: integers in a float file?")
    if rate != sample_rate:
        import soxr

        mono = soxr.resample(mono, rate, sample_rate, quality="VHQ")
    out = np.zeros(length, dtype=np.int16)
    mono = mono[:length]  # soxr rounds the length its own way: half a sample
    out[: mono.size] = np.clip(np.round(mono * 32768.0), -32768, 32767).astype(np.int16)
    return out


class DerivedFrames:
    """The derived frames of one corpus.

    They are functions of the recordings alone, so nothing here is part of a checkpoint: a resumed run computes them anew. What does not fit in
    ``memory_gib`` is computed (or read) each time. ``cache`` is a folder that trainings share, for frames with an identity: a file per recording,
    found by what it sounds like. Recordings shorter than ``crop`` samples are filled up, see `Derived.padded`.
    """

    def __init__(
        self, corpus: Corpus, wanted: Sequence[Derived], crop: int, device: torch.device, memory_gib: float = 4.0, cache: Path | None = None
    ) -> None:
        self._corpus, self._wanted, self._crop, self._device, self._cache = corpus, tuple(wanted), crop, device, cache
        self._room = int(memory_gib * 2**30)
        self._kept: dict[tuple[str, int], npt.NDArray[np.float16]] = {}

    def of(self, batch: HostBatch) -> dict[str, Tensor]:
        """By name, float32 ``[B, T, D]`` on the device: the frames of the batch's rows; zero behind the end of a recording."""
        return {derived.name: self._rows(derived, batch) for derived in self._wanted}

    def _rows(self, derived: Derived, batch: HostBatch) -> Tensor:
        count = batch.audio.shape[1] // derived.hop
        rows = []
        for index, start in zip(batch.indices.tolist(), batch.starts.tolist(), strict=True):
            row = self._frames(derived, index)[start // derived.hop :][:count]
            rows.append(np.pad(row, ((0, count - len(row)), (0, 0))))
        return torch.from_numpy(np.stack(rows)).to(self._device, non_blocking=True).float()

    def _frames(self, derived: Derived, index: int) -> npt.NDArray[np.float16]:
        key = (derived.name, index)
        if key in self._kept:
            return self._kept[key]
        samples = self._corpus.read(index, 0, int(self._corpus.lengths[index]))
        padded = np.pad(samples, (0, max(0, self._crop - samples.size if derived.padded else 0)))
        path = self._place(derived, padded)
        frames = None if path is None else _read(path)
        if frames is None:
            audio = torch.from_numpy(padded.astype(np.float32) / 32768.0).to(self._device)
            with torch.no_grad(), torch.autocast(self._device.type, enabled=False):
                frames = derived.compute(audio).cpu().numpy().astype(np.float16)
            if path is not None:
                _write(path, frames)
        if frames.nbytes <= self._room:
            self._room -= frames.nbytes
            self._kept[key] = frames
        return frames

    def _place(self, derived: Derived, samples: npt.NDArray[np.int16]) -> Path | None:
        """Where these frames lie on disk, or would; None where they are not kept there."""
        if self._cache is None or not derived.identity:
            return None
        what = hashlib.blake2b(f"{derived.identity}\n{derived.name}\n{derived.hop}".encode(), digest_size=8).hexdigest()
        sound = hashlib.blake2b(samples.tobytes() + f"{self._corpus.sample_rate}".encode(), digest_size=16).hexdigest()
        return self._cache / what / sound[:2] / f"{sound}.npy"


def _read(path: Path) -> npt.NDArray[np.float16] | None:
    """The frames in a file; None where there is none, or it was cut short."""
    try:
        frames = np.load(path, allow_pickle=False)
    except (FileNotFoundError, ValueError, EOFError):
        return None
    return frames if frames.dtype == np.float16 and frames.ndim == 2 else None


def _write(path: Path, frames: npt.NDArray[np.float16]) -> None:
    """Never leaves half a file under the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f"{path.stem}-{uuid.uuid4().hex[:8]}.half")
    try:
        with half.open("wb") as file:
            np.save(file, frames)
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)
