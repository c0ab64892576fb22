"""Frames derived from recordings: computed once each, kept as float16 in memory while there is room."""

from __future__ import annotations

from collections.abc import Sequence

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
        memory_gib: of frames to keep; what does not fit is computed each time.
    """

    def __init__(self, corpus: Corpus, wanted: Sequence[Derived], crop: int, device: torch.device, memory_gib: float = 4.0) -> None:
        self._corpus, self._wanted, self._crop, self._device = corpus, tuple(wanted), crop, device
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
        samples = self._corpus.read(index, 0, int(self._corpus.lengths[index])).astype(np.float32) / 32768.0
        padded = np.pad(samples, (0, max(0, self._crop - samples.size if derived.padded else 0)))
        with torch.no_grad(), torch.autocast(self._device.type, enabled=False):
            frames = derived.compute(torch.from_numpy(padded).to(self._device)).cpu().numpy().astype(np.float16)
        if frames.nbytes <= self._room:
            self._room -= frames.nbytes
            self._kept[key] = frames
        return frames
