"""Language models as safetensors; see `systems.checkpoints`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from systems.checkpoints import digest, fill, read_family, stored_tensors
from systems.lm.backbone import LanguageModel
from systems.lm.config import LmConfig, LmKind
from systems.lm.models import build_lm

FAMILIES: Mapping[LmKind, str] = {"multi_stream": "socodec_tts", "multihead": "qtts", "hierarchical": "qtts"}
"""Registry family of the systems that speak with a kind of model."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model read from a file.

    Args:
        model: in evaluation mode, float32.
        metadata: of the file: "codec" (digest of the codec's weights whose codes it says), "front_end" (of the text), "training_data" ...
        digest: content hash of the stored tensors.
    """

    model: LanguageModel
    metadata: Mapping[str, str]
    digest: str


def exported(model: LanguageModel, dtype: torch.dtype) -> dict[str, Tensor]:
    """The model's tensors in ``dtype``."""
    return stored_tensors(model, dtype)


def load(path: str | Path, kind: LmKind) -> Loaded:
    """Reads a checkpoint that `exported` made.

    Args:
        path: of the file.
        kind: that it must be of.

    Raises:
        FileNotFoundError: there is none.
        ValueError: no safetensors file, another kind, tensors missing, too many or of another shape, or not finite.
    """
    stored = read_family(path, FAMILIES[kind], f"{kind} language")
    config = LmConfig.from_dict(json.loads(stored.metadata["config"]))
    if config.kind != kind:
        raise ValueError(f"{path} holds a language model of kind {config.kind!r}, asked was {kind!r}")
    model = build_lm(config)
    fill(model, stored)
    return Loaded(model.eval().requires_grad_(False), stored.metadata, digest(stored.tensors))
