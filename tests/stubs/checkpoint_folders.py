"""Folders of checkpoints copied, and their weights damaged."""

from __future__ import annotations

import shutil
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
