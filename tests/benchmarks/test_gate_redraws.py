"""How often the gate finds a real regression, and how often it cries wolf, over re-draws of real runs; slow, prints a table.

    python -m pytest tests/benchmarks/test_gate_redraws.py -m slow -s
    GATE_RUNS=DIR ...    keeps the runs there, or takes them from there; GATE_REDRAWS=200 is the number of re-draws

A re-draw is a new pair of runs made from the records of a real pair: of speakers with all their items, with replacement, or, where a
single voice is at stake, of items within each speaker. Six real runs of a neural codec give the pairs: itself, itself with 12 of 16
codebooks, its outputs with noise at 30 dB (four seeds) and half a dB louder, its outputs with one voice from 4 codebooks. False alarms
are counted where nothing is worse than allowed: repeats exchanged item by item, and (the least favourable case) a candidate shifted so
that every metric is worse by exactly its tolerance.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from scipy.stats import binom

from harness.cli import main
from harness.storing.runfolder import OpenedRun, open_run
from reports.compare.pairing import Half, half
from reports.gate.checks import CheckStatus, Gate
from reports.gate.rules import Rule, Rules, load_rules

pytestmark = pytest.mark.slow

LABEL = "qdac16"
METRICS = ("pesq_wb", "stoi", "mcd_db")
NOISY = ("noise0", "noise1", "noise2", "noise3")
VOICE = "flite-rms"
"""Of the embedded set; 10 of its 60 items."""
EXACT = Rules("exact", tuple(Rule(m, 0.0) for m in METRICS), resamples=2000)
DEFAULT = replace(load_rules("default"), resamples=2000)


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Args:
        words: what is compared.
        rules: of the gate.
        pair: the candidate's and the baseline's frames of one re-draw.
        false_alarm: whether a failing gate is wrong.
    """

    words: str
    rules: Rules
    pair: Callable[[np.random.Generator], tuple[pd.DataFrame, Sequence[pd.DataFrame]]]
    false_alarm: bool


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, OpenedRun]:
    """The real runs, made where they are not there."""
    root = Path(os.environ.get("GATE_RUNS") or tmp_path_factory.mktemp("gate")).resolve()
    usual = ["run", "--no-report", "suite=codec", f"metrics=[{','.join(METRICS)}]", f"run.root={root / 'runs'}"]

    def made(name: str, *words: str) -> OpenedRun:
        folder = root / "runs" / name
        if not (folder / "records.parquet").exists():
            assert main([*usual, f"run.name={name}", *words]) == 0
        return open_run(folder)

    found = {f"q{n}": made(f"q{n}", "systems=[qdac16]", f"systems.qdac16.num_codebooks={n}") for n in (16, 12, 4)}
    outputs = {name: {key[2]: path for key, path in run.outputs.items()} for name, run in found.items()}
    speakers = {item: about["speaker"] for item, about in found["q16"].manifest["items"].items()}
    levels = {**{name: (30.0, seed) for seed, name in enumerate(NOISY)}, "louder": (29.5, 10)}
    for name in ("plain", "voice", *levels):
        folder = root / "recorded" / name
        folder.mkdir(parents=True, exist_ok=True)
        for item in speakers if not any(folder.iterdir()) else ():
            source = outputs["q4" if name == "voice" and speakers[item] == VOICE else "q16"][item]
            samples, rate = soundfile.read(source, dtype="float32")
            if name in levels:
                snr_db, seed = levels[name]
                noise = np.random.default_rng([seed, zlib.crc32(item.encode())]).normal(size=samples.shape)
                samples = (samples + noise * np.sqrt((samples**2).mean()) * 10 ** (-snr_db / 20)).astype(np.float32)
            soundfile.write(folder / f"{item}.wav", samples, rate, subtype="FLOAT")
        found[name] = made(name, "systems=[recorded]", f"systems.recorded.root={folder}")
    # One label for all, so that each may stand for the others.
    return {name: replace(run, frame=run.frame.assign(system=LABEL)) for name, run in found.items()}


def redrawn(frame: pd.DataFrame, drawn: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Records of the drawn (speaker, item) pairs, under names of their own, so that one drawn twice is two."""
    rows = frame.groupby("item").indices
    counts = [len(rows[item]) for _, item in drawn]
    found = frame.iloc[np.concatenate([rows[item] for _, item in drawn])].reset_index(drop=True)
    names = np.array([f"{i:04d}" for i in range(len(drawn))], dtype=object)
    speakers = np.array([speaker for speaker, _ in drawn], dtype=object)
    return found.assign(item=np.repeat(names, counts), speaker=np.repeat(speakers, counts))


def draw(items: Mapping[str, str], rng: np.random.Generator, within: bool) -> list[tuple[str, str]]:
    """Items drawn: whole speakers, or items ``within`` each speaker."""
    by_speaker: dict[str, list[str]] = {}
    for item, speaker in items.items():
        by_speaker.setdefault(speaker, []).append(item)
    if within:
        return [(s, str(i)) for s, own in by_speaker.items() for i in rng.choice(own, len(own))]
    names = sorted(by_speaker)
    return [(f"{name} {n}", item) for n, name in enumerate(rng.choice(names, len(names))) for item in by_speaker[str(name)]]


def read(real: Half, frame: pd.DataFrame, repeats: Sequence[pd.DataFrame] = ()) -> Half:
    """A re-draw as a run; columns and rows are those of a real one, which are the same in all."""
    items = {str(i): {"speaker": str(s)} for i, s in zip(frame["item"], frame["speaker"], strict=True)}
    return Half("run", OpenedRun(Path(), {**real.run.manifest, "items": items}, frame, {}, {}), real.summary, repeats)


def cases(runs: Mapping[str, OpenedRun]) -> list[Case]:
    items = {str(i): str(s) for i, s in zip(runs["q16"].frame["item"], runs["q16"].frame["speaker"], strict=True)}

    def plain(new: str, olds: Sequence[str], within: bool = False) -> Callable[..., tuple[pd.DataFrame, list[pd.DataFrame]]]:
        def pair(rng: np.random.Generator) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
            drawn = draw(items, rng, within)
            return redrawn(runs[new].frame, drawn), [redrawn(runs[old].frame, drawn) for old in olds]

        return pair

    def exchanged(repeats: int, within: bool) -> Callable[..., tuple[pd.DataFrame, list[pd.DataFrame]]]:
        frames = [runs[name].frame.sort_values(["item", "metric"]).reset_index(drop=True) for name in NOISY]

        def pair(rng: np.random.Generator) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
            """The repeats' values of each drawn item in random order: whatever differs then differs by chance."""
            drawn = draw(items, rng, within)
            # Drawn first and exchanged then: an item drawn twice would else carry one chance difference twice, which no test expects.
            parts = [redrawn(f, drawn) for f in frames]
            order = {item: rng.permutation(len(parts)) for item in sorted(set(parts[0]["item"]))}
            which = np.stack([order[item] for item in parts[0]["item"]])
            values = np.stack([part["value"].to_numpy(float) for part in parts], axis=1)
            mixed = [parts[0].assign(value=values[np.arange(len(values)), which[:, k]]) for k in range(repeats + 1)]
            return mixed[0], mixed[1:]

        return pair

    def edge(new: str, old: str, rules: Rules) -> Callable[..., tuple[pd.DataFrame, list[pd.DataFrame]]]:
        one, two = (runs[name].frame.sort_values(["item", "metric"]).reset_index(drop=True) for name in (old, new))
        tolerance = {r.metric: r.tolerance for r in rules.rules}
        sign = one["better"].map({"higher": -1.0, "lower": 1.0})
        gap = (two["value"] - one["value"]).groupby(one["metric"]).transform("mean")
        shifted = two.assign(value=two["value"] - gap + sign * one["metric"].map(tolerance).fillna(0.0))

        def pair(rng: np.random.Generator) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
            drawn = draw(items, rng, within=False)
            return redrawn(shifted, drawn), [redrawn(one, drawn)]

        return pair

    tight = Rules("edge", tuple(Rule(m, t) for m, t in zip(METRICS, (0.02, 0.002, 0.05), strict=True)), resamples=2000)
    single = Rules("edge of pesq_wb", tight.rules[:1], resamples=2000)
    return [
        Case("12 of 16 codebooks, default rules", DEFAULT, plain("q12", ["q16"]), False),
        Case("noise +0.5 dB, exact rules, 1 baseline run", EXACT, plain("louder", NOISY[:1]), False),
        Case("noise +0.5 dB, exact rules, 3 baseline runs", EXACT, plain("louder", NOISY[:3]), False),
        Case("one broken voice, default rules", DEFAULT, plain("voice", ["plain"], within=True), False),
        Case("repeats exchanged, exact rules, 1 baseline run", EXACT, exchanged(1, False), True),
        Case("repeats exchanged, exact rules, 3 baseline runs", EXACT, exchanged(3, False), True),
        Case("repeats exchanged, default rules, items redrawn", DEFAULT, exchanged(3, True), True),
        Case("12 codebooks shifted to the tolerance of pesq_wb", single, edge("q12", "q16", single), True),
        Case("12 codebooks shifted to all three tolerances", tight, edge("q12", "q16", tight), True),
        Case("noise +0.5 dB shifted to all three tolerances", tight, edge("louder", "noise0", tight), True),
    ]


def test_detection_and_false_alarms(runs: Mapping[str, OpenedRun], capsys: pytest.CaptureFixture[str]) -> None:
    redraws = int(os.environ.get("GATE_REDRAWS", "200"))
    wrong, real = [], half("run", runs["q16"])
    for number, case in enumerate(cases(runs)):
        rng, failed = np.random.default_rng(number), 0
        for _ in range(redraws):
            new, olds = case.pair(rng)
            verdict = Gate(case.rules).judge(read(real, new), read(real, olds[0], olds[1:]))
            assert verdict.outcome in (CheckStatus.PASS, CheckStatus.REGRESSION), verdict.problems
            failed += verdict.outcome is CheckStatus.REGRESSION
        with capsys.disabled():
            print(f"\n{'false alarms' if case.false_alarm else 'detected':<12} {failed:>4}/{redraws}  {case.words}", end="", flush=True)
        # Counts that a true rate at the level would exceed once in a thousand times are too many.
        if case.false_alarm and failed > binom.ppf(0.999, redraws, case.rules.level):
            wrong.append(f"{case.words}: {failed} false alarms of {redraws}")
        if not case.false_alarm and failed < redraws / 2:
            wrong.append(f"{case.words}: detected {failed} of {redraws}")
    assert not wrong
