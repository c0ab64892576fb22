"""The model of a configuration, new or from its file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from systems.checkpoints import Loaded, load
from systems.lm.backbone import LanguageModel
from systems.lm.config import LmConfig, LmKind
from systems.lm.models import HierarchicalLm
from systems.lm.multi_stream import MultiStreamLm
from systems.lm.multihead_delay import DelayMultiheadLm

FAMILIES: Mapping[LmKind, str] = {"multi_stream": "socodec_tts", "multihead": "qtts", "hierarchical": "qtts"}
"""Registry family of the systems that speak with a kind of model."""


def build_lm(config: LmConfig) -> LanguageModel:
    """A model with random weights, drawn from torch's generator."""
    if config.kind == "hierarchical":
        return HierarchicalLm(config)
    return DelayMultiheadLm(config) if config.kind == "multihead" else MultiStreamLm(config)


def load_lm(path: str | Path, kind: LmKind) -> Loaded[LanguageModel]:
    """Reads a model that `harness train` wrote.

    Its metadata say besides: "codec" (digest of the codec's weights whose codes it says), "front_end" (of the text), "training_data" ...

    Args:
        path: of the file.
        kind: that it must be of.

    Raises:
        FileNotFoundError: there is none.
        ValueError: no safetensors file, another kind, tensors missing, too many or of another shape, or not finite.
    """
    found = load(path, FAMILIES[kind], build_lm, LmConfig)
    if found.model.config.kind != kind:
        raise ValueError(f"{path} holds a language model of kind {found.model.config.kind!r}, asked was {kind!r}")
    return found
