"""Weights that come with the package, found by name; knows no torch, so that whoever only lists systems may ask."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

_WEIGHTS = Path(__file__).parent / "weights"
_ENDING = "_small.safetensors"  # of the small size all are: they were trained on two CPU cores


def bundled() -> dict[str, Path]:
    """Every bundled checkpoint: its file by its name, "qdac16"."""
    return dict(sorted((path.name.removesuffix(_ENDING), path) for path in _WEIGHTS.rglob(f"*{_ENDING}")))


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
    if path.is_file() or path.is_dir():  # nothing that a reader would wait at, such as a pipe
        return path
    if path.name != name or path.suffix:
        raise FileNotFoundError(f"no checkpoint at {path}; one is made by harness train")
    known = bundled()
    if name not in known:
        near = get_close_matches(name, known, n=3, cutoff=0.0)
        raise FileNotFoundError(
            f"no checkpoint {name!r} comes with the package: harness train system={name} data=MANIFEST makes one, whose file is then given; "
            f"bundled are {', '.join(near)} and {len(known) - len(near)} more"
        )
    return known[name]


def lacking(files: Mapping[str, str | Path | None], weights: str, shape: object = None, where: str = "harness train") -> str | None:
    """Why a model cannot be had from these files, or None.

    Args:
        files: by parameter: bundled names or paths, None where nobody named one.
        weights: "trained", or "random", which needs one file or a shape for its shape alone.
        shape: of random weights.
        where: files come from that are not bundled.

    Raises:
        ValueError: weights that are neither.
    """
    if weights not in ("trained", "random"):
        raise ValueError(f'weights is "trained" or "random", got {weights!r}')
    if weights == "random" and shape is not None:
        return None
    if unnamed := [f"{name}=" for name, file in files.items() if file is None]:
        return f"no weights of it are bundled: give {', '.join(unnamed)} (from {where}), or weights=random to measure speed only"
    try:
        for file in files.values():
            located(file or "")
    except FileNotFoundError as problem:
        return str(problem)
    return None


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


def some(names: Sequence[str], most: int = 5) -> str:
    """The first of many names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
