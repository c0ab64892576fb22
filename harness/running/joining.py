"""From what the store knows to the files of a run folder: exactly one record per attempt and metric, and the manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.api import Item, Need, Record, Side, Status
from harness.errors import Incomplete
from harness.running.plan import Attempt, Entrant
from harness.running.provenance import now
from harness.running.scoring import MetricCards, flags_key
from harness.running.withheld import RANDOM_WEIGHTS, Withheld
from harness.running.workforce import metrics_of
from harness.storing.aliases import Aliases
from harness.storing.files import write_json
from harness.storing.outcomes import Outcome
from harness.storing.runfolder import MANIFEST, write_records
from harness.storing.store import Store

ScoreKeys = Mapping[tuple[str, str], str]
"""The store key of every (prediction key, metric) whose prediction is there."""


@dataclass(frozen=True)
class Join:
    """What is joined.

    Args:
        suite: name.
        store: where outcomes lie.
        items: of the plan, by id.
        entrants: by label.
        plan: every attempt, in order.
        panel: the metrics.
        keys: of the scores.
        aliases: of folders that reasons name.
        withheld: what is not measured of which entrant.
        elsewhere: of predictions whose time was not taken as this run takes times: how it was, in words, by their key.
    """

    suite: str
    store: Store
    items: Mapping[str, Item]
    entrants: Mapping[str, Entrant]
    plan: Sequence[Attempt]
    panel: MetricCards
    keys: ScoreKeys
    aliases: Aliases
    withheld: Withheld = frozenset()
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    def records(self, known: Mapping[str, Outcome], *, partial: bool) -> Iterator[Record]:
        """In the order of the plan; those not yet measured are left out of a partial run."""
        signatures = {name: self.aliases.text(info.signature()) for name, info in self.panel.metrics.items()}
        for attempt in self.plan:
            for name in metrics_of(self.entrants[attempt.label], self.panel):
                key = self.keys.get((attempt.key, name))
                outcome = known.get(key if key is not None else attempt.key)
                if outcome is None and (attempt.label, name) in self.withheld and self.store.has_prediction(attempt.key):
                    outcome = RANDOM_WEIGHTS
                if outcome is None and attempt.key in self.elsewhere and Need.TIMING in self.panel.metrics[name].needs:
                    reason = (
                        f"timed elsewhere: {self.elsewhere[attempt.key]}; suite=speed, metrics=[{name}] or a fresh run.root= times here"
                    )
                    outcome = Outcome(Status.SKIPPED_BY_POLICY, reason=reason)
                if outcome is None and partial:
                    continue
                if outcome is None:
                    outcome = Outcome(Status.FAILED, side="output", reason="the measurement was lost; run the same command again")
                yield self._record(attempt, name, signatures[name], outcome)

    def _record(self, attempt: Attempt, metric: str, signature: str, outcome: Outcome) -> Record:
        item = self.items[attempt.item]
        return Record(
            suite=self.suite,
            system=attempt.label,
            item=item.id,
            metric=metric,
            status=outcome.status,
            seed=attempt.seed,
            settings=attempt.settings,
            signature=signature,
            value=outcome.value,
            weight=outcome.weight,
            side=outcome.side,
            reason=self.aliases.text(outcome.reason) if outcome.reason else "",
            dataset=item.dataset,
            language=item.language,
            speaker=item.speaker,
            synthetic=item.synthetic,
            counts=outcome.counts,
            detail={k: self.aliases.text(v) if isinstance(v, str) else v for k, v in outcome.detail.items()},
        )

    def write(self, folder: Path, manifest: dict[str, Any], warmups_s: Mapping[str, float]) -> tuple[Counter[str], int]:
        """Writes records, then the manifest that declares them; its ``status`` says whether the run is whole.

        Returns:
            Number of records by status, and how many of them are failures (`fails`).

        Raises:
            StoreError: not writable.
        """
        counts: Counter[str] = Counter()
        failures = 0
        untested = {*manifest["calibration"], *(label for label, info in manifest["systems"].items() if info["anchor"])}
        sides = list(self._sides())
        known = self.store.outcomes.find([*self.keys.values(), *(a.key for a in self.plan), *(key for _, key in sides)]).found
        odd = [(side, str(known[key].detail["flags"])) for side, key in sides if key in known]

        def counted() -> Iterator[Record]:
            nonlocal failures
            for record in self.records(known, partial=manifest["status"] == "partial"):
                counts[str(record.status)] += 1
                failures += fails(record, untested)
                yield record

        records = write_records(folder, counted())
        for label, seconds in warmups_s.items():
            manifest["systems"][label]["warmup_s"] = round(seconds, 4)
        outputs = [{**_planned(a), **_stored(self.store, a)} for a in self.plan]
        ends = {
            "finished": now(),
            "records": records,
            "counts": dict(counts),
            "failures": failures,
            "outputs": outputs,
            "warnings": [*_flags_of_files(odd), *_flags(outputs)],
        }
        write_json(folder / MANIFEST, {**manifest, **ends})
        return counts, failures

    def _sides(self) -> Iterator[tuple[str, str]]:
        """Of every item's recording and prompt: its side, and where the store keeps what is odd about it."""
        for item, contents in {a.item: a.contents for a in self.plan}.items():
            for side, content in (("reference", contents.recording), ("prompt", contents.prompt)):
                if content and ":" not in content:
                    yield side, flags_key(content, self.items[item].channel)


def fails(record: Record, untested: Collection[str]) -> bool:
    """Whether a record lacks its value through a fault that a run must not end well with.

    That is whatever crashed, hung or could not be read, and an output that a metric cannot score, where a system under test made it: the
    table lists all of them. A sound recording that a metric cannot score is nobody's failure, nor is what an anchor loses.

    Args:
        record: of the run.
        untested: labels of calibration rows and anchors.
    """
    if record.status is Status.METRIC_UNDEFINED:
        return record.side != Side.REFERENCE and record.system not in untested
    return record.status not in (Status.OK, Status.SKIPPED_BY_POLICY)


def refuse_failures(folder: Path, failures: int, records: int, allowed: int) -> None:
    """Raises Incomplete when more failed than allowed."""
    if failures > allowed:
        raise Incomplete(
            f"{failures} of {records} measurements have no value because of failures, unreadable input or outputs that cannot be scored "
            f"(allowed: run.max_failures={allowed}); the table lists them. Everything else is complete in {folder}."
        )


def _planned(attempt: Attempt) -> dict[str, Any]:
    """What the manifest says of an attempt; the contents of an item's files stand with the items."""
    timing = asdict(attempt.timing) if attempt.timing else None
    return {**{name: getattr(attempt, name) for name in ("label", "settings", "item", "seed", "key")}, "timing": timing}


def _stored(store: Store, attempt: Attempt) -> dict[str, Any]:
    """What the manifest says of an output: whether it is there, what is odd about it, and of a synthesizer how it ended."""
    if not store.has_prediction(attempt.key):
        return {"stored": False}
    told = store.describe_prediction(attempt.key)
    return {"stored": True, **{name: told[name] for name in ("stop_reason", "flags") if told.get(name)}}


def _flags(outputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What was odd about outputs (clipped, dc ...), counted."""
    found = Counter((str(output["label"]), flag) for output in outputs for flag in output.get("flags", ()))
    return [{"system": label, "flag": flag, "items": count} for (label, flag), count in sorted(found.items())]


def _flags_of_files(odd: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """The same of recordings and prompts, which belong to no system."""
    found = Counter((side, flag) for side, flags in odd for flag in flags.split())
    return [{"system": "", "side": side, "flag": flag, "items": count} for (side, flag), count in sorted(found.items())]
