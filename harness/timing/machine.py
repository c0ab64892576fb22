"""What the machine did while something was timed: the neighbours' load, compilations, peaks of memory, joules."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import util
from pathlib import Path

_STAT = Path("/proc/stat")
_BUSY = (0, 1, 2, 5, 6, 7)
"""Columns of /proc/stat that are no idling: user, nice, system, irq, softirq, and steal, which a neighbour on the same host takes."""


@dataclass(frozen=True)
class Conditions:
    """Of a measurement, for the record."""

    load_1min: float  # processes that wanted to run, when it ended
    cores: int  # that this process may use
    others: float  # cores used by other processes meanwhile, median over laps; NaN where the system does not tell


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
    """Cores that other processes used since the last look."""

    spent_s: Callable[[], float] = others_s  # cumulative core-seconds of the others
    now: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        self._spent, self._since = self.spent_s(), self.now()

    def look(self) -> float:
        """Cores; 0.0 at least, NaN where the system does not tell. Begins a new span."""
        spent, now = self.spent_s(), self.now()
        used, passed = spent - self._spent, now - self._since
        self._spent, self._since = spent, now
        return max(0.0, used / passed) if passed > 0 and not math.isnan(used) else math.nan


def compilations() -> int:
    """What torch.compile has begun to compile in this process so far; differences count: a call that compiles is not the one users repeat."""
    utils = sys.modules.get("torch._dynamo.utils")
    if utils is None:  # nobody has imported the compiler, so nothing was compiled
        return 0
    return int(utils.counters["frames"]["total"]) + int(utils.counters["stats"]["unique_graphs"])


_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def begin_peaks(device: str) -> None:
    """Forgets the peaks so far."""
    if _CLEAR.exists():
        with contextlib.suppress(PermissionError):  # some containers forbid it: the peak is then that of the process, an upper bound
            _CLEAR.write_text("5", encoding="ascii")  # resets the high-water mark of resident memory
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(torch.device(device))


def peaks(device: str) -> dict[str, float]:
    """The most memory at any moment since `begin_peaks`.

    ``memory.host_peak_bytes`` is resident memory of this process, where the system tells; ``memory.device_peak_bytes`` what torch has
    allocated on a device that is not the CPU.
    """
    found: dict[str, float] = {}
    if _STATUS.exists():
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                found["memory.host_peak_bytes"] = float(int(line.split()[1]) * 1024)
    if device.startswith("cuda"):
        import torch

        found["memory.device_peak_bytes"] = float(torch.cuda.max_memory_allocated(torch.device(device)))
    return found


_POWERCAP = Path("/sys/class/powercap")


def joules(device: str, powercap: Path = _POWERCAP) -> float:
    """Joules that the device, or the processors' packages, have used since some moment (differences count); NaN where nothing counts them.

    The counters are the machine's, not the process's: on a busy machine they hold the neighbours' share too.
    """
    if device.startswith("cuda"):
        return _nvml_joules(device)
    found = []
    for counter in powercap.glob("*:*/energy_uj"):
        if counter.parent.name.count(":") == 1:  # a package; its parts (cores, memory) are in it
            with contextlib.suppress(PermissionError):  # most systems show it to root alone
                found.append(float(counter.read_text(encoding="ascii")))
    return sum(found) / 1e6 if found else math.nan


def _nvml_joules(device: str) -> float:
    if util.find_spec("pynvml") is None:
        return math.nan
    import pynvml

    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(int(device.partition(":")[2] or 0))
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
    except pynvml.NVMLError:
        return math.nan  # older devices do not count
    finally:
        pynvml.nvmlShutdown()
