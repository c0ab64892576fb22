"""What is printed to a console of some encoding and width, and a progress that prints nothing."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

NASTY = "a|b_$100%&#{x}~^\\[c]*`</script><b onclick=x>\x1b[31m\u202e é"
"""A name that every format might trip over."""


def printed(show: Callable[[Console], None], encoding: str = "utf-8", width: int = 100, terminal: bool = False) -> str:
    """What ``show`` prints; an error where the encoding cannot hold it."""
    from rich.console import Console

    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    show(Console(file=stream, width=width, color_system=None, force_terminal=terminal))
    stream.flush()
    return stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]


class Silent:
    """Takes the place of `harness.running.progress.Progress`."""

    wants_figures, name = False, ""

    def note(self, text): ...
    def expect(self, seconds): ...
    def stage(self, name, total): ...
    def waiting(self): ...
    def loading(self, what): ...
    def ahead(self, stage, seconds): ...
    def advance(self, count=1, seconds=0.0): ...
    def done(self): ...
