"""Jobs, and what becomes of their steps.

A *job* is a list of *steps*; a worker object, built once per process from a picklable factory, does one step at a time. Whoever runs
jobs always knows which step is in flight, so a native crash, a hang or a kill costs exactly that step: it
is reported, the worker is replaced, and the rest of the job goes on. What runs jobs in this process is here, and what the executors with
workers of their own share: handing out jobs, limits of time, and knowing which step a dead worker had in hand.
"""

from __future__ import annotations

import pickle
import resource
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

from harness.errors import HarnessError, Interrupted
from harness.foreign import UserInterrupt, of_the_user, reason_of, trace_of

HEARTBEAT_S = 1.0
BLAS_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
RETRIED = ("killed", "oom")
"""Ends that may have been the machine's fault: tried once more, when nothing else runs (`run_with_retries`)."""


class Worker(Protocol):
    """What lives in a worker process."""

    def begin(self, job: Job) -> None:
        """Called before the first step of a job (again after a restart)."""
        ...

    def step(self, step: Any) -> Any:
        """One step. What it returns travels to the parent; an exception is this step's failure."""
        ...

    def end(self) -> None:
        """Called after the last step of a job."""
        ...

    def close(self) -> None:
        """Called before the process exits normally."""
        ...


@dataclass(frozen=True)
class Job:
    """Steps that want the same preparation, done in order by one worker."""

    name: str  # for messages
    payload: Any  # for `Worker.begin`
    steps: tuple[Any, ...]  # picklable


@dataclass(frozen=True)
class Finished:
    """A step that ended by itself, and what `Worker.step` returned."""

    job: Job
    step: Any
    result: Any


@dataclass(frozen=True)
class Broken:
    """A step that did not end by itself; ``step`` is None when the job could not begin.

    Its ``kind`` is "exception", "crash" (a native fault), "killed" (by a signal from outside, or with its actor), "timeout" or "oom".
    """

    job: Job
    step: Any
    kind: str
    reason: str  # for the record
    trace: str = ""  # of an exception


Event = Finished | Broken


@dataclass(frozen=True)
class Resources:
    """What workers may use."""

    workers: int  # how many of them
    threads: int  # for BLAS and torch inside each; small-matrix metrics get many times slower with more than one
    timeout_s: float  # for one step; building the worker and beginning a job may take ten times as long
    memory_gib: float | None = None  # address space of each worker process, beyond which an item fails with "oom"; None for no limit
    # Of the cluster's (executor=ray), what each worker is counted for; it sees no other GPU. Workers whose sum is more than the cluster
    # has would wait for ever.
    cores: float = 1.0
    gpus: float = 0.0


class Executor(Protocol):
    """Runs jobs and yields what became of each step."""

    @property
    def size(self) -> int: ...
    def run(self, jobs: Iterable[Job]) -> Iterator[Event]: ...
    def close(self) -> None: ...


class Stop:
    """The user's wish to stop: the first signal lets steps in flight finish, a second one ends at once.

    ``requested`` says whether one came, ``signal`` which ("SIGINT").
    """

    def __init__(self) -> None:
        self.requested, self.signal = False, ""

    @contextmanager
    def install(self) -> Iterator[None]:
        """Handles SIGINT and SIGTERM while the context lasts; not in a side thread of somebody's program, where nobody can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handler(number: int, frame: object) -> None:
            if self.requested:
                raise UserInterrupt
            self.requested, self.signal = True, signal.Signals(number).name
            print("\nstopping: finishing what is in flight (again to stop at once)", file=sys.stderr)

        before = {s: signal.signal(s, handler) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for s, old in before.items():
                signal.signal(s, old)

    def check(self) -> None:
        """Raises Interrupted once a stop was asked for."""
        if self.requested:
            raise Interrupted("stopped by the user; the same command resumes the run")


def run_with_retries(executor: Executor, jobs: Iterable[Job]) -> Iterator[Event]:
    """As ``executor.run``; steps that were killed or ran out of memory are tried once more at the end, one at a time.

    Alone, an item has the memory that its neighbours took before; one that fails again is to blame itself.
    """
    victims = []
    for event in executor.run(jobs):
        if isinstance(event, Broken) and event.kind in RETRIED:
            victims.append(event)
        else:
            yield event
    for first in victims:
        steps = first.job.steps if first.step is None else (first.step,)
        for event in executor.run([replace(first.job, steps=steps)]):
            yield replace(event, reason=f"{event.reason}; tried twice, the second time alone") if isinstance(event, Broken) else event


def jobs_in_chunks(name: str, payload: Any, steps: Sequence[Any], chunks: int) -> list[Job]:
    """At most ``chunks`` jobs sharing ``steps`` evenly, in order."""
    size = max(1, -(-len(steps) // chunks))
    return [Job(name, payload, tuple(steps[i : i + size])) for i in range(0, len(steps), size)]


def broken(job: Any, step: Any, error: BaseException) -> Broken:
    """The event of an exception. Running out of memory is told from other faults, also where a library has its own error for it."""
    reason = reason_of(error)
    memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in reason
    return Broken(job, step, "oom" if memory else "exception", reason, trace_of(error))


def limit_torch(threads: int) -> None:
    """Torch's threads, if anybody has imported it. Its sums depend on their number in the last digit."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)


# -- in a process of the worker's own ---------------------------------------------------------------------------------------------


class Host:
    """Builds the worker object of a process, whose memory is bounded from now on, from its pickled factory with the first job."""

    def __init__(self, factory: bytes, resources: Resources) -> None:
        self._factory, self._threads = factory, resources.threads
        self.worker: Worker | None = None
        if resources.memory_gib is not None:  # an item too large for it raises MemoryError instead of starving the machine
            size = int(resources.memory_gib * 2**30)
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (size if hard == resource.RLIM_INFINITY else min(size, hard), hard))

    def begin(self, job: Job) -> None:
        if self.worker is None:
            made: Worker = pickle.loads(self._factory)()
            self.worker = made
        self.worker.begin(job)
        limit_torch(self._threads)

    def close(self) -> None:
        if self.worker is not None:
            self.worker.close()


def answer(call: Callable[[], Any]) -> tuple[str, Any]:
    """What a worker says of a call: ("done", value), ("fatal", an error of the whole run) or ("error", `Broken` without job and step)."""
    try:
        return "done", call()
    except HarnessError as error:
        return "fatal", error
    except BaseException as error:
        return "error", broken(None, None, error)


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


class SerialExecutor:
    """Everything in this process: for debugging. No protection against crashes and hangs.

    Of the resources the number of torch's threads is kept; BLAS keeps the number it was started with.
    """

    size = 1

    def __init__(self, factory: Callable[[], Worker], resources: Resources, stop: Stop) -> None:
        self._worker, self._threads, self._stop = factory(), resources.threads, stop

    def run(self, jobs: Iterable[Job]) -> Iterator[Event]:
        for job in jobs:
            for step in (None, *job.steps):
                self._stop.check()
                try:
                    if step is None:
                        self._worker.begin(job)
                        limit_torch(self._threads)
                        continue
                    event: Event = Finished(job, step, self._worker.step(step))
                except HarnessError:
                    raise
                except BaseException as error:
                    if of_the_user(error):
                        raise
                    event = broken(job, step, error)
                yield event
                if step is None:
                    break
            else:
                self._worker.end()

    def close(self) -> None:
        self._worker.close()
