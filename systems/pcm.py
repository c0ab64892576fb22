"""What codecs take and give, checked: samples of one channel at one rate, whole frames, 16-bit integers, codes of their own.

`FrameCodec` does so for every codec that is a network.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from harness.api import Audio, CodecSpec, Codes, Encoded, FloatArray

if TYPE_CHECKING:
    from torch import Tensor

Int16Array = npt.NDArray[np.int16]


def mono(audio: Audio, sample_rate: int) -> FloatArray:
    """The samples ``[N]`` of ``audio``.

    Raises:
        ValueError: another rate, or more than one channel.
    """
    if audio.sample_rate != sample_rate:
        raise ValueError(f"this codec takes {sample_rate} Hz, got audio at {audio.sample_rate} Hz")
    if audio.num_channels != 1:
        raise ValueError(f"this codec takes one channel, got {audio.num_channels}")
    samples: FloatArray = audio.samples[0]
    return samples


def framed(samples: FloatArray, frame: int, num_frames: int) -> FloatArray:
    """``samples [N]`` with zeros appended, as ``[num_frames, frame]``."""
    padded = np.zeros(num_frames * frame, dtype=np.float32)
    padded[: samples.size] = samples[: padded.size]
    return padded.reshape(num_frames, frame)


def frames_for(num_samples: int, delay: int, frame: int) -> int:
    """Frames a codec must send so that ``num_samples`` are heard after dropping its ``delay``; 0 for an empty input."""
    return -(-(num_samples + delay) // frame) if num_samples else 0


def compensated(samples: npt.ArrayLike, delay: int, num_samples: int, sample_rate: int) -> Audio:
    """Decoded ``samples [M]`` without their first ``delay``, exactly ``num_samples`` long.

    Raises:
        ValueError: fewer were decoded, which means that packets are missing.
    """
    heard = np.asarray(samples, dtype=np.float32)[delay : delay + num_samples]
    if heard.size < num_samples:
        raise ValueError(f"the packets hold {heard.size} samples after the codec's delay of {delay}, {num_samples} were encoded")
    return Audio.mono(heard, sample_rate)


def own_codes(encoded: Encoded, spec: CodecSpec) -> Codes:
    """The codes that a codec is to decode: what it made itself, or the first codebooks of that.

    Args:
        spec: of the codec, with every codebook that it can decode.

    Raises:
        ValueError: no codes, or those of another codec.
    """
    if not isinstance(encoded, Codes):
        raise ValueError(f"this codec decodes Codes, got {type(encoded).__name__}")
    sizes, alike = encoded.spec.codebook_sizes, replace(encoded.spec, codebook_sizes=()) == replace(spec, codebook_sizes=())
    if not alike or not sizes or sizes != spec.codebook_sizes[: len(sizes)]:
        raise ValueError(f"these codes were made with {encoded.spec}, this codec is {spec}")
    return encoded


def to_int16(samples: FloatArray) -> Int16Array:
    """Rounded to 16 bits, clipped at full scale; NaN becomes 0."""
    scaled = np.nan_to_num(np.round(samples.astype(np.float64) * 32768.0), nan=0.0)
    return np.clip(scaled, -32768, 32767).astype("<i2")


def from_int16(samples: Int16Array) -> FloatArray:
    """16-bit samples at full scale 1."""
    return samples.astype(np.float32) / np.float32(32768.0)


class FrameCodec(abc.ABC):
    """A codec whose network codes the frames of one utterance; a subclass sets ``spec`` and ``device``."""

    spec: CodecSpec
    device: str
    whole_frames: ClassVar[bool] = True
    """The last frame is filled with zeros here; otherwise the network takes any length."""
    _shortfall = 0
    """Samples that decoding lacks of its frames."""
    _empty_side: Mapping[str, npt.NDArray[Any]] = {}
    """Side information of an utterance without samples."""

    def encode(self, audio: Audio) -> Codes:
        """Codes of one utterance; a last partial frame is filled with zeros.

        Raises:
            ValueError: another sample rate, or more than one channel.
        """
        import torch

        spec = self.spec
        samples = mono(audio, spec.sample_rate)
        frames = frames_for(samples.size, self._shortfall, spec.hop_length)
        if not frames:
            return Codes(np.zeros((spec.num_codebooks, 0), dtype=np.int64), spec, 0, self._empty_side)
        if self.whole_frames:
            samples = framed(samples, frames * spec.hop_length, 1)[0]
        with torch.inference_mode():
            indices, side = self._coded(torch.from_numpy(np.array(samples, np.float32))[None].to(self.device))
        if indices.shape != (spec.num_codebooks, frames):
            raise RuntimeError(f"{type(self).__name__} gave codes of shape {tuple(indices.shape)}, expected {(spec.num_codebooks, frames)}")
        return Codes(indices.cpu().numpy(), spec, audio.num_samples, side)

    def decode(self, encoded: Encoded) -> Audio:
        """The waveform of codes, or of the first b codebooks of them.

        Raises:
            ValueError: codes of another codec, or without side information that it needs.
        """
        import torch

        codes = own_codes(encoded, self._decodable())
        if not codes.num_frames:
            return Audio.mono(np.zeros(codes.num_samples, dtype=np.float32), self.spec.sample_rate)
        with torch.inference_mode():
            samples = self._decoded(torch.tensor(codes.indices)[None].to(self.device), codes.side)
        return compensated(samples.float().cpu().numpy(), 0, codes.num_samples, self.spec.sample_rate)

    def _decodable(self) -> CodecSpec:
        """With every codebook that can be decoded."""
        return self.spec

    @abc.abstractmethod
    def _coded(self, samples: Tensor) -> tuple[Tensor, Mapping[str, npt.NDArray[Any]]]:
        """Indices ``[K, T]`` of ``samples [1, N]``, and the side information."""

    @abc.abstractmethod
    def _decoded(self, indices: Tensor, side: Mapping[str, npt.NDArray[Any]]) -> Tensor:
        """Samples ``[M]`` of ``indices [1, b, T]``, M at least what was encoded."""
