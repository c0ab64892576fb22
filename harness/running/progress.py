"""What a run says while it goes on; on a terminal a bar while a stage runs, plain lines where there is none."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from harness.errors import HarnessError

if TYPE_CHECKING:
    from rich.console import Console

LINE_EVERY_S = 4.0
"""After so long a silence a line says what is being done, where there is no terminal on which a bar moves."""
SURE = 0.05
"""Share of a stage that has to be done before its own pace says how long the rest will take."""
NEARLY = 0.8
"""Share of a stage after which nothing is shown that the end will show."""
FIGURES_AFTER_S = 15.0
"""Figures so far are shown when scoring has gone on for so long, and again each time that the time has doubled."""


class Progress:
    """Writes to standard error, so that tables on standard output can be piped.

    Args:
        show: prints the figures of a run folder that is not complete, with the given heading, to a console.
        meanwhile: is called once in a thread of its own when there is nothing to do but to wait for others: it may import what the end wants.
    """

    def __init__(self, show: Callable[[Path, str, Console], None] | None = None, meanwhile: Callable[[], object] | None = None) -> None:
        from rich import progress
        from rich.console import Console

        self._show, self._meanwhile = show, meanwhile
        self._console = Console(file=sys.stderr)
        self._bar = progress.Progress(
            progress.TextColumn("{task.description:<28}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("{task.fields[left]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, visible=False, left="")
        self._name, self._count, self._loading = "", 0, ""
        self._total: int | None = 0
        self._expected: dict[str, float] = {}  # of this stage and later ones, in seconds
        self._passed_s = 0.0  # of what this stage was expected to take
        self._start = self._said = time.monotonic()
        self._due_s = FIGURES_AFTER_S
        self._ended = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> Progress:
        self._bar.start()
        threading.Thread(target=self._never_silent, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._name = ""
        self._bar.stop()

    def note(self, text: str) -> None:
        """A line of its own."""
        with self._lock:
            self._said = time.monotonic()
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def expect(self, seconds: Mapping[str, float]) -> None:
        """How long the stages to come should take, by name; once known better, again."""
        self._expected.update(seconds)

    def stage(self, name: str, total: int | None) -> None:
        """A new stage of ``total`` units; None where nobody knows how many."""
        self._expected.pop(self._name, None)
        self._name, self._total, self._count, self._loading, self._passed_s = name, total, 0, "", 0.0
        self._start, self._due_s = time.monotonic(), FIGURES_AFTER_S
        self._bar.reset(self._task, description=name, total=None if total is None else max(total, 1), visible=total != 0, left=self._left())

    def waiting(self) -> None:
        """From now on others work."""
        if self._meanwhile is not None:
            threading.Thread(target=self._meanwhile, daemon=True).start()
            self._meanwhile = None

    def loading(self, what: str) -> None:
        """What somebody is loading."""
        self._loading = what
        self._bar.update(self._task, description=f"loading {what}")

    def advance(self, count: int = 1, seconds: float = 0.0) -> None:
        """``count`` units are done, which were expected to take so long."""
        self._count, self._loading = self._count + count, ""
        self._passed_s += seconds
        self._bar.update(self._task, advance=count, left=self._left())
        self._speak()

    @property
    def name(self) -> str:
        """The stage that goes on, "" between two."""
        return self._name

    def ahead(self, stage: str, seconds: float) -> None:
        """Of a later stage something was done already that was expected to take so long."""
        self._expected[stage] = max(self._expected.get(stage, 0.0) - seconds, 0.0)

    def done(self) -> None:
        """The stage is over."""
        self._bar.update(self._task, visible=False)
        if self._total:
            self.note(f"{self._name}: {self._count} in {time.monotonic() - self._start:.1f} s")
        self._expected.pop(self._name, None)
        self._name = ""

    @property
    def wants_figures(self) -> bool:
        """Whether the stage has gone on for so long that somebody wants to see what there is so far."""
        soon = self._total is not None and self._count > NEARLY * self._total
        return self._show is not None and not soon and time.monotonic() - self._start > self._due_s

    def figures(self, folder: Path, heading: str) -> None:
        """Shows what is in a run folder so far."""
        if self._show is not None:
            try:
                self._show(folder, f"{heading}{f' ({left})' if (left := self._left()) else ''}", self._console)
            except HarnessError as error:  # the run goes on: what it comes to may well be shown
                self.note(f"{heading}: no figures yet ({error})")
        self._said = time.monotonic()
        self._due_s = 2 * (self._said - self._start)

    def _left(self) -> str:
        """``about 1 min 10 s left``, "" where nothing is known."""
        if not self._expected:
            return ""
        whole, elapsed = self._expected.get(self._name, 0.0), time.monotonic() - self._start
        share = self._passed_s / whole if whole > 0 else 0.0
        if self._total and share > NEARLY:  # where more was expected of the beginning than of the end, what is counted is the safer guess
            share = min(share, self._count / self._total)
        rest = elapsed * (1 - share) / share if share > SURE else max(whole - elapsed, 0.0)
        later = sum(seconds for name, seconds in self._expected.items() if name != self._name)
        return f"about {spoken(max(rest, 0.0) + later)} left"

    def _never_silent(self) -> None:
        while not self._ended.wait(0.5):
            self._bar.update(self._task, left=self._left())
            self._speak()

    def _speak(self) -> None:
        if self._console.is_terminal or not self._name or time.monotonic() - self._said <= LINE_EVERY_S:
            return
        counted = f": {self._count}/{self._total}" if self._total else f": {self._count}" if self._count else " ..."
        what = f" (loading {self._loading})" if self._loading else ""
        self.note(f"{self._name}{counted}{what}{f', {left}' if (left := self._left()) else ''}")


def spoken(seconds: float) -> str:
    """``8 s``, ``1 min 50 s``, ``3 h 5 min``."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    if seconds < 3600:
        minutes, rest = divmod(round(seconds / 5) * 5, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, rest = divmod(round(seconds / 60), 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"
