"""The model of a configuration."""

from __future__ import annotations

from systems.lm.backbone import LanguageModel
from systems.lm.config import LmConfig
from systems.lm.hierarchical import HierarchicalLm
from systems.lm.multi_stream import MultiStreamLm
from systems.lm.multihead_delay import DelayMultiheadLm


def build_lm(config: LmConfig) -> LanguageModel:
    """A model with random weights, drawn from torch's generator."""
    if config.kind == "hierarchical":
        return HierarchicalLm(config)
    return DelayMultiheadLm(config) if config.kind == "multihead" else MultiStreamLm(config)
