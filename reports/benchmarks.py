"""Timings of pytest-benchmark compared: A and B by turns on one machine, kernel by kernel.

``pytest tests/benchmarks --benchmark-enable --benchmark-json=A1.json``, then the other state with B1.json, then A2.json, B2.json ...;
``harness compare A1.json B1.json A2.json B2.json`` pairs each A with the B after it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.documents import load_json, read_text
from harness.errors import Incomparable, UsageError
from harness.timing.clock import median_interval


@dataclass(frozen=True)
class KernelChange:
    """One benchmark in A and B.

    Args:
        name: as pytest-benchmark calls it.
        left_s: median over the files of A of their medians.
        right_s: of B.
        ratio: B over A, median of the pairs.
        interval: 95 % of that median, None from fewer than six pairs.
        pairs: how many.
    """

    name: str
    left_s: float
    right_s: float
    ratio: float
    interval: tuple[float, float] | None
    pairs: int

    @property
    def verdict(self) -> str:
        """The word "slower" or "faster" where the interval of the pairs says so, else "undecided"."""
        if self.interval is None or self.interval[0] <= 1.0 <= self.interval[1]:
            return "undecided"
        return "slower" if self.interval[0] > 1.0 else "faster"


def compare_benchmarks(paths: Sequence[Path]) -> tuple[KernelChange, ...]:
    """The benchmarks that all files have.

    Args:
        paths: JSON files of pytest-benchmark: A, B, A, B ...

    Raises:
        UsageError: an odd number of files, or one that is none of pytest-benchmark's.
        Incomparable: they are of several machines, or have no benchmark in common.
    """
    if len(paths) < 2 or len(paths) % 2:
        raise UsageError(f"timings are compared by turns, A.json B.json [A2.json B2.json ...]: an even number of files; got {len(paths)}")
    files = [_read(path) for path in paths]
    machines = {path.name: _machine(file) for path, file in zip(paths, files, strict=True)}
    if len(set(machines.values())) > 1:
        told = "; ".join(f"{name}: {machine}" for name, machine in machines.items())
        raise Incomparable(f"timings are compared on one machine only, these are of several: {told}")
    medians = [{b["fullname"]: float(b["stats"]["median"]) for b in file["benchmarks"]} for file in files]
    shared = [name for name in medians[0] if all(name in found for found in medians)]
    if not shared:
        raise Incomparable("these files have no benchmark in common")
    return tuple(_change(name, [m[name] for m in medians[::2]], [m[name] for m in medians[1::2]]) for name in shared)


def table(changes: Sequence[KernelChange]) -> list[str]:
    """A line for each benchmark."""
    width = max(len(change.name) for change in changes)
    lines = [f"{'benchmark':<{width}}  {'A ms':>10}  {'B ms':>10}  B/A (median of pairs)"]
    for c in changes:
        span = f" [{c.interval[0]:.3f}, {c.interval[1]:.3f}]" if c.interval else ""
        lines.append(f"{c.name:<{width}}  {1e3 * c.left_s:10.4g}  {1e3 * c.right_s:10.4g}  {c.ratio:.3f}{span}  {c.verdict}")
    pairs = changes[0].pairs
    if pairs < 6:
        lines.append(f"{pairs} pair{'s' * (pairs > 1)}: six are wanted for an interval, so nothing is decided; measure A and B by turns.")
    return lines


def _change(name: str, left: Sequence[float], right: Sequence[float]) -> KernelChange:
    ratios = [b / a for a, b in zip(left, right, strict=True)]
    return KernelChange(
        name, statistics.median(left), statistics.median(right), statistics.median(ratios), median_interval(ratios), len(ratios)
    )


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = load_json(read_text(path))
        _ = found["machine_info"], [(b["fullname"], b["stats"]["median"]) for b in found["benchmarks"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no JSON file of pytest-benchmark ({error}); make one with --benchmark-json={path.name}") from error
    result: Mapping[str, Any] = found
    return result


def _machine(file: Mapping[str, Any]) -> str:
    info = file["machine_info"]
    cpu = info.get("cpu") or {}
    return ", ".join(
        str(word) for word in (info.get("node"), cpu.get("brand_raw"), f"{cpu.get('count')} cores", info.get("python_version"))
    )
