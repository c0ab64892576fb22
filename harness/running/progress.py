"""What a run says while it goes on; on a terminal a bar while a stage runs, plain lines where there is none."""

from __future__ import annotations

import sys
import time
from types import TracebackType

LINE_EVERY_S = 5.0
"""The longest silence where there is no terminal, as far as somebody reports at all."""


class Progress:
    """Writes to standard error, so that tables on standard output can be piped."""

    def __init__(self) -> None:
        from rich import progress
        from rich.console import Console

        self._console = Console(file=sys.stderr)
        self._bar = progress.Progress(
            progress.TextColumn("{task.description:<28}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, visible=False)
        self._name, self._count = "", 0
        self._total: int | None = 0
        self._start = self._said = time.monotonic()

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def note(self, text: str) -> None:
        """A line of its own."""
        self._said = time.monotonic()
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def stage(self, name: str, total: int | None) -> None:
        """A new stage of ``total`` units; None where nobody knows how many."""
        self._name, self._total, self._count = name, total, 0
        self._start = time.monotonic()
        self._bar.reset(self._task, description=name, total=None if total is None else max(total, 1), visible=total != 0)
        if not self._console.is_terminal and self._start - self._said > LINE_EVERY_S:
            self.note(f"{name} ...")

    def advance(self, count: int = 1) -> None:
        """``count`` units are done."""
        self._count += count
        self._bar.advance(self._task, count)
        if not self._console.is_terminal and time.monotonic() - self._said > LINE_EVERY_S:
            self.note(f"{self._name}: {self._count}" + (f"/{self._total}" if self._total else ""))

    def done(self) -> None:
        """The stage is over."""
        self._bar.update(self._task, visible=False)
        if self._total:
            self.note(f"{self._name}: {self._count} in {time.monotonic() - self._start:.1f} s")
