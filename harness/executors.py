"""Running jobs in supervised worker processes.

A *job* is a list of *steps*; a worker object, built once per process from a picklable recipe, does one step at a time. The parent
always knows which step is in flight, so a native crash, a hang or a kill costs exactly that step: it is reported, the worker is
replaced, and the rest of the job goes on. ``multiprocessing.Pool`` hangs for ever when a worker is killed and
``ProcessPoolExecutor`` loses its queue, which is why the supervision is here.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from harness.errors import HarnessError, Interrupted

HEARTBEAT_S = 1.0
BLAS_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


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
    """Steps that want the same preparation, done in order by one worker.

    Args:
        name: for messages.
        payload: for `Worker.begin`.
        steps: picklable.
    """

    name: str
    payload: Any
    steps: tuple[Any, ...]


@dataclass(frozen=True)
class Finished:
    """A step that ended by itself.

    Args:
        job, step: which one.
        result: what `Worker.step` returned.
    """

    job: Job
    step: Any
    result: Any


@dataclass(frozen=True)
class Broken:
    """A step that did not end by itself.

    Args:
        job, step: which one; ``step`` is None when the job could not begin.
        kind: "exception", "crash", "timeout" or "oom".
        reason: for the record.
        trace: traceback text of an exception.
    """

    job: Job
    step: Any
    kind: str
    reason: str
    trace: str = ""


Event = Finished | Broken


class Executor(Protocol):
    """Runs jobs and yields what became of each step."""

    @property
    def size(self) -> int: ...
    def run(self, jobs: Iterable[Job]) -> Iterator[Event]: ...
    def close(self) -> None: ...


class Stop:
    """The user's wish to stop: the first signal lets steps in flight finish, a second one ends at once."""

    def __init__(self) -> None:
        self.requested = False

    def install(self) -> contextlib.AbstractContextManager[None]:
        """Handles SIGINT and SIGTERM while the context lasts."""

        @contextlib.contextmanager
        def handling() -> Iterator[None]:
            def handler(number: int, frame: object) -> None:
                if self.requested:
                    raise KeyboardInterrupt
                self.requested = True
                print("\nstopping: finishing what is in flight (again to stop at once)", file=sys.stderr)

            before = {s: signal.signal(s, handler) for s in (signal.SIGINT, signal.SIGTERM)}
            try:
                yield
            finally:
                for s, old in before.items():
                    signal.signal(s, old)

        return handling()

    def check(self) -> None:
        """Raises Interrupted once a stop was asked for."""
        if self.requested:
            raise Interrupted("stopped by the user; the same command resumes the run")


class SerialExecutor:
    """Everything in this process: for debugging. No protection against crashes and hangs."""

    def __init__(self, factory: Callable[[], Worker], stop: Stop) -> None:
        self._worker = factory()
        self._stop = stop

    @property
    def size(self) -> int:
        """One."""
        return 1

    def run(self, jobs: Iterable[Job]) -> Iterator[Event]:
        for job in jobs:
            self._stop.check()
            try:
                self._worker.begin(job)
            except HarnessError:
                raise
            except Exception as error:
                yield _broken(job, None, error)
                continue
            for step in job.steps:
                self._stop.check()
                try:
                    event: Event = Finished(job, step, self._worker.step(step))
                except HarnessError:
                    raise
                except Exception as error:
                    event = _broken(job, step, error)
                yield event
            self._worker.end()

    def close(self) -> None:
        self._worker.close()


@dataclass
class _Process:
    process: BaseProcess
    connection: Connection
    job: Job | None = None
    position: int = -1  # of the step in flight; -1 while beginning
    since: float = field(default_factory=time.monotonic)


class ProcessExecutor:
    """Supervised worker processes on this machine.

    Args:
        factory: picklable; builds the worker object inside each process.
        workers: number of processes.
        threads: for BLAS and torch inside each process; small-matrix metrics get many times slower with more than one.
        timeout_s: for one step; building the worker and beginning a job may take ten times as long.
        stop: where a wish to stop is seen.
    """

    def __init__(self, factory: Callable[[], Worker], *, workers: int, threads: int, timeout_s: float, stop: Stop) -> None:
        self._factory, self._threads, self._timeout_s, self._stop = factory, threads, timeout_s, stop
        self._context = multiprocessing.get_context("spawn")
        self._processes = [self._start() for _ in range(workers)]

    @property
    def size(self) -> int:
        """Number of worker processes."""
        return len(self._processes)

    def run(self, jobs: Iterable[Job]) -> Iterator[Event]:
        """Yields an event per step, in the order they end.

        Raises:
            Interrupted: a stop was asked for; steps in flight have ended and were yielded.
            HarnessError: a worker met an error that concerns the whole run (disk full, missing backend).
        """
        queue = deque(jobs)
        while True:
            for slot in self._processes:
                if slot.job is None and queue and not self._stop.requested:
                    self._dispatch(slot, queue.popleft())
            busy = [slot for slot in self._processes if slot.job is not None]
            if not busy:
                self._stop.check()
                return
            ready = wait([slot.connection for slot in busy] + [slot.process.sentinel for slot in busy], timeout=HEARTBEAT_S)
            for slot in busy:
                if slot.connection in ready or slot.process.sentinel in ready:
                    yield from self._drain(slot, queue)
                elif time.monotonic() - slot.since > self._limit_s(slot):
                    yield from self._lost(slot, queue, "timeout", f"no result after {self._limit_s(slot):g} s")

    def _limit_s(self, slot: _Process) -> float:
        return self._timeout_s * (10 if slot.position < 0 else 1)

    def close(self) -> None:
        """Ends the workers: politely, then by force."""
        for slot in self._processes:
            with contextlib.suppress(OSError):
                slot.connection.send(None)
        deadline = time.monotonic() + (0.0 if self._stop.requested else 10.0)
        for slot in self._processes:
            slot.process.join(max(0.5, deadline - time.monotonic()))
            if slot.process.is_alive():
                slot.process.kill()
                slot.process.join()
            slot.connection.close()

    def kill(self) -> None:
        """Ends the workers at once."""
        for slot in self._processes:
            slot.process.kill()
            slot.process.join()

    def _start(self) -> _Process:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._factory, self._threads), daemon=True)
        with _environment(self._threads):
            process.start()
        theirs.close()
        return _Process(process, ours)

    def _dispatch(self, slot: _Process, job: Job) -> None:
        slot.job, slot.position, slot.since = job, -1, time.monotonic()
        with contextlib.suppress(OSError):  # a dead worker is noticed by its sentinel
            slot.connection.send(job)

    def _drain(self, slot: _Process, queue: deque[Job]) -> Iterator[Event]:
        """Every message the worker has sent; then its death, if it died."""
        while True:
            try:
                if not slot.connection.poll():
                    break
                message = slot.connection.recv()
            except (EOFError, OSError):
                break
            yield from self._heard(slot, message)
        if slot.job is not None and not slot.process.is_alive():
            code = slot.process.exitcode
            how = f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
            yield from self._lost(slot, queue, "crash", f"the worker process died ({how})")

    def _heard(self, slot: _Process, message: Any) -> Iterator[Event]:
        job = slot.job
        assert job is not None
        kind, value = message
        slot.since = time.monotonic()
        if kind == "fatal":
            raise value
        step = job.steps[slot.position] if 0 <= slot.position < len(job.steps) else None
        if kind == "begun":
            slot.position = 0
        elif kind == "done":
            slot.position += 1
            yield Finished(job, step, value)
        elif kind == "error":
            slot.position += 1
            yield replace(value, job=job, step=step)
            if step is None:
                slot.job = None
        elif kind == "end":
            slot.job = None
        if self._stop.requested and slot.job is not None and kind != "fatal":
            with contextlib.suppress(OSError):
                slot.connection.send("stop")

    def _lost(self, slot: _Process, queue: deque[Job], kind: str, reason: str) -> Iterator[Event]:
        """Blames the step in flight, replaces the process and puts the rest of the job first in the queue."""
        job = slot.job
        assert job is not None
        slot.process.kill()
        slot.process.join()
        slot.connection.close()
        if slot.position < 0:
            rest: tuple[Any, ...] = ()
            yield Broken(job, None, kind, f"{reason} while beginning {job.name}")
        elif slot.position < len(job.steps):
            rest = job.steps[slot.position + 1 :]
            yield Broken(job, job.steps[slot.position], kind, reason)
        else:
            rest = ()
        if rest:
            queue.appendleft(replace(job, steps=rest))
        self._processes[self._processes.index(slot)] = self._start()


@contextlib.contextmanager
def _environment(threads: int) -> Iterator[None]:
    """A spawned child reads its thread counts before numpy is imported, hence from the environment."""
    before = {name: os.environ.get(name) for name in BLAS_VARIABLES}
    os.environ.update(dict.fromkeys(BLAS_VARIABLES, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(connection: Connection, factory: Callable[[], Worker], threads: int) -> None:
    """The life of a worker process: build, then jobs until the parent says None or goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    worker: Worker | None = None
    try:
        while True:
            job = connection.recv()
            if job == "stop":
                continue
            if job is None:
                break
            try:
                if worker is None:
                    worker = factory()
                    _limit_torch(threads)
                worker.begin(job)
            except HarnessError as error:
                connection.send(("fatal", error))
                continue
            except Exception as error:
                connection.send(("error", _broken(None, None, error)))
                continue
            connection.send(("begun", None))
            _steps(connection, worker, job)
            worker.end()
            connection.send(("end", None))
    except (EOFError, OSError, KeyboardInterrupt):
        pass  # the parent is gone: what was finished is already stored
    finally:
        if worker is not None:
            worker.close()


def _steps(connection: Connection, worker: Worker, job: Job) -> None:
    for step in job.steps:
        if connection.poll() and connection.recv() in ("stop", None):
            return
        try:
            message: tuple[str, Any] = ("done", worker.step(step))
        except HarnessError as error:
            message = ("fatal", error)
        except Exception as error:
            message = ("error", _broken(None, None, error))
        connection.send(message)


def _broken(job: Any, step: Any, error: Exception) -> Broken:
    kind = "oom" if isinstance(error, MemoryError) else "exception"
    return Broken(job, step, kind, f"{type(error).__name__}: {error}", traceback.format_exc())


def _limit_torch(threads: int) -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)


def build(kind: str, factory: Callable[[], Worker], *, workers: int, threads: int, timeout_s: float, stop: Stop) -> Executor:
    """The executor of that kind: "local" or "serial"."""
    if kind == "serial":
        return SerialExecutor(factory, stop)
    return ProcessExecutor(factory, workers=workers, threads=threads, timeout_s=timeout_s, stop=stop)


def jobs_in_chunks(name: str, payload: Any, steps: Sequence[Any], chunks: int) -> list[Job]:
    """At most ``chunks`` jobs sharing ``steps`` evenly, in order."""
    size = max(1, -(-len(steps) // chunks))
    return [Job(name, payload, tuple(steps[i : i + size])) for i in range(0, len(steps), size)]
