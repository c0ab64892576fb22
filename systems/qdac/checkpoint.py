"""QDAC's weights as safetensors; see `systems.checkpoints`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from systems.checkpoints import digest, fill, read_family, stored_tensors
from systems.qdac.config import QdacConfig
from systems.qdac.model import QdacModel
from systems.quantizers.codebook import LEARNING_STATE

__all__ = ["Loaded", "digest", "exported", "load"]


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model read from a file.

    Args:
        model: in evaluation mode, float32.
        metadata: of the file.
        digest: content hash of the stored tensors.
    """

    model: QdacModel
    metadata: Mapping[str, str]
    digest: str


def exported(model: QdacModel, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors that encoding and decoding need, in ``dtype``; what only learning codebooks need is left out."""
    return stored_tensors(model, dtype, LEARNING_STATE)


def load(path: str | Path) -> Loaded:
    """Reads a checkpoint that `exported` made.

    Raises:
        FileNotFoundError: there is none.
        ValueError: no safetensors file, not of QDAC, tensors missing, too many or of another shape, or not finite.
    """
    stored = read_family(path, "qdac", "QDAC")
    model = QdacModel(QdacConfig.from_dict(json.loads(stored.metadata["config"])))
    fill(model, stored, LEARNING_STATE)
    return Loaded(model.eval().requires_grad_(False), stored.metadata, digest(stored.tensors))
