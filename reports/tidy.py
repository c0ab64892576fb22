"""The tables as tidy CSV: one line a system, setting and metric."""

from __future__ import annotations

import csv
import io

from reports.summary import Summary

FIELDS = (
    "suite", "dataset", "synthetic", "partial", "num_systems", "system", "settings", "calibration", "size", "weights",
    "num_parameters", "metric", "name", "unit", "better", "value", "low", "high", "confidence", "n_ok", "n_total", "n_excluded", "n_skipped", "n_missing", "pessimistic",
    "clusters", "method", "seeds", "seed_spread", "best", "reason", "signature",
)  # fmt: skip


def render(summary: Summary) -> str:
    """CSV with the header `FIELDS`; figures in full precision, empty where there is none."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, FIELDS, lineterminator="\n")
    writer.writeheader()
    for row in summary.rows:
        for column in summary.columns:
            cell = row.cells[column.key]
            writer.writerow(
                {
                    "suite": summary.suite,
                    "dataset": summary.dataset.get("name", ""),
                    "synthetic": summary.synthetic,
                    "partial": summary.partial,
                    "num_systems": len(summary.facts),
                    "system": row.facts.label,
                    "settings": row.settings,
                    "calibration": row.calibration,
                    "size": row.facts.size,
                    "weights": row.facts.weights,
                    "num_parameters": row.facts.num_parameters,
                    "metric": column.key,
                    "name": column.name,
                    "unit": column.unit,
                    "better": column.better,
                    "confidence": summary.confidence,
                    "best": column.key in row.best,
                    "signature": column.signature,
                    **{f: getattr(cell, f) for f in FIELDS if f in cell.__dataclass_fields__},
                }
            )
    return stream.getvalue()
