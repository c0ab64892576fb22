"""What executors cost: starting their workers, and handing out a step, beside the same steps in a loop.

``pytest tests/benchmarks/test_executor_overhead.py --benchmark-enable -s`` prints the table; rounds are interleaved, Ray's row wants ray.
"""

import statistics
import time
from contextlib import ExitStack
from importlib.util import find_spec

import pytest

from harness.workers import build
from harness.workers.jobs import Job, Resources, Stop
from tests.stubs.obedient import Obedient

STEPS, ROUNDS = 1000, 7


def _jobs():
    return [Job(f"j{i}", None, tuple(f"s{k}" for k in range(STEPS // 10))) for i in range(10)]


def _seconds(executor):
    began = time.perf_counter()
    assert sum(1 for _ in executor.run(_jobs())) == STEPS
    return time.perf_counter() - began


def test_executor_overhead(benchmark):
    if benchmark.disabled:
        pytest.skip("a timing: run with --benchmark-enable on a quiet machine")
    kinds = [("serial", 1), ("local", 1), ("local", 2)] + [("ray", n) for n in (1, 2) if find_spec("ray")]
    with ExitStack() as stack:
        if find_spec("ray"):
            from harness.workers.ray import cluster

            stack.enter_context(cluster(None, 2))
        executors, started = {}, {}
        for kind, workers in kinds:
            began = time.perf_counter()
            executors[kind, workers] = build(kind, Obedient, Resources(workers, 1, 60.0, cores=0.2), Stop())
            stack.callback(executors[kind, workers].close)
            _seconds(executors[kind, workers])
            started[kind, workers] = time.perf_counter() - began
        rounds = {key: [] for key in executors}
        for _ in range(ROUNDS):
            for key, executor in executors.items():
                rounds[key].append(_seconds(executor) / STEPS)
        benchmark.pedantic(_seconds, args=(executors["local", 1],), rounds=1)
    print(f"\n{'executor':<10}{'workers':>8}{'s to start':>12}{'ms a step':>11}{'times serial':>14}")
    for kind, workers in kinds:
        found = rounds[kind, workers]
        over = statistics.median(a / b for a, b in zip(found, rounds["serial", 1], strict=True))
        print(f"{kind:<10}{workers:>8}{started[kind, workers]:>12.2f}{1e3 * statistics.median(found):>11.3f}{over:>14.0f}")
