"""What predictions and scores cost in time: as earlier runs took it here, or as it was measured once, below. From it comes what a run is
expected to take.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.api import Item
from harness.data.audio import duration_s
from harness.errors import DamagedFile, NewerVersion, StoreError
from harness.running.progress import spoken
from harness.storing.files import read_json, write_json

LOADS, PREDICTIONS, SCORES = "loads", "predictions", "scores"
METRICS = "the metrics"
FILE = "costs.json"
TIMED, TIMED_S = " timed", 10.0
"""Behind the name of a system whose predictions are made again and again, and seconds of it that nothing is known of: `TimingPlan.budget_s`."""
ENOUGH, MOST = 3, 2000
"""Calls from which the time taken here counts, and how many are remembered: a machine gets busier, or a library faster."""
SAMPLED = 50
"""Items whose recordings' headers are read to know how long all of them are."""
LETTERS_PER_S = 14.0
"""Of English read aloud: how long a text without a recording will be."""

USUAL: Mapping[tuple[str, str], tuple[float, float]] = {
    (LOADS, ""): (0.3, 0.0),
    (LOADS, METRICS): (5.0, 0.0),
    (SCORES, ""): (0.003, 0.002),
    (SCORES, "pesq_wb"): (0.0, 0.036),
    (SCORES, "pesq_nb"): (0.0, 0.023),
    (SCORES, "stoi"): (0.0, 0.008),
    (SCORES, "estoi"): (0.0, 0.0035),
    (SCORES, "mcd_db"): (0.0, 0.027),
    (SCORES, "asr embedded"): (0.4, 0.05),
    (SCORES, "asr embedded-fast"): (0.1, 0.017),
    (SCORES, "asr pocketsphinx"): (0.1, 0.2),
    (SCORES, "speaker campplus"): (0.0, 0.023),
    (SCORES, "mos distillmos"): (0.15, 0.001),
    (SCORES, "mos dnsmos"): (0.25, 0.12),
    (SCORES, "intelligibility_probe"): (0.03, 0.03),
    (PREDICTIONS, ""): (0.005, 0.01),
    (PREDICTIONS, "opus16"): (0.0, 0.016),
    (PREDICTIONS, "opus6"): (0.0, 0.012),
    (PREDICTIONS, "qdac16"): (0.0, 0.02),
    (PREDICTIONS, "socodec120"): (0.0, 0.03),
    (PREDICTIONS, "qtts_hierarchical"): (0.0, 0.77),
    (PREDICTIONS, "qtts_multihead"): (0.0, 0.32),
    (PREDICTIONS, "socodec40_tts"): (0.0, 0.27),
    (PREDICTIONS, "socodec120_tts"): (0.0, 0.13),
    (PREDICTIONS, "hibari"): (0.0, 0.045),
}
"""Seconds for each call, and for each second of speech: processor time of one thread on 2026-12-01 (Intel Xeon with AMX), about embedded
recordings of 3 to 4 s, so that only their sum was measured and how it divides is a guess. "" stands for whatever is not named."""
_JUDGED = {"wer": "asr", "cer": "asr", "dwer": "asr", "sim_o": "speaker", "sim_r": "speaker", "mos": "mos"}
"""Metrics whose time is their judge's; what recognisers hear of an output serves all that ask, of which each is counted for its share."""


@dataclass
class Spent:
    """Time that calls of one kind took together, in seconds."""

    calls: float = 0
    audio_s: float = 0.0  # of speech they were about
    wall_s: float = 0.0
    cpu_s: float = 0.0

    def add(self, other: Spent) -> None:
        """Counts the other's calls as well; many are remembered as fewer of the same length."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)
        if self.calls > MOST:
            share = MOST / self.calls
            for name, value in asdict(self).items():
                setattr(self, name, value * share)


@dataclass
class Costs:
    """What earlier runs with one store took, and this one so far: by kind (`LOADS` ...) and name."""

    root: Path  # of the store
    before: dict[str, dict[str, Spent]] = field(default_factory=dict)
    here: dict[str, dict[str, Spent]] = field(default_factory=dict)

    @classmethod
    def of(cls, root: Path) -> Costs:
        """As far as the store remembers; a file that cannot be read is forgotten: it holds nothing that a number depends on."""
        before: dict[str, dict[str, Spent]] = {}
        with suppress(FileNotFoundError, DamagedFile, NewerVersion, StoreError, TypeError, AttributeError, KeyError):
            told = read_json(root / FILE)
            before = {kind: {name: Spent(**spent) for name, spent in told[kind].items()} for kind in (LOADS, PREDICTIONS, SCORES)}
        return cls(root, before)

    def note(self, kind: str, name: str, spent: Spent) -> None:
        """Something was done."""
        self.here.setdefault(kind, {}).setdefault(name, Spent()).add(spent)

    def seconds(self, kind: str, name: str, audio_s: float) -> float:
        """What a call is expected to take about ``audio_s`` of speech. What is timed goes on until its budget is spent, nearly."""
        known = (self.here.get(kind, {}).get(name), self.before.get(kind, {}).get(name))
        fixed, slope = USUAL.get((kind, name)) or ((TIMED_S, 0.0) if name.endswith(TIMED) else USUAL[kind, ""])
        for spent in known:
            if spent is not None and spent.calls >= (1 if kind == LOADS else ENOUGH):
                usual = fixed + slope * spent.audio_s / spent.calls
                return spent.wall_s / spent.calls * ((fixed + slope * audio_s) / usual if usual > 0 else 1.0)
        return fixed + slope * audio_s

    def save(self) -> None:
        """Remembers this run for the next one.

        Raises:
            StoreError: the file cannot be written.
        """
        together = {kind: dict(self.before.get(kind, {})) for kind in (LOADS, PREDICTIONS, SCORES)}
        for kind, names in self.here.items():
            for name, spent in names.items():
                together[kind].setdefault(name, Spent()).add(spent)
        write_json(self.root / FILE, {kind: {name: asdict(spent) for name, spent in names.items()} for kind, names in together.items()})

    def told(self) -> dict[str, Any]:
        """Of this run, for its manifest."""
        return {
            kind: {name: {key: round(value, 3) for key, value in asdict(spent).items()} for name, spent in names.items()}
            for kind, names in self.here.items()
        }

    def dearest(self) -> str:
        """``130 s of a processor: wer embedded 61, mos distillmos 40, ...`` of this run's scores and predictions; "" of none."""
        found = [(spent.cpu_s, name) for kind in (SCORES, PREDICTIONS) for name, spent in self.here.get(kind, {}).items()]
        whole = sum(cpu_s for cpu_s, _ in found)
        if whole < 1:
            return ""
        parts = [f"{name} {cpu_s:.0f}" for cpu_s, name in sorted(found, reverse=True)[:5] if cpu_s >= 0.5]
        return f"{whole:.0f} s of a processor: {', '.join(parts)}{' ...' if len(found) > len(parts) else ''}"


def score_name(key: str, config: Mapping[str, Any]) -> str:
    """Under which name the cost of a metric is kept: its judge's, where that is what costs."""
    metric, _, other = key.partition("@")
    kind = _JUDGED.get(metric)
    if kind is None:
        return metric
    section = config.get(kind) or {}
    return f"{kind} {other or section.get('preset') or section.get('family') or ''}".strip()


def prediction_name(label: str, *, timed: bool) -> str:
    """Under which name the cost of a system's predictions is kept."""
    return f"{label}{TIMED}" if timed else label


def share(key: str, keys: Iterable[str]) -> float:
    """Of how much of one call of its judge a metric is counted for, beside the others of a run."""
    metric, _, judge = key.partition("@")
    if _JUDGED.get(metric) != "asr":
        return 1.0
    return 1 / sum(_JUDGED.get(other.partition("@")[0]) == "asr" and other.partition("@")[2] == judge for other in keys)


@dataclass(frozen=True)
class Expected:
    """What a run, or the rest of it, should take."""

    loading_s: float
    predicting_s: float
    scoring_s: float
    dearest: tuple[tuple[str, float], ...]  # metrics or systems with the processor's seconds, the longest first

    @property
    def whole_s(self) -> float:
        """From beginning to end."""
        return self.loading_s + self.predicting_s + self.scoring_s

    @property
    def told(self) -> str:
        """In a sentence."""
        most = ", ".join(f"{name} {spoken(seconds)}" for name, seconds in self.dearest[:3] if seconds >= 1)
        parts = {"loading": self.loading_s, "predicting": self.predicting_s, "scoring": self.scoring_s}
        stages = ", ".join(f"{name} {spoken(seconds)}" for name, seconds in parts.items() if seconds >= 1)
        told = f": {stages}{f' (of a processor: {most})' if most else ''}" if stages else ""
        return f"about {spoken(self.whole_s)}, less what earlier runs have done{told}"


def expected(
    costs: Costs, config: Mapping[str, Any], keys: Sequence[str], items: Sequence[Item], rows: int, size: tuple[int, int], *, timed: bool
) -> Expected:
    """What a run should take that finds nothing done.

    Args:
        config: composed; its ``systems`` make an output of each item.
        keys: metrics.
        rows: calibration rows, which are measured by what judges a recording by itself.
        size: workers that predict, and workers that score.
        timed: whether the suite takes times.
    """
    audio_s, count = mean_s(items), len(items)
    labels = list(config["systems"])
    loading = sum(costs.seconds(LOADS, label, 0.0) for label in labels)
    made = {label: count * costs.seconds(PREDICTIONS, prediction_name(label, timed=timed), audio_s) for label in labels}
    measured: dict[str, float] = {}
    for key in keys:
        metric, name = key.partition("@")[0], score_name(key, config)
        outputs = count * (len(labels) + (rows if metric in _JUDGED else 0))
        each = share(key, keys) * costs.seconds(SCORES, name, audio_s)
        measured[name] = measured.get(name, 0.0) + outputs * each
    predictors, scorers = (min(workers, max(count, 1)) for workers in size)
    dearest = sorted({**made, **measured}.items(), key=lambda pair: -pair[1])
    metrics = costs.seconds(LOADS, METRICS, 0.0)
    return Expected(max(loading, metrics), sum(made.values()) / predictors, sum(measured.values()) / scorers, tuple(dearest))


def mean_s(items: Sequence[Item]) -> float:
    """Seconds of speech in an item of these, from the headers of some."""
    chosen = items[:: max(1, len(items) // SAMPLED)]
    found = [_seconds(item) for item in chosen]
    return sum(found) / len(found) if found else 0.0


def _seconds(item: Item) -> float:
    known = duration_s(item.path) if item.path is not None else None
    return known if known is not None else len(item.text) / LETTERS_PER_S
