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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from harness.errors import HarnessError, Interrupted
from harness.foreign import UserInterrupt, of_the_user, reason_of, trace_of

HEARTBEAT_S = 1.0
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


@dataclass(frozen=True)
class Loading:
    """A worker says what it is loading (`harness.foreign.loading`) while it begins a job: no end of a step, for people to read."""

    job: Job
    what: str


Event = Finished | Broken | Loading


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
        yield from again(executor, first)


def again(executor: Executor, first: Broken) -> Iterator[Event]:
    """The second try of what was killed or ran out of memory, when nothing else runs."""
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
