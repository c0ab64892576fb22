"""Timing: one clock, device synchronised on both sides, repeated until the median is known or the time is up.

What a lap is not: the first call (it compiles, allocates, loads lazily) and the warm-ups, which are timed apart and listed; a call that
compiled something; a call whose work went on after the declared device was idle; a call beside a busy neighbour.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np

from harness.api import TimingPlan, Work
from harness.timing.machine import Conditions, Neighbours, compilations

T = TypeVar("T")
FEWEST = 5
"""Clean laps without which there is no number."""
_ROUND_S = 0.3  # other processes' use of the cores is looked at over spans of this length; their ticks are 10 ms
_LATE_S, _LATE_SHARE = 1e-3, 0.05  # work after the device is idle that is more than measuring costs
_MOST = 2000


@dataclass(frozen=True)
class Timed(Generic[T]):
    """A result and the wall seconds it took."""

    result: T
    wall_s: float


def timed(call: Callable[[], T], device: str) -> Timed[T]:
    """Runs ``call`` between two synchronisations of ``device`` ("cpu", "cuda:0" ...); monotonic, immune to clock jumps."""
    synchronise(device)
    start = time.perf_counter()
    result = call()
    synchronise(device)
    return Timed(result, time.perf_counter() - start)


def synchronise(device: str) -> None:
    """Waits until the device has finished what was queued; nothing to do on the CPU."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(torch.device(device))


def synchronise_all() -> None:
    """Waits for every device that torch has woken up, declared or not."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        for number in range(torch.cuda.device_count()):
            torch.cuda.synchronize(number)


@dataclass(frozen=True)
class Instruments:
    """What is looked at during a measurement; tests put their own in."""

    synchronise: Callable[[str], None] = synchronise  # waits for a device by its name
    synchronise_all: Callable[[], None] = synchronise_all  # waits for whatever is still at work anywhere
    neighbours: Callable[[], Neighbours] = Neighbours  # starts counting the cores that others use
    compilations: Callable[[], int] = compilations  # so far
    now: Callable[[], float] = time.perf_counter  # only goes forward


@dataclass(frozen=True)
class Lap:
    """One timed call."""

    wall_s: float  # from one idle device to the next
    cpu_s: float = 0.0  # processor time of this process, all threads
    late_s: float = 0.0  # how long work went on after the declared device was idle
    compiled: int = 0  # what was compiled during the call
    others: float = 0.0  # cores used by other processes around it; NaN where the system does not tell
    figures: Mapping[str, float] = field(default_factory=dict)  # what the call itself measured


@dataclass(frozen=True)
class Measured(Generic[T]):
    """A call that was timed again and again."""

    result: T  # of the last lap
    first_s: float  # the first call of all
    warmups_s: tuple[float, ...]  # the untimed calls after it
    laps: tuple[Lap, ...]  # in order, clean or not
    others_allowed: float  # cores that neighbours may use beside a clean lap
    conditions: Conditions  # of the machine

    @property
    def clean(self) -> tuple[Lap, ...]:
        """Laps without a busy neighbour; where the system does not tell of neighbours, all."""
        return tuple(lap for lap in self.laps if not lap.others > self.others_allowed)

    @property
    def refusal(self) -> str:
        """Why there is no number, or ""."""
        if compiled := sum(lap.compiled > 0 for lap in self.laps):
            return (
                f"something was compiled inside the timed call in {compiled} of {len(self.laps)} laps: warm up with the same shapes first"
            )
        # The median: between two looks at the clock a busy machine may well do something else now and then.
        late_s = statistics.median(lap.late_s for lap in self.laps)
        if late_s > max(_LATE_S, _LATE_SHARE * statistics.median(lap.wall_s for lap in self.laps)):
            return (
                f"work went on for {1e3 * late_s:.3g} ms after the declared device was idle: the system runs on another device than it says"
            )
        if len(self.clean) < FEWEST:
            return (
                f"only {len(self.clean)} of {len(self.laps)} laps were undisturbed, {FEWEST} are wanted: other processes used "
                f"{self.conditions.others:.2f} of {self.conditions.cores} cores (allowed {self.others_allowed:g}), load "
                f"{self.conditions.load_1min:.1f}; repeat on a quiet machine"
            )
        return ""

    @property
    def median_s(self) -> float:
        """Of the clean laps. Raises ValueError: there is no number; see `refusal`."""
        if self.refusal:
            raise ValueError(self.refusal)
        return statistics.median(lap.wall_s for lap in self.clean)

    def figure(self, name: str) -> float:
        """Median of a figure of the clean laps. Raises ValueError: there is no number, or no clean lap has this figure."""
        if self.refusal:
            raise ValueError(self.refusal)
        found = [lap.figures[name] for lap in self.clean if name in lap.figures]
        if not found:
            raise ValueError(f"no lap has a figure '{name}'")
        return statistics.median(found)

    def summary(self) -> dict[str, float]:
        """Laps, spread and conditions as plain numbers, with those percentiles that the laps allow."""
        found = {
            "laps": float(len(self.laps)),
            "clean": float(len(self.clean)),
            "first_s": self.first_s,
            "warmup_s": sum(self.warmups_s),
            "warmups": float(len(self.warmups_s)),
            "load_1min": self.conditions.load_1min,
            "others": self.conditions.others,
        }
        if not self.refusal:
            walls = [lap.wall_s for lap in self.clean]
            found |= {"median_s": self.median_s, "iqr_s": percentile(walls, 0.75) - percentile(walls, 0.25)}
            found |= {"cpu_s": statistics.median(lap.cpu_s for lap in self.clean)}
            found |= {f"p{100 * share:.0f}_s": percentile(walls, share) for share in (0.9, 0.95, 0.99) if len(walls) >= wanted(share)}
            if (interval := median_interval(walls)) is not None:  # None from fewer than six clean laps
                found |= {"low_s": interval[0], "high_s": interval[1]}
        return {name: value for name, value in found.items() if math.isfinite(value)}


def measure(
    call: Callable[[], T],
    device: str = "cpu",
    plan: TimingPlan | None = None,
    figures: Callable[[T], Mapping[str, float]] | None = None,
    instruments: Instruments | None = None,
) -> Measured[T]:
    """Times ``call`` until the 95 % interval of its median is narrow or the budget ends.

    Every call is the same work; ``figures`` are what a result says of its own lap, ``instruments`` other ones than the machine's.
    """
    plan, tools = plan or TimingPlan(), instruments or Instruments()
    first = _lap(call, device, tools)[1]
    warmups = tuple(_lap(call, device, tools)[1].wall_s for _ in range(plan.warmups))
    laps: list[Lap] = []
    begun = tools.now()
    while True:
        around: list[Lap] = []
        neighbours = tools.neighbours()
        round_from = tools.now()
        while not around or (tools.now() - round_from < _ROUND_S and len(laps) + len(around) < _MOST):
            result, lap = _lap(call, device, tools)
            around.append(replace(lap, figures=dict(figures(result))) if figures is not None else lap)
        others = neighbours.look()
        laps += [replace(lap, others=others) for lap in around]
        if _enough(laps, plan, tools.now() - begun):
            break
    conditions = Conditions(os.getloadavg()[0], len(os.sched_getaffinity(0)), statistics.median(lap.others for lap in laps))
    return Measured(result, first.wall_s, warmups, tuple(laps), plan.others, conditions)


def _lap(call: Callable[[], T], device: str, tools: Instruments) -> tuple[T, Lap]:
    tools.synchronise(device)
    compiled, used, start = tools.compilations(), time.process_time(), tools.now()
    result = call()
    tools.synchronise(device)
    end, spent = tools.now(), time.process_time() - used
    tools.synchronise_all()
    late = tools.now() - end
    return result, Lap(end - start, spent, late, tools.compilations() - compiled)


def _enough(laps: Sequence[Lap], plan: TimingPlan, elapsed_s: float) -> bool:
    if any(lap.compiled for lap in laps) or len(laps) >= _MOST:
        return True
    if elapsed_s > plan.budget_s and len(laps) >= FEWEST:
        return True
    walls = [lap.wall_s for lap in laps if not lap.others > plan.others]
    interval = median_interval(walls) if len(walls) >= plan.least else None
    return interval is not None and interval[1] - interval[0] <= plan.width * statistics.median(walls)


class StageClock:
    """The clock behind an `Observer`: times what a system announces of one call, with the device idle on both sides of every stage."""

    def __init__(self, synchronise: Callable[[], None], now: Callable[[], float] = time.perf_counter) -> None:
        self._synchronise, self._now = synchronise, now
        self._start = now()
        self.stages_s: dict[str, float] = {}
        self.events_s: dict[str, float] = {}
        self.works: dict[str, Work] = {}
        self.memory_bytes: dict[str, int] = {}

    def begin(self) -> None:
        """The request is made now."""
        self._synchronise()
        self._start = self._now()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """See `harness.api.Observer`; stages of one name add up."""
        self._synchronise()
        start = self._now()
        yield
        self._synchronise()
        self.stages_s[name] = self.stages_s.get(name, 0.0) + self._now() - start

    def event(self, name: str) -> None:
        """See `harness.api.Observer`; the first of a name counts."""
        if name not in self.events_s:
            self._synchronise()
            self.events_s[name] = self._now() - self._start

    def work(self, stage: str, work: Work) -> None:
        """See `harness.api.Observer`."""
        before = self.works.get(stage, Work())
        self.works[stage] = Work(before.weight_bytes + work.weight_bytes, before.cache_bytes + work.cache_bytes, before.flops + work.flops)

    def memory(self, name: str, num_bytes: int) -> None:
        """See `harness.api.Observer`; the most of a name counts."""
        self.memory_bytes[name] = max(num_bytes, self.memory_bytes.get(name, 0))


def wanted(share: float) -> int:
    """Laps that a percentile takes.

    p99 wants 459, after which one lap at least lies beyond it with 99 % certainty; p95 and p90 want 20 and 10, one beyond them on average.
    """
    if share <= 0.75:
        return 1
    return 459 if share >= 0.99 else math.ceil(round(1.0 / (1.0 - share), 6))


def percentile(values: Sequence[float], share: float) -> float:
    """Linear between neighbours, as numpy's. Raises ValueError: too few values for it, see `wanted`."""
    if len(values) < wanted(share):
        raise ValueError(f"p{100 * share:g} wants {wanted(share)} values, there are {len(values)}")
    return float(np.quantile(values, share))


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of the median by order statistics (binomial, no assumption on the distribution); None from fewer than six values."""
    ordered, n = sorted(values), len(values)
    tail, rank = 0.0, 0
    while rank < n // 2:
        tail += math.exp(math.lgamma(n + 1) - math.lgamma(rank + 1) - math.lgamma(n - rank + 1) - n * math.log(2))
        if tail > 0.025:
            break
        rank += 1
    return (ordered[rank - 1], ordered[n - rank]) if rank else None
