"""A paper of one table and three claims, and runs made of arrays that answer it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.storing.runfolder import COLUMNS, OpenedRun
from reports.papers.archive import FoundRun
from reports.papers.published import parse_paper
from reports.papers.study import Study, study_of
from reports.statistics.intervals import IntervalSettings

QUICK = IntervalSettings(resamples=200)
NAMES = {"sim_o": "sim_resemblyzer_o"}
PAPER: dict[str, Any] = {
    "paper": "A paper",
    "tables": [
        {
            "id": "t1",
            "title": "Codecs",
            "source": "Table 1",
            "status": "published",
            "suite": "codec",
            "protocol": {"data": "30 sentences of X", "dataset": "librispeech", "split": "test-clean", "items": 30},
            "columns": [
                {"id": "PESQ", "metric": "pesq_wb", "decimals": 2, "within": 0.2},
                {
                    "id": "CER", "metric": "cer", "unit": "%", "scale": 100, "decimals": 1, "within": 2,
                    "protocol": {"judge": "FunASR", "asr": "seedtts"},
                },
                {"id": "SMOS", "decimals": 2, "why": "ten people listened"},
            ],
            "rows": [
                {"name": "Ours", "systems": ["ours_paper", "ours"], "values": {"PESQ": 3.0, "CER": 10.0, "SMOS": 4.0}},
                {"name": "Theirs", "systems": ["theirs"], "values": {"PESQ": 2.0}},
            ],
        }
    ],
    "claims": [
        {
            "id": "ours_better", "text": "Ours is better.", "source": "Table 1", "status": "published", "suite": "codec",
            "test": {"greater": {"metric": "pesq_wb", "left": {"system": "ours"}, "right": {"system": "theirs"}}},
        },
        {
            "id": "ours_worse", "text": "Ours is worse.", "source": "Table 1", "status": "claimed", "suite": "codec",
            "test": {"less": {"metric": "pesq_wb", "left": {"system": "ours"}, "right": {"system": "theirs"}}},
        },
        {
            "id": "nobody", "text": "Nobody ran it.", "source": "text", "status": "claimed", "suite": "codec",
            "test": {"less": {"metric": "pesq_wb", "left": {"system": "absent"}, "right": {"system": "theirs"}}},
        },
    ],
}  # fmt: skip
SAME = {"name": "librispeech", "split": "test-clean", "language": "en", "limit": None, "items": []}
EMBEDDED = {"name": "embedded", "split": None, "language": "", "limit": None, "items": []}


def paper(**changes: Any) -> Any:
    return parse_paper("test", json.dumps(PAPER | changes), "here.yaml")  # JSON is YAML


def table(**changes: Any) -> Any:
    """The paper with its table changed."""
    return paper(tables=[PAPER["tables"][0] | changes])


def found(
    figures: Mapping[tuple[str, str], Any],
    n: int = 30,
    dataset: Mapping[str, Any] = SAME,
    asr: str = "seedtts",
    name: str = "codec-1",
    systems: Mapping[str, Mapping[str, Any]] | None = None,
    suite: str = "codec",
) -> FoundRun:
    """A finished run: by (system, metric) the values of its items, or a mean around which they lie.

    Args:
        figures: what was measured.
        n: items.
        dataset, asr: configuration.
        name: of the folder.
        systems: what the manifest says of them, trained and of the paper's size unless told.
        suite: asked.
    """
    rng, rows = np.random.default_rng(1), []
    for (system, metric), values in figures.items():
        spread = rng.normal(0, 0.05, n)
        each = (float(values) + spread - spread.mean()).tolist() if np.isscalar(values) else list(values)
        for i, value in enumerate(each):
            ok = math.isfinite(value)
            rows.append(
                dict.fromkeys(COLUMNS, "") | {
                    "suite": suite, "system": system, "settings": "{}", "item": f"i{i:03d}", "seed": 0, "metric": metric,
                    "name": NAMES.get(metric, metric), "better": "higher", "signature": f"{metric}|v1|-|mean|{{}}",
                    "status": "ok" if ok else "failed", "side": "" if ok else "output", "reason": "" if ok else "broken",
                    "value": value, "weight": 1.0 if ok else math.nan, "synthetic": False, "counts": "{}", "detail": "{}",
                }
            )  # fmt: skip
    about = {label: {"weights": "trained", "size": "paper", "config": {}, **(systems or {}).get(label, {})} for label, _ in figures}
    manifest = {
        "status": "complete", "created": "2026-01-01T00:00:00+00:00", "command": "harness run", "systems": about,
        "suite": {"name": suite, "title": "Codecs", "headline": [], "metrics": [], "curves": []},
        "config": {"dataset": dict(dataset), "asr": {"preset": asr}, "speaker": {"family": "resemblyzer"}, "mos": {"family": "dnsmos"}},
        "dataset": {"name": dataset["name"]}, "items": {f"i{i:03d}": {"text": "", "speaker": ""} for i in range(n)},
        "metrics": {metric: {} for _, metric in figures}, "absent_metrics": {}, "calibration": [], "machine": {"processor": "A CPU"},
    }  # fmt: skip
    return FoundRun(name, manifest, lambda: OpenedRun(Path(), manifest, pd.DataFrame(rows, columns=list(COLUMNS)), {}, {}))


def study(*runs: FoundRun, of: Any = None, unready: Mapping[str, str] | None = None, words: tuple[str, ...] = ()) -> Study:
    return study_of(of or paper(), runs, {"codec": unready or {}}, words, QUICK)
