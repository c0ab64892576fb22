"""The speech encoder's weights as safetensors; see `systems.checkpoints`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from systems.checkpoints import digest, fill, read_family, stored_tensors
from systems.speech_encoder.config import SpeechEncoderConfig
from systems.speech_encoder.model import SpeechEncoder

_LEARNING_STATE = ("observed",)


@dataclass(frozen=True, eq=False)
class Loaded:
    """An encoder read from a file.

    Args:
        model: in evaluation mode, float32, without gradients.
        metadata: of the file.
        digest: content hash of the stored tensors.
    """

    model: SpeechEncoder
    metadata: Mapping[str, str]
    digest: str


def exported(model: SpeechEncoder, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors that encoding needs, in ``dtype``; the heads of its training are not among them."""
    return stored_tensors(model, dtype, _LEARNING_STATE)


def load(path: str | Path) -> Loaded:
    """Reads a checkpoint that `exported` made.

    Raises:
        FileNotFoundError: there is none.
        ValueError: no safetensors file, not of a speech encoder, tensors missing, too many or of another shape, or not finite.
    """
    stored = read_family(path, "speech_encoder", "speech encoder")
    model = SpeechEncoder(SpeechEncoderConfig.from_dict(json.loads(stored.metadata["config"])))
    fill(model, stored, _LEARNING_STATE)
    return Loaded(model.eval().requires_grad_(False), stored.metadata, digest(stored.tensors))
