"""The clock behind an `Observer`: stages of one call, moments in it, the work that was told of and the memory taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.api import Work


class StageClock:
    """Times what a system announces, with the device idle on both sides of every stage.

    Args:
        synchronise: waits for the device.
        now: clock.
    """

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
