"""paired differences of two runs

  harness compare RUN_A RUN_B [key=value ...]              what RUN_B does otherwise than RUN_A, system by system
  harness compare RUN left=opus16 right=qdac16             two systems of one run; with two runs, one of each

Paired over common items, clustered by speaker, corrected for the number of tests; writes compare.html (players) and compare.md.

  systems=[A,B] metrics=[X,Y]     only these
  margin.pesq_wb=0.1              the difference that matters: "no difference" is said within it, and how many items it takes to see it
  rules=NAME|FILE                 gate whose tolerances are the other margins (default)
  items=5                         listed as worst and most changed, of each metric
  confidence=0.95 resamples=10000 seed=0 audio_limit_mb=24 out=DIR (RUN_B; never a baseline)
  force=true                      compare although data, package versions or signatures differ; the output says so
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands import take_words
from harness.errors import ConfigError, Incomparable, UnknownName, UsageError
from harness.settings.schema import split_words

if TYPE_CHECKING:
    from reports.compare.pairing import Half
    from reports.statistics.records import Row

KEYS = {
    "systems": list, "left": str, "right": str, "metrics": list, "margin": dict, "rules": str, "confidence": float, "resamples": int, "seed": int,
    "items": int, "force": bool, "out": str, "audio_limit_mb": float,
}  # fmt: skip


def declare(parser: ArgumentParser) -> None:
    take_words(parser, "RUN or key=value")


def main(options: Namespace) -> int:
    """0 whatever is found: differences are no failures. Raises Incomparable: the runs cannot be compared."""
    from rich.console import Console

    from reports.compare import differences, document
    from reports.gate.baseline import is_baseline
    from reports.gate.rules import load_rules
    from reports.statistics.intervals import IntervalSettings
    from reports.writing.files import written

    folders, settings = split_words(options.words, KEYS, "harness compare RUN_A RUN_B")
    if len(folders) not in (1, 2) or (len(folders) == 1 and not {"left", "right"} <= set(settings)):
        raise UsageError(
            f"compare wants two run folders, or one with left=SYSTEM right=SYSTEM; got {len(folders)}: {' '.join(map(str, folders)) or 'none'}"
        )
    left, right, rows, notes = _sides(folders, settings)
    how = IntervalSettings(settings.get("confidence", 0.95), settings.get("resamples", 10_000), settings.get("seed", 0))
    if not 0.5 <= how.confidence < 1 or how.resamples < 100 or settings.get("items", 5) < 0 or how.seed < 0:
        raise ConfigError(
            f"compare wants 0.5 <= confidence < 1, resamples >= 100, items >= 0 and seed >= 0, got {how} and items={settings.get('items', 5)}"
        )
    margins = settings.get("margin", {})
    for key, value in margins.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ConfigError(f"margin.{key} must be a number above 0, got {value!r}")
    margins = {key: float(value) for key, value in margins.items()}
    chosen = differences.Settings(
        how,
        {**load_rules(settings.get("rules", "default")).margins, **margins},
        tuple(settings.get("metrics", ())),
        frozenset(margins),
        settings.get("items", 5),
        settings.get("force", False),
    )
    found = differences.compare(left, right, rows, chosen)
    found = replace(found, notes=(*notes, *found.notes))
    # Nothing is written among what is committed.
    fit = [folder for folder in folders if not is_baseline(folder)]
    out = Path(settings.get("out") or [Path(), *fit][-1])
    document.print_comparison(found, Console())
    html = written(out / "compare.html", document.page(found, float(settings.get("audio_limit_mb", 24.0))))
    written(out / "compare.md", [document.markdown(found)])
    print(f"page: {html}\nalso: compare.md")
    return 0


def _sides(folders: Sequence[Path], settings: Mapping[str, Any]) -> tuple[Half, Half, list[tuple[Row, Row]], list[str]]:
    """Both halves, the rows to compare, and what has no partner."""
    from reports.compare.differences import same_rows
    from reports.gate.baseline import open_reference

    left = open_reference(folders[0])
    right = left if len(folders) == 1 or folders[0].resolve() == folders[1].resolve() else open_reference(folders[1])
    if "left" in settings or "right" in settings:
        if not {"left", "right"} <= set(settings) or "systems" in settings:
            raise ConfigError("left= and right= name one system each and are given together, without systems=")
        return left, right, [(row, other) for row in _rows(left, settings["left"]) for other in _rows(right, settings["right"])], []
    rows, alone = same_rows(left, right)
    if wanted := settings.get("systems"):
        for name in wanted:
            _rows(left, name), _rows(right, name)
        rows = [pair for pair in rows if {pair[0].facts.label, pair[0].label} & set(wanted)]
        alone = []
    if not rows:
        raise Incomparable(
            f"{left.name} and {right.name} share no system: {'; '.join(alone)}. left=SYSTEM right=SYSTEM compares two of different names."
        )
    return left, right, rows, [f"not compared: {words}" for words in alone]


def _rows(side: Half, name: str) -> list[Row]:
    """The rows of a system, or the one of a variant named with its settings."""
    found = [r for r in side.summary.systems if name in (r.facts.label, r.label)]
    if not found:
        raise UnknownName("system", name, [r.label for r in side.summary.systems], f"(measured in {side.name})")
    plain = [r for r in found if r.label == name]
    return plain or found
