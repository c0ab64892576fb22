"""What else the machine was doing while something was timed."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_STAT = Path("/proc/stat")
_BUSY = (0, 1, 2, 5, 6, 7)
"""Columns of /proc/stat that are no idling: user, nice, system, irq, softirq, and steal, which a neighbour on the same host takes."""


@dataclass(frozen=True)
class Conditions:
    """Of a measurement, for the record.

    Args:
        load_1min: processes that wanted to run, when it ended.
        cores: that this process may use.
        others: cores used by other processes meanwhile, median over laps; NaN where the system does not tell.
    """

    load_1min: float
    cores: int
    others: float


def others_s(stat: Path = _STAT) -> float:
    """Core-seconds that everybody else has spent on our cores since some moment; NaN where the system does not tell (no Linux).

    Differences count. They are exact to about two ticks of 10 ms, so spans should be some tenths of a second.
    """
    busy = _busy_s(stat)
    children = os.times()
    return busy - time.process_time() - children.children_user - children.children_system


def _busy_s(stat: Path) -> float:
    if not stat.exists():
        return math.nan
    ours = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    ticks = 0
    for line in stat.read_text(encoding="ascii").splitlines():
        name, *values = line.split()
        if name in ours:
            ticks += sum(int(values[column]) for column in _BUSY if column < len(values))
    return ticks / os.sysconf("SC_CLK_TCK")


@dataclass
class Neighbours:
    """Cores that other processes used since the last look.

    Args:
        spent_s: cumulative core-seconds of the others.
        now: clock.
    """

    spent_s: Callable[[], float] = others_s
    now: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        self._spent, self._since = self.spent_s(), self.now()

    def look(self) -> float:
        """Cores; 0.0 at least, NaN where the system does not tell. Begins a new span."""
        spent, now = self.spent_s(), self.now()
        used, passed = spent - self._spent, now - self._since
        self._spent, self._since = spent, now
        return max(0.0, used / passed) if passed > 0 and not math.isnan(used) else math.nan
