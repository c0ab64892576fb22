"""The two stages of a run: outputs are predicted and stored, then scored; and the files of its folder, from what the store then knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.api import Record, Side, Status
from harness.errors import Incomplete
from harness.running.costs import PREDICTIONS, SCORES, prediction_name, score_name, share
from harness.running.early import Early
from harness.running.plan import RANDOM_WEIGHTS, Attempt
from harness.running.predicting import Predicted
from harness.running.provenance import now
from harness.running.scoring import Measure, Measured, flags_key
from harness.running.session import PREDICTING, SCORING, Session
from harness.storing.files import write_json
from harness.storing.outcomes import Outcome
from harness.storing.runfolder import MANIFEST, write_records
from harness.storing.store import Store
from harness.workers.jobs import Event, Executor, Finished, Loading, jobs_in_chunks, run_with_retries


def predict(session: Session, executor: Executor, scorers: Executor) -> tuple[int, int]:
    """Makes the predictions that are not there. Meanwhile idle scorers measure what is made (`harness.running.early`).

    What recorded systems *recall* is asked for by every run: nothing tells before whether it is still the same, and an output that is the
    same keeps its scores.

    Returns:
        How many predictions were made, and how many scores.
    """
    store, plan = session.store, session.plan
    recalled = {label for label, card in session.cards.items() if card.kind == "recorded" and not card.files}
    known = _Known(session, store.outcomes.find([a.key for a in plan]).found)
    todo: dict[str, list[Attempt]] = {}
    wrong: Counter[str] = Counter()
    for attempt in plan:
        if attempt.label in recalled:
            store.discard(attempt.key)
        elif store.has_prediction(attempt.key):
            if not (why := store.check_prediction(attempt.key)):
                continue
            wrong[why] += 1
        if known.lacks(attempt.key):
            todo.setdefault(attempt.label, []).append(attempt)
    for why, number in wrong.items():
        session.progress.note(f"{counted(number, 'stored prediction')} {why}: set aside, and made again")
    total = sum(map(len, todo.values()))
    known.note("predictions", len(plan), total)
    session.progress.stage(PREDICTING, total)
    jobs = [
        job for label, steps in todo.items() for job in jobs_in_chunks(f"system '{label}'", session.entrants[label], steps, executor.size)
    ]
    session.progress.expect({PREDICTING: sum(map(session.cost_of, (step for job in jobs for step in job.steps))) / executor.size})
    early = Early(session, [step for label, steps in todo.items() if label not in recalled for step in steps], total)
    for event in _finished(session, early.events(executor, jobs, scorers), executor.size):
        if isinstance(event.step, Measure):
            _measured(session, event)
            continue
        result: Predicted = event.result
        session.costs.note(PREDICTIONS, prediction_name(event.step.label, timed=event.step.timing is not None), result.spent)
        if result.warmup_s is not None:
            session.warmups_s.setdefault(event.job.payload.label, result.warmup_s)
        session.note_changes(event.job.name, result.changed)
        session.timed_here(result.timed_with)
    return total, early.measured


SHOWN_SO_FAR = 50_000
"""Records up to which figures are shown before all of them are there: each time, all that there are have to be read and written."""


def score(session: Session, executor: Executor, so_far: Callable[[], None], early: int = 0) -> int:
    """Measures what is not yet known, and says how much, with what was measured ``early`` (`predict`); enters into the session's
    ``score_keys`` and ``elsewhere``.

    Time and again ``so_far`` is called, where somebody wants to see figures (`show_so_far`).
    """
    store, plan, keys, infos = session.store, session.plan, session.score_keys, session.metrics.metrics
    for attempt in plan:
        for _ in session.enter(attempt):
            pass
    if session.elsewhere and any(map(session.times, infos)):
        session.progress.note(
            f"times of {counted(len(session.elsewhere), 'stored prediction')} are not shown: they were taken elsewhere, or with other threads "
            "or versions; suite=speed, metrics=[rtf] or a fresh run.root= times here"
        )
    lookup = store.outcomes.find(keys.values())
    if lookup.damaged:
        session.progress.note(f"{counted(lookup.damaged, 'damaged record')} dropped; what was lost with them is measured again")
    if lookup.others:
        session.progress.note(f"{counted(lookup.others, 'record')} of another version of the harness kept in {store.root}, not read")
    known = _Known(session, lookup.found)
    steps: dict[str, dict[str, Measure]] = {}
    signatures = {name: info.signature() for name, info in infos.items()}
    for attempt in plan:
        for name in infos:
            key = keys.get((attempt.key, name))
            if key is not None and key not in steps.get(attempt.item, ()) and known.lacks(key):
                steps.setdefault(attempt.item, {})[key] = Measure(attempt.key, name, key, signatures[name])
    total = sum(map(len, steps.values()))
    known.note("scores", len(set(keys.values())) - early, total)
    session.progress.stage(SCORING, total)
    jobs = [session.job(item, tuple(s.values())) for item, s in steps.items()]
    # the longest first, so that no worker is left with a long one at the end
    jobs.sort(key=lambda job: -(path.stat().st_size if (path := job.payload.item.path) is not None and path.exists() else 0))
    session.progress.expect({SCORING: sum(map(session.cost_of, (step for job in jobs for step in job.steps))) / executor.size})
    for event in _finished(session, run_with_retries(executor, jobs), executor.size):
        _measured(session, event)
        if session.progress.wants_figures and len(plan) * len(infos) <= SHOWN_SO_FAR:
            so_far()
    return early + total


def _measured(session: Session, event: Finished) -> None:
    result: Measured = event.result
    spent = replace(result.spent, calls=share(event.step.metric, session.metrics.metrics))
    session.costs.note(SCORES, score_name(event.step.metric, session.config), replace(spent, audio_s=spent.calls * spent.audio_s))
    session.note_changes(f"metric '{event.step.metric}'", result.changed)


class _Known:
    """What the store knows, and how much of it failed and is tried again."""

    def __init__(self, session: Session, found: Mapping[str, Outcome]) -> None:
        self._session, self._found, self._failed_before = session, found, 0
        self._keep_failed = bool(session.config["run"]["keep_failed"])

    def lacks(self, key: str) -> bool:
        """Whether it is to be made now."""
        before = self._found.get(key)
        if before is not None and (not before.retry or self._keep_failed):
            return False
        self._failed_before += before is not None
        return True

    def note(self, what: str, wanted: int, todo: int) -> None:
        """Says how much is there already, if anything."""
        if todo < wanted:
            again = f", {self._failed_before} failed before and are tried again" if self._failed_before else ""
            self._session.progress.note(f"{what}: {wanted - todo} of {wanted} are already there{again}")


def _finished(session: Session, events: Iterable[Event], size: int) -> Iterator[Finished]:
    """The steps that ended by themselves; of the others an outcome is stored. The stage is done by ``size`` workers."""
    progress = session.progress
    for event in events:
        if isinstance(event, Loading):
            progress.loading(event.what)
            continue
        if isinstance(event, Finished):
            yield event
            _advance(session, event.step, size)
            continue
        for step in [event.step] if event.step is not None else event.job.steps:
            stage = f"score {step.metric}" if isinstance(step, Measure) else "predict"
            status = Status.TIMEOUT if event.kind == "timeout" else Status.FAILED
            kind = {"crash": "native_crash: ", "killed": "killed: ", "oom": "oom: "}.get(event.kind, "")
            session.writer.append(step.key, Outcome(status, side="output", reason=f"{stage}: {kind}{event.reason}"))
            _advance(session, step, size)
    progress.done()


def _advance(session: Session, step: Attempt | Measure, size: int) -> None:
    """A step of this stage is done, or one of the next."""
    if isinstance(step, Measure) and session.progress.name == PREDICTING:
        session.progress.ahead(SCORING, session.cost_of(step) / size)
    else:
        session.progress.advance(seconds=session.cost_of(step) / size)


def counted(number: int, noun: str) -> str:
    """So many of a thing, as "1 item" and "2 items"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@dataclass(frozen=True)
class RunResult:
    """A finished run."""

    folder: Path
    counts: Mapping[str, int]  # records by status
    failures: int  # measurements without a value that count as failures (`fails`)
    max_failures: int  # how many were allowed, in each shard
    predicted: int = 0  # how many were computed now; the others came from the store
    scored: int = 0
    shards: int = 1  # of which it was joined

    @property
    def records(self) -> int:
        """How many."""
        return sum(self.counts.values())

    def check(self) -> None:
        """Raises Incomplete when more failed than allowed."""
        if self.failures > self.max_failures:
            raise Incomplete(
                f"{self.failures} of {self.records} measurements have no value because of failures, unreadable input or outputs that cannot be "
                f"scored (allowed: run.max_failures={self.max_failures}); the table lists them. Everything else is complete in {self.folder}."
            )


def records(session: Session, known: Mapping[str, Outcome], *, partial: bool) -> Iterator[Record]:
    """In the order of the plan; those not yet measured are left out of a partial run."""
    aliases = session.aliases
    signatures = {name: aliases.text(info.signature()) for name, info in session.metrics.metrics.items()}
    for attempt in session.plan:
        item = session.items[attempt.item]
        for name in session.metrics_of(attempt):
            outcome = known.get(session.score_keys.get((attempt.key, name), attempt.key)) or _not_measured(session, attempt, name)
            if outcome is None and partial:
                continue
            if outcome is None:
                outcome = Outcome(Status.FAILED, side="output", reason="the measurement was lost; run the same command again")
            reason = aliases.text(outcome.reason) if outcome.reason else ""
            detail = {k: aliases.text(v) if isinstance(v, str) else v for k, v in outcome.detail.items()}
            yield Record(
                suite=session.suite.name,
                system=attempt.label,
                item=item.id,
                metric=name,
                seed=attempt.seed,
                settings=attempt.settings,
                signature=signatures[name],
                dataset=item.dataset,
                language=item.language,
                speaker=item.speaker,
                synthetic=item.synthetic,
                **{**vars(outcome), "reason": reason, "detail": detail},
            )


def _not_measured(session: Session, attempt: Attempt, metric: str) -> Outcome | None:
    """Why a number was not asked for, if that is so."""
    if (attempt.label, metric) in session.withheld and session.store.has_prediction(attempt.key):
        return RANDOM_WEIGHTS
    if attempt.key in session.elsewhere and session.times(metric):
        reason = f"timed elsewhere: {session.elsewhere[attempt.key]}; suite=speed, metrics=[{metric}] or a fresh run.root= times here"
        return Outcome(Status.SKIPPED_BY_POLICY, reason=reason)
    return None


def show_so_far(session: Session, folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes the records of the items that are measured by everything, and shows their figures; nothing where there is no such item."""
    known = session.store.outcomes.find(session.score_keys.values()).found
    wanted = [
        (attempt.item, session.score_keys.get((attempt.key, name))) for attempt in session.plan for name in session.metrics_of(attempt)
    ]
    complete = set(session.items) - {item for item, key in wanted if key is not None and key not in known}
    if complete:
        items = {name: about for name, about in manifest["items"].items() if name in complete}
        plan, session.plan = session.plan, [attempt for attempt in session.plan if attempt.item in complete]
        try:
            write_run(session, folder, {**manifest, "items": items, "status": "partial"})
        finally:
            session.plan = plan
        session.progress.figures(folder, f"so far, {len(complete)} of {counted(len(session.items), 'item')}")


def write_run(session: Session, folder: Path, manifest: dict[str, Any]) -> tuple[Counter[str], int]:
    """Writes records, then the manifest that declares them; its ``status`` says whether the run is whole. Raises StoreError.

    Returns:
        Number of records by status, and how many of them are failures (`fails`).
    """
    counts: Counter[str] = Counter()
    failures = 0
    untested = {*manifest["calibration"], *(label for label, info in manifest["systems"].items() if info["anchor"])}
    sides = list(_sides(session))
    known = session.store.outcomes.find([*session.score_keys.values(), *(a.key for a in session.plan), *(key for _, key in sides)]).found
    warnings = Counter(("", side, flag) for side, key in sides if key in known for flag in str(known[key].detail["flags"]).split())

    def counting() -> Iterator[Record]:
        nonlocal failures
        for record in records(session, known, partial=manifest["status"] == "partial"):
            counts[str(record.status)] += 1
            failures += fails(record, untested)
            yield record

    section = write_records(folder, counting())
    for label, seconds in session.warmups_s.items():
        manifest["systems"][label]["warmup_s"] = round(seconds, 4)
    outputs = [_output(session.store, a) for a in session.plan]
    warnings.update((output["label"], "", flag) for output in outputs for flag in output.get("flags", ()))
    ends = {
        "finished": now(),
        "records": section,
        "counts": dict(counts),
        "failures": failures,
        "outputs": outputs,
        "warnings": warning_list(warnings),
    }
    write_json(folder / MANIFEST, {**manifest, **ends})
    return counts, failures


def _sides(session: Session) -> Iterator[tuple[str, str]]:
    """Of every item's recording and prompt: its side, and where the store keeps what is odd about it."""
    for item, contents in {a.item: a.contents for a in session.plan}.items():
        for side, content in (("reference", contents.recording), ("prompt", contents.prompt)):
            if content and ":" not in content:
                yield side, flags_key(content, session.items[item].channel)


def fails(record: Record, untested: Collection[str]) -> bool:
    """Whether a record lacks its value through a fault that a run must not end well with.

    That is whatever crashed, hung or could not be read, and an output that a metric cannot score, where a system under test made it: the
    table lists all of them. A sound recording that a metric cannot score is nobody's failure, nor is what an anchor or a calibration row
    (``untested``) loses.
    """
    if record.status == Status.METRIC_UNDEFINED:
        return record.side != Side.REFERENCE and record.system not in untested
    return record.status not in (Status.OK, Status.SKIPPED_BY_POLICY)


def _output(store: Store, attempt: Attempt) -> dict[str, Any]:
    """What the manifest says of an output: whether it is there, what is odd about it, and of a synthesizer how it ended."""
    about = {name: getattr(attempt, name) for name in ("label", "settings", "item", "seed", "key")}
    about |= {"timing": asdict(attempt.timing) if attempt.timing else None, "stored": store.has_prediction(attempt.key)}
    if about["stored"]:
        prediction = store.describe_prediction(attempt.key)
        about |= {name: prediction[name] for name in ("stop_reason", "flags") if prediction.get(name)}
    return about


def warning_list(found: Mapping[tuple[str, str, str], int]) -> list[dict[str, Any]]:
    """What was odd about outputs of a system, or about recordings and prompts, which belong to none: items by system, side and flag."""
    return [
        {"system": system, **({"side": side} if side else {}), "flag": flag, "items": n}
        for (system, side, flag), n in sorted(found.items())
    ]
