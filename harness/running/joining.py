"""From what the store knows to the files of a run folder: exactly one record per attempt and metric, and the manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.api import Record, Side, Status
from harness.errors import Incomplete
from harness.running.plan import RANDOM_WEIGHTS, Attempt
from harness.running.provenance import now
from harness.running.scoring import flags_key
from harness.running.stages import Session
from harness.storing.files import write_json
from harness.storing.outcomes import Outcome
from harness.storing.runfolder import MANIFEST, write_records
from harness.storing.store import Store


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
