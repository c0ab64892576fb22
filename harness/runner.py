"""One run from configuration to records: plan, predict, score, join. The same command again resumes where it stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from harness.api import Item, MetricInfo, Record, Status, Suite, Task
from harness.config import Config
from harness.data.digests import file_digest, item_digest
from harness.data.manifests import Dataset, DatasetConfig, load_dataset
from harness.errors import ConfigError, Incomplete, Interrupted
from harness.executors import Broken, Executor, Job, Stop, build, jobs_in_chunks
from harness.folders import claimed
from harness.judges import PanelRecipe
from harness.plan import Attempt, Card, Entrant, attempts, calibration_entrants, calibration_metrics, score_key
from harness.predicting import Describe, Predicted, PredictWorker, default_threads
from harness.provenance import describe_run, now
from harness.registry import resolve
from harness.runfolder import MANIFEST, read_manifest, write_json, write_records
from harness.scoring import DescribePanel, Measure, PanelCard, ScoreWorker
from harness.store import Outcome, OutcomeWriter, Store, key_of


class Progress(Protocol):
    """Told what is going on; drawn by the command line."""

    def note(self, text: str) -> None: ...
    def stage(self, name: str, total: int) -> None: ...
    def advance(self, count: int = 1) -> None: ...
    def done(self) -> None: ...


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Args:
        folder: of the run.
        counts: records by status.
        failures: measurements that failed, timed out or had invalid input.
        max_failures: how many were allowed.
        predicted, scored: how many were computed now; the others came from the store.
    """

    folder: Path
    counts: Mapping[str, int]
    failures: int
    max_failures: int
    predicted: int
    scored: int

    def check(self) -> None:
        """Raises Incomplete when more failed than allowed."""
        if self.failures > self.max_failures:
            raise Incomplete(
                f"{self.failures} of {sum(self.counts.values())} measurements have no value because of failures or unreadable input "
                f"(allowed: run.max_failures={self.max_failures}); the table lists them. Everything else is complete in {self.folder}."
            )


@dataclass
class _Session:
    """What the steps of one run share."""

    config: Config
    suite: Suite
    dataset: Dataset
    entrants: dict[str, Entrant]
    store: Store
    progress: Progress
    stop: Stop
    writer: OutcomeWriter
    warmups_s: dict[str, float]

    @property
    def keep_failed(self) -> bool:
        return bool(self.config["run"]["keep_failed"])


def run(config: Config, command: str, progress: Progress) -> RunResult:
    """Carries out a run.

    Args:
        config: from `harness.config.compose`.
        command: as the user typed it, for the manifest.
        progress: told what is going on.

    Raises:
        UsageError: something cannot be done; nothing was run.
        Interrupted: the user stopped it; what was finished is stored.
        StoreError: the disk is full or not writable; what was finished is stored.
    """
    suite = _suite(config)
    dataset = load_dataset(DatasetConfig.from_mapping(config["dataset"]))
    names = list(config["systems"])
    if not names:
        raise ConfigError(f"no systems: write systems=[{','.join(suite.info.systems)}]; `harness list systems` shows all")
    entrants = {name: Entrant(name, config["systems"][name]) for name in names}
    keys = list(config["metrics"] or suite.info.metrics)
    for row in calibration_entrants(suite.info.calibration, dataset.items, suite.info.task):
        entrants.setdefault(row.label, row)
    for key in keys:
        resolve("metrics", key)
    root = Path(config["run"]["root"])
    digest = _plan_digest(config, dataset, keys)
    folder = root / (config["run"]["name"] or f"{suite.info.name}-{digest[:8]}")
    store = Store(root / "store")
    stop = Stop()
    with stop.install(), _claimed_by(config, folder, digest), ExitStack() as stack:
        progress.note(
            f"{suite.info.title}: {len(names)} systems, {len(dataset.items)} items of '{dataset.name}', {len(keys)} metrics -> {folder}"
        )
        writer = store.writer()
        stack.callback(writer.close)
        session = _Session(config, suite, dataset, entrants, store, progress, stop, writer, {})
        with _executors(session, keys) as (predictors, scorers):
            panel, cards = _describe(session, predictors, scorers)
            manifest = describe_run(config, command, digest, suite.info, dataset, cards, panel)
            write_json(folder / MANIFEST, manifest)
            digests = _digests(dataset, entrants)
            plan = attempts(entrants, cards, dataset.items, digests, config["seeds"], suite.info)
            score_keys: dict[tuple[str, str], str] = {}
            try:
                predicted = _predict(session, predictors, cards, plan)
                scored = _score(session, scorers, panel, plan, digests, score_keys)
            except Interrupted:
                _finish(
                    session, folder, {**manifest, "status": "partial"}, plan, list(_records(session, plan, panel, score_keys, partial=True))
                )
                raise
        records = list(_records(session, plan, panel, score_keys, partial=False))
        counts = _finish(session, folder, {**manifest, "status": "complete"}, plan, records)
        writer.close()
        store.compact()
    failures = sum(counts[s] for s in (Status.FAILED, Status.TIMEOUT, Status.INVALID_INPUT))
    return RunResult(folder, counts, failures, int(config["run"]["max_failures"]), predicted, scored)


def _finish(session: _Session, folder: Path, manifest: dict[str, Any], plan: Sequence[Attempt], records: Sequence[Record]) -> Counter[str]:
    """Writes records, then the manifest that declares them."""
    counts = Counter(str(r.status) for r in records)
    write_records(folder, records)
    for label, seconds in session.warmups_s.items():
        manifest["systems"][label]["warmup_s"] = round(seconds, 4)
    outputs = [{**asdict(a), **_stored(session.store, a)} for a in plan]
    write_json(
        folder / MANIFEST,
        {**manifest, "finished": now(), "counts": dict(counts), "outputs": outputs, "warnings": _flags(session.store, plan)},
    )
    return counts


def _stored(store: Store, attempt: Attempt) -> dict[str, Any]:
    """What the manifest says of an output: whether it is there, and of a synthesizer how it ended."""
    if not store.has_prediction(attempt.key):
        return {"stored": False}
    reason = store.describe_prediction(attempt.key)["stop_reason"]
    return {"stored": True, **({"stop_reason": reason} if reason else {})}


def _suite(config: Config) -> Suite:
    parameters = dict(config["suite"])
    name = parameters.pop("name")
    try:
        suite = resolve("suites", name)(**parameters)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"suite '{name}' cannot be built from {parameters}: {error}") from error
    if not isinstance(suite, Suite):
        raise ConfigError(f"suite '{name}' does not follow harness.api.Suite")
    if suite.info.task not in Task:
        raise ConfigError(f"suite '{name}' asks for the unknown task {suite.info.task}")
    return suite


def default_systems(config: Config) -> tuple[str, ...]:
    """The systems a suite runs when the user names none."""
    return tuple(_suite(config).info.systems)


def _plan_digest(config: Config, dataset: Dataset, metrics: Sequence[str]) -> str:
    """Names what a run is about: not where it is written nor how it is executed."""
    about = {k: config[k] for k in ("suite", "systems", "asr", "speaker", "mos", "seeds")}
    return key_of("run", {**about, "dataset": dataset.digest, "metrics": list(metrics)})


def _claimed_by(config: Config, folder: Path, digest: str) -> AbstractContextManager[None]:
    return claimed(
        folder,
        lambda: _other_run(folder, digest),
        overwrite=bool(config["run"]["overwrite"]),
        advice="choose another run.name=NAME, or run.overwrite=true to move it aside",
    )


def _other_run(folder: Path, digest: str) -> str:
    """What the folder holds that is not this run, or ""."""
    if not (folder / MANIFEST).exists() or read_manifest(folder).get("plan_digest") == digest:
        return ""
    return "another run (other systems, metrics or data)"


@contextmanager
def _executors(session: _Session, keys: Sequence[str]) -> Iterator[tuple[Executor, Executor]]:
    section = session.config["executor"]
    items = {item.id: item for item in session.dataset.items}
    threads = section["threads"] or default_threads()
    texts = tuple(item.text for item in session.dataset.items if item.language == "en" and item.text)
    judges = {k: session.config[k] for k in ("asr", "speaker", "mos")}
    recipe = PanelRecipe(keys, judges, texts, bool(session.config["run"]["allow_missing"]), session.suite.info.task)
    root = session.store.root
    kind = section["kind"]
    if kind not in ("local", "serial"):
        raise ConfigError(f"executor.kind={kind}: there are local and serial")
    workers = section["workers"] or default_threads()
    make = partial(build, kind, timeout_s=float(section["timeout_s"]), stop=session.stop)
    scorers = make(partial(ScoreWorker, root, recipe), workers=workers, threads=1)
    predictors = make(partial(PredictWorker, root, items, threads), workers=section["predict_workers"], threads=threads)
    try:
        yield predictors, scorers
    finally:
        predictors.close()
        scorers.close()


def _describe(session: _Session, predictors: Executor, scorers: Executor) -> tuple[PanelCard, dict[str, Card]]:
    """Builds every system and metric once, so that whatever is missing is said before anything runs."""
    session.progress.stage("loading systems and metrics", len(session.entrants) + 1)
    cards: dict[str, Card] = {}
    for event in predictors.run([Job(f"system '{e.label}'", e, (Describe(session.suite),)) for e in session.entrants.values()]):
        if isinstance(event, Broken):
            raise ConfigError(f"{event.job.name} cannot be built: {event.reason}\n{event.trace}".rstrip())
        cards[event.job.payload.label] = event.result
        session.progress.advance()
    panel: PanelCard | None = None
    # one job per worker, so that all of them have loaded before anything is timed
    warmers = [Job("the metrics", None, (DescribePanel(),)) for _ in range(scorers.size)]
    for event in scorers.run(warmers):
        if isinstance(event, Broken):
            raise ConfigError(f"the metrics cannot be built: {event.reason}\n{event.trace}".rstrip())
        panel = event.result
    assert panel is not None
    session.progress.advance()
    session.progress.done()
    for key, reason in panel.absent.items():
        session.progress.note(f"metric '{key}' is left out: {reason}")
    measured = [label for label, entrant in session.entrants.items() if not entrant.calibration or _metrics_of(entrant, panel)]
    return panel, {label: cards[label] for label in measured}


def _digests(dataset: Dataset, entrants: Mapping[str, Entrant]) -> dict[str, str]:
    found = {item.id: item_digest(item) for item in dataset.items}
    for entrant in entrants.values():
        for path in (entrant.recordings or {}).values():
            found[f"file:{path}"] = file_digest(path)
    return found


def _predict(session: _Session, executor: Executor, cards: Mapping[str, Card], plan: Sequence[Attempt]) -> int:
    known, _ = session.store.outcomes([a.key for a in plan])
    todo: dict[str, list[Attempt]] = {}
    failed_before = 0
    for attempt in plan:
        if session.store.has_prediction(attempt.key):
            continue
        before = known.get(attempt.key)
        if before is not None and (not before.retry or session.keep_failed):
            continue
        failed_before += before is not None
        todo.setdefault(attempt.label, []).append(attempt)
    total = sum(map(len, todo.values()))
    if total < len(plan):
        session.progress.note(
            f"predictions: {len(plan) - total} of {len(plan)} are already there"
            + (f", {failed_before} failed before and are tried again" if failed_before else "")
        )
    session.progress.stage("predicting", total)
    chunks = int(session.config["executor"]["predict_workers"])
    jobs = [job for label, steps in todo.items() for job in jobs_in_chunks(f"system '{label}'", session.entrants[label], steps, chunks)]
    for event in executor.run(jobs):
        if isinstance(event, Broken):
            for attempt in [event.step] if event.step is not None else event.job.steps:
                session.writer.append(attempt.key, _failure(event, "predict"))
                session.progress.advance()
            continue
        result: Predicted = event.result
        if result.warmup_s is not None:
            session.warmups_s.setdefault(event.job.payload.label, result.warmup_s)
        session.progress.advance()
    session.progress.done()
    return total


def _failure(event: Broken, stage: str) -> Outcome:
    status = Status.TIMEOUT if event.kind == "timeout" else Status.FAILED
    kind = {"crash": "native_crash: ", "oom": "oom: "}.get(event.kind, "")
    return Outcome(status, side="output", reason=f"{stage}: {kind}{event.reason}")


def _score(
    session: _Session,
    executor: Executor,
    panel: PanelCard,
    plan: Sequence[Attempt],
    digests: Mapping[str, str],
    keys: dict[tuple[str, str], str],
) -> int:
    """Measures what is not yet known; enters into ``keys`` the store key of every (prediction key, metric).

    Returns:
        How many were measured now.
    """
    store = session.store
    for attempt in plan:
        if store.has_prediction(attempt.key):
            prediction = store.describe_prediction(attempt.key)
            for name in _metrics_of(session.entrants[attempt.label], panel):
                keys[attempt.key, name] = score_key(prediction, digests[attempt.item], panel.metrics[name])
    known, dropped = store.outcomes(keys.values())
    if dropped:
        session.progress.note(f"{dropped} damaged records were dropped; what they held is measured again")
    steps: dict[str, dict[str, Measure]] = {}
    failed_before = 0
    for attempt in plan:
        for name in panel.metrics:
            key = keys.get((attempt.key, name))
            if key is None:
                continue
            before = known.get(key)
            if before is not None and (not before.retry or session.keep_failed):
                continue
            failed_before += before is not None
            steps.setdefault(attempt.item, {}).setdefault(key, Measure(attempt.key, name, key))
    total = sum(map(len, steps.values()))
    if total < len(set(keys.values())):
        there = len(set(keys.values())) - total
        session.progress.note(
            f"scores: {there} of {there + total} are already there"
            + (f", {failed_before} failed before and are tried again" if failed_before else "")
        )
    items = {item.id: item for item in session.dataset.items}
    session.progress.stage("scoring", total)
    jobs = [Job(f"item '{i}'", items[i], tuple(s.values())) for i, s in steps.items()]
    jobs.sort(key=lambda job: -_size(job.payload))  # the longest first, so that no worker is left with a long one at the end
    for event in executor.run(jobs):
        if isinstance(event, Broken):
            for measure in [event.step] if event.step is not None else event.job.steps:
                session.writer.append(measure.key, _failure(event, f"score {measure.metric}"))
                session.progress.advance()
            continue
        session.progress.advance()
    session.progress.done()
    return total


def _metrics_of(entrant: Entrant, panel: PanelCard) -> list[str]:
    return calibration_metrics(entrant.calibration, panel.metrics) if entrant.calibration else list(panel.metrics)


def _size(item: Item) -> int:
    return item.path.stat().st_size if item.path is not None and item.path.exists() else 0


def _records(
    session: _Session, plan: Sequence[Attempt], panel: PanelCard, keys: Mapping[tuple[str, str], str], *, partial: bool
) -> Iterator[Record]:
    """Exactly one record per attempt and metric, in the order of the plan; those not yet measured are left out of a partial run."""
    known, _ = session.store.outcomes([*keys.values(), *(a.key for a in plan)])
    items = {item.id: item for item in session.dataset.items}
    for attempt in plan:
        item = items[attempt.item]
        for name in _metrics_of(session.entrants[attempt.label], panel):
            info: MetricInfo = panel.metrics[name]
            key = keys.get((attempt.key, name))
            outcome = known.get(key if key is not None else attempt.key)
            if outcome is None and partial:
                continue
            if outcome is None:
                outcome = Outcome(Status.FAILED, side="output", reason="the measurement was lost; run the same command again")
            yield Record(
                suite=session.suite.info.name,
                system=attempt.label,
                item=item.id,
                metric=name,
                status=outcome.status,
                seed=attempt.seed,
                settings=attempt.settings,
                signature=info.signature(),
                value=outcome.value,
                weight=outcome.weight,
                side=outcome.side,
                reason=outcome.reason,
                dataset=item.dataset,
                language=item.language,
                speaker=item.speaker,
                synthetic=item.synthetic,
                counts=outcome.counts,
                detail=outcome.detail,
            )


def _flags(store: Store, plan: Sequence[Attempt]) -> list[dict[str, Any]]:
    """What was odd about outputs (clipped, dc ...), counted."""
    found: Counter[tuple[str, str]] = Counter()
    for attempt in plan:
        if store.has_prediction(attempt.key):
            for flag in store.describe_prediction(attempt.key).get("flags", []):
                found[attempt.label, flag] += 1
    return [{"system": label, "flag": flag, "items": count} for (label, flag), count in sorted(found.items())]
