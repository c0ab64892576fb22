"""The released SoCodec's vocoder: a BigVGAN generator (Lee et al. 2023) from mel frames to audio, 160 samples a frame.

Transposed convolutions climb to the sample rate; behind each, three residual blocks of different kernels are averaged. Their activations
are periodic (Snake with a magnitude of its own) and run at twice the rate between two low-pass filters, so that the harmonics they make
do not fold back. Modules that hold weights sit where the release has them, so that names of tensors are those of the release. `load_vocoder`
reads it, or the small size's source-filter vocoder, from a file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from systems.checkpoints import Loaded, Stored, digest, fill, loaded, read, untrained
from systems.vocoder.wave import WaveVocoder, WaveVocoderConfig

_TAPS = 12
_CUTOFF, _HALF_WIDTH = 0.25, 0.3  # of the doubled rate


@dataclass(frozen=True)
class BigVganConfig:
    """Shape of the generator; the defaults are those of ``mel_vocoder_80dim_10ms_16khz``."""

    num_mels: int = 80
    channels: int = 512  # before the first upsampling; each halves them
    rates: tuple[int, ...] = (5, 4, 2, 2, 2)  # of upsampling; their product is the hop
    kernels: tuple[int, ...] = (11, 8, 4, 4, 4)  # of the transposed convolutions
    block_kernels: tuple[int, ...] = (3, 7, 11)  # of the residual blocks behind each upsampling
    # Of the convolutions in every block. The release's configuration lists 1, 3, 5, but selects the kind of block that has
    # only the first two.
    dilations: tuple[int, ...] = (1, 3)


class SnakeBeta(nn.Module):
    """x + sin^2(a x) / b with a frequency and a magnitude per channel, kept as logarithms."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, N]`` to the same."""
        frequency, magnitude = (weight.exp()[:, None] for weight in (self.alpha, self.beta))
        return x + (frequency * x).sin().square() / (magnitude + 1e-9)


class DoubledActivation(nn.Module):
    """An activation at twice the rate: up, `SnakeBeta`, down, edges repeated; both filters are `low_pass`."""

    taps: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.act = SnakeBeta(channels)
        self.register_buffer("taps", low_pass(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, N]`` to the same."""
        channels = x.shape[1]
        taps = self.taps.expand(channels, 1, -1)
        # Repeated edges reach as far as the filter does; what they and its delay add is cut off again.
        around = functional.pad(x, (5, 5), mode="replicate")
        doubled = 2.0 * functional.conv_transpose1d(around, taps, stride=2, groups=channels)[..., 15:-15]
        active = functional.pad(self.act(doubled), (5, 6), mode="replicate")
        return functional.conv1d(active, taps, stride=2, groups=channels)


def low_pass() -> Tensor:
    """The twelve taps ``[12]`` of both filters: a sinc under a Kaiser window, which sum to one."""
    attenuation = 2.285 * (_TAPS // 2 - 1) * math.pi * 4.0 * _HALF_WIDTH + 7.95
    window = torch.kaiser_window(_TAPS, periodic=False, beta=0.1102 * (attenuation - 8.7))  # Kaiser's rule above 50 dB
    taps = window * torch.sinc(2.0 * _CUTOFF * (torch.arange(_TAPS) - (_TAPS - 1) / 2.0))
    return taps / taps.sum()


class PeriodicBlock(nn.Module):
    """Dilated convolutions in a row, each behind an activation and added to its input."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv1d(channels, channels, kernel, dilation=d, padding=d * (kernel - 1) // 2)) for d in dilations
        )
        self.activations = nn.ModuleList(DoubledActivation(channels) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, N]`` to the same."""
        for conv, activation in zip(self.convs, self.activations, strict=True):
            x = x + conv(activation(x))
        return x


class BigVgan(nn.Module):
    """The generator."""

    TITLE = "BigVGAN"

    def __init__(self, config: BigVganConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or BigVganConfig()
        widths = [config.channels // 2**i for i in range(len(config.rates) + 1)]
        self.conv_pre = weight_norm(nn.Conv1d(config.num_mels, config.channels, 7, padding=3))
        shapes = zip(pairwise(widths), config.rates, config.kernels, strict=True)
        # A list in a list: the release could put several in one place.
        self.ups = nn.ModuleList(
            nn.ModuleList([weight_norm(nn.ConvTranspose1d(wide, narrow, kernel, rate, padding=(kernel - rate) // 2))])
            for (wide, narrow), rate, kernel in shapes
        )
        self.resblocks = nn.ModuleList(
            PeriodicBlock(width, kernel, config.dilations) for width in widths[1:] for kernel in config.block_kernels
        )
        self.activation_post = DoubledActivation(widths[-1])
        self.conv_post = weight_norm(nn.Conv1d(widths[-1], 1, 7, padding=3))

    def forward(self, mel: Tensor) -> Tensor:
        """Audio ``[B, T x hop]`` in -1..1 of log-mel frames ``[B, T, bands]``."""
        if not mel.shape[1]:
            return mel.new_zeros(mel.shape[0], 0)
        x = self.conv_pre(mel.transpose(1, 2))
        side_by_side = len(self.config.block_kernels)
        for i, up in enumerate(self.ups):
            assert isinstance(up, nn.ModuleList)
            x = up[0](x)
            blocks = list(self.resblocks)[i * side_by_side : (i + 1) * side_by_side]
            x = torch.stack([block(x) for block in blocks]).sum(dim=0) / side_by_side
        audio: Tensor = self.conv_post(self.activation_post(x)).tanh()[:, 0]
        return audio

    def fold(self) -> BigVgan:
        """Multiplies the weight norms in, for use without training; returns itself."""
        for module in self.modules():
            if is_parametrized(module, "weight"):
                remove_parametrizations(module, "weight")
        return self


_FILTERS = (".filter",)
_NORM_NAMES = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
Vocoder = BigVgan | WaveVocoder
"""``mel [B, T, 80]`` (natural logarithm) to ``audio [B, 160 T]``; its ``TITLE`` is for descriptions."""


def load_vocoder(path: str | Path) -> Loaded[Vocoder]:
    """Reads either kind of vocoder; a file whose metadata names no family is taken for a released BigVGAN.

    Raises:
        FileNotFoundError: there is none.
        ValueError: no safetensors file, no vocoder, tensors missing, too many or of another shape, or not finite.
    """
    stored = read(path, "mel_vocoder")
    if "family" not in stored.metadata:
        return Loaded(_bigvgan(stored), stored.metadata, digest(stored.tensors))
    return loaded(stored, "mel_vocoder", WaveVocoder, WaveVocoderConfig)


def random_vocoder(size: str, seed: int) -> Loaded[Vocoder]:
    """An untrained vocoder of a size, for timing."""

    def build() -> Vocoder:
        return BigVgan().fold() if size == "paper" else WaveVocoder(WaveVocoderConfig())

    return untrained(build, seed)


def _bigvgan(stored: Stored) -> BigVgan:
    """From the released tensors, with weight norms in either of torch's forms or multiplied in already."""
    weights = {name: tensor for name, tensor in stored.tensors.items() if not name.endswith(_FILTERS)}
    _check_filters({name: tensor for name, tensor in stored.tensors.items() if name.endswith(_FILTERS)}, stored.source)
    if not any(name.startswith("conv_pre.") for name in weights):
        raise ValueError(f"{stored.source} holds no vocoder: it names no family in its metadata and has no conv_pre as a BigVGAN has")
    stored, model = replace(stored, tensors=weights), BigVgan()
    if any(name.endswith("weight_g") for name in weights):
        fill(model, stored, named=_older_name)
    elif any("parametrizations" in name for name in weights):
        fill(model, stored)
    else:
        fill(model.fold(), stored)
    return model.fold().eval().requires_grad_(False)


def _older_name(name: str) -> str:
    for ours, older in _NORM_NAMES.items():
        name = name.replace(ours, older)
    return name


def _check_filters(filters: dict[str, Tensor], source: str) -> None:
    """The low-pass filters are computed; a file may hold them, but no others."""
    taps = low_pass()
    for name, tensor in filters.items():
        if tensor.numel() != taps.numel() or not torch.allclose(tensor.float().flatten(), taps, atol=1e-3):
            raise ValueError(f"{source} was made for other low-pass filters: {name} is not the 12-tap Kaiser-windowed sinc of BigVGAN")
