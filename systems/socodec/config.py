"""The shapes of SoCodec: `paper`, those of the released weights, and `small`, which trains on two CPU cores.

Frames are of three kinds: mel frames (100 a second), feature frames (50) and code frames (50 over the product of the strides).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from systems.configuration import Configuration

SAMPLE_RATE = 16000
FEATURE_HOP = 320
MEL_PER_FEATURE = 2

QuantizerName = Literal["opq", "pq", "rq", "orq"]
Source = Literal["ssl", "mel"]


@dataclass(frozen=True)
class UtteranceConfig:
    """Shape of the utterance encoder, an ECAPA-TDNN without batch normalisation."""

    channels: int = 256  # of the first layer and the three SE-Res2Net blocks
    pooled_channels: int = 768  # of the layer that joins them
    attention_channels: int = 64  # of the attentive statistics
    squeeze_channels: int = 64  # of squeeze-and-excitation
    res2net_scale: int = 2  # slices of a Res2Net block


@dataclass(frozen=True)
class SocodecConfig(Configuration):
    """Everything that fixes the codec's tensors and what they mean."""

    source: Source = "ssl"  # what the encoder sees: "ssl" features, or "mel" frames, two side by side (Codec-1 of the paper)
    semantic: bool = True  # decode the features too. Without, decoder_1 is only the trunk of the mel decoder (Codec-1 and Codec-2).
    ssl_dim: int = 1024  # of the features
    num_mels: int = 80  # bands
    width: int = 1024  # channels of encoder, decoders and utterance embedding, D
    strides: tuple[int, ...] = (2, 3)  # of the encoder, from feature frames to code frames; decoder_1 takes them backwards
    groups: int = 32  # of the residual units' convolutions
    # A strided convolution sees the whole span that its output stands for. In the release it sees up to the first frame of
    # that span and no further, and the decoder has to guess the rest (its features look ahead by themselves). Causal either way.
    whole_frames: bool = False
    num_streams: int = 4  # K
    # "opq" (ordered product), "pq" (product), "rq" (residual) or "orq" (residual, with the same nested dropout).
    quantizer: QuantizerName = "opq"
    sizes: tuple[int, ...] = (128, 128)  # entries of the codebooks of one stream
    codebook_dim: int = 128  # of an entry
    index_order: Literal["first_fastest", "first_slowest"] = "first_fastest"  # of a pair, see `PairedCodebook`
    revival_share: float = 0.0  # see `CodebookConfig`
    mel_mean: float = 0.0  # taken off mel frames before the networks, and put back behind them
    mel_scale: float = 1.0  # by which they are divided, and multiplied
    utterance: UtteranceConfig = field(default_factory=UtteranceConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "strides", tuple(self.strides))
        object.__setattr__(self, "sizes", tuple(self.sizes))
        for name, value, known in (("source", self.source, Source), ("quantizer", self.quantizer, QuantizerName)):
            if value not in get_args(known):
                raise ValueError(f"{name} is one of {', '.join(get_args(known))}; got {value!r}")
        if not self.strides or min(self.strides) < 1:
            raise ValueError(f"SoCodec needs strides of at least 1, got {self.strides}")
        if self.width % self.groups:
            raise ValueError(f"{self.groups} groups do not divide a width of {self.width}")

    @property
    def stride(self) -> int:
        """Feature frames per code frame."""
        return math.prod(self.strides)

    @property
    def hop(self) -> int:
        """Samples per code frame."""
        return FEATURE_HOP * self.stride

    @property
    def frame_ms(self) -> float:
        return 1000.0 * self.hop / SAMPLE_RATE

    @property
    def stream_size(self) -> int:
        """Vocabulary of a stream."""
        return math.prod(self.sizes)

    @property
    def input_dim(self) -> int:
        """Of what the encoder sees, at 50 frames a second."""
        return self.ssl_dim if self.source == "ssl" else MEL_PER_FEATURE * self.num_mels


FRAMES_MS: dict[int, tuple[tuple[int, ...], int]] = {40: ((2,), 1), 120: ((2, 3), 4), 240: ((2, 3, 2), 8)}
"""Milliseconds to strides and streams. The paper gives 40 and 120 ms; of 240 ms it gives the product, 12."""


def socodec_config(
    size: str = "small", frame_ms: int = 120, quantizer: QuantizerName = "opq", source: Source = "ssl", semantic: bool = True
) -> SocodecConfig:
    """The shape of a size.

    Args:
        size: "paper" (1024 wide, HuBERT's 1024-d features, entries of 128 numbers) or "small" (192 wide, 192-d features, entries of 32).
        frame_ms: 40 (1 stream), 120 (4) or 240 (8); every stream has 128 x 128 entries.
        quantizer, source, semantic: see `SocodecConfig`.

    Raises:
        ValueError: another size, frame or name.
    """
    if frame_ms not in FRAMES_MS:
        raise ValueError(f"SoCodec has frames of {', '.join(map(str, FRAMES_MS))} ms, got {frame_ms}")
    strides, streams = FRAMES_MS[frame_ms]
    paper = SocodecConfig(source=source, semantic=semantic, strides=strides, num_streams=streams, quantizer=quantizer)
    if size == "paper":
        return paper
    if size == "small":
        return replace(
            paper,
            ssl_dim=192,
            width=192,
            groups=6,  # 32 channels in a group, as at paper size
            whole_frames=True,
            codebook_dim=32,
            revival_share=0.1,
            mel_mean=-5.0,
            mel_scale=2.5,
            utterance=UtteranceConfig(channels=96, pooled_channels=288, attention_channels=32, squeeze_channels=32),
        )
    raise ValueError(f'SoCodec has the sizes "paper" and "small", got {size!r}')
