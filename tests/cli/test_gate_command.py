"""``harness compare``, ``bless`` and ``gate`` from the command line, and the gate inside a test suite."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from harness.cli import main
from harness.errors import UsageError
from harness.testing import GateFailed, check_gate

N = 30
RULES = "rules: [{metric: pesq_wb, tolerance: 0.05}, {metric: stoi, tolerance: 0.01}]"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Writes a run folder with two systems and metrics, pesq_wb lower by ``drop``; returns its path."""
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(RULES, encoding="utf-8")

    def write(name: str, drop: float = 0.0, status: str = "complete", version: str = "1", pesq: str = "1", label: str = "a") -> str:
        rng = np.random.default_rng(0)
        records, metrics = [], {"pesq_wb": rng.normal(3, 0.4, N) - drop, "stoi": rng.uniform(0.8, 0.9, N)}
        for system in (label, "b"):
            for metric, values in metrics.items():
                for n, value in enumerate(values):
                    records.append(
                        {
                            "suite": "codec", "system": system, "item": f"i{n}", "metric": metric, "status": "ok", "seed": 0, "settings": "{}",
                            "signature": f"{metric}|v{version}|16000Hz|mean|{{}}", "value": value, "weight": 1.0, "side": "", "reason": "", "dataset": "d",
                            "language": "en", "speaker": "", "synthetic": False, "counts": "{}", "detail": "{}",
                        }
                    )  # fmt: skip
        manifest = {
            "schema": 1, "status": status, "command": f"harness run run.name={name}", "created": "2026-01-01T00:00:00+00:00",
            "suite": {"name": "codec", "title": "Codecs", "task": "resynthesis", "headline": [], "metrics": list(metrics), "curves": []},
            "systems": {s: {"family": s, "config": {}} for s in (label, "b")}, "calibration": [], "absent_metrics": {}, "outputs": [],
            "metrics": {m: {"name": m, "unit": "", "better": "higher", "bounds": [0, 5], "aggregation": "mean"} for m in metrics},
            "items": {f"i{n}": {"text": "", "language": "en", "speaker": "", "path": None} for n in range(N)},
            "dataset": {"name": "fake", "digest": "d", "num_items": N}, "packages": {"pesq": pesq, "torch": "1"},
        }  # fmt: skip
        path = tmp_path / "runs" / name
        path.mkdir(parents=True)
        pd.DataFrame(records).to_parquet(path / "records.parquet")
        (path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        return f"runs/{name}"

    return write


def test_bless_then_gate(folder: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    old, new = folder("old"), folder("new", drop=0.2)
    assert main(["bless", old]) == 0
    assert sorted(p.name for p in Path("baselines/codec").iterdir()) == ["manifest.json", "records.parquet"]
    capsys.readouterr()
    assert main(["gate", old, "against=baselines/codec", "rules=mine.yaml"]) == 0
    assert "gate mine: PASS" in capsys.readouterr().out
    assert main(["gate", new, "against=baselines/codec", "rules=mine.yaml", "out=verdict"]) == 1
    out = capsys.readouterr().out
    assert "REGRESSION" in out and re.search(r"regression +a +pesq_wb .* \+0\.200 .* 0\.0500 ", out)
    data = json.loads(Path("verdict/gate.json").read_text(encoding="utf-8"))
    assert data["verdict"] == "regression" and [c["outcome"] for c in data["checks"]].count("regression") == 2
    assert "❌" in Path("verdict/gate.md").read_text(encoding="utf-8")
    suite = ElementTree.parse("verdict/gate.xml").getroot().find("testsuite")
    assert suite is not None and suite.get("failures") == "2"


@pytest.mark.parametrize(
    ("other", "words", "forced"),
    [
        ({"status": "partial"}, "partial", 3),
        ({"version": "2"}, "measured in two ways", 0),
        ({"pesq": "2"}, "pesq 1 and 2", 0),
        ({"label": "a2"}, "missing or renamed", 3),
    ],
)
def test_incomparable_exits_with_3(
    folder: Callable[..., str], capsys: pytest.CaptureFixture[str], other: dict[str, str], words: str, forced: int
) -> None:
    old, new = folder("old"), folder("new", **other)
    main(["bless", old, "out=base"])
    assert main(["gate", new, "against=base", "rules=mine.yaml"]) == 3
    assert words in capsys.readouterr().out
    assert json.loads(Path(new, "gate.json").read_text(encoding="utf-8"))["verdict"] == "incomparable"
    assert main(["gate", new, "against=base", "rules=mine.yaml", "force=true"]) == forced


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gate", "runs/old"], "against=BASELINE"),
        (["gate", "runs/old", "against=nowhere"], "nowhere is not a run folder"),
        (["gate", "runs/old", "against=runs/old", "rules=strickt"], "no gate named 'strickt'"),
        (["gate", "runs/old", "against=runs/old", "rules=no.yaml"], "cannot be read"),
        (["gate", "runs/old", "against=runs/old", "force=maybe"], "true or false"),
        (["gate", "runs/old", "agianst=runs/old"], "no setting 'agianst'"),
        (["bless", "out=x"], "at least one run folder"),
        (["bless", "runs/old", "runs/old"], "twice"),
        (["compare", "runs/old"], "left=SYSTEM right=SYSTEM"),
        (["compare", "runs/old", "left=a", "right=z"], "no system named 'z'"),
        (["compare", "runs/old", "runs/old", "margin.pesq_wb=-1"], "above 0"),
        (["compare", "runs/old", "runs/old", "metrics=[pesq]"], "no metric named 'pesq'"),
        (["compare", "runs/old", "runs/old", "confidence=7"], "confidence"),
        (["compare", "runs/old", "runs/old", "items=2", "items=3"], "twice"),
    ],
)
def test_wrong_requests_exit_with_2(folder: Callable[..., str], capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    folder("old")
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_compare_two_runs(folder: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    old, new = folder("old"), folder("new", drop=0.2)
    assert main(["compare", old, new, "systems=[a]", "margin.pesq_wb=0.5", "resamples=500", "out=cmp"]) == 0
    out = capsys.readouterr().out
    assert "runs/new against runs/old" in out and "worse" in out and "identical" in out
    page = Path("cmp/compare.html").read_text(encoding="utf-8")
    assert ">-0.200</td>" in page and "harness run run.name=new" in page
    assert "| a | pesq\\_wb | **worse** |" in Path("cmp/compare.md").read_text(encoding="utf-8")


def test_compare_two_systems_of_one_run(folder: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", folder("old"), "left=a", "right=b", "resamples=500"]) == 0
    assert "Systems of runs/old" in capsys.readouterr().out
    assert Path("runs/old/compare.html").exists()


def test_runs_without_a_common_system(folder: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    old, new = folder("old"), folder("new", label="c")
    assert main(["compare", old, new, "resamples=500"]) == 0
    out = capsys.readouterr().out
    assert "runs/old alone has a" in out and "runs/new alone has c" in out
    assert main(["compare", old, new, "resamples=500", "left=a", "right=c"]) == 0
    assert "a → c" in capsys.readouterr().out


def test_the_gate_inside_a_test_suite(folder: Callable[..., str]) -> None:
    old, new = folder("old"), folder("new", drop=0.2)
    assert check_gate(old, against=old, rules="mine.yaml").exit_code == 0
    with pytest.raises(GateFailed, match="worse by") as caught:
        check_gate(new, against=old, rules="mine.yaml")
    assert caught.value.verdict.exit_code == 1
    with pytest.raises(GateFailed, match="incomparable"):
        check_gate(folder("other", version="2"), against=old, rules="mine.yaml")
    with pytest.raises(UsageError):
        check_gate("nowhere", against=old)
    assert not Path(new, "gate.json").exists()


def test_a_real_run_gates_against_itself(harness_run: Callable[..., tuple[int, Path]], make_dataset: Callable[..., Path]) -> None:
    code, run = harness_run(make_dataset(["one", "two", "three", "four"]), "systems=[passthrough]", metrics="[mcd_db,si_sdr_db]")
    assert code == 0
    assert main(["bless", str(run), "out=base"]) == 0
    assert main(["gate", str(run), "against=base"]) == 0
    assert main(["gate", str(run), "against=base", "rules=speed"]) == 3
    assert main(["compare", str(run), "base"]) == 0
    assert (run / "compare.html").exists() and len(list(Path("base").iterdir())) == 2


def test_importing_the_pytest_helper_is_light() -> None:
    code = "import sys, harness.commands.gate, harness.commands.gate; sys.exit(bool({'torch', 'hydra', 'pandas', 'scipy', 'reports'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
