"""Supervised worker processes on this machine.

``multiprocessing.Pool`` hangs for ever when a worker is killed and ``ProcessPoolExecutor`` loses its queue, which is why the
supervision is here.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pickle
import resource
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import DupFd
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from harness.foreign import reason_of, tell
from harness.workers.jobs import (
    HEARTBEAT_S,
    Event,
    Finished,
    Host,
    Job,
    Loading,
    Resources,
    Stop,
    Worker,
    answer,
    broken,
)
from harness.workers.preloading import BLAS_VARIABLES, context, forget_server
from harness.workers.supervision import Slot, Supervisor


@dataclass(kw_only=True, eq=False)
class _Process(Slot):
    process: BaseProcess
    connection: Connection


class ProcessExecutor(Supervisor[_Process]):
    """Supervised worker processes on this machine; the (picklable) factory builds the worker object inside each.

    Each has a session of its own with everything it starts, and leaves nothing behind: neither when it ends or is lost, nor when this
    process is killed.
    """

    def __init__(self, factory: Callable[[], Worker], resources: Resources, stop: Stop) -> None:
        self._factory = _Lent(pickle.dumps(factory))  # read where the work is done, not in the process that watches over it
        self._context = context(resources.threads)
        super().__init__(resources, stop)

    def close(self) -> None:
        """Ends the workers: politely, then by force."""
        for slot in self._slots:
            with contextlib.suppress(OSError):
                slot.connection.send(None)
        deadline = time.monotonic() + (0.0 if self.stop.requested else 10.0)
        for slot in self._slots:
            slot.process.join(max(0.5, deadline - time.monotonic()))
            self._end(slot)

    def _start(self) -> _Process:
        ours, theirs = self._context.Pipe()
        with _spawning(self._resources.threads):
            process = self._begun(theirs)
        theirs.close()
        return _Process(process=process, connection=ours)

    def _begun(self, connection: Connection) -> BaseProcess:
        arguments = (connection, self._factory, self._resources)
        process: BaseProcess = self._context.Process(target=_serve, args=arguments, daemon=True)  # type: ignore[attr-defined]
        try:
            process.start()
        except (EOFError, OSError):
            if self._context.get_start_method() != "forkserver":
                raise
            # What it imports ended the server: a worker of its own says what is wrong with it, where it is wanted.
            self._context = multiprocessing.get_context("spawn")
            return self._begun(connection)
        return process

    def _submit(self, slot: _Process) -> None:
        with contextlib.suppress(OSError):  # a dead worker is noticed by its sentinel
            slot.connection.send(slot.job)

    def wait(self, busy: Sequence[_Process]) -> Sequence[_Process]:
        # Not the sentinel of multiprocessing: it is a pipe, which a worker's code may close, and what it starts may hold open.
        ready = wait([slot.connection for slot in busy], timeout=HEARTBEAT_S)
        return [slot for slot in busy if slot.connection in ready or not slot.process.is_alive()]

    def _hear(self, slot: _Process, queue: deque[Job]) -> Iterator[Event]:
        """Every message the worker has sent; then its death, if it died, or the loss of its connection, which is no better."""
        gone = False
        while slot.job is not None:
            try:
                if not slot.connection.poll():
                    break
                message = slot.connection.recv()
            except (EOFError, OSError):
                gone = True
                break
            except Exception as error:  # not what a worker sends: others write to its end, too
                yield from self._lost(slot, queue, "crash", f"the worker sent what cannot be read ({reason_of(error)})")
                return
            yield from self._received(slot, message)
        if slot.job is None:
            return
        if gone:
            slot.process.join(GRACE_S)
        if not slot.process.is_alive():
            yield from self._lost(slot, queue, *_cause(slot.process.exitcode))
        elif gone:
            yield from self._lost(slot, queue, "crash", "the worker's code closed its connection to the harness; it was ended")

    def _received(self, slot: _Process, message: Any) -> Iterator[Event]:
        job = slot.job
        assert job is not None
        kind, value = message
        slot.since = time.monotonic()
        if kind == "fatal":
            raise value
        step = job.steps[slot.position] if 0 <= slot.position < len(job.steps) else None
        if kind == "loading":
            slot.loading = value
            yield Loading(job, value)
        elif kind == "begun":
            slot.position, slot.loading = 0, ""
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
        if self.stop.requested and slot.job is not None:
            with contextlib.suppress(OSError):
                slot.connection.send("stop")

    def _end(self, slot: _Process) -> None:
        """By the process that watches over it, so that nothing stays; by force if that does not listen."""
        slot.process.terminate()
        slot.process.join(2 * GRACE_S)
        if slot.process.is_alive():
            with contextlib.suppress(OSError):
                os.killpg(slot.process.pid or 0, signal.SIGKILL)
            slot.process.kill()
            slot.process.join()
        slot.connection.close()


class _Lent:
    """Bytes that a new process reads from a file without a name.

    As an argument they would go through a pipe that this process holds open at both ends until all is read: the end of a process that
    dies before (its ``__main__`` cannot be imported, say) would never be noticed where there are more than the pipe holds.
    """

    def __init__(self, data: bytes) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  (as long as workers may be started)
        self._file.write(data)
        self._file.flush()
        self._size = len(data)

    def __reduce__(self) -> tuple[Callable[..., bytes], tuple[Any, int]]:
        return _taken, (DupFd(self._file.fileno()), self._size)


def _taken(descriptor: Any, size: int) -> bytes:
    with open(descriptor.detach(), "rb", buffering=0) as file:  # noqa: PTH123  (a descriptor)
        parts: list[bytes] = []
        while part := os.pread(file.fileno(), 1 << 30, sum(map(len, parts))):
            parts.append(part)
    data = b"".join(parts)
    if len(data) != size:
        raise OSError(f"{len(data)} bytes of {size} for a new worker")
    return data


GRACE_S = 3.0
"""A process whose connection is closed has so long to end by itself: only then is it known how."""


SERVER_GONE = 255
"""What the standard library says of a fork whose server is no more to tell how it ended."""


def _cause(exit_code: int | None) -> tuple[str, str]:
    """Kind and reason of a worker's death. SIGKILL and SIGTERM come from outside: from a user, or the kernel short of memory."""
    if exit_code == SERVER_GONE:
        return "killed", "the worker process ended with the process that it was forked of"
    if exit_code is None or exit_code >= 0:
        return "crash", f"the worker process died (exit code {exit_code})"
    name = signal.Signals(-exit_code).name
    return "killed" if name in ("SIGKILL", "SIGTERM") else "crash", f"the worker process died (killed by {name})"


@contextlib.contextmanager
def _spawning(threads: int) -> Iterator[None]:
    """What a child finds: its thread counts in the environment, which numpy reads when it is imported, and nothing of the program that asked
    for it. What it needs it imports; somebody's script, say, is not carried out once more in it.
    """
    before, program = {name: os.environ[name] for name in BLAS_VARIABLES if name in os.environ}, sys.modules["__main__"]
    os.environ.update(dict.fromkeys(BLAS_VARIABLES, str(threads)))
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = program
        for name in BLAS_VARIABLES:
            del os.environ[name]
        os.environ.update(before)


# -- in the other process ---------------------------------------------------------------------------------------------------------


def _serve(connection: Connection, factory: bytes, resources: Resources) -> None:
    """The life of a worker process. It is two: one that works, and one that watches over it and whatever it starts.

    The watcher runs nobody's code but this. When the worker ends, when it is told to (SIGTERM), or when the harness is gone, it ends every
    process that came from the worker, one with a session of its own included, and then itself in the way the worker ended.
    """
    os.setsid()  # Ctrl-C on the terminal is the harness's business; what is started here can be ended as a group
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)  # until `_watch` asks for them
    _prctl(PR_SET_CHILD_SUBREAPER, 1)  # whoever loses its parent below becomes a child of this process
    # Its parent is the harness, or the fork server, which ends with the harness.
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    forget_server()
    harness = multiprocessing.parent_process()
    if harness is None or not harness.is_alive():  # it died before it could have been noticed
        os._exit(0)
    watcher = os.getpid()
    worker = os.fork()
    if worker:
        connection.close()  # the worker's alone: when it is closed there, the harness notices
        _watch(worker)
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != watcher:
        os._exit(0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
    with contextlib.suppress(OSError):
        os.dup2(2, 1)  # what others print is no part of the table
    _work(connection, factory, resources)


_WATCHED = (signal.SIGTERM, signal.SIGCHLD)


def _watch(worker: int) -> NoReturn:
    """Waits for the end of the worker or the wish for it, ends what is left, and ends like the worker."""
    code = -int(signal.SIGKILL)
    while signal.sigwait(_WATCHED) == signal.SIGCHLD:
        ended = dict(_reaped())
        if worker in ended:
            code = ended[worker]
            break
    end_descendants()
    if code < 0:  # by the same signal, without another core dump
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.kill(os.getpid(), -code)
    os._exit(code)


def _reaped() -> Iterator[tuple[int, int]]:
    """Number and exit code of every child that has ended."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            yield ended[0], os.waitstatus_to_exitcode(ended[1])


PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
"""Of linux/prctl.h."""


def _prctl(option: int, value: int) -> None:
    """Nothing where there is no such call: a worker then ends when it next hears that the harness is gone."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))


def end_descendants(within_s: float = 5.0) -> None:
    """Kills every process that descends from this one; those that lose their parent meanwhile come to this one, a subreaper."""
    deadline = time.monotonic() + within_s
    while (found := _descendants(os.getpid())) and time.monotonic() < deadline:
        for pid in found:
            with contextlib.suppress(OSError):  # it was faster, or is somebody else's by now
                os.kill(pid, signal.SIGKILL)
        for _ in _reaped():
            pass
        time.sleep(0.005)


def _descendants(of: int) -> list[int]:
    """Process numbers, as /proc has them."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                parent = int(Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, left = [], [of]
    while left:
        left = [child for pid in left for child in children.get(pid, ())]
        found += left
    return found


def _work(connection: Connection, factory: bytes, resources: Resources) -> None:
    """Builds the worker object, then does jobs until the harness says None or goes away."""
    os.set_inheritable(connection.fileno(), False)
    host = Host(factory, resources)
    tell(lambda what: connection.send(("loading", what)))
    try:
        while (job := connection.recv()) is not None:
            if job == "stop":
                continue
            begun = answer(partial(host.begin, job))
            if begun[0] != "done" or host.worker is None:
                _send(connection, begun)
                continue
            connection.send(("begun", None))
            for step in job.steps:
                if connection.poll() and connection.recv() in ("stop", None):
                    break
                _send(connection, answer(partial(host.worker.step, step)))
            host.worker.end()
            connection.send(("end", None))
    except (EOFError, OSError, KeyboardInterrupt):
        pass  # the parent is gone: what was finished is already stored
    finally:
        host.close()


def _send(connection: Connection, message: tuple[str, Any]) -> None:
    """A message that can be read at the other end; what cannot travel is its step's failure."""
    try:
        data = pickle.dumps(message)
        pickle.loads(data)  # an exception may be pickled and refuse to be made again
    except BaseException as error:
        data = pickle.dumps(("error", broken(None, None, error)))
    connection.send_bytes(data)
