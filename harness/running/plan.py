"""What a run will do: every prediction to make and every number to measure, each under its content key."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.api import Better, CodecSpec, Item, MetricInfo, Need, Settings, Status, SuiteInfo, SystemInfo, Task, TimingPlan, Weights
from harness.api.libraries import library
from harness.data.digests import Contents, file_digest, item_digest
from harness.metrics.tokens import SHIFT_S
from harness.storing.outcomes import Outcome
from harness.storing.store import key_of


@dataclass(frozen=True)
class Entrant:
    """A row of the tables: a system under test, or a calibration row."""

    label: str  # its name in the run
    config: Mapping[str, Any]  # registry family and parameters; empty for a calibration row
    calibration: str = ""  # "same_speaker", "impostor" or "ground_truth"
    recordings: Mapping[str, Path] | None = None  # of a calibration row, by item id


@dataclass(frozen=True)
class Card:
    """What a system says of itself once it is built."""

    info: SystemInfo
    spec: CodecSpec | None  # of a codec
    kind: str  # "codec", "synthesizer", "recorded" or "calibration"
    settings: tuple[Settings, ...]  # the variants the suite asks of it
    files: Mapping[str, str] = field(default_factory=dict)  # `file_digest` of recorded outputs, by item id
    source: str = ""  # digest of its code where it is a plug-in's (`harness.settings.registry`): built-in ones have their version
    timed_with: Mapping[str, str] = field(default_factory=dict)  # what its times depend on (`harness.running.provenance.timed_with`)

    def identity(self) -> dict[str, Any]:
        """Everything of it that shapes an output: what it says of itself, a plug-in's code, the resampler that feeds a codec, a file's decoder."""
        info = asdict(self.info)
        if self.info.device.startswith("cuda:"):
            info["device"] = "cuda"  # which of several makes no difference
        fed = {"resampler": library("soxr")} if self.spec else {}
        if self.kind in ("recorded", "calibration"):
            fed["decoder"] = library("soundfile")
        return {"info": info, "spec": asdict(self.spec) if self.spec else None, "source": self.source, **fed}

    def digest(self) -> str:
        """Of its identity: another process that builds another one (of other weights, say) has another digest."""
        return key_of("card", self.identity())


@dataclass(frozen=True)
class Attempt:
    """One prediction to make."""

    label: str  # of the entrant
    settings: str  # JSON text of the variant
    item: str  # id
    seed: int  # for systems that sample
    key: str  # of the prediction in the store
    card: str  # digest of the system's card
    contents: Contents  # of the item's files
    output: str = ""  # content of the file that is the output itself, of recorded outputs and calibration rows
    timing: TimingPlan | None = None  # how it is timed, by a suite that asks for that
    again: bool = False  # whether the codec encodes its own output, and the input a little later, as well


@dataclass(frozen=True)
class Digests:
    """What everything that a run reads held when it was planned."""

    contents: Mapping[str, Contents]  # of each item's files, by its id
    items: Mapping[str, str]  # `item_digest` by id
    files: Mapping[Path, str]  # of the calibration rows' recordings

    @classmethod
    def of(cls, items: Sequence[Item], contents: Mapping[str, Contents], entrants: Iterable[Entrant]) -> Digests:
        """Of the items and entrants of a run; ``contents`` are the items'."""
        known = {i.path: contents[i.id].recording for i in items if i.path} | {
            i.prompt_path: contents[i.id].prompt for i in items if i.prompt_path
        }
        asked = {path for e in entrants for name, path in (e.recordings or {}).items() if name in contents}
        files = {path: known.get(path) or file_digest(path) for path in asked}
        return cls(contents, {i.id: item_digest(i, contents[i.id]) for i in items}, files)


VOICE_METRICS = ("sim_o",)
"""All that a recording of another sentence can be measured with."""
LISTENING = frozenset({Need.OUTPUT, Need.TEXT, Need.PROMPT})
"""What a metric may need to say something about a recording that is nobody's output."""


def calibration_rows(suite: SuiteInfo, items: Sequence[Item]) -> list[Entrant]:
    """The suite's calibration rows, and the recording itself, which stands beside every figure about words: a recogniser errs on it too.

    Whether words are asked is known only when the metrics are built (`belongs`).
    """
    spoken = suite.task is not Task.TIMING and any(item.text for item in items)
    names = dict.fromkeys((*(["ground_truth"] if spoken else []), *suite.calibration))
    return calibration_entrants(list(names), items, suite.task)


def calibration_entrants(names: Sequence[str], items: Sequence[Item], task: Task) -> list[Entrant]:
    """The calibration rows of those names that this dataset allows (items with recordings, prompts, at least two speakers).

    "ground_truth" is the item's own recording. "same_speaker" is the same voice beside what speaker similarity compares with: the
    prompt in resynthesis, the item's recording in synthesis. "impostor" is the recording of the next item by somebody else in the
    same language (its prompt where it has no recording), cyclically, so that every item has one and the choice is the same in every run.
    """
    found = []
    for name in names:
        if name not in ("ground_truth", "same_speaker", "impostor"):
            continue
        prompts = name == "same_speaker" and task is Task.RESYNTHESIS
        chosen = _impostors(items) if name == "impostor" else [item.prompt_path if prompts else item.path for item in items]
        recordings = {item.id: path for item, path in zip(items, chosen, strict=True) if path is not None}
        if recordings:
            found.append(Entrant(name, {}, name, recordings))
    return found


def _impostors(items: Sequence[Item]) -> list[Path | None]:
    """Each item's impostor, in time proportional to their number: a walk from the last item to the first, which remembers what follows."""
    chosen: list[Path | None] = [None] * len(items)
    languages: dict[str, list[int]] = {}
    for i, item in enumerate(items):
        languages.setdefault(item.language, []).append(i)
    for members in languages.values():
        nearest: Item | None = None  # the next item with a recording
        other: Item | None = None  # the next one after that by another voice than the nearest's
        for i in (*reversed(members), *reversed(members)):  # after the last comes the first: the second round knows it
            item = items[i]
            found = nearest if nearest is not None and nearest.speaker != item.speaker else other
            if item.speaker and found is not None:
                chosen[i] = found.path or found.prompt_path
            if item.path or item.prompt_path:
                if nearest is not None and nearest.speaker != item.speaker:
                    other = nearest
                nearest = item
    return chosen


def calibration_metrics(row: str, metrics: Mapping[str, MetricInfo]) -> list[str]:
    """Registry keys of the metrics that a calibration row is measured with; none where all of them need codes, timings or the like."""
    if row == "ground_truth":
        return [key for key, info in metrics.items() if info.needs <= LISTENING]
    return [key for key in metrics if key in VOICE_METRICS]


def belongs(row: str, suite: SuiteInfo, metrics: Mapping[str, MetricInfo]) -> bool:
    """Whether a calibration row stands in the tables: the suite asks for it, or something about words is measured of it; and it has figures."""
    measured = calibration_metrics(row, metrics)
    return bool(measured) if row in suite.calibration else any(Need.TEXT in metrics[key].needs for key in measured)


def metrics_of(entrant: Entrant, metrics: Mapping[str, MetricInfo]) -> list[str]:
    """Registry keys of the metrics that an entrant is measured with."""
    return calibration_metrics(entrant.calibration, metrics) if entrant.calibration else list(metrics)


def attempts(
    entrants: Mapping[str, Entrant],
    cards: Mapping[str, Card],
    items: Sequence[Item],
    digests: Digests,
    seeds: Sequence[int],
    suite: SuiteInfo,
    needs: Set[Need] = frozenset(),
) -> list[Attempt]:
    """Every prediction, entrant by entrant in the order of the items. Seeds multiply synthesis only: codecs do not sample.

    ``needs`` are those of the metrics: with `Need.TIMING` (of metrics that the user named) each prediction is one of this machine, with
    `Need.ENCODED_AGAIN` one of a codec of tokens is another than without, which encodes two times more.
    """
    found = []
    for label, card in cards.items():
        entrant = entrants[label]
        identity = key_of("system", {"config": dict(entrant.config), "calibration": entrant.calibration, **card.identity()})
        digest = card.digest()
        asked_as: dict[str, Any] = {}
        if suite.timing is not None:  # another seed asks for the same once more
            asked_as["timing"] = asdict(suite.timing)
        if suite.timing is not None or (Need.TIMING in needs and card.kind in ("codec", "synthesizer")):
            asked_as["timed_with"] = dict(card.timed_with)
        again = Need.ENCODED_AGAIN in needs and card.kind == "codec" and card.spec is not None and card.spec.num_codebooks > 0
        if again:
            asked_as["encoded_again"] = f"the output; the input {1000 * SHIFT_S:g} ms later"
        use_seeds = seeds if suite.task is Task.SYNTHESIS and card.kind == "synthesizer" else seeds[:1]
        for settings in card.settings:
            text = json.dumps(dict(settings), sort_keys=True, separators=(",", ":"))  # canonical
            for item in items:
                recording = entrant.recordings.get(item.id) if entrant.recordings is not None else None
                if entrant.recordings is not None and recording is None:
                    continue
                for seed in use_seeds:
                    parts = {"system": identity, "settings": text, "item": digests.items[item.id], "seed": seed, "task": str(suite.task)}
                    output = digests.files[recording] if recording is not None else card.files.get(item.id, "")
                    if output:
                        parts["recording"] = output
                    if card.kind == "recorded":
                        parts["recorded_as"] = item.id
                    parts |= asked_as
                    key, contents = key_of("prediction", parts), digests.contents[item.id]
                    found.append(Attempt(label, text, item.id, seed, key, digest, contents, output, suite.timing, again))
    return found


AUDIO_ONLY = frozenset({Need.OUTPUT, Need.REFERENCE, Need.TEXT, Need.PROMPT})
"""What a metric may need of an output to be shown its audio only, beside what belongs to the item."""


def score_key(prediction: Mapping[str, Any], item_digest: str, metric: MetricInfo) -> str:
    """The key of one number; outputs that sound the same share what is measured by listening (a recording and its lossless copy, say).

    The timing of the prediction (as `Store.describe_prediction` gives it) counts only for metrics made from it.
    """
    listening = metric.needs <= AUDIO_ONLY and prediction.get("audio")
    parts = {"prediction": prediction["audio"] if listening else prediction["digest"], "item": item_digest, "metric": metric.signature()}
    if "timing" in metric.needs:
        parts["timing"] = prediction["timing"]
    return key_of("score", parts)


# -- what is not measured ---------------------------------------------------------------------------------------------------------

Withheld = frozenset[tuple[str, str]]
"""(label of an entrant, registry key of a metric)."""

RANDOM_WEIGHTS = Outcome(
    Status.SKIPPED_BY_POLICY, reason="random weights have no quality; allow_random=true measures them, to try the plumbing"
)


def withheld(cards: Mapping[str, Card], metrics: Mapping[str, MetricInfo], allow_random: bool) -> Withheld:
    """What is neither measured nor shown of systems whose weights are random, unless the run allows it."""
    if allow_random:
        return frozenset()
    random = [label for label, card in cards.items() if card.info.weights == Weights.RANDOM]
    return frozenset((label, key) for label in random for key, info in metrics.items() if speaks_of_quality(info))


def speaks_of_quality(metric: MetricInfo) -> bool:
    """Whether training changes what the number means.

    Time does not depend on it, nor do descriptions counted from the codes alone: bit rates, say.
    """
    if Need.TIMING in metric.needs:
        return False
    return metric.better is not Better.NEITHER or not metric.needs <= {Need.ENCODED, Need.CODES}
