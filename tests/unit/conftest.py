"""What several test files share: runs made of arrays, verdicts on claims, speech-like audio, and no network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from harness.storing.runfolder import COLUMNS, OpenedRun

KNOWN = {
    "pesq_wb": ("MOS", "higher", [0.999, 4.644], "mean"),
    "stoi": ("", "higher", [0.0, 1.0], "mean"),
    "mcd_db": ("dB", "lower", [0.0, None], "mean"),
    "rtf": ("", "lower", [0.0, None], "weighted mean, by seconds of audio"),
    "emitted_bps": ("bit/s", "neither", [0.0, None], "weighted mean, by seconds of audio"),
}


@pytest.fixture
def written_run() -> Callable[..., OpenedRun]:
    """Makes a run; see `written`."""
    return written


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The verdict on one test of a claim."""
    from reports.claims.claims import parse_claims
    from reports.claims.verdicts import Verdict
    from reports.run import summarise as tables
    from reports.statistics.intervals import IntervalSettings
    from tests.stubs.claim_stories import QUICK, Story, claims_file

    def judged(test: Any, story: Story, how: IntervalSettings = QUICK, pooled: Any = None, **fields: Any) -> Verdict:
        monkeypatch.setattr(tables, "load_claims", lambda suite: parse_claims(claims_file(test, **fields), "here.yaml"))
        (verdict,) = tables.summarise(story.run(), how, pooled).verdicts
        return verdict

    return judged


@pytest.fixture(scope="module")
def clean() -> npt.NDArray[np.float32]:
    """Speech-like audio for the tests of signal metrics."""
    from tests.stubs.signal_pairs import speech

    return speech()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No network, no cache of this machine, and torch's random state left as it was (FunASR seeds it)."""
    import torch

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def written(
    systems: Mapping[str, Mapping[str, npt.ArrayLike]],
    speakers: Sequence[str] = (),
    status: str = "complete",
    packages: Mapping[str, str] | None = None,
    version: str = "1",
    path: Path = Path(),
    **manifest: Any,
) -> OpenedRun:
    """A run of ``{system: {metric: values}}``.

    Args:
        systems: ``[n]`` values, or ``[seeds, n]``; a NaN is an output that failed.
        speakers: ``[n]``, none unless told.
        status, packages: of the manifest.
        version: of the metrics.
        path: of the run.
        manifest: further sections, replacing the usual ones.
    """
    rows = []
    for system, metrics in systems.items():
        for metric, values in metrics.items():
            for seed, row in enumerate(np.atleast_2d(np.asarray(values, dtype=float))):
                for n, value in enumerate(row):
                    ok = bool(np.isfinite(value))
                    rows.append(
                        dict.fromkeys(COLUMNS, "") | {
                            "suite": "codec", "system": system, "settings": "{}", "item": f"i{n:03d}", "seed": seed, "metric": metric, "name": metric,
                            "unit": KNOWN[metric][0], "better": KNOWN[metric][1], "signature": f"{metric}|v{version}|16000Hz|{KNOWN[metric][3]}|{{}}",
                            "status": "ok" if ok else "failed", "side": "" if ok else "output", "reason": "" if ok else "it broke",
                            "value": value, "weight": 1.0 if ok else np.nan, "language": "en", "speaker": speakers[n] if speakers else "",
                            "synthetic": False, "counts": "{}", "detail": "{}",
                        }
                    )  # fmt: skip
    named = {m for metrics in systems.values() for m in metrics}
    items = {row["item"]: {"text": "", "language": "en", "speaker": row["speaker"]} for row in rows}
    usual: dict[str, Any] = {
        "schema": 1,
        "status": status,
        "suite": {"name": "codec", "title": "Codecs", "task": "resynthesis", "headline": [], "metrics": sorted(named), "curves": []},
        "systems": {label: {"family": label, "weights": "none", "config": {}} for label in systems},
        "items": items,
        "dataset": {"name": "fake", "digest": "d", "num_items": len(items)},
        "packages": {"pesq": "1", "pystoi": "1", "jiwer": "1", "torch": "1", "numpy": "1"} | dict(packages or {}),
        "metrics": {
            m: {"name": m, "unit": KNOWN[m][0], "better": KNOWN[m][1], "bounds": KNOWN[m][2], "aggregation": KNOWN[m][3]} for m in named
        },
        "absent_metrics": {},
    }
    return OpenedRun(path, usual | manifest, pd.DataFrame(rows, columns=list(COLUMNS)), {}, {})
