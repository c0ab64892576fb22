"""What turns SoCodec's mel frames into audio: the released BigVGAN, or the small size's source-filter vocoder, each from its file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from systems.checkpoints import Loaded, Stored, digest, fill, loaded, read, untrained
from systems.vocoder.bigvgan import BigVgan, low_pass
from systems.vocoder.wave import WaveVocoder, WaveVocoderConfig

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
