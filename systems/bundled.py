"""Weights that come with the package, found by name; knows no torch, so that whoever only lists systems may ask."""

from __future__ import annotations

import os
from pathlib import Path

_WEIGHTS = Path(__file__).parent / "weights"
_ENDING = "_small.safetensors"  # of the small size all are: they were trained on two CPU cores


def bundled() -> dict[str, Path]:
    """Every bundled checkpoint: its file by its name, "qdac16"."""
    return {path.name.removesuffix(_ENDING): path for path in sorted(_WEIGHTS.rglob(f"*{_ENDING}"))}


def located(checkpoint: str | Path) -> Path:
    """The file that is meant.

    ```python
    located("qdac16")                      # the bundled one of this name
    located("runs/mine/model.safetensors")  # a file (or folder) of one's own
    ```

    Args:
        checkpoint: a bundled name, or a path: whatever has a folder or an ending in it, or exists.

    Raises:
        FileNotFoundError: no such name, or nothing at this path.
    """
    path, name = Path(checkpoint), os.fspath(checkpoint)
    if path.exists():
        return path
    if path.name != name or path.suffix:
        raise FileNotFoundError(f"no checkpoint at {path}")
    known = bundled()
    if name not in known:
        raise FileNotFoundError(f"no checkpoint {name!r} is bundled, and no file is called so; bundled are {', '.join(known)}")
    return known[name]


def metadata_of(path: Path) -> dict[str, str]:
    """What a safetensors file says of itself; nothing where there is none that can be read (whoever loads it will say more)."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return {}
    try:
        with safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, ValueError):
        return {}
