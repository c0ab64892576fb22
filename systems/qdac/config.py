"""The shapes of QDAC: `paper`, after DAC's published defaults, and `small`, which trains on two CPU cores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from systems.configuration import Configuration


@dataclass(frozen=True)
class QdacConfig(Configuration):
    """Everything that fixes the codec's tensors."""

    sample_rate: int = 16000  # in Hz
    hop: int = 320  # samples per frame
    num_codebooks: int = 16  # K
    codebook_size: int = 2048  # entries V of each
    codebook_dim: int = 64  # of an entry
    latent_dim: int = 64  # D, what is quantized
    front: Literal["waveform", "lapped"] = "lapped"  # strided convolutions as DAC's, or MDCT, ConvNeXt blocks and inverse MDCT
    strides: tuple[int, ...] = ()  # of the waveform encoder, the decoder takes them backwards; their product is hop
    encoder_width: int = 64  # channels after the first convolution, doubled by each stride (waveform)
    decoder_width: int = 1536  # channels before the first transposed convolution, halved by each stride (waveform)
    window: int = 640  # samples of the STFT whose magnitudes the encoder sees beside the MDCT (lapped)
    power: float = 0.5  # to which MDCT coefficients are companded (lapped)
    width: int = 384  # channels of the ConvNeXt blocks (lapped)
    hidden: int = 768  # width inside them (lapped)
    encoder_depth: int = 4  # blocks (lapped)
    decoder_depth: int = 4  # blocks (lapped)
    update: Literal["ema", "gradient"] = "ema"  # of the codebooks
    dropout: float = 0.5  # of the quantizer

    def __post_init__(self) -> None:
        object.__setattr__(self, "strides", tuple(self.strides))
        if self.front == "waveform" and math.prod(self.strides) != self.hop:
            raise ValueError(f"strides {self.strides} multiply to {math.prod(self.strides)}, the hop is {self.hop}")
        if self.front not in ("waveform", "lapped"):
            raise ValueError(f'front is "waveform" or "lapped", got {self.front!r}')

    @property
    def frame_rate_hz(self) -> float:
        return self.sample_rate / self.hop


_PAPER_STRIDES = {50: (2, 5, 6, 8), 25: (4, 5, 6, 8)}


def qdac_config(size: str = "small", num_codebooks: int = 16, frame_rate: int = 50) -> QdacConfig:
    """The shape of a size.

    Args:
        size: "paper" (24 kHz, DAC's widths, 2048 x 1024-d codebooks) or "small" (16 kHz, 2048 x 64-d).
        num_codebooks: 1..16.
        frame_rate: 25 or 50 Hz.

    Raises:
        ValueError: another size, rate or number.
    """
    if frame_rate not in _PAPER_STRIDES:
        raise ValueError(f"QDAC runs at 25 or 50 frames a second, got {frame_rate}")
    if not 1 <= num_codebooks <= 16:
        raise ValueError(f"QDAC has 1 to 16 codebooks, got {num_codebooks}")
    if size == "paper":
        strides = _PAPER_STRIDES[frame_rate]
        return QdacConfig(
            sample_rate=24000,
            hop=24000 // frame_rate,
            num_codebooks=num_codebooks,
            codebook_dim=1024,
            latent_dim=1024,
            front="waveform",
            strides=strides,
            update="gradient",
        )
    if size == "small":
        hop = 16000 // frame_rate
        return QdacConfig(hop=hop, num_codebooks=num_codebooks, window=2 * hop)
    raise ValueError(f'QDAC has the sizes "paper" and "small", got {size!r}')
