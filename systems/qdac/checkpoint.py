"""QDAC's weights as safetensors: what is stored, and how it is read back without trusting it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from systems.qdac.config import QdacConfig
from systems.qdac.model import QdacModel
from systems.quantizers.codebook import Codebook

_LEARNING_STATE = (".usage", ".started", ".calls")


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
    return {
        name: tensor.detach().to("cpu", dtype).contiguous().clone()
        for name, tensor in model.state_dict().items()
        if not name.endswith(_LEARNING_STATE)
    }


def load(path: str | Path) -> Loaded:
    """Reads a checkpoint that `exported` made.

    Raises:
        FileNotFoundError: there is none.
        ValueError: no safetensors file, not of QDAC, tensors missing, too many or of another shape, or not finite.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no QDAC checkpoint at {path}")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise ValueError(f"{path} is no readable safetensors file: {error}") from error
    if metadata.get("family") != "qdac" or "config" not in metadata:
        raise ValueError(f"{path} holds no QDAC model: its metadata says family={metadata.get('family')!r}")
    model = QdacModel(QdacConfig.from_dict(json.loads(metadata["config"])))
    _fill(model, tensors, str(path))
    return Loaded(model.eval().requires_grad_(False), metadata, digest(tensors))


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Content hash (32 hex digits) of names, shapes, types and bytes."""
    h = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        h.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        h.update(tensor.view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return h.hexdigest()


def _fill(model: QdacModel, tensors: Mapping[str, Tensor], source: str) -> None:
    wanted = {name: t.shape for name, t in model.state_dict().items() if not name.endswith(_LEARNING_STATE)}
    missing, extra = sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted))
    shaped = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(shape)}"
        for name, shape in wanted.items()
        if name in tensors and tensors[name].shape != shape
    ]
    faults = [f"{what}: {_some(names)}" for what, names in (("missing", missing), ("unexpected", extra), ("misshapen", shaped)) if names]
    if faults:
        raise ValueError(f"{source} does not fit its configuration; {'; '.join(faults)}")
    broken = sorted(name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all()))
    if broken:
        raise ValueError(f"{source} holds numbers that are not finite in {_some(broken)}")
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, strict=False)
    for codebook in model.quantizer.codebooks:
        assert isinstance(codebook, Codebook)
        codebook.started.fill_(True)


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
