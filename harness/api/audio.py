"""Audio in memory, and the one view of it that metrics and systems receive."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
T = TypeVar("T")

Resampler = Callable[[FloatArray, int, int], FloatArray]
"""``(samples [..., N], source_hz, target_hz) -> samples [..., N']``; the harness owns the only one."""


@dataclass(frozen=True, eq=False)
class Audio:
    """A waveform and its sample rate.

    Args:
        samples: float32 ``[C, N]``, C channels of N samples, full scale at +-1. Other float or integer
            dtypes are converted without scaling. May hold NaN or Inf: whoever scores it says so.
        sample_rate: in Hz, positive.

    Raises:
        ValueError: ``samples`` is not two-dimensional, has no channel, or the rate is not positive.
    """

    samples: FloatArray
    sample_rate: int

    def __post_init__(self) -> None:
        samples = np.ascontiguousarray(self.samples, dtype=np.float32)
        if samples.ndim != 2 or samples.shape[0] < 1:
            raise ValueError(f"Audio wants [C, N] with C >= 1, got shape {samples.shape}; for mono use Audio.mono(samples, rate)")
        if self.sample_rate <= 0:
            raise ValueError(f"sample_rate must be positive, got {self.sample_rate}")
        object.__setattr__(self, "samples", samples)

    @classmethod
    def mono(cls, samples: npt.ArrayLike, sample_rate: int) -> Audio:
        """Audio of one channel from ``samples [N]``."""
        return cls(np.asarray(samples, dtype=np.float32).reshape(1, -1), sample_rate)

    @property
    def num_channels(self) -> int:
        return int(self.samples.shape[0])

    @property
    def num_samples(self) -> int:
        return int(self.samples.shape[1])

    @property
    def duration_s(self) -> float:
        return self.num_samples / self.sample_rate

    def mixed(self) -> FloatArray:
        """float32 ``[N]``: the average of the channels, the only channel as it is."""
        mono: FloatArray = self.samples[0] if self.num_channels == 1 else self.samples.mean(axis=0)
        return mono

    def digest(self) -> str:
        """Content hash (32 hex digits) of rate, shape and every sample's bits."""
        h = hashlib.blake2b(digest_size=16)
        h.update(f"{self.sample_rate}:{self.samples.shape}".encode())
        h.update(self.samples.tobytes())
        return h.hexdigest()


@dataclass(eq=False)
class Signal:
    """Audio seen by metrics: mono at any rate, with derived features computed once.

    A reference is shared by every system and metric of an item, so what is derived from it (a resampled copy, a
    WORLD analysis, a speaker embedding, a transcript) is kept here and freed with the item.

    Args:
        audio: as read or produced; never resampled or mixed down before it gets here.
        resampler: the harness's resampler.
    """

    audio: Audio
    resampler: Resampler
    _memo: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def at(self, sample_rate: int) -> FloatArray:
        """Mono float32 ``[N]`` at ``sample_rate`` Hz: channels averaged, then resampled."""
        return self.derive(("at", sample_rate), lambda: self._at(sample_rate))

    def _at(self, sample_rate: int) -> FloatArray:
        mono = self.audio.mixed()
        if sample_rate == self.audio.sample_rate:
            return mono
        resampled: FloatArray = self.resampler(mono, self.audio.sample_rate, sample_rate)
        return resampled

    def derive(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The value under ``key``, computed by ``compute()`` the first time. A raised exception is not kept."""
        if key not in self._memo:
            self._memo[key] = compute()
        value: T = self._memo[key]
        return value
