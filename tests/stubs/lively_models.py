"""Random language models that are worth generating with."""

from __future__ import annotations

import torch

from systems.lm.backbone import LanguageModel
from systems.lm.config import LmConfig
from systems.lm.models import build_lm


def lively(config: LmConfig) -> LanguageModel:
    """Weights three times the usual: its ends come after a few frames, at another one for every seed."""
    torch.manual_seed(0)
    model = build_lm(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.mul_(3.0) if parameter.ndim > 1 else parameter.add_(0.1)
    return model
