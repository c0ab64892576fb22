"""The speech encoder: log-mel spectra, ConvNeXt blocks, and features of 20-ms frames."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from systems.configuration import Configuration
from systems.layers.convolution import ConvNeXtStack
from systems.layers.spectrum import Analysis, energy, mel_bands


@dataclass(frozen=True)
class SpeechEncoderConfig(Configuration):
    """Everything that fixes the encoder's tensors."""

    sample_rate: int = 16000  # in Hz
    hop: int = 320  # samples per frame, a multiple of spectrum_hop
    spectrum_hop: int = 160  # samples between log-mel spectra; those of one frame are joined
    window: int = 512  # samples of a spectrum
    num_bands: int = 80  # of mel
    width: int = 256  # channels of the ConvNeXt blocks
    hidden: int = 768  # width inside them
    kernel: int = 9  # frames of their depthwise convolutions
    depth: int = 6  # blocks
    dim: int = 192  # of the features, D

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"{field.name} of a speech encoder must be positive, got {getattr(self, field.name)}")
        if self.hop % self.spectrum_hop:
            raise ValueError(f"a hop of {self.hop} samples is no multiple of the spectra's {self.spectrum_hop}")
        if self.kernel % 2 == 0:
            raise ValueError(f"a kernel of {self.kernel} frames has no middle: the context could not be symmetric")


_FLOOR = 1e-5


class Hidden(NamedTuple):
    """Frames that the encoder shall not see."""

    frames: Tensor  # bool [B, T]
    substitute: Tensor  # [width], what it sees in their place


class SpeechEncoder(nn.Module):
    """Audio to features of unit variance, one vector per whole 20-ms frame.

    Frame t stands for samples ``hop t .. hop (t + 1) - 1``, with as much context after as before. The features are the last hidden
    layer, the one the training's linear heads read, normalised to zero mean and unit variance over their D numbers: a squared error
    between two of them is twice one minus their correlation.
    """

    LEARNING_STATE = ("observed",)
    """Buffer that only learning needs; a checkpoint leaves it out."""

    mean: Tensor
    variance: Tensor
    observed: Tensor
    bands: Tensor

    def __init__(self, config: SpeechEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.analysis = Analysis(config.window, config.spectrum_hop)
        self.register_buffer("bands", mel_bands(config.sample_rate, config.window, config.num_bands), persistent=False)
        self.register_buffer("mean", torch.full((config.num_bands,), -5.0))
        self.register_buffer("variance", torch.full((config.num_bands,), 4.0))
        self.register_buffer("observed", torch.zeros((), dtype=torch.int64))
        self.enter = nn.Linear(config.num_bands * config.hop // config.spectrum_hop, config.width)
        self.stack = ConvNeXtStack(config.width, config.hidden, config.depth, config.kernel, scale=0.3)
        self.norm = nn.LayerNorm(config.width)
        self.leave = nn.Linear(config.width, config.dim)

    @property
    def dim(self) -> int:
        """D of the features."""
        return self.config.dim

    def forward(self, audio: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Features ``[B, N // hop, D]`` of ``audio [B, N]``; a last partial frame is left out.

        Args:
            lengths: int64 ``[B]``, valid samples of rows padded at the end; their features are then those that the row alone would have,
                and zero behind its last whole frame. None where every row is valid throughout.
        """
        return self.encode(self.spectra(audio, lengths), self.valid(audio, lengths))

    def valid(self, audio: Tensor, lengths: Tensor | None) -> Tensor | None:
        """Whole frames inside ``lengths``, bool ``[B, N // hop]``."""
        if lengths is None:
            return None
        return torch.arange(audio.shape[1] // self.config.hop, device=audio.device) < (lengths // self.config.hop)[:, None]

    def spectra(self, audio: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Natural logarithm of mel magnitudes, ``[B, T hop / spectrum_hop, bands]`` of the T whole frames of ``audio [B, N]``."""
        with torch.autocast(audio.device.type, enabled=False):
            count = audio.shape[1] // self.config.hop * self.config.hop
            audio = audio[:, :count].float()
            if lengths is not None:
                whole = lengths // self.config.hop * self.config.hop
                audio = audio * (torch.arange(count, device=audio.device) < whole[:, None])
            if not count:
                return audio.new_zeros(audio.shape[0], 0, self.config.num_bands)
            magnitude = (energy(self.analysis(audio)) + 1e-12).sqrt()
            return (magnitude @ self.bands).clamp(min=_FLOOR).log()

    @torch.no_grad()
    def observe(self, spectra: Tensor) -> None:
        """Takes spectra ``[n, bands]`` into the mean and variance of each band; every call counts the same."""
        calls = int(self.observed) + 1
        mean, variance = spectra.mean(dim=0), spectra.var(dim=0, correction=0)
        apart = mean - self.mean
        self.variance.lerp_(variance, 1.0 / calls).add_(apart.square() * ((calls - 1) / calls**2))
        self.mean.add_(apart / calls)
        self.observed += 1

    def encode(self, spectra: Tensor, valid: Tensor | None = None, hidden: Hidden | None = None) -> Tensor:
        """Features ``[B, T, D]`` of ``spectra [B, T hop / spectrum_hop, bands]``.

        Args:
            spectra: as `spectra` returns them.
            valid: bool ``[B, T]``; None for all.
        """
        config = self.config
        if not spectra.shape[1]:
            return spectra.new_zeros(spectra.shape[0], 0, config.dim)
        level = (spectra - self.mean) * (self.variance + 1e-5).rsqrt()
        x = self.enter(level.reshape(level.shape[0], -1, config.num_bands * config.hop // config.spectrum_hop))
        if hidden is not None:
            x = torch.where(hidden.frames[..., None], hidden.substitute.to(x.dtype), x)
        keep = None if valid is None else valid[..., None]
        for block in self.stack:
            # A convolution must see zeros behind the end, as it does behind the end of the tensor.
            x = block(x if keep is None else x * keep)
        features = functional.layer_norm(self.leave(self.norm(x)).float(), (config.dim,))
        return features if keep is None else features * keep
