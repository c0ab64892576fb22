"""SoCodec from a file: one of `harness train`, or one that the paper's authors released (hhguo/SoCodec)."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from systems.checkpoints import Loaded, Stored, digest, fill, loaded, read
from systems.socodec.config import FRAMES_MS, SocodecConfig, socodec_config
from systems.socodec.model import SocodecModel

_QUANTIZER = "quantizer.quantizers.0."
_LEARNING_STATE = (".inited", ".cluster_size", ".embed_avg")
_CODEBOOK = re.escape(f"{_QUANTIZER}_codebook.codebooks.") + r"\d+\.embed"
_EXTRACTOR = "ssl_extractor."


def load_socodec(path: str | Path) -> Loaded[SocodecModel]:
    """Reads either kind of file.

    A released file tells no configuration: it is of the paper's size, and its codebooks say how many streams it has and so its frames.
    What it holds besides (HuBERT, averages of the codebooks) is passed over. Its metadata are empty.

    Raises:
        FileNotFoundError: there is none.
        ValueError: no safetensors file, not of SoCodec, tensors missing, too many or of another shape, or not finite.
    """
    stored = read(path, "socodec")
    if "family" in stored.metadata or not any(name.startswith(_QUANTIZER) for name in stored.tensors):
        return loaded(stored, "socodec", SocodecModel, SocodecConfig)
    return _of_release(stored)


def _of_release(stored: Stored) -> Loaded[SocodecModel]:
    codebooks = sum(bool(re.fullmatch(_CODEBOOK, name)) for name in stored.tensors)
    frames = {len(config.sizes) * config.num_streams: config for config in (socodec_config("paper", ms) for ms in FRAMES_MS)}
    if codebooks not in frames:
        raise ValueError(f"{stored.source} holds {codebooks} codebooks; the released SoCodecs have {', '.join(map(str, frames))}")
    config = frames[codebooks]
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
