"""A run as its readers see it: one DataFrame row a measurement, and where the audio lies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "suite", "system", "settings", "item", "seed", "metric", "name", "unit", "better", "signature", "status", "side", "reason", "value", "weight",
    "dataset", "language", "speaker", "synthetic", "counts", "detail",
)  # fmt: skip
"""``counts`` and ``detail`` are JSON text; ``value`` and ``weight`` are NaN unless ``status`` is "ok"."""

OutputKey = tuple[str, str, str, int]
"""(system, settings, item, seed)."""


@dataclass(frozen=True, eq=False)
class Run:
    """A run folder, read.

    Args:
        path: the folder.
        manifest: what ran, where and with what (`harness.provenance`).
        frame: a row per measurement, columns `COLUMNS`.
        references: item id to its recording, for items that have one.
        outputs: saved audio of each prediction that succeeded.
    """

    path: Path
    manifest: Mapping[str, Any]
    frame: pd.DataFrame
    references: Mapping[str, Path]
    outputs: Mapping[OutputKey, Path]
