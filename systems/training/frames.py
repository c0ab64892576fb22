"""Frames derived from recordings: computed once each, kept as float16 in memory while there is room, and on disk where that is asked."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from systems.training.data import Corpus, HostBatch
from systems.training.recipe import Derived


class DerivedFrames:
    """The derived frames of one corpus.

    They are functions of the recordings alone, so nothing here is part of a checkpoint: a resumed run computes them anew.

    Args:
        corpus: the recordings.
        wanted: what to compute.
        crop: samples that a recording is padded to at least, where `Derived.padded` says so.
        device: where it is computed.
        memory_gib: of frames to keep; what does not fit is computed (or read) each time.
        cache: folder that trainings share, for frames with an identity: a file per recording, found by what it sounds like.
    """

    def __init__(
        self,
        corpus: Corpus,
        wanted: Sequence[Derived],
        crop: int,
        device: torch.device,
        memory_gib: float = 4.0,
        cache: Path | None = None,
    ) -> None:
        self._corpus, self._wanted, self._crop, self._device = corpus, tuple(wanted), crop, device
        self._room = int(memory_gib * 2**30)
        self._cache = cache
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
