"""Workers as Ray actors, on this machine or on a cluster: each holds one model, on a device of its own where there are any.

The machines of a cluster share the folders of store and data under the same paths, and have this package installed. An actor starts in
the driver's working directory with its module path, so relative paths and plug-ins mean the same everywhere. Nothing of Ray's own retrying
is used: which step is in flight is known here, and what becomes of it is the same event as with `harness.workers.processes`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, MissingDependency
from harness.foreign import tell
from harness.workers.jobs import (
    HEARTBEAT_S,
    Event,
    Finished,
    Host,
    Job,
    Resources,
    Stop,
    Worker,
    answer,
)
from harness.workers.preloading import BLAS_VARIABLES
from harness.workers.supervision import START_S, Slot, Supervisor

OBJECT_STORE_BYTES = 200_000_000
"""Of a cluster started here: only factories of workers and outcomes of steps travel through it."""


@contextlib.contextmanager
def cluster(address: str | None, cores: int) -> Iterator[dict[str, float]]:
    """A connection to Ray with what the cluster has ("CPU", "GPU" ...), while the context lasts; what was started for it is stopped with it.

    ``address`` is of a running cluster ("auto", "host:port", "ray://..."), None for one of so many ``cores`` on this machine. Raises
    UsageError: ray is not installed, or nothing answers there.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read while ray is imported: nobody is told about this run
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        ray: Any = import_module("ray")
    except ImportError as error:
        raise MissingDependency("executor=ray needs ray: pip install 'speech-systems-harness[ray]'") from error
    try:
        host, _, port = (address or "").rpartition("//")[2].rpartition(":")
        if host and port.isdigit():  # ray ends the whole process where nobody listens, so that is found out before
            socket.create_connection((host, int(port)), timeout=5.0).close()
    except OSError as error:
        raise ConfigError(_NO_CLUSTER.format(address=address, error=error)) from error
    ours = not ray.is_initialized()
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    if ours:
        place: dict[str, Any] = {"address": address}
        if address is None:
            place = {"num_cpus": cores, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES, "address": "local"}
        try:
            ray.init(**place, logging_level=logging.ERROR, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(_NO_CLUSTER.format(address=address, error=error)) from error
        for number, handler in handlers.items():  # ray takes SIGTERM for itself
            signal.signal(number, handler)
    try:
        yield dict(ray.cluster_resources())
    finally:
        if ours:
            ray.shutdown()


_NO_CLUSTER = "executor.address={address}: no Ray cluster answers there ({error}); null starts one here"


class _Actor:
    """What runs at the other end, in the driver's folder and with its module path. Every method gives an `answer`."""

    def __init__(self, factory: bytes, folder: str, module_path: Sequence[str], resources: Resources) -> None:
        sys.path.extend(p for p in module_path if p not in sys.path)
        os.chdir(folder)
        self._host = Host(factory, resources)
        tell(lambda what: None)  # this process is supervised: no plug-in is tried in another one first

    def ready(self) -> None:
        """Answers as soon as the actor has a place and is there."""

    def begin(self, job: bytes) -> tuple[str, Any]:
        return answer(lambda: self._host.begin(pickle.loads(job)))

    def step(self, step: bytes) -> tuple[str, Any]:
        worker: Any = self._host.worker
        return answer(lambda: worker.step(pickle.loads(step)))

    def end(self) -> tuple[str, Any]:
        worker: Any = self._host.worker
        return answer(worker.end)

    def close(self) -> None:
        self._host.close()


@dataclass(kw_only=True, eq=False)
class _Held(Slot):
    actor: Any
    pending: Any = None
    answered: bool = False


class RayExecutor(Supervisor[_Held]):
    """Supervised Ray actors, in each of which the (picklable) factory builds the worker object. Wants an open `cluster`."""

    def __init__(self, factory: Callable[[], Worker], resources: Resources, stop: Stop) -> None:
        self._ray: Any = import_module("ray")
        # By value, as one object for all actors: the actor's own interpreter finds the classes once its module path is set.
        self._factory = self._ray.put(pickle.dumps(factory))
        super().__init__(resources, stop)

    def close(self) -> None:
        """Ends the actors: politely, then by force."""
        if not self.stop.requested:
            self._ray.wait([slot.actor.close.remote() for slot in self._slots], num_returns=len(self._slots), timeout=10.0)
        for slot in self._slots:
            self._ray.kill(slot.actor)

    def _limit_s(self, slot: _Held) -> float:
        limit_s = super()._limit_s(slot)
        return limit_s if slot.answered else max(limit_s, START_S)

    def _start(self) -> _Held:
        threads = dict.fromkeys(BLAS_VARIABLES, str(self._resources.threads))
        kind = self._ray.remote(_Actor).options(
            num_cpus=self._resources.cores,
            num_gpus=self._resources.gpus,
            max_restarts=0,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": threads},
        )
        return _Held(actor=kind.remote(self._factory, str(Path.cwd()), tuple(sys.path), self._resources))

    def _replacement(self) -> _Held:
        """Gets no job before it is there: a cluster that has lost a machine may have no place for it, and others can do the work."""
        slot = self._start()
        slot.ready, slot.pending = False, slot.actor.ready.remote()
        return slot

    def wait(self, busy: Sequence[_Held]) -> Sequence[_Held]:
        ready, _ = self._ray.wait([slot.pending for slot in busy], num_returns=1, timeout=HEARTBEAT_S)
        return [slot for slot in busy if slot.pending in ready]

    def _submit(self, slot: _Held) -> None:
        """Asks the actor for the call at the slot's position."""
        job = slot.job
        assert job is not None
        slot.since = time.monotonic()
        if slot.position < 0:
            slot.pending = slot.actor.begin.remote(pickle.dumps(replace(job, steps=())))
        elif slot.position < len(job.steps) and not self.stop.requested:
            slot.pending = slot.actor.step.remote(pickle.dumps(job.steps[slot.position]))
        else:
            slot.position = len(job.steps)
            slot.pending = slot.actor.end.remote()

    def _hear(self, slot: _Held, queue: deque[Job]) -> Iterator[Event]:
        if not slot.ready:
            try:
                self._ray.get(slot.pending)
            except self._ray.exceptions.RayError:  # it died before it was there: the next one has no more time than was left
                again = self._replacement()
                again.since = slot.since
                self._slots[self._slots.index(slot)] = again
                return
            slot.ready = slot.answered = True
            return
        job = slot.job
        assert job is not None
        try:
            kind, value = self._ray.get(slot.pending)
        except self._ray.exceptions.RayError as error:  # of the actor: its own exceptions come back as values
            yield from self._lost(slot, queue, "killed", f"the Ray actor died ({' '.join(str(error).split())[:200]})")
            return
        slot.answered = True
        if kind == "fatal":
            raise value
        if kind == "error" and slot.position >= len(job.steps):  # in tidying up: no step is to blame, but the actor is not trusted further
            yield from self._lost(slot, queue, "exception", value.reason)
            return
        step = job.steps[slot.position] if 0 <= slot.position < len(job.steps) else None
        if kind == "error":
            yield replace(value, job=job, step=step)
        elif step is not None:
            yield Finished(job, step, value)
        if slot.position >= len(job.steps) or (step is None and kind == "error"):
            slot.job = None
            return
        slot.position += 1
        self._submit(slot)

    def _end(self, slot: _Held) -> None:
        self._ray.kill(slot.actor)
