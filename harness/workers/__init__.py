"""Who does the work: `jobs` of steps, done here, in supervised `processes` on this machine, or by `ray` actors here and on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.workers.jobs import Executor, Resources, Stop, Worker


def build(kind: str, factory: Callable[[], Worker], resources: Resources, stop: Stop) -> Executor:
    """The executor of that kind, "local", "serial" or "ray", which wants an open `harness.workers.ray.cluster`."""
    if kind == "serial":
        from harness.workers.jobs import SerialExecutor

        return SerialExecutor(factory, resources, stop)
    if kind == "ray":
        from harness.workers.ray import RayExecutor

        return RayExecutor(factory, resources, stop)
    from harness.workers.processes import ProcessExecutor

    return ProcessExecutor(factory, resources, stop)
