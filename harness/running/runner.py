"""One run from configuration to records: plan, predict, score, join. The same command again resumes where it stopped."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from harness.api import Item, Need, Suite, SuiteInfo, Task, language_code
from harness.data.manifests import Dataset, DatasetConfig, load_dataset
from harness.errors import ConfigError, DamagedFile, Interrupted, NewerVersion
from harness.foreign import attempt, reason_of
from harness.kept import Kept
from harness.running.costs import LOADS, METRICS, Costs, Spent, expected, mean_s
from harness.running.metric_set import MetricBuilder, MetricCards
from harness.running.plan import Card, Digests, Entrant, attempts, belongs, calibration_rows, withheld
from harness.running.predicting import Describe, PredictWorker
from harness.running.progress import Progress, spoken
from harness.running.provenance import describe_run
from harness.running.scoring import DescribeMetrics, ScoreWorker
from harness.running.session import LOADING, PREDICTING, SCORING, Session
from harness.running.shards import Shard, publish
from harness.running.stages import RunResult, counted, predict, score, show_so_far, write_run
from harness.settings.config import Config
from harness.settings.registry import resolve, source_digest
from harness.settings.schema import JUDGES
from harness.storing.aliases import Aliases, without_secrets
from harness.storing.files import claimed, write_json
from harness.storing.runfolder import MANIFEST, read_manifest
from harness.storing.store import Store, key_of
from harness.workers import build
from harness.workers.jobs import Broken, Event, Executor, Finished, Job, Loading, Resources, Stop
from harness.workers.supervision import Supervisor, side_by_side


def run(config: Config, command: str, progress: Progress, dataset: Dataset | None = None) -> RunResult:
    """Carries out a run.

    Args:
        config: from `harness.settings.config.compose`.
        command: as the user typed it, for the manifest.
        dataset: instead of the configuration's.

    Raises:
        UsageError: something cannot be done; nothing was run.
        Interrupted: the user stopped it; what was finished is stored.
        StoreError: the disk is full or not writable; what was finished is stored.
    """
    suite = _suite(config)
    if dataset is None:
        progress.stage("reading the dataset", None)
        dataset = load_dataset(DatasetConfig.from_mapping(config["dataset"]), progress.advance)
    names = list(config["systems"])
    if not names:
        raise ConfigError(f"no systems: write systems=[{','.join(suite.info.systems)}]; `harness list systems` shows all")
    entrants = {name: Entrant(name, config["systems"][name]) for name in names}
    keys = metric_keys(config, suite.info)
    for row in calibration_rows(suite.info, dataset.items):
        entrants.setdefault(row.label, row)
    for key in keys:
        resolve("metrics", key)
    options = config["run"]
    shard = Shard.parsed(options["shard"])
    cut = shard.of(dataset)
    items = {i.id: i for i in cut.items}
    root = Path(options["root"])
    digest = _plan_digest(config, dataset, keys)
    folder = root / shard.named(options["name"] or f"{suite.info.name}-{digest[:8]}")
    store = Store(root / "store")
    stop = Stop()
    before = _Before(folder, digest, str(shard), progress)
    advice = "choose another run.name=NAME, or run.overwrite=true to move it aside"
    with stop.install(), claimed(folder, before.conflict, overwrite=bool(options["overwrite"]), advice=advice), ExitStack() as stack:
        progress.note(
            f"{suite.info.title}: {counted(len(names), 'system')}, {counted(len(items), 'item')} of '{dataset.name}'{shard.described}, "
            f"{counted(len(keys), 'metric')} -> {folder}"
        )
        for line in dataset.remarks:
            progress.note(line)
        costs = Costs.of(store.root)
        rows = len(entrants) - len(names)
        timed = suite.info.task is Task.TIMING
        first = expected(costs, config, keys, cut.items, rows, _workers(config["executor"]), timed=timed)
        progress.expect({LOADING: first.loading_s, PREDICTING: first.predicting_s, SCORING: first.scoring_s})
        progress.note(first.told)
        writer = store.outcomes.writer()
        stack.callback(writer.close)
        # The probe's vocabulary and the recognisers' languages are the whole dataset's, whichever shard of it is asked about.
        texts = tuple(item.text for item in dataset.items if item.language == "en" and item.text)
        judges = {k: config[k] for k in (*JUDGES, "also") if k in config}
        languages = frozenset(language_code(item.language) for item in dataset.items)
        builder = MetricBuilder(keys, judges, texts, bool(options["allow_missing"]), suite.info.task, languages)
        progress.stage("starting workers", None)
        with _workforce(config["executor"], store.root, items, builder, stop, alone=timed) as (
            predictors,
            scorers,
        ):
            metrics, cards = _described(predictors, scorers, suite, entrants, progress, costs)
            progress.stage("hashing the recordings", len(items))
            digests = Digests.of(cut.items, cut.hashed(progress.advance), entrants.values())
            progress.stage("planning", None)
            aliases = Aliases.here(config, dataset.root)
            aliases.save(store.root, digest)
            manifest = describe_run(config, command, suite.info, cut, cards, metrics, aliases)
            manifest |= {"plan_digest": digest, "shard": str(shard)}
            if source := source_digest(suite):
                manifest["suite"]["source"] = source
            for line in _sources_changed(before.manifest, manifest):
                progress.note(line)
            write_json(folder / MANIFEST, {**manifest, **before.records})
            progress.stage("looking up what is there", None)
            named = config["metrics"] or ()  # times that nobody asked for by name may be of any machine
            needs = frozenset().union(*(i.needs if k in named else i.needs - {Need.TIMING} for k, i in metrics.metrics.items()))
            session = Session(
                config=config,
                suite=suite.info,
                items=items,
                entrants=entrants,
                cards=cards,
                metrics=metrics,
                digests=digests,
                plan=attempts(entrants, cards, cut.items, digests, config["seeds"], suite.info, needs),
                withheld=withheld(cards, metrics.metrics, bool(config["allow_random"])),
                store=store,
                writer=writer,
                aliases=aliases,
                progress=progress,
                costs=costs,
                audio_s=mean_s(cut.items),
            )
            whole_s = session.whole_s((predictors.size, scorers.size))
            if whole_s > MORE * (first.predicting_s + first.scoring_s) + 1:
                progress.note(f"{counted(len(session.plan), 'output')} with all settings and seeds: about {spoken(whole_s)} from here on")
            try:
                predicted, early = predict(session, predictors, scorers)
                scored = score(session, scorers, partial(show_so_far, session, folder, manifest), early)
            except Interrupted:
                write_run(session, folder, {**manifest, "status": "partial", "put_back": session.put_back})
                raise
        timed_with = [{k: v for k, v in one.items() if k != "machine"} for one in session.timed_with]
        ends = {"timed_with": timed_with, "put_back": session.put_back, "costs": costs.told(), "status": "complete"}
        counts, failures = write_run(session, folder, {**manifest, **ends})
        writer.close()
        store.compact()
        costs.save()
        if dearest := costs.dearest():
            progress.note(dearest)
        if options["publish"]:
            progress.note(f"published: {without_secrets(publish(folder, str(options['publish'])))}")
    return RunResult(folder, counts, failures, int(options["max_failures"]), predicted, scored)


def _suite(config: Config) -> Suite:
    parameters = dict(config["suite"])
    name = parameters.pop("name")
    make = resolve("suites", name)
    try:
        with Kept(settling=True):
            suite: Suite = attempt(lambda: make(**parameters))
            sound = attempt(lambda: isinstance(suite, Suite) and isinstance(suite.info, SuiteInfo))
            attempt(lambda: pickle.dumps(suite))  # systems are described in other processes
    except Exception as error:
        raise ConfigError(f"suite '{name}' cannot be built from {parameters}: {reason_of(error)}") from error
    if not sound:
        raise ConfigError(f"suite '{name}' does not follow harness.api.Suite")
    if suite.info.task not in Task:
        raise ConfigError(f"suite '{name}' asks for the unknown task {suite.info.task}")
    return suite


def default_systems(config: Config) -> tuple[str, ...]:
    """The systems a suite runs when the user names none."""
    return tuple(_suite(config).info.systems)


MORE = 1.2
"""How much longer than was said before anything was loaded a run may look once it is planned, until that is said."""
FULL = "full"
"""Among the names of ``metrics=``: everything that the suite can measure."""


def metric_keys(config: Config, suite: SuiteInfo | None = None) -> list[str]:
    """What a run measures: the metrics that are named, or the suite's own (found in the configuration unless given)."""
    info = suite or _suite(config).info
    named = config["metrics"] or info.metrics
    return list(dict.fromkeys(key for name in named for key in ((*info.metrics, *info.further) if name == FULL else (name,))))


def _workers(section: Mapping[str, Any]) -> tuple[int, int]:
    """How many predict and how many score, as far as it is known before a cluster is asked."""
    if section["kind"] == "serial":
        return 1, 1
    return section["predict_workers"] or 1, section["workers"] or len(os.sched_getaffinity(0))


@contextmanager
def _workforce(
    section: Mapping[str, Any], store: Path, items: Mapping[str, Item], builder: MetricBuilder, stop: Stop, *, alone: bool
) -> Iterator[tuple[Executor, Executor]]:
    """Those that predict and those that score, as the section ``executor`` of a composed configuration asks for them, while the context lasts.

    Raises UsageError: no cluster answers at the address, or the kind needs a package that is not here.
    """
    kind, cores = section["kind"], len(os.sched_getaffinity(0))  # that this process may use
    limits = partial(Resources, timeout_s=float(section["timeout_s"]), memory_gib=section.get("memory_gib"))
    # Outputs are scored while others are made: what is not timed alone gets half of the cores. More threads than free cores wait for each
    # other: two on one core took 18 times one's processor time.
    threads = section["threads"] or (cores if alone else max(1, cores // 2))
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
        workers = min(workers, max(len(items), 1))  # one item's outputs are measured together
        make = partial(build, kind, stop=stop)
        scorers = make(partial(ScoreWorker, store, builder), resources=limits(workers, 1, cores=share))
        stack.callback(scorers.close)
        system = partial(PredictWorker, store, items, threads)
        predictors = make(system, resources=limits(predict_workers, threads, cores=share, gpus=gpus))
        stack.callback(predictors.close)
        yield predictors, scorers


def _described(
    predictors: Executor, scorers: Executor, suite: Suite, entrants: Mapping[str, Entrant], progress: Progress, costs: Costs
) -> tuple[MetricCards, dict[str, Card]]:
    """Builds every system and metric once, so that whatever is missing is said before anything runs (ConfigError).

    Returns:
        The metrics, and the cards of the entrants that are measured with at least one of them.
    """
    progress.stage(LOADING, len(entrants) + 1)
    cards: dict[str, Card] = {}
    # Calibration rows first: the system a worker has built last is the one it predicts with first, so a single one is loaded once.
    ordered = sorted(entrants.values(), key=lambda e: not e.calibration)
    jobs = [Job(f"system '{e.label}'", e, (Describe(suite),)) for e in ordered]
    # one job per worker, so that all of them have loaded before anything is timed
    warmers = [Job(METRICS, None, (DescribeMetrics(),)) for _ in range(scorers.size)]
    if isinstance(predictors, Supervisor):  # in this process the code of systems and metrics runs, beside which nothing is to change
        progress.waiting()
    begun = last = time.monotonic()
    described: list[MetricCards] = []
    for built in _built(side_by_side([(predictors, jobs), (scorers, warmers)]), progress):
        if isinstance(built.result, MetricCards):
            described.append(built.result)
            costs.note(LOADS, METRICS, Spent(1, wall_s=time.monotonic() - begun))
            progress.advance(int(len(described) == len(warmers)))
            continue
        label = built.job.payload.label
        cards[label] = built.result
        costs.note(LOADS, label, Spent(1, wall_s=time.monotonic() - last))
        last = time.monotonic()
        progress.advance(seconds=costs.seconds(LOADS, label, 0.0))
    metrics = described[-1]
    progress.done()
    for key, reason in metrics.absent.items():
        progress.note(f"metric '{key}' is left out: {reason}")
    measured = [label for label, e in entrants.items() if not e.calibration or belongs(e.calibration, suite.info, metrics.metrics)]
    return metrics, {label: cards[label] for label in measured}


def _built(events: Iterable[Event], progress: Progress) -> Iterator[Finished]:
    for event in events:
        if isinstance(event, Loading):
            progress.loading(event.what)
            continue
        if isinstance(event, Broken):
            raise ConfigError(f"{event.job.name} cannot be built: {event.reason}\n{event.trace}".rstrip())
        yield event


def _plan_digest(config: Config, dataset: Dataset, metrics: Sequence[str]) -> str:
    """Names what a run is about: not where it is written nor how it is executed."""
    about = {k: config[k] for k in ("suite", "systems", *JUDGES, "also", "seeds") if k in config}
    if config["allow_random"]:
        about["allow_random"] = True
    return key_of("run", {**about, "dataset": dataset.rows_digest, "metrics": list(metrics)})


@dataclass
class _Before:
    """What a run finds in its folder."""

    folder: Path
    digest: str  # of the plan, by which, with the shard, an earlier start of the same run is known
    shard: str
    progress: Progress
    records: dict[str, object] = field(default_factory=dict)  # section of the manifest for those there, until others take their place
    manifest: Mapping[str, Any] = field(default_factory=dict)  # of an earlier start of the same run

    def conflict(self) -> str:
        """Something else that is there, or ""."""
        if not (self.folder / MANIFEST).exists():
            return ""
        try:
            there = read_manifest(self.folder)
        except NewerVersion:
            return "a run of a newer version of the harness"
        except DamagedFile as error:
            if self.digest not in (self.folder / MANIFEST).read_text(encoding="utf-8", errors="replace"):
                return f"something else or a damaged run ({error})"
            self.progress.note(f"{error}: it is written anew")
            return ""
        if there.get("plan_digest") != self.digest or there.get("shard", "1/1") != self.shard:
            return "another run (other systems, metrics or data)"
        self.manifest = there
        if "records" in there:
            self.records = {"records": there["records"]}
        return ""


def _sources_changed(before: Mapping[str, Any], manifest: Mapping[str, Any]) -> Iterator[str]:
    """A line for each plug-in whose code is another than when the run in this folder was made."""
    since = before.get("created", "the last run here")
    for kind in ("systems", "metrics"):
        for name, about in manifest[kind].items():
            earlier = (before.get(kind) or {}).get(name)
            if earlier is not None and _source(earlier) != _source(about):
                yield f"{kind[:-1]} '{name}': its source changed since {since}; what it made is made anew"
    if before and _source(before.get("suite") or {}) != _source(manifest["suite"]):
        yield f"suite '{manifest['suite']['name']}': its source changed since {since}; what it asks otherwise is made anew"


def _source(about: Mapping[str, Any]) -> str:
    """The digest of a plug-in's code in its entry of a manifest: systems state it, metrics have it among their parameters."""
    return str(about.get("source") or (about.get("params") or {}).get("source") or "")
