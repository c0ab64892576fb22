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

FAR_OVER = 4.0
"""A sample beyond this (+12 dB) is no level of audio: lossy decoders overshoot by less than 6 dB, and speech as int16 or int8 values
reaches hundreds or tens."""

Resampler = Callable[[FloatArray, int, int], FloatArray]
"""``(samples [..., N], source_hz, target_hz) -> samples [..., N']``; the harness owns the only one."""


def frozen(array: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
    """``array`` in C order as nobody can write it: a read-only view of a read-only copy, which numpy refuses to make writable again.

    What is frozen already is not copied. `torch.from_numpy` shares even such memory and writes through it: code that is not trusted
    gets a copy of its own (`Audio.copy`, `Codes.copy`).

    Args:
        array: anything `numpy.asarray` takes.
        dtype: converted to, unless None.
    """
    found = np.asarray(array, dtype=dtype)
    if found.flags.c_contiguous and not found.flags.writeable and _never_writable(found):
        return found
    own = np.array(found, order="C", copy=True)
    own.flags.writeable = False
    return own.view()


def _never_writable(array: npt.NDArray[Any]) -> bool:
    """Whether the memory under a read-only view is read-only itself: of an array that owns it, or of bytes."""
    base = array.base
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return False
        if base.flags.owndata:
            return True
        base = base.base
    return isinstance(base, bytes)


@dataclass(frozen=True, eq=False)
class Audio:
    """A waveform and its sample rate.

    Args:
        samples: float32 ``[C, N]``, C channels of N samples, full scale at +-1. Other float or integer
            dtypes are converted without scaling. May hold NaN or Inf: whoever scores it says so. Kept as a copy that cannot be
            written to (`frozen`), so that neither the giver's buffer nor a receiver changes it.
        sample_rate: in Hz, positive.

    Raises:
        ValueError: ``samples`` is not two-dimensional, has no channel, or the rate is not a positive whole number.
    """

    samples: FloatArray
    sample_rate: int

    def __post_init__(self) -> None:
        samples = frozen(self.samples, np.float32)
        if samples.ndim != 2 or samples.shape[0] < 1:
            raise ValueError(f"Audio wants [C, N] with C >= 1, got shape {samples.shape}; for mono use Audio.mono(samples, rate)")
        if not self.sample_rate > 0 or int(self.sample_rate) != self.sample_rate:
            raise ValueError(f"sample_rate must be a positive whole number of Hz, got {self.sample_rate}")
        object.__setattr__(self, "samples", samples)
        object.__setattr__(self, "sample_rate", int(self.sample_rate))  # numpy's integers are no JSON

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

    def copy(self) -> Audio:
        """The same sound in memory of its own, for whoever may write into it in spite of everything."""
        return Audio(self.samples.copy(), self.sample_rate)

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
    _copied: Signal | None = field(default=None, repr=False)

    def at(self, sample_rate: int) -> FloatArray:
        """Mono float32 ``[N]`` at ``sample_rate`` Hz, read-only: channels averaged, then resampled."""
        return self.derive(("at", sample_rate), lambda: self._at(sample_rate))

    def private(self) -> Signal:
        """The same signal for code that is not trusted: with samples and derived values of its own, resampled only once all the same."""
        return Signal(self.audio.copy(), self.resampler, _copied=self)

    def intact(self) -> bool:
        """Whether nobody has written into the samples of a `private` signal, resampled ones included."""
        whole = self._copied
        return whole is None or (
            isinstance(self.audio, Audio)
            and np.array_equal(self.audio.samples, whole.audio.samples, equal_nan=True)
            and all(
                isinstance(kept, np.ndarray) and np.array_equal(kept, whole.at(key[1]), equal_nan=True)
                for key, kept in self._memo.items()
                if isinstance(key, tuple) and len(key) == 2 and key[0] == "at"
            )
        )

    def _at(self, sample_rate: int) -> FloatArray:
        if self._copied is not None:
            copied: FloatArray = frozen(self._copied.at(sample_rate).copy())
            return copied
        mono = self.audio.mixed()
        if sample_rate != self.audio.sample_rate:
            mono = self.resampler(mono, self.audio.sample_rate, sample_rate)
        mono.flags.writeable = False  # every metric of the item sees it
        return mono

    def derive(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The value under ``key``, computed by ``compute()`` the first time. A raised exception is not kept; an array is made read-only."""
        if key not in self._memo:
            made = compute()
            if isinstance(made, np.ndarray):
                made.flags.writeable = False
            self._memo[key] = made
        value: T = self._memo[key]
        return value
