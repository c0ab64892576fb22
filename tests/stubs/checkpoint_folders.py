"""Folders of checkpoints copied, their weights damaged, and small ONNX files written by hand, as onnx is no dependency."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any


def copy(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))


def damage(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Rewrites a weight file with its state changed."""
    import torch
    from safetensors.torch import load_file, save_file

    safe = path.suffix == ".safetensors"
    state = load_file(path) if safe else torch.load(path, weights_only=True)
    change(state)
    save_file(state, path, metadata={"format": "pt"}) if safe else torch.save(state, path)


def without_first(state: dict[str, Any]) -> None:
    del state[min(k for k, v in state.items() if v.ndim > 1)]


def field(number: int, value: int | bytes | str | float) -> bytes:
    """One protobuf field: varint for int, fixed32 for float, length-delimited otherwise."""

    def varint(n: int) -> bytes:
        out = bytearray()
        while n > 127:
            out.append(n & 127 | 128)
            n >>= 7
        return bytes([*out, n])

    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def onnx_of_wave(kind: str) -> bytes:
    """A model of a waveform ``[B, N]``: "mean" gives its mean over time ``[B, 1]``, "same" the waveform itself."""

    def value_info(name: str, *dims: int | str) -> bytes:
        shape = b"".join(field(1, field(1, d) if isinstance(d, int) else field(2, d)) for d in dims)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))

    attributes = field(5, field(1, "axes") + field(8, 1) + field(20, 7)) if kind == "mean" else b""
    operator = {"mean": "ReduceMean", "same": "Identity"}[kind]
    node = field(1, field(1, "audio_input") + field(2, "mos_output") + field(4, operator) + attributes)
    ends = field(11, value_info("audio_input", "B", "N")) + field(12, value_info("mos_output", "B", 1 if kind == "mean" else "N"))
    return field(1, 8) + field(7, node + field(2, "scores") + ends) + field(8, field(1, "") + field(2, 13))
