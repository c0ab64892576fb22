"""whether the same request gives the same numbers

  harness selfcheck [key=value ...]

Runs a small request (overrides as `harness run`; 4 items unless dataset.limit says otherwise) again and again in empty stores: the same
again, with more workers, items in reversed order, everything in one process, other numbers of threads, Ray where it is installed. Numbers
and codes must be the same each time, to the tolerance printed. Exit codes: 0 they are, 1 they are not.
"""

from __future__ import annotations

import json
import math
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.api import Need
from harness.commands import take_words
from harness.data.manifests import Dataset, DatasetConfig, load_dataset, spread
from harness.notebook import composed
from harness.running.progress import Progress
from harness.running.runner import run
from harness.settings.config import Config
from harness.storing.aliases import typed
from harness.storing.store import Store

# What may change nothing: doing it again, the number of worker processes, one process or several, the order of the items, the number of
# threads of the scorers' machine, the executor. Measurements of time are left out: they are never the same.

ITEMS = 4
"""Items measured unless the user says how many."""
THREADS_TOLERANCE = 1e-5
"""Largest relative difference of a value when systems run with another number of threads: their sums are taken in another order."""


@dataclass(frozen=True)
class Circumstance:
    """One way to run the same request."""

    name: str  # for the table
    executor: Mapping[str, Any]  # settings instead of the configuration's
    reverse: bool = False  # items in reversed order
    tolerance: float = 0.0  # largest relative difference of a value from the first run's
    codes: bool = True  # tokens and packets must be the same


@dataclass(frozen=True)
class Repetition:
    """What became of one circumstance beside the first run."""

    circumstance: Circumstance
    records: int  # compared
    differing: int  # of them with another value, status or reason
    largest: float  # relative difference of two values
    codes: int  # outputs compared whose tokens or packets differ
    example: str  # of a difference beyond the tolerance; "" where everything is as it should be

    @property
    def held(self) -> bool:
        return not self.example


PLAIN = {"kind": "local", "workers": 1, "predict_workers": 1, "threads": 1, "timeout_s": 120, "memory_gib": None}


def declare(parser: ArgumentParser) -> None:
    take_words(parser, "key=value", "folder with YAML of your own")


def main(options: Namespace) -> int:
    """Carries it out; 1 where numbers or codes differ."""
    with Progress() as progress:
        config = composed(options.words, options.config_dir)
        repetitions = list(check(config, f"harness selfcheck {typed(options.words)}".strip(), progress))
    print(render(repetitions))
    return 0 if all(f.held for f in repetitions) else 1


def circumstances() -> list[Circumstance]:
    """The first is what the others are compared with; Ray is among them where it is installed."""
    found = [
        Circumstance("one worker each", PLAIN),
        Circumstance("the same again", PLAIN),
        Circumstance("two scorers, two predictors", {**PLAIN, "workers": 2, "predict_workers": 2}),
        Circumstance("items in reversed order", PLAIN, reverse=True),
        Circumstance("everything in this process", {**PLAIN, "kind": "serial"}),
        Circumstance("two threads", {**PLAIN, "threads": 2}, tolerance=THREADS_TOLERANCE, codes=False),
    ]
    if find_spec("ray") is not None:
        found.append(Circumstance("ray actors", {**PLAIN, "kind": "ray", "workers": 2, "address": None}))
    return found


def check(config: Config, command: str, progress: Progress) -> Iterator[Repetition]:
    """Runs the request under every circumstance and compares those after the first with it."""
    dataset = load_dataset(DatasetConfig.from_mapping(config["dataset"]))
    if config["dataset"].get("limit") is None and not config["dataset"].get("items"):
        dataset = replace(dataset, items=spread(dataset.items, ITEMS))
    first: _Results | None = None
    with tempfile.TemporaryDirectory(prefix="selfcheck-") as folder:
        for number, circumstance in enumerate(circumstances()):
            progress.note(f"-- {circumstance.name}")
            results = _results(config, circumstance, dataset, Path(folder) / str(number), command, progress)
            if first is None:
                first = results
            else:
                yield _compared(first, results, circumstance)


def render(repetitions: Sequence[Repetition]) -> str:
    """The table."""
    lines = [f"{'circumstance':<30} {'records':>8} {'differ':>7} {'largest':>9} {'allowed':>9}  {'codes':<9} verdict"]
    for f in repetitions:
        codes = "the same" if not f.codes else f"{f.codes} differ"
        lines.append(
            f"{f.circumstance.name:<30} {f.records:>8} {f.differing:>7} {f.largest:>9.1e} {f.circumstance.tolerance:>9.1e}  {codes:<9} "
            + ("ok" if f.held else f"DIFFERS: {f.example}")
        )
    return "\n".join(lines)


@dataclass(frozen=True)
class _Results:
    """Of one run: (system, settings, item, seed, metric) to (status, value, reason), and each output's digest of its codes."""

    records: Mapping[tuple[Any, ...], tuple[str, float | None, str]]
    codes: Mapping[tuple[Any, ...], str]


def _results(config: Config, how: Circumstance, dataset: Dataset, root: Path, command: str, progress: Progress) -> _Results:
    from harness.storing.runfolder import open_run

    settings = {**config["run"], "root": str(root), "name": "run", "shard": None, "publish": None, "overwrite": False}
    changed = {**config, "run": settings, "executor": dict(how.executor)}
    if how.reverse:
        dataset = replace(dataset, items=tuple(reversed(dataset.items)))
    opened = open_run(run(changed, command, progress, dataset).folder)
    timed = {key for key, info in opened.manifest["metrics"].items() if str(Need.TIMING) in info["needs"]}
    frame = opened.frame[~opened.frame["metric"].isin(timed)]
    columns = ["system", "settings", "item", "seed", "metric", "status", "value", "reason"]
    records = {
        tuple(row[:5]): (row[5], None if math.isnan(row[6]) else row[6], str(row[7]).replace(str(root), ""))
        for row in frame[columns].itertuples(index=False, name=None)
    }
    store = Store(root / "store")
    codes = {}
    for output in opened.manifest["outputs"]:
        if output["stored"]:
            encoded = store.load_prediction(output["key"]).encoded
            codes[output["label"], output["settings"], output["item"], output["seed"]] = encoded.digest() if encoded else ""
    return _Results(records, codes)


def _compared(first: _Results, second: _Results, how: Circumstance) -> Repetition:
    example, largest, differing = "", 0.0, 0
    for key in sorted(set(first.records) & set(second.records)):
        one, other = first.records[key], second.records[key]
        if one == other:
            continue
        differing += 1
        difference = math.inf
        if one[1] is not None and other[1] is not None:
            difference = abs(one[1] - other[1]) / max(abs(one[1]), abs(other[1]), 1.0)
            largest = max(largest, difference)
        if difference > how.tolerance and not example:
            example = f"{json.dumps(key)}: {one[1] if one[1] is not None else one[0]} and {other[1] if other[1] is not None else other[0]}"
    missing = len(set(first.records) ^ set(second.records))
    codes = sum(first.codes[key] != second.codes[key] for key in set(first.codes) & set(second.codes)) + len(
        set(first.codes) ^ set(second.codes)
    )
    if missing and not example:
        example = f"{missing} records are in one of the two runs only"
    if codes and how.codes and not example:
        example = f"the codes of {codes} of {len(first.codes)} outputs"
    return Repetition(how, len(first.records), differing, largest, codes, example)
