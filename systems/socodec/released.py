"""SoCodec from a file: one of `harness train`, or one that the paper's authors released (hhguo/SoCodec)."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from systems.checkpoints import Loaded, Stored, digest, fill, loaded, read
from systems.socodec.config import SocodecConfig
from systems.socodec.model import SocodecModel

_QUANTIZER = "quantizer.quantizers.0."
_LEARNING_STATE = (".inited", ".cluster_size", ".embed_avg")
_EXTRACTOR = "ssl_extractor."


def load_socodec(path: str | Path, released: SocodecConfig | None = None) -> Loaded[SocodecModel]:
    """Reads either kind of file.

    A released file tells no configuration; what it holds besides (HuBERT, averages of the codebooks) is passed over.

    Args:
        path: of the file.
        released: the shape to expect of a file in the released layout; without, such a file is refused.

    Raises:
        FileNotFoundError: there is none.
        ValueError: no safetensors file, not of SoCodec, tensors missing, too many or of another shape, or not finite.
    """
    stored = read(path, "socodec")
    if released is None or "family" in stored.metadata or not any(name.startswith(_QUANTIZER) for name in stored.tensors):
        return loaded(stored, "socodec", SocodecModel, SocodecConfig)
    return _of_release(stored, released)


def _of_release(stored: Stored, config: SocodecConfig) -> Loaded[SocodecModel]:
    beside = {name for name in stored.tensors if name.startswith(_EXTRACTOR) or name.endswith(_LEARNING_STATE)}
    stored = replace(stored, tensors={name: tensor for name, tensor in stored.tensors.items() if name not in beside})
    model = SocodecModel(config)
    fill(model, stored, lambda name: released_name(name, len(config.sizes)))
    return Loaded(model.eval().requires_grad_(False), stored.metadata, digest(stored.tensors))


def released_name(name: str, codebooks: int) -> str:
    """What the release calls our tensor ``name``, with so many ``codebooks`` in a stream; only the quantizer's differ."""
    entries = re.fullmatch(r"quantizer\.streams\.(\d+)\.codebooks\.(\d+)\.entries", name)
    if entries:
        return f"{_QUANTIZER}_codebook.codebooks.{int(entries[1]) * codebooks + int(entries[2])}.embed"
    return re.sub(r"^quantizer\.(?=project_)", _QUANTIZER, name)
