"""Claims, and runs made of arrays whose figures answer them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.storing.runfolder import COLUMNS, OpenedRun
from reports.statistics.intervals import IntervalSettings

QUICK = IntervalSettings(resamples=400)
AGGREGATIONS = {"phone_accuracy": "pooled over frames"}


@dataclass
class Story:
    """A run made of arrays: values of each system, setting and metric over the items.

    Args:
        speakers: of the items, as many as there are items; "" for none.
        systems: what the manifest says of each, trained and small unless told.
        rows: of the frame, see `add`.
        absent: metrics that could not be had, with the reason.
    """

    speakers: Sequence[str]
    systems: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    def add(self, system: str, values: npt.ArrayLike, metric: str = "mcd_db", **settings: Any) -> None:
        """One value an item; a NaN is a failure of the output, an infinity was skipped by policy."""
        self.systems.setdefault(system, {"weights": "trained", "size": "small", "config": {}})
        for n, value in enumerate(np.atleast_1d(np.asarray(values, dtype=float)).tolist()):
            status = "ok" if math.isfinite(value) else "failed" if math.isnan(value) else "skipped_by_policy"
            ok = status == "ok"
            self.rows.append(
                dict.fromkeys(COLUMNS, "") | {
                    "suite": "stream_prefix", "system": system, "settings": json.dumps(settings), "item": f"i{n:03d}", "seed": 0,
                    "metric": metric, "name": metric, "better": "lower", "signature": f"{metric}|v1|-|{AGGREGATIONS.get(metric, 'mean')}|{{}}",
                    "status": status, "side": "" if ok else "output", "reason": "" if ok else f"{status} here",
                    "value": value if ok else math.nan, "weight": 1.0 if ok else math.nan, "speaker": self.speakers[n], "synthetic": False,
                    "counts": json.dumps({"frames": 1.0}), "detail": "{}",
                }
            )  # fmt: skip

    def run(self, path: Path = Path(), suite: str = "stream_prefix") -> OpenedRun:
        items = {f"i{n:03d}": {"text": "", "speaker": s} for n, s in enumerate(self.speakers)}
        about = {"name": suite, "title": "Streams", "task": "resynthesis", "headline": [], "metrics": [], "curves": []}
        manifest = {"suite": about, "systems": self.systems, "items": items, "dataset": {"name": "fake"}, "absent_metrics": self.absent}
        return OpenedRun(path, manifest, pd.DataFrame(self.rows, columns=list(COLUMNS)), {}, {})


def claims_file(test: Any, **fields: Any) -> str:
    entry = {"id": "one", "text": "It is so.", "source": "Figure 1", "status": "published", "suite": "stream_prefix", "test": test}
    return json.dumps({"paper": "A paper", "claims": [entry | fields]})  # JSON is YAML


def less(left: str, right: str, metric: str = "mcd_db", **more: Any) -> dict[str, Any]:
    return {"less": {"metric": metric, "left": {"system": left}, "right": {"system": right}, **more}}


def pair(difference: float, spread: float, n: int = 30, speakers: Sequence[str] | None = None) -> Story:
    """Systems a and b whose items differ a lot, and from each other by ``difference`` give or take ``spread``."""
    rng = np.random.default_rng(3)
    story, hard = Story(speakers or [""] * n), rng.normal(6, 2, n)
    noise = rng.normal(0, spread, n)
    story.add("a", hard)
    story.add("b", hard - difference + noise - noise.mean())
    return story


def sweep(*means: float, system: str = "a", story: Story | None = None) -> Story:
    """One system at 1, 2, 3 ... codebooks."""
    rng = np.random.default_rng(1)
    hard = rng.normal(0, 2, 30)
    story = story or Story([""] * 30)
    for n, mean in enumerate(means):
        noise = rng.normal(0, 0.05, 30)
        story.add(system, mean + hard + noise - noise.mean(), codebooks=n + 1)
    return story


def monotone(last: int, **more: Any) -> dict[str, Any]:
    usual = {"metric": "mcd_db", "direction": "decreasing", "system": "a", "over": "codebooks", "from": 1, "to": last}
    return {"monotone": usual | more}


def pilot() -> Story:
    """A pilot's MCD of the first b streams, with the orderings that the paper's figure shows and one that it does not."""
    story = Story([f"s{n % 10}" for n in range(30)])
    curves = {
        "socodec120_pq": (11.76, 8.17, 5.60, 4.67),
        "socodec120_rq": (4.79, 4.44, 4.39, 4.38),
        "socodec120": (5.09, 4.94, 4.88, 4.88),
    }
    for system, means in curves.items():
        sweep(*means, system=system, story=story)
    return story
