"""A process that imports what workers want while this one is still finding out what is asked, and of which they are then forked.

It is the fork server of the standard library. What it imports starts no threads, so that a fork of it is sound: the variables that
numpy's and torch's threads depend on are one while it starts.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable
from multiprocessing import forkserver
from multiprocessing.context import BaseContext

VARIABLE = "HARNESS_PRELOAD"
"""By which `harness.workers.preloaded` is told."""

BLAS_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_started = False


def preload(modules: Iterable[str]) -> None:
    """Starts the server, which goes on to import these modules by itself; those that are not here it passes over.

    For the command line alone: workers find the environment variables of the moment at which this was called.
    """
    global _started
    told = {**dict.fromkeys(BLAS_VARIABLES, "1"), VARIABLE: ",".join(modules)}
    before = {name: os.environ[name] for name in told if name in os.environ}
    os.environ.update(told)
    try:
        multiprocessing.set_forkserver_preload(["harness.workers.preloaded"])
        forkserver.ensure_running()
        _started = True
    finally:
        for name in told:
            del os.environ[name]
        os.environ.update(before)


def context(threads: int) -> BaseContext:
    """How to start a worker with so many threads: as a fork of the server, if there is one and a single thread is wanted, else anew."""
    return multiprocessing.get_context("forkserver" if _started and threads == 1 else "spawn")


def forget_server() -> None:
    """In a worker: lets go of the server, which else would outlive the process that started it as long as its workers do."""
    held = getattr(forkserver, "_forkserver", None)
    descriptor = getattr(held, "_forkserver_alive_fd", None)
    if held is not None and descriptor is not None:
        os.close(descriptor)
        held._forkserver_alive_fd = None
