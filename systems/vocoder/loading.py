"""What turns SoCodec's mel frames into audio: the released BigVGAN, or the small size's source-filter vocoder, each from its file."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from systems.checkpoints import Stored, digest, fill, read, read_family, stored_tensors
from systems.vocoder.bigvgan import BigVgan, low_pass
from systems.vocoder.wave import WaveVocoder, WaveVocoderConfig

_FILTERS = (".filter",)
_NORM_NAMES = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


@dataclass(frozen=True, eq=False)
class Vocoder:
    """A vocoder ready for use.

    Args:
        model: ``mel [B, T, 80]`` (natural logarithm) to ``audio [B, 160 T]``; in evaluation mode, float32.
        name: for descriptions.
        digest: content hash of its tensors.
    """

    model: nn.Module
    name: str
    digest: str


def load_vocoder(path: str | Path) -> Vocoder:
    """Reads either kind of vocoder; a file whose metadata names no family is taken for a released BigVGAN.

    Raises:
        FileNotFoundError: there is none.
        ValueError: no safetensors file, no vocoder, tensors missing, too many or of another shape, or not finite.
    """
    stored = read(path, "mel vocoder")
    if "family" not in stored.metadata:
        return Vocoder(_bigvgan(stored), "BigVGAN", digest(stored.tensors))
    stored = read_family(path, "mel_vocoder", "mel vocoder")
    model = WaveVocoder(WaveVocoderConfig.from_dict(json.loads(stored.metadata["config"])))
    fill(model, stored)
    return Vocoder(model.eval().requires_grad_(False), "source-filter vocoder", digest(stored.tensors))


def random_vocoder(size: str, seed: int) -> Vocoder:
    """An untrained vocoder of a size, for timing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = BigVgan().fold() if size == "paper" else WaveVocoder(WaveVocoderConfig())
    name = "BigVGAN" if size == "paper" else "source-filter vocoder"
    return Vocoder(model.eval().requires_grad_(False), name, digest(stored_tensors(model, torch.float32)))


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
