"""Plain loops in machine code."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` by numba, compiled at its first call and kept on disk where a place can be written."""
    from numba import njit

    made: Callable[..., Any]
    try:
        made = njit(cache=True)(function)
    except RuntimeError:  # numba found no writable place for its cache: every process then compiles for itself, a few seconds
        made = njit(cache=False)(function)
    return made
