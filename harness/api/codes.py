"""What a codec emits: token streams (`Codes`) or packets (`Bitstream`). Bits are counted from them, never typed in."""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.api.audio import frozen

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CodecSpec:
    """The fixed properties of a codec.

    Args:
        sample_rate: of the audio it takes and gives, in Hz.
        hop_length: input samples per frame of codes (an integer).
        codebook_sizes: vocabulary V_k of each of the K codebooks; empty for a codec that emits packets.
        causal: frame t depends on no sample after the end of frame t plus ``lookahead``.
        lookahead: in samples, of the encoder and the decoder together; 0 when not causal.
        delay: samples by which the output lags the input after decoding, 0 for a compensated codec.
        prefix_decodable: ``decode(codes.first(b))`` is meaningful for every b in 1..K.
    """

    sample_rate: int
    hop_length: int
    codebook_sizes: tuple[int, ...] = ()
    causal: bool = False
    lookahead: int = 0
    delay: int = 0
    prefix_decodable: bool = False

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
