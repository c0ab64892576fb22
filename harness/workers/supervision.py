"""Supervision of workers that may die, hang or be killed: who has which step in hand, and what becomes of it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from harness.errors import HarnessError
from harness.workers.jobs import Broken, Event, Executor, Job, Resources, Stop

IDLE_S = 0.05
"""Between two looks for a job where nobody has one."""
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
        self._resources, self.stop = resources, stop
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
        yield from side_by_side([(self, jobs)])

    def hand_out(self, queue: Queue) -> None:
        """Gives every idle worker a job, as far as there are any."""
        for slot in self._slots:
            if slot.job is None and slot.ready and not self.stop.requested and (job := queue.next()) is not None:
                slot.job, slot.position, slot.since = job, -1, time.monotonic()
                self._submit(slot)

    @property
    def busy(self) -> list[S]:
        """Workers that have a job in hand."""
        return [slot for slot in self._slots if slot.job is not None]

    @property
    def awaited(self) -> list[S]:
        """Workers that will say something."""
        return [slot for slot in self._slots if slot.job is not None or not slot.ready]

    def attend(self, slot: S, queue: Queue, *, answered: bool, waiting: bool) -> Iterator[Event]:
        """Hears a worker out that answered, and looks whether its time is over. ``waiting``: nobody has anything in hand."""
        if answered:
            yield from self._hear(slot, queue.returned)
        if slot not in self._slots or (slot.ready and slot.job is None):
            return  # replaced, or done
        if not slot.ready:
            if waiting and time.monotonic() - slot.since > START_S:
                raise HarnessError(
                    f"no worker is left, and none could be started within {START_S:g} s; what was finished is stored, "
                    "the same command continues"
                )
        elif time.monotonic() - slot.since > self._limit_s(slot):
            yield from self._lost(slot, queue.returned, "timeout", f"no result after {self._limit_s(slot):g} s")

    @abstractmethod
    def close(self) -> None:
        """Ends the workers."""

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
    def wait(self, awaited: Sequence[S]) -> Sequence[S]:
        """Those (of this supervisor or another of its kind) that said something or died, after a heartbeat at the latest."""

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


class Queue:
    """Jobs to hand out: those of lost workers first, then what comes."""

    def __init__(self, jobs: Iterable[Job | None]) -> None:
        self.returned: deque[Job] = deque()
        self.ended = False  # nothing comes any more
        self._jobs = iter(jobs)

    def next(self) -> Job | None:
        """The next one; None where there is none at the moment."""
        if self.returned:
            return self.returned.popleft()
        if not self.ended:
            try:
                return next(self._jobs)
            except StopIteration:
                self.ended = True
        return None


def side_by_side(work: Sequence[tuple[Executor, Iterable[Job | None]]]) -> Iterator[Event]:
    """What several executors of one kind make of their jobs at the same time, as `Executor.run`.

    Jobs are asked for when somebody is idle: None says that there is none yet. One executor's jobs may so depend on what another has
    done; an executor that does everything itself does all of the first's jobs first.
    """
    pairs: list[tuple[Supervisor[Any], Queue]] = [(executor, Queue(jobs)) for executor, jobs in work if isinstance(executor, Supervisor)]
    if len(pairs) < len(work):
        for other, jobs in work:
            yield from other.run(job for job in jobs if job is not None)
        return
    stop = pairs[0][0].stop
    while True:
        for executor, queue in pairs:
            executor.hand_out(queue)
        busy = any(executor.busy for executor, _ in pairs)
        if not busy and (stop.requested or all(queue.ended and not queue.returned for _, queue in pairs)):
            stop.check()
            return
        awaited = [(executor, queue, slot) for executor, queue in pairs for slot in executor.awaited]
        if not awaited:
            time.sleep(IDLE_S)
            continue
        answered = pairs[0][0].wait([slot for _, _, slot in awaited])
        for executor, queue, slot in awaited:
            yield from executor.attend(slot, queue, answered=slot in answered, waiting=not busy)
