"""One run from configuration to records: plan, predict, score, join. The same command again resumes where it stopped."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.api import Item, Need, Status, Suite, SuiteInfo, Task
from harness.data.manifests import Dataset, DatasetConfig, load_dataset
from harness.errors import ConfigError, DamagedFile, Interrupted, NewerVersion
from harness.foreign import attempt as attempt_foreign
from harness.foreign import reason_of
from harness.kept import Kept
from harness.running.joining import Join, refuse_failures
from harness.running.plan import Attempt, Digests, Entrant, attempts, reference_rows, score_key
from harness.running.predicting import Predicted
from harness.running.provenance import Asked, describe_run, timed_elsewhere
from harness.running.scoring import Measure, MetricCards, Subject
from harness.running.shards import Shard, publish
from harness.running.withheld import Withheld, withheld
from harness.running.workforce import Progress, describe, employed, metrics_of, recipe_of
from harness.settings.config import Config
from harness.settings.registry import resolve
from harness.settings.sources import source_digest
from harness.storing.aliases import Aliases, without_secrets
from harness.storing.files import write_json
from harness.storing.folders import claimed
from harness.storing.outcomes import Outcome, OutcomeWriter
from harness.storing.runfolder import MANIFEST, read_manifest
from harness.storing.store import Store, key_of
from harness.workers.jobs import Broken, Executor, Job, Stop, jobs_in_chunks, run_with_retries


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Args:
        folder: of the run.
        counts: records by status.
        failures: measurements without a value that count as failures (`harness.running.joining.fails`).
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
        refuse_failures(self.folder, self.failures, sum(self.counts.values()), self.max_failures)


@dataclass
class _Session:
    """What the steps of one run share."""

    config: Config
    items: Mapping[str, Item]
    entrants: dict[str, Entrant]
    store: Store
    progress: Progress
    stop: Stop
    writer: OutcomeWriter
    warmups_s: dict[str, float] = field(default_factory=dict)
    withheld: Withheld = frozenset()
    put_back: dict[str, list[str]] = field(default_factory=dict)
    timed_with: list[Mapping[str, str]] = field(default_factory=list)
    elsewhere: dict[str, str] = field(default_factory=dict)

    def timed_here(self, taken_with: Mapping[str, str]) -> None:
        """Notes what times of this run depend on; those found in the store count only if they are of the same."""
        if taken_with and taken_with not in self.timed_with:
            self.timed_with.append(taken_with)

    @property
    def keep_failed(self) -> bool:
        return bool(self.config["run"]["keep_failed"])

    def note_changes(self, who: str, changed: Sequence[str]) -> None:
        """Says once what somebody's code changed for the whole process, or of what it was lent."""
        known = self.put_back.setdefault(who, []) if changed else []
        if new := [what for what in changed if what not in known]:
            known.extend(new)
            self.progress.note(f"{who} changed {', '.join(new)}: put back")


def run(config: Config, command: str, progress: Progress, dataset: Dataset | None = None) -> RunResult:
    """Carries out a run.

    Args:
        config: from `harness.settings.config.compose`.
        command: as the user typed it, for the manifest.
        progress: told what is going on.
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
    keys = list(config["metrics"] or suite.info.metrics)
    for row in reference_rows(suite.info, dataset.items):
        entrants.setdefault(row.label, row)
    for key in keys:
        resolve("metrics", key)
    shard = Shard.parsed(config["run"]["shard"])
    items = shard.of(dataset.items)
    root = Path(config["run"]["root"])
    digest = _plan_digest(config, dataset, keys)
    folder = root / shard.named(config["run"]["name"] or f"{suite.info.name}-{digest[:8]}")
    store = Store(root / "store")
    stop = Stop()
    before = _Before(folder, digest, str(shard), progress)
    with stop.install(), _claimed_by(config, folder, before), ExitStack() as stack:
        progress.note(
            f"{suite.info.title}: {_counted(len(names), 'system')}, {_counted(len(items), 'item')} of '{dataset.name}'{shard.described}, "
            f"{_counted(len(keys), 'metric')} -> {folder}"
        )
        for line in dataset.remarks:
            progress.note(line)
        writer = store.outcomes.writer()
        stack.callback(writer.close)
        session = _Session(config, {i.id: i for i in items}, entrants, store, progress, stop, writer)
        recipe = recipe_of(config, suite, keys, dataset.items)
        with employed(config["executor"], store.root, session.items, recipe, stop) as workforce:
            panel, cards = describe(workforce, suite, entrants, progress)
            session.withheld = withheld(cards, panel.metrics, bool(config["allow_random"]))
            for card in cards.values():
                session.timed_here(card.timed_with)
            cut = shard.cut(dataset)
            progress.stage("hashing the recordings", len(items))
            digests = Digests.of(items, cut.hashed(progress.advance), entrants.values())
            progress.stage("planning", None)
            aliases = Aliases.here(config, dataset.root)
            aliases.save(store.root, digest)
            manifest = describe_run(Asked(config, command, digest, suite.info, cut), cards, panel, aliases)
            manifest["shard"] = str(shard)
            if source := source_digest(suite):
                manifest["suite"]["source"] = source
            for line in _sources_changed(before.manifest, manifest):
                progress.note(line)
            write_json(folder / MANIFEST, {**manifest, **before.records})
            progress.stage("looking up what is there", None)
            timed = bool(config["metrics"]) and any(Need.TIMING in info.needs for info in panel.metrics.values())
            plan = attempts(entrants, cards, items, digests, config["seeds"], suite.info, timed)
            score_keys: dict[tuple[str, str], str] = {}
            join = Join(
                suite.info.name, store, session.items, entrants, plan, panel, score_keys, aliases, session.withheld, session.elsewhere
            )
            try:
                recalled = {label for label, card in cards.items() if card.kind == "recorded" and not card.files}
                predicted = _predict(session, workforce.predictors, plan, recalled)
                scored = _score(session, workforce.scorers, panel, plan, digests, score_keys)
            except Interrupted:
                join.write(folder, {**manifest, "status": "partial", "put_back": session.put_back}, session.warmups_s)
                raise
        told = {
            "timed_with": [{k: v for k, v in one.items() if k != "machine"} for one in session.timed_with],
            "put_back": session.put_back,
        }
        counts, failures = join.write(folder, {**manifest, **told, "status": "complete"}, session.warmups_s)
        writer.close()
        store.compact()
        if config["run"]["publish"]:
            progress.note(f"published: {without_secrets(publish(folder, str(config['run']['publish'])))}")
    return RunResult(folder, counts, failures, int(config["run"]["max_failures"]), predicted, scored)


def _suite(config: Config) -> Suite:
    parameters = dict(config["suite"])
    name = parameters.pop("name")
    make = resolve("suites", name)
    try:
        with Kept(settling=True):
            suite: Suite = attempt_foreign(lambda: make(**parameters))
            sound = attempt_foreign(lambda: isinstance(suite, Suite) and isinstance(suite.info, SuiteInfo))
            attempt_foreign(lambda: pickle.dumps(suite))  # systems are described in other processes
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


def _plan_digest(config: Config, dataset: Dataset, metrics: Sequence[str]) -> str:
    """Names what a run is about: not where it is written nor how it is executed."""
    about = {k: config[k] for k in ("suite", "systems", "asr", "speaker", "mos", "seeds")}
    if config["allow_random"]:
        about["allow_random"] = True
    return key_of("run", {**about, "dataset": dataset.rows_digest, "metrics": list(metrics)})


@dataclass
class _Before:
    """What a run finds in its folder.

    Args:
        folder: of the run.
        digest, shard: by which an earlier start of the same run is known.
        progress: told of a manifest that is damaged.
        records: section of the manifest for the records that lie there, until others take their place.
        manifest: of an earlier start of the same run.
    """

    folder: Path
    digest: str
    shard: str
    progress: Progress
    records: dict[str, object] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)

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


def _claimed_by(config: Config, folder: Path, before: _Before) -> AbstractContextManager[None]:
    advice = "choose another run.name=NAME, or run.overwrite=true to move it aside"
    return claimed(folder, before.conflict, overwrite=bool(config["run"]["overwrite"]), advice=advice)


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


def _predict(session: _Session, executor: Executor, plan: Sequence[Attempt], recalled: Set[str] = frozenset()) -> int:
    """Makes the predictions that are not there. What systems ``recalled`` say is asked for by every run: nothing tells before whether it is
    still the same, and an output that is the same keeps its scores.
    """
    known = session.store.outcomes.find([a.key for a in plan]).found
    todo: dict[str, list[Attempt]] = {}
    failed_before = 0
    wrong: Counter[str] = Counter()
    for attempt in plan:
        if attempt.label in recalled:
            session.store.discard(attempt.key)
        elif session.store.has_prediction(attempt.key):
            if not (why := session.store.check_prediction(attempt.key)):
                continue
            wrong[why] += 1
        before = known.get(attempt.key)
        if before is not None and (not before.retry or session.keep_failed):
            continue
        failed_before += before is not None
        todo.setdefault(attempt.label, []).append(attempt)
    total = sum(map(len, todo.values()))
    for why, number in wrong.items():
        session.progress.note(f"{_counted(number, 'stored prediction')} {why}: set aside, and made again")
    _note_what_is_there(session, "predictions", len(plan), total, failed_before)
    session.progress.stage("predicting", total)
    jobs = [
        job for label, steps in todo.items() for job in jobs_in_chunks(f"system '{label}'", session.entrants[label], steps, executor.size)
    ]
    for event in run_with_retries(executor, jobs):
        if isinstance(event, Broken):
            for attempt in [event.step] if event.step is not None else event.job.steps:
                session.writer.append(attempt.key, _failure(event, "predict"))
                session.progress.advance()
            continue
        result: Predicted = event.result
        if result.warmup_s is not None:
            session.warmups_s.setdefault(event.job.payload.label, result.warmup_s)
        session.note_changes(event.job.name, result.changed)
        session.timed_here(result.timed_with)
        session.progress.advance()
    session.progress.done()
    return total


def _failure(event: Broken, stage: str) -> Outcome:
    status = Status.TIMEOUT if event.kind == "timeout" else Status.FAILED
    kind = {"crash": "native_crash: ", "killed": "killed: ", "oom": "oom: "}.get(event.kind, "")
    return Outcome(status, side="output", reason=f"{stage}: {kind}{event.reason}")


def _score(
    session: _Session,
    executor: Executor,
    panel: MetricCards,
    plan: Sequence[Attempt],
    digests: Digests,
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
            taken_with = (prediction["timing"] or {}).get("taken_with", {})
            if prediction["timing"] and taken_with not in session.timed_with:
                session.elsewhere[attempt.key] = timed_elsewhere(taken_with, session.timed_with)
            for name in metrics_of(session.entrants[attempt.label], panel):
                if (attempt.label, name) in session.withheld:
                    continue
                if attempt.key in session.elsewhere and Need.TIMING in panel.metrics[name].needs:
                    continue
                keys[attempt.key, name] = score_key(prediction, digests.items[attempt.item], panel.metrics[name])
    if session.elsewhere and any(Need.TIMING in info.needs for info in panel.metrics.values()):
        session.progress.note(
            f"times of {_counted(len(session.elsewhere), 'stored prediction')} are not shown: they were taken elsewhere, or with other threads "
            "or versions; suite=speed, metrics=[rtf] or a fresh run.root= times here"
        )
    lookup = store.outcomes.find(keys.values())
    known = lookup.found
    if lookup.damaged:
        session.progress.note(f"{_counted(lookup.damaged, 'damaged record')} dropped; what was lost with them is measured again")
    if lookup.others:
        session.progress.note(f"{_counted(lookup.others, 'record')} of another version of the harness kept in {store.root}, not read")
    steps: dict[str, dict[str, Measure]] = {}
    signatures = {name: info.signature() for name, info in panel.metrics.items()}
    failed_before = 0
    for attempt in plan:
        for name in panel.metrics:
            key = keys.get((attempt.key, name))
            if key is None or key in steps.get(attempt.item, ()):
                continue
            before = known.get(key)
            if before is not None and (not before.retry or session.keep_failed):
                continue
            failed_before += before is not None
            steps.setdefault(attempt.item, {})[key] = Measure(attempt.key, name, key, signatures[name])
    total = sum(map(len, steps.values()))
    _note_what_is_there(session, "scores", len(set(keys.values())), total, failed_before)
    session.progress.stage("scoring", total)
    jobs = [Job(f"item '{i}'", Subject(session.items[i], digests.contents[i]), tuple(s.values())) for i, s in steps.items()]
    jobs.sort(key=lambda job: -_size(job.payload.item))  # the longest first, so that no worker is left with a long one at the end
    for event in run_with_retries(executor, jobs):
        if isinstance(event, Broken):
            for measure in [event.step] if event.step is not None else event.job.steps:
                session.writer.append(measure.key, _failure(event, f"score {measure.metric}"))
                session.progress.advance()
            continue
        session.note_changes(f"metric '{event.step.metric}'", event.result.changed)
        session.progress.advance()
    session.progress.done()
    return total


def _note_what_is_there(session: _Session, what: str, wanted: int, todo: int, failed_before: int) -> None:
    if todo < wanted:
        again = f", {failed_before} failed before and are tried again" if failed_before else ""
        session.progress.note(f"{what}: {wanted - todo} of {wanted} are already there{again}")


def _size(item: Item) -> int:
    return item.path.stat().st_size if item.path is not None and item.path.exists() else 0


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
