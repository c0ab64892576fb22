"""``harness compare``, ``harness bless`` and ``harness gate``: from words on the command line to differences, a baseline, a verdict."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.data.documents import load_yaml
from harness.errors import ConfigError, Incomparable, UnknownName, UsageError
from harness.settings.schema import names_of
from harness.storing.aliases import Aliases

COMPARE_KEYS = {
    "systems": list, "left": str, "right": str, "metrics": list, "rules": str, "confidence": float, "resamples": int, "seed": int, "items": int,
    "force": bool, "out": str, "audio_limit_mb": float,
}  # fmt: skip
GATE_KEYS = {"against": str, "rules": str, "force": bool, "out": str}
BLESS_KEYS = {"out": str}
BASELINES = Path("baselines")
WORDS = {list: "a list, e.g. [a,b]", str: "a word", float: "a number", int: "a whole number", bool: "true or false"}


def compare(words: Sequence[str]) -> int:
    """Compares two runs, or two systems of one, and writes ``compare.html`` and ``compare.md``.

    Args:
        words: one or two run folders and ``key=value``, see ``harness compare --help``.

    Returns:
        0; differences are findings, not failures.

    Raises:
        UsageError: the request cannot be carried out.
        Incomparable: the runs cannot be compared.
    """
    from rich.console import Console

    folders, settings = _split(words, {**COMPARE_KEYS, "margin": dict}, "harness compare RUN_A RUN_B")
    if len(folders) not in (1, 2) or (len(folders) == 1 and not {"left", "right"} <= set(settings)):
        raise UsageError(
            f"compare wants two run folders, or one with left=SYSTEM right=SYSTEM; got {len(folders)}: {' '.join(map(str, folders)) or 'none'}"
        )
    comparing = importlib.import_module("reports.compare.differences")
    left, right, rows, notes = _sides(folders, settings)
    statistics = importlib.import_module("reports.statistics.intervals").IntervalSettings
    how = statistics(settings.get("confidence", 0.95), settings.get("resamples", 10_000), settings.get("seed", 0))
    if not 0.5 <= how.confidence < 1 or how.resamples < 100 or settings.get("items", 5) < 0 or how.seed < 0:
        raise ConfigError(
            f"compare wants 0.5 <= confidence < 1, resamples >= 100, items >= 0 and seed >= 0, got {how} and items={settings.get('items', 5)}"
        )
    margins = dict(importlib.import_module("reports.gate.rules").load_rules(settings.get("rules", "default")).margins)
    margins |= _margins(settings.get("margin", {}))
    chosen = comparing.Settings(
        how,
        margins,
        tuple(settings.get("metrics", ())),
        frozenset(settings.get("margin", {})),
        settings.get("items", 5),
        settings.get("force", False),
    )
    found = comparing.compare(left, right, rows, chosen)
    found = comparing.replace(found, notes=(*notes, *found.notes))
    document = importlib.import_module("reports.compare.document")
    # Nothing is written among what is committed.
    fit = [folder for folder in folders if not importlib.import_module("reports.gate.baseline").is_baseline(folder)]
    out = Path(settings.get("out") or [Path(), *fit][-1])
    document.print_comparison(found, Console())
    written = importlib.import_module("reports.writing.files").written
    html = written(out / "compare.html", document.page(found, float(settings.get("audio_limit_mb", 24.0))))
    written(out / "compare.md", [document.markdown(found)])
    print(f"page: {html}\nalso: compare.md")
    return 0


def gate(words: Sequence[str]) -> int:
    """Judges a run against a baseline and writes ``gate.json``, ``gate.md`` and ``gate.xml``.

    Args:
        words: a run folder and ``key=value``, see ``harness gate --help``.

    Returns:
        0 pass, 1 regression, 3 incomparable.

    Raises:
        UsageError: the request cannot be carried out.
    """
    from rich.console import Console

    folders, settings = _split(words, GATE_KEYS, "harness gate RUN against=BASELINE")
    if len(folders) != 1 or "against" not in settings:
        raise UsageError("gate wants one run folder and against=BASELINE: harness gate runs/codec-1a2b3c4d against=baselines/codec")
    verdict = judged(folders[0], Path(settings["against"]), settings.get("rules", "default"), settings.get("force", False))
    document = importlib.import_module("reports.gate.document")
    out = Path(settings.get("out") or folders[0])
    written = importlib.import_module("reports.writing.files").written
    written(out / "gate.md", [document.markdown(verdict)])
    written(out / "gate.xml", [importlib.import_module("reports.gate.junit").junit(verdict)])
    path = written(out / "gate.json", [document.as_json(verdict)])
    document.print_result(verdict, Console())
    print(f"verdict: {path}\nalso:    gate.md gate.xml")
    code: int = verdict.exit_code
    return code


def judged(run: Path, against: Path, rules: str = "default", force: bool = False) -> Any:
    """The verdict (`reports.gate.checks.GateResult`) on a run.

    Args:
        run: its folder.
        against: a baseline, or another run.
        rules: name of a gate, or a YAML file.
        force: judge although data, package versions or signatures differ.

    Raises:
        UsageError: a folder is no run, or the rules are wrong.
    """
    gates = importlib.import_module("reports.gate.checks")
    asked = importlib.import_module("reports.gate.rules").load_rules(rules)
    try:
        candidate = _opened(run)
        baseline = importlib.import_module("reports.gate.baseline").open_reference(against)
    except Incomparable as problem:
        text = Aliases.here().text
        return gates.refusal(text(str(run)), text(str(against)), asked, text(str(problem)))
    return gates.Gate(asked, force).judge(candidate, baseline)


def bless(words: Sequence[str]) -> int:
    """Makes a baseline of a run and its repeats.

    Args:
        words: run folders and ``out=DIR``, see ``harness bless --help``.

    Returns:
        0.

    Raises:
        UsageError: the request cannot be carried out.
        Incomparable: a run is partial or no repeat of the first.
    """
    from harness.storing.frame import open_run

    folders, settings = _split(words, BLESS_KEYS, "harness bless RUN [REPEAT ...]")
    if not folders:
        raise UsageError("bless wants at least one run folder: harness bless runs/codec-1a2b3c4d")
    runs = [open_run(folder) for folder in folders]
    suite = str((runs[0].manifest.get("suite") or {}).get("name") or "run")
    done = importlib.import_module("reports.gate.baseline").bless(runs, Path(settings.get("out") or BASELINES / suite))
    print(f"baseline: {done.path}, {done.repeats} run{'' if done.repeats == 1 else 's'}, {done.num_bytes / 1000:.0f} kB")
    if done.identical:
        print(
            "The repeats are identical: the systems are deterministic, or the runs took their outputs from one store (give each its own run.root=)."
        )
    elif done.spreads:
        print("Standard deviation of each figure from run to run:")
        significant = importlib.import_module("reports.writing.wording").significant
        for spread in done.spreads:
            print(
                f"  {spread.label}, {spread.column.name}: {significant(spread.deviation * spread.column.factor)} {spread.column.shown_unit}".rstrip()
            )
    return 0


def _opened(folder: Path) -> Any:
    from harness.storing.frame import open_run

    return importlib.import_module("reports.compare.pairing").half(str(folder), open_run(folder))


def _sides(folders: Sequence[Path], settings: Mapping[str, Any]) -> tuple[Any, Any, Any, list[str]]:
    """Both halves, the rows to compare, and what has no partner."""
    reference = importlib.import_module("reports.gate.baseline").open_reference
    left = reference(folders[0])
    right = left if len(folders) == 1 or folders[0].resolve() == folders[1].resolve() else reference(folders[1])
    if "left" in settings or "right" in settings:
        if not {"left", "right"} <= set(settings) or "systems" in settings:
            raise ConfigError("left= and right= name one system each and are given together, without systems=")
        return left, right, [(row, other) for row in _rows(left, settings["left"]) for other in _rows(right, settings["right"])], []
    rows, alone = importlib.import_module("reports.compare.differences").same_rows(left, right)
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


def _rows(side: Any, name: str) -> list[Any]:
    """The rows of a system, or the one of a variant named with its settings."""
    found = [r for r in side.summary.systems if name in (r.facts.label, r.label)]
    if not found:
        raise UnknownName("system", name, [r.label for r in side.summary.systems], f"(measured in {side.name})")
    plain = [r for r in found if r.label == name]
    return plain or found


def _margins(given: Mapping[str, Any]) -> dict[str, float]:
    for key, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ConfigError(f"margin.{key} must be a number above 0, got {value!r}")
    return {key: float(value) for key, value in given.items()}


def _split(words: Sequence[str], keys: Mapping[str, type], usage: str) -> tuple[list[Path], dict[str, Any]]:
    """Folders and settings of a command line.

    Raises:
        ConfigError: an unknown key, one given twice, or a value of another type.
    """
    folders: list[Path] = []
    settings: dict[str, Any] = {}
    for word in words:
        key, eq, text = word.partition("=")
        first, _, rest = key.partition(".")
        if not eq or not first.isidentifier() or os.path.exists(word):  # noqa: PTH110  (a word may be too long for a name)
            folders.append(Path(word))
            continue
        if first not in keys or (keys[first] is dict) != bool(rest):
            known = [f"{k}.METRIC" if kind is dict else k for k, kind in keys.items()]
            raise ConfigError(f"no setting '{key}'; {usage} has {', '.join(known)}")
        kind = keys[first]
        # A folder may be called 2024: what is a word stays as typed.
        value = text if kind is str else names_of(key, text) if kind is list else load_yaml(text, f"'{word}'")
        if kind is dict:
            settings.setdefault(first, {})[rest] = value
            continue
        if key in settings:
            raise ConfigError(f"'{key}' is given twice")
        settings[key] = _typed(word, value, kind)
    return folders, settings


def _typed(word: str, value: Any, kind: type) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is list and isinstance(value, str):
        return [value]
    wrong = not isinstance(value, kind) or (kind is int and isinstance(value, bool)) or value == ""
    if wrong or (kind is list and not all(isinstance(v, str) for v in value)):
        raise ConfigError(f"'{word}': {WORDS[kind]} is wanted")
    return value
