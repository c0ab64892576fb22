"""The shape of the speech encoder."""

from __future__ import annotations

from dataclasses import dataclass, fields

from systems.configuration import Configuration


@dataclass(frozen=True)
class SpeechEncoderConfig(Configuration):
    """Everything that fixes the encoder's tensors.

    Args:
        sample_rate: in Hz.
        hop: samples per frame, a multiple of ``spectrum_hop``.
        spectrum_hop: samples between log-mel spectra; those of one frame are joined.
        window: samples of a spectrum.
        num_bands: mel bands.
        width: channels of the ConvNeXt blocks.
        hidden: width inside them.
        kernel: frames of their depthwise convolutions.
        depth: number of blocks.
        dim: of the features, D.
    """

    sample_rate: int = 16000
    hop: int = 320
    spectrum_hop: int = 160
    window: int = 512
    num_bands: int = 80
    width: int = 256
    hidden: int = 768
    kernel: int = 9
    depth: int = 6
    dim: int = 192

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"{field.name} of a speech encoder must be positive, got {getattr(self, field.name)}")
        if self.hop % self.spectrum_hop:
            raise ValueError(f"a hop of {self.hop} samples is no multiple of the spectra's {self.spectrum_hop}")
        if self.kernel % 2 == 0:
            raise ValueError(f"a kernel of {self.kernel} frames has no middle: the context could not be symmetric")

    @property
    def frame_rate_hz(self) -> float:
        return self.sample_rate / self.hop
