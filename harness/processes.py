"""Supervised worker processes on this machine.

``multiprocessing.Pool`` hangs for ever when a worker is killed and ``ProcessPoolExecutor`` loses its queue, which is why the
supervision is here.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from harness.errors import HarnessError
from harness.executors import BLAS_VARIABLES, HEARTBEAT_S, Broken, Event, Finished, Job, Resources, Stop, Worker, broken, limit_torch


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
        resources: of the workers.
        stop: where a wish to stop is seen.
    """

    def __init__(self, factory: Callable[[], Worker], resources: Resources, stop: Stop) -> None:
        self._factory, self._resources, self._stop = factory, resources, stop
        self._context = multiprocessing.get_context("spawn")
        self._processes = [self._start() for _ in range(resources.workers)]

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
        return self._resources.timeout_s * (10 if slot.position < 0 else 1)

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
        process = self._context.Process(target=_serve, args=(theirs, self._factory, self._resources), daemon=True)
        with _environment(self._resources.threads):
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
            yield from self._lost(slot, queue, *_cause(slot.process.exitcode))

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


def _cause(exit_code: int | None) -> tuple[str, str]:
    """Kind and reason of a worker's death. SIGKILL and SIGTERM come from outside: from a user, or the kernel short of memory."""
    if exit_code is None or exit_code >= 0:
        return "crash", f"the worker process died (exit code {exit_code})"
    name = signal.Signals(-exit_code).name
    return "killed" if name in ("SIGKILL", "SIGTERM") else "crash", f"the worker process died (killed by {name})"


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


def limit_memory(memory_gib: float | None) -> None:
    """Bounds the address space of this process, so that an item too large for it raises MemoryError instead of starving the machine."""
    if memory_gib is not None:
        size = int(memory_gib * 2**30)
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (size if hard == resource.RLIM_INFINITY else min(size, hard), hard))


def _serve(connection: Connection, factory: Callable[[], Worker], resources: Resources) -> None:
    """The life of a worker process: build, then jobs until the parent says None or goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    limit_memory(resources.memory_gib)
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
                worker.begin(job)
                limit_torch(resources.threads)
            except HarnessError as error:
                connection.send(("fatal", error))
                continue
            except Exception as error:
                connection.send(("error", broken(None, None, error)))
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
            message = ("error", broken(None, None, error))
        connection.send(message)
