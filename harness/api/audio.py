"""Audio in memory with the one view of it that metrics and systems receive, and what a codec emits: token streams (`Codes`) or packets
(`Bitstream`). Bits are counted from them, never typed in.
"""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
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


IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CodecSpec:
    """The fixed properties of a codec."""

    sample_rate: int  # of the audio it takes and gives, in Hz
    hop_length: int  # input samples per frame of codes
    codebook_sizes: tuple[int, ...] = ()  # vocabulary V_k of each of the K codebooks; empty for a codec that emits packets
    causal: bool = False  # frame t depends on no sample after the end of frame t plus ``lookahead``
    lookahead: int = 0  # in samples, of the encoder and the decoder together; 0 when not causal
    delay: int = 0  # samples by which the output lags the input after decoding, 0 for a compensated codec
    prefix_decodable: bool = False  # ``decode(codes.first(b))`` is meaningful for every b in 1..K

    def __post_init__(self) -> None:
        # Python's integers, whatever a codec counts with: the spec is stored as JSON.
        for name in ("sample_rate", "hop_length", "lookahead", "delay"):
            object.__setattr__(self, name, _plain(getattr(self, name)))
        object.__setattr__(self, "codebook_sizes", tuple(map(_plain, self.codebook_sizes)))

    @property
    def num_codebooks(self) -> int:
        return len(self.codebook_sizes)

    @property
    def frame_rate_hz(self) -> float:
        return self.sample_rate / self.hop_length

    @property
    def nominal_bps(self) -> float:
        """Frame rate times the sum of log2 V_k, in bits per second; NaN for packets, which have no fixed rate."""
        if not self.codebook_sizes:
            return math.nan
        return self.frame_rate_hz * sum(math.log2(v) for v in self.codebook_sizes)

    def first(self, num_codebooks: int) -> CodecSpec:
        """The spec of the first ``num_codebooks`` codebooks."""
        return replace(self, codebook_sizes=self.codebook_sizes[:num_codebooks])


def _plain(number: Any) -> Any:
    """Python's integer of a numpy one; what is no whole number stays, for the contract's checks to find."""
    return operator.index(number) if hasattr(number, "__index__") else number


@dataclass(frozen=True, eq=False)
class Codes:
    """Discrete tokens of one utterance.

    Args:
        indices: int ``[K, T]``, K codebooks (or streams) of T frames, ``0 <= indices[k] < spec.codebook_sizes[k]``.
        spec: of the codec that made them.
        num_samples: length of the input, which the decoder restores.
        side: side information that travels with the tokens (an utterance embedding, say), by name; arrays of numbers.

    Indices and side information are kept as copies that cannot be written to.

    Raises:
        ValueError: wrong shape, an index that is not whole or out of its codebook's range, or side information that is no array of numbers.
    """

    indices: IntArray
    spec: CodecSpec
    num_samples: int
    side: Mapping[str, npt.NDArray[np.generic]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = np.asarray(self.indices)
        indices = frozen(given, np.int64)
        if given.dtype.kind not in "iub" and not np.array_equal(indices, given):  # cut to whole numbers, they would be other codes
            raise ValueError(f"Codes wants whole numbers as indices, got {given.dtype} with fractions")
        sizes = np.asarray(self.spec.codebook_sizes, dtype=np.int64)
        if indices.ndim != 2 or indices.shape[0] != sizes.size:
            raise ValueError(f"Codes wants [K, T] with K = {sizes.size} codebooks, got shape {indices.shape}")
        if indices.size and (indices.min() < 0 or (indices >= sizes[:, None]).any()):
            worst = int(np.argmax((indices - sizes[:, None]).max(axis=1)))
            raise ValueError(f"codebook {worst} has {sizes[worst]} entries, got an index in {indices[worst].min()}..{indices[worst].max()}")
        object.__setattr__(self, "indices", indices)
        object.__setattr__(self, "num_samples", operator.index(self.num_samples))
        object.__setattr__(self, "side", {name: _side(name, value) for name, value in self.side.items()})

    def copy(self) -> Codes:
        """The same codes in memory of their own, for whoever may write into it in spite of everything."""
        return replace(self, indices=self.indices.copy(), side={name: value.copy() for name, value in self.side.items()})

    @property
    def num_codebooks(self) -> int:
        return int(self.indices.shape[0])

    @property
    def num_frames(self) -> int:
        return int(self.indices.shape[1])

    def first(self, num_codebooks: int) -> Codes:
        """The first b codebooks of the same utterance.

        Raises:
            ValueError: the codec does not decode prefixes, or b is not in 1..K.
        """
        if not self.spec.prefix_decodable:
            raise ValueError("this codec does not decode prefixes of its codebooks")
        if not 1 <= num_codebooks <= self.num_codebooks:
            raise ValueError(f"asked for the first {num_codebooks} codebooks of {self.num_codebooks}")
        return replace(self, indices=self.indices[:num_codebooks], spec=self.spec.first(num_codebooks))

    @property
    def emitted_bits(self) -> float:
        """log2 V_k summed over every token really present; side information apart."""
        return self.num_frames * sum(math.log2(v) for v in self.spec.codebook_sizes)

    @property
    def side_bits(self) -> float:
        """Bits of the side information as stored."""
        return float(sum(a.nbytes * 8 for a in self.side.values()))

    def digest(self) -> str:
        """Content hash (32 hex digits) of indices, length and side information."""
        h = hashlib.blake2b(digest_size=16)
        h.update(repr((self.indices.shape, self.num_samples, self.spec)).encode())
        h.update(self.indices.tobytes())
        for name in sorted(self.side):
            h.update(name.encode() + self.side[name].tobytes())
        return h.hexdigest()


def _side(name: str, value: npt.ArrayLike) -> npt.NDArray[np.generic]:
    array = np.asarray(value)
    if not isinstance(name, str) or array.dtype.hasobject:  # only a pickle could store it, and none is ever read
        raise ValueError(f"side information wants names and arrays of numbers, got {name!r} of {array.dtype}")
    return frozen(array)


@dataclass(frozen=True)
class Bitstream:
    """The packets of a classical codec, or any payload that is not a stream of tokens.

    Args:
        packets: the bytes sent, packet by packet, without container overhead. Other buffers are copied.
        num_samples: length of the input at the codec's sample rate.
        sample_rate: of the codec, in Hz.
    """

    packets: tuple[bytes, ...]
    num_samples: int
    sample_rate: int

    def __post_init__(self) -> None:
        # A bytearray or memoryview may be the codec's own buffer, which it goes on writing to.
        object.__setattr__(self, "packets", tuple(map(_packet, self.packets)))
        object.__setattr__(self, "num_samples", operator.index(self.num_samples))
        object.__setattr__(self, "sample_rate", operator.index(self.sample_rate))

    def copy(self) -> Bitstream:
        """Another object with the same packets."""
        return replace(self)

    @property
    def emitted_bits(self) -> float:
        return 8.0 * sum(len(p) for p in self.packets)

    @property
    def side_bits(self) -> float:
        return 0.0

    def digest(self) -> str:
        """Content hash (32 hex digits) of every packet and the length."""
        h = hashlib.blake2b(digest_size=16)
        h.update(f"{self.num_samples}:{self.sample_rate}:{[len(p) for p in self.packets]}".encode())
        for p in self.packets:
            h.update(p)
        return h.hexdigest()


def _packet(packet: bytes | bytearray | memoryview) -> bytes:
    if type(packet) is not bytes and not isinstance(packet, bytes | bytearray | memoryview):
        raise TypeError(f"a packet is bytes, got {type(packet).__name__}")  # bytes(5) would be five zeros
    return bytes(packet)


Encoded = Codes | Bitstream
