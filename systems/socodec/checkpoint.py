"""SoCodec's weights as safetensors: our own files, and those that the paper's authors released (hhguo/SoCodec)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from systems.checkpoints import digest, fill, read, read_family, stored_tensors
from systems.quantizers.codebook import LEARNING_STATE
from systems.socodec.config import SocodecConfig
from systems.socodec.model import SocodecModel

__all__ = ["Loaded", "digest", "exported", "load"]

_RELEASED_QUANTIZER = "quantizer.quantizers.0."
_RELEASED_LEARNING_STATE = (".inited", ".cluster_size", ".embed_avg")
_RELEASED_EXTRACTOR = "ssl_extractor."


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model read from a file.

    Args:
        model: in evaluation mode, float32.
        metadata: of the file.
        digest: content hash of the tensors used.
    """

    model: SocodecModel
    metadata: Mapping[str, str]
    digest: str


def exported(model: SocodecModel, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors that encoding and decoding need, in ``dtype``; what only learning codebooks need is left out."""
    return stored_tensors(model, dtype, LEARNING_STATE)


def load(path: str | Path, released: SocodecConfig | None = None) -> Loaded:
    """Reads a checkpoint that `exported` made, or one in the released layout.

    A released file tells no configuration; what it holds besides (HuBERT, averages of the codebooks) is passed over.

    Args:
        path: of the file.
        released: the shape to expect of a file in the released layout; without, such a file is refused.

    Raises:
        FileNotFoundError: there is none.
        ValueError: no safetensors file, not of SoCodec, tensors missing, too many or of another shape, or not finite.
    """
    stored = read(path, "SoCodec checkpoint")
    if released is None or "family" in stored.metadata or not any(name.startswith(_RELEASED_QUANTIZER) for name in stored.tensors):
        stored = read_family(path, "socodec", "SoCodec")
        model = SocodecModel(SocodecConfig.from_dict(json.loads(stored.metadata["config"])))
        fill(model, stored, LEARNING_STATE)
    else:
        used = {
            name: tensor
            for name, tensor in stored.tensors.items()
            if not name.startswith(_RELEASED_EXTRACTOR) and not name.endswith(_RELEASED_LEARNING_STATE)
        }
        stored = replace(stored, tensors=used)
        model = SocodecModel(released)
        fill(model, stored, LEARNING_STATE, lambda name: released_name(name, len(released.sizes)))
    return Loaded(model.eval().requires_grad_(False), stored.metadata, digest(stored.tensors))


def released_name(name: str, codebooks: int) -> str:
    """What the release calls our tensor ``name``, with so many ``codebooks`` in a stream; only the quantizer's differ."""
    entries = re.fullmatch(r"quantizer\.streams\.(\d+)\.codebooks\.(\d+)\.entries", name)
    if entries:
        return f"{_RELEASED_QUANTIZER}_codebook.codebooks.{int(entries[1]) * codebooks + int(entries[2])}.embed"
    return re.sub(r"^quantizer\.(?=project_)", _RELEASED_QUANTIZER, name)
