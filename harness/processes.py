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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from harness.errors import HarnessError
from harness.executors import BLAS_VARIABLES, HEARTBEAT_S, Event, Finished, Job, Resources, Stop, Worker, broken, limit_torch
from harness.supervision import Slot, Supervisor


@dataclass(kw_only=True, eq=False)
class _Process(Slot):
    process: BaseProcess
    connection: Connection


class ProcessExecutor(Supervisor[_Process]):
    """Supervised worker processes on this machine.

    Args:
        factory: picklable; builds the worker object inside each process.
        resources: of the workers.
        stop: where a wish to stop is seen.
    """

    def __init__(self, factory: Callable[[], Worker], resources: Resources, stop: Stop) -> None:
        self._factory = factory
        self._context = multiprocessing.get_context("spawn")
        super().__init__(resources, stop)

    def close(self) -> None:
        """Ends the workers: politely, then by force."""
        for slot in self._slots:
            with contextlib.suppress(OSError):
                slot.connection.send(None)
        deadline = time.monotonic() + (0.0 if self._stop.requested else 10.0)
        for slot in self._slots:
            slot.process.join(max(0.5, deadline - time.monotonic()))
            if slot.process.is_alive():
                slot.process.kill()
                slot.process.join()
            slot.connection.close()

    def kill(self) -> None:
        """Ends the workers at once."""
        for slot in self._slots:
            slot.process.kill()
            slot.process.join()

    def _start(self) -> _Process:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._factory, self._resources), daemon=True)
        with _environment(self._resources.threads):
            process.start()
        theirs.close()
        return _Process(process=process, connection=ours)

    def _submit(self, slot: _Process) -> None:
        with contextlib.suppress(OSError):  # a dead worker is noticed by its sentinel
            slot.connection.send(slot.job)

    def _wait(self, busy: Sequence[_Process]) -> Sequence[_Process]:
        ready = wait([slot.connection for slot in busy] + [slot.process.sentinel for slot in busy], timeout=HEARTBEAT_S)
        return [slot for slot in busy if slot.connection in ready or slot.process.sentinel in ready]

    def _hear(self, slot: _Process, queue: deque[Job]) -> Iterator[Event]:
        """Every message the worker has sent; then its death, if it died."""
        while True:
            try:
                if not slot.connection.poll():
                    break
                message = slot.connection.recv()
            except (EOFError, OSError):
                break
            yield from self._told(slot, message)
        if slot.job is not None and not slot.process.is_alive():
            yield from self._lost(slot, queue, *_cause(slot.process.exitcode))

    def _told(self, slot: _Process, message: Any) -> Iterator[Event]:
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

    def _end(self, slot: _Process) -> None:
        slot.process.kill()
        slot.process.join()
        slot.connection.close()


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
