"""Small runs written by hand, for the tests of the reports."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile

from harness.api import Better, MetricInfo, Need, Record, Status
from harness.storing.runfolder import COLUMNS, OpenedRun


def metric(name: str, unit: str, better: Better, bounds: tuple[float, float], aggregation: str = "mean") -> MetricInfo:
    return MetricInfo(name, "1", unit, better, frozenset({Need.OUTPUT}), 16000, bounds, f"{name} for tests", {}, aggregation)


METRICS = {
    "pesq_wb": replace(metric("pesq_wb", "MOS", Better.HIGHER, (1.0, 4.64)), worst=1.0),
    "stoi": replace(metric("stoi", "", Better.HIGHER, (-1.0, 1.0)), worst=0.0),
    "wer": metric("wer", "%", Better.LOWER, (0.0, math.inf)),
    "emitted_bps": metric("emitted_bps", "bit/s", Better.NEITHER, (0.0, math.inf), "weighted mean, by seconds of audio"),
    "rtf": metric("rtf", "", Better.LOWER, (0.0, math.inf), "weighted mean, by seconds of audio"),
    "perplexity": metric("perplexity", "", Better.NEITHER, (1.0, math.inf), "pooled over tokens"),
}


@dataclass
class FakeRun:
    """A run folder written by hand: real audio, records of every status, a manifest.

    Args:
        path: folder, made here.
        items: id to text.
        speakers: id to speaker, "" where not given.
    """

    path: Path
    items: Mapping[str, str]
    speakers: Mapping[str, str] = field(default_factory=dict)
    synthetic: bool = False
    systems: dict[str, dict[str, Any]] = field(default_factory=dict)
    calibration: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    references: dict[str, Path] = field(default_factory=dict)
    outputs: dict[tuple[str, str, str, int], Path] = field(default_factory=dict)
    status: str = "complete"
    curves: list[dict[str, Any]] = field(default_factory=list)

    def add(self, system: str, key: str, item: str, value: float | None = None, **fields: Any) -> None:
        """One record; without a value it needs ``status`` and ``reason``."""
        ok = value is not None
        usual = {"status": Status.OK if ok else Status.FAILED, "weight": 1.0 if ok else None, "signature": METRICS[key].signature()}
        fields = {**usual, **fields}
        speaker = self.speakers.get(item, "")
        synthetic = self.synthetic
        self.records.append(
            Record("codec", system, item, key, value=value, dataset="fake", language="en", speaker=speaker, synthetic=synthetic, **fields)
        )

    def audio(self, name: str, samples: np.ndarray, rate: int) -> Path:
        path = self.path / "audio" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, rate, subtype="FLOAT")
        return path

    def manifest(self) -> dict[str, Any]:
        metrics = {}
        for key, m in METRICS.items():
            metrics[key] = {
                "name": m.name,
                "version": m.version,
                "unit": m.unit,
                "better": m.better.value,
                "signature": m.signature(),
                "bounds": [b if math.isfinite(b) else None for b in m.bounds],
                "worst": m.worst,
                "counted": m.counted,
                "description": m.description,
                "aggregation": m.aggregation,
                "params": {},
            }
        items = {}
        for item, text in self.items.items():
            about = {"text": text, "language": "en", "speaker": self.speakers.get(item, ""), "synthetic": self.synthetic}
            items[item] = {**about, "duration_s": 1.0, "prompt_text": ""}
        return {
            "schema": 1,
            "suite": {
                "name": "codec",
                "title": "Resynthesis by codecs",
                "task": "resynthesis",
                "headline": ["emitted_bps", "pesq_wb", "stoi", "wer"],
                "metrics": list(METRICS),
                "curves": self.curves,
            },
            "created": "2026-11-20T12:34:56+00:00",
            "command": "harness run suite=codec systems=[a,b]",
            "status": self.status,
            "git": {"commit": "0123456789abcdef0123", "changed": False},
            "packages": {"numpy": np.__version__, "pandas": pd.__version__},
            "machine": {"processor": "a processor", "cores": 2, "memory_gib": 8.0, "system": "Linux", "python": "3.11"},
            "config": {"suite": "codec"},
            "dataset": {"name": "fake", "description": "Tones under test", "licence": "CC0", "synthetic": self.synthetic},
            "systems": self.systems,
            "metrics": metrics,
            "items": items,
            "calibration": self.calibration,
        }

    def run(self) -> OpenedRun:
        rows = []
        for r in self.records:
            info = METRICS[r.metric]
            row = {**vars(r), "status": str(r.status), "name": info.name, "unit": info.unit, "better": info.better.value}
            row |= {"counts": json.dumps(dict(r.counts)), "detail": json.dumps(dict(r.detail))}
            row |= {k: math.nan if row[k] is None else row[k] for k in ("value", "weight")}
            rows.append(row)
        return OpenedRun(self.path, self.manifest(), pd.DataFrame(rows, columns=list(COLUMNS)), self.references, self.outputs)
