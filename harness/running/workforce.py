"""The workers of a run: those that run systems and those that measure, and what each says of itself before anything is asked of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from harness.api import Item, Suite
from harness.errors import ConfigError
from harness.running.metric_set import MetricBuilder, MetricCards
from harness.running.plan import Card, Entrant, belongs
from harness.running.predicting import Describe, PredictWorker, default_threads
from harness.running.progress import Progress
from harness.running.scoring import DescribeMetrics, ScoreWorker
from harness.workers.executors import build
from harness.workers.jobs import Broken, Executor, Finished, Job, Resources, Stop


@dataclass(frozen=True)
class Workforce:
    """The two executors of a run."""

    predictors: Executor
    scorers: Executor


@contextmanager
def open_workforce(
    section: Mapping[str, Any], store: Path, items: Mapping[str, Item], builder: MetricBuilder, stop: Stop
) -> Iterator[Workforce]:
    """Workers as the section ``executor`` of a composed configuration asks for them, while the context lasts.

    Raises:
        ConfigError: no cluster answers at the address.
        MissingDependency: the kind needs a package that is not here.
    """
    kind, cores = section["kind"], default_threads()
    limits = partial(Resources, timeout_s=float(section["timeout_s"]), memory_gib=section.get("memory_gib"))
    threads = section["threads"] or cores
    workers, predict_workers, gpus, share = section["workers"] or cores, section["predict_workers"] or 1, 0.0, 1.0
    store = store.resolve()  # actors of a cluster have it under the same absolute path
    with ExitStack() as stack:
        if kind == "ray":
            from harness.workers.ray import cluster

            here = stack.enter_context(cluster(section.get("address"), cores))
            devices = int(here.get("GPU", 0))
            workers = section["workers"] or max(1, int(here.get("CPU", 1)))
            predict_workers = section["predict_workers"] or devices or 1
            gpus = min(1.0, devices / predict_workers)
            # All of them are counted for half of the cluster: what is lost with a machine finds a place on the others.
            share = min(1.0, int(500 * here.get("CPU", 1.0) / (workers + predict_workers)) / 1000)
        make = partial(build, kind, stop=stop)
        scorers = make(partial(ScoreWorker, store, builder), resources=limits(workers, 1, cores=share))
        stack.callback(scorers.close)
        system = partial(PredictWorker, store, items, threads)
        predictors = make(system, resources=limits(predict_workers, threads, cores=share, gpus=gpus))
        stack.callback(predictors.close)
        yield Workforce(predictors, scorers)


def describe(
    workforce: Workforce, suite: Suite, entrants: Mapping[str, Entrant], progress: Progress
) -> tuple[MetricCards, dict[str, Card]]:
    """Builds every system and metric once, so that whatever is missing is said before anything runs (ConfigError).

    Returns:
        The metrics, and the cards of the entrants that are measured with at least one of them.
    """
    progress.stage("loading systems and metrics", len(entrants) + 1)
    cards: dict[str, Card] = {}
    # Calibration rows first: the system a worker has built last is the one it predicts with first, so a single one is loaded once.
    ordered = sorted(entrants.values(), key=lambda e: not e.calibration)
    jobs = [Job(f"system '{e.label}'", e, (Describe(suite),)) for e in ordered]
    for built in _built(workforce.predictors, jobs):
        cards[built.job.payload.label] = built.result
        progress.advance()
    # one job per worker, so that all of them have loaded before anything is timed
    warmers = [Job("the metrics", None, (DescribeMetrics(),)) for _ in range(workforce.scorers.size)]
    metrics: MetricCards = [built.result for built in _built(workforce.scorers, warmers)][-1]
    progress.advance()
    progress.done()
    for key, reason in metrics.absent.items():
        progress.note(f"metric '{key}' is left out: {reason}")
    measured = [label for label, e in entrants.items() if not e.calibration or belongs(e.calibration, suite.info, metrics.metrics)]
    return metrics, {label: cards[label] for label in measured}


def _built(executor: Executor, jobs: Iterable[Job]) -> Iterator[Finished]:
    for event in executor.run(jobs):
        if isinstance(event, Broken):
            raise ConfigError(f"{event.job.name} cannot be built: {event.reason}\n{event.trace}".rstrip())
        yield event
