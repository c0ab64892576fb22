"""What executors with workers of their own share: handing out jobs, limits of time, and knowing which step a dead worker had in hand."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from harness.errors import HarnessError
from harness.workers.jobs import Broken, Event, Job, Resources, Stop

START_S = 300.0
"""At least so long may a worker elsewhere take to its first answer: a machine of the cluster may have to be started for it."""


@dataclass(kw_only=True, eq=False)
class Slot:
    """A worker and what it has in hand."""

    job: Job | None = None  # None while idle
    position: int = -1  # of the step in flight; -1 while beginning, the number of steps while ending
    since: float = field(default_factory=time.monotonic)  # when it last said something or was given something
    ready: bool = True  # takes jobs; a replacement may have to wait for a place to be
    loading: str = ""  # what it said it was loading, while it begins


S = TypeVar("S", bound=Slot)


class Supervisor(ABC, Generic[S]):
    """Runs jobs on workers that may die, hang or be killed; a subclass says what a worker is."""

    def __init__(self, resources: Resources, stop: Stop) -> None:
        self._resources, self._stop = resources, stop
        self._slots: list[S] = [self._start() for _ in range(resources.workers)]

    @property
    def size(self) -> int:
        """Number of workers."""
        return len(self._slots)

    def run(self, jobs: Iterable[Job]) -> Iterator[Event]:
        """Yields an event per step, in the order they end.

        Raises:
            Interrupted: a stop was asked for; steps in flight have ended and were yielded.
            HarnessError: a worker met an error that concerns the whole run (disk full, missing judge), or none is left.
        """
        queue = deque(jobs)
        while True:
            for slot in self._slots:
                if slot.job is None and slot.ready and queue and not self._stop.requested:
                    slot.job, slot.position, slot.since = queue.popleft(), -1, time.monotonic()
                    self._submit(slot)
            busy = [slot for slot in self._slots if slot.job is not None]
            if not busy and (not queue or self._stop.requested):
                self._stop.check()
                return
            awaited = busy + [slot for slot in self._slots if not slot.ready]
            answered = self._wait(awaited)
            for slot in awaited:
                if slot in answered:
                    yield from self._hear(slot, queue)
                if slot not in self._slots or (slot.ready and slot.job is None):
                    continue  # replaced, or done
                if not slot.ready:
                    if not busy and time.monotonic() - slot.since > START_S:
                        raise HarnessError(
                            f"no worker is left, and none could be started within {START_S:g} s; what was finished is stored, "
                            "the same command continues"
                        )
                elif time.monotonic() - slot.since > self._limit_s(slot):
                    yield from self._lost(slot, queue, "timeout", f"no result after {self._limit_s(slot):g} s")

    @abstractmethod
    def _start(self) -> S:
        """A new worker."""

    def _replacement(self) -> S:
        """A new worker in the place of a lost one."""
        return self._start()

    @abstractmethod
    def _submit(self, slot: S) -> None:
        """Hands the worker its job."""

    @abstractmethod
    def _wait(self, busy: Sequence[S]) -> Sequence[S]:
        """Those that said something or died, after a heartbeat at the latest."""

    @abstractmethod
    def _hear(self, slot: S, queue: deque[Job]) -> Iterator[Event]:
        """What the worker said; one that is not ready says that it is."""

    @abstractmethod
    def _end(self, slot: S) -> None:
        """Ends a worker by force."""

    def _limit_s(self, slot: S) -> float:
        return self._resources.timeout_s * (10 if slot.position < 0 else 1)

    def _lost(self, slot: S, queue: deque[Job], kind: str, reason: str) -> Iterator[Event]:
        """Blames the step in flight, puts the rest of the job first in the queue and replaces the worker."""
        job = slot.job
        assert job is not None
        self._end(slot)
        if slot.position < 0:
            yield Broken(job, None, kind, f"{reason} while {f'loading {slot.loading}' if slot.loading else f'beginning {job.name}'}")
        elif slot.position < len(job.steps):
            if rest := job.steps[slot.position + 1 :]:
                queue.appendleft(replace(job, steps=rest))
            yield Broken(job, job.steps[slot.position], kind, reason)
        self._slots[self._slots.index(slot)] = self._replacement()
