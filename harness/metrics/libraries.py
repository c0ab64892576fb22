"""Names and versions of the outside libraries that make a number, for its signature."""

from __future__ import annotations

from functools import cache


@cache
def library(distribution: str) -> str:
    """``"name version"`` of an installed distribution, ``"name (not installed)"`` where it is missing. Imports nothing of it."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{distribution} {version(distribution)}"
    except PackageNotFoundError:
        return f"{distribution} (not installed)"
