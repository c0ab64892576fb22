"""The choice of an executor: everything in this process, supervised processes on this machine, or Ray actors here and on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from harness.errors import HarnessError
from harness.foreign import of_the_user
from harness.workers.jobs import Event, Executor, Finished, Job, Resources, Stop, Worker, broken, limit_torch
from harness.workers.processes import ProcessExecutor


def build(kind: str, factory: Callable[[], Worker], resources: Resources, stop: Stop) -> Executor:
    """The executor of that kind, "local", "serial" or "ray", which wants an open `harness.workers.ray.cluster`."""
    if kind == "serial":
        return SerialExecutor(factory, resources, stop)
    if kind == "ray":
        from harness.workers.ray import RayExecutor

        return RayExecutor(factory, resources, stop)
    return ProcessExecutor(factory, resources, stop)


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
