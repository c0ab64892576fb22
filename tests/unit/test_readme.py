"""What the README shows works as shown."""

import re
import sys
from pathlib import Path

import pytest

import harness
from harness.cli import main
from harness.testing import check_codec

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


def block(marker):
    return re.search(rf"<!-- {marker} -->\n```\w+\n(.*?)```", README, re.DOTALL).group(1)


@pytest.fixture
def my_codec(tmp_path, monkeypatch):
    entry_points = re.search(r"```toml\n(.*?)```", README, re.DOTALL).group(1)
    group, line = re.search(r'\[project.entry-points."(.*?)"\]\n(.*)\n', entry_points).groups()
    (tmp_path / "my_codec.py").write_text(block("example"))
    (tmp_path / "my_codec-1.0.dist-info").mkdir()
    (tmp_path / "my_codec-1.0.dist-info" / "entry_points.txt").write_text(f"[{group}]\n{line.replace(chr(34), '')}\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("my_codec", None)


def test_the_example_codec_keeps_the_laws_and_runs(my_codec, tmp_path, capsys):
    from my_codec import MuLaw

    check_codec(MuLaw(), factory=MuLaw)
    assert (
        main(
            [
                "run",
                "suite=codec",
                "systems=[mulaw,opus16]",
                "dataset.limit=2",
                "metrics=[pesq_wb,nominal_bps]",
                "run.name=x",
                "--no-report",
            ]
        )
        == 0
    )
    mean = harness.load(tmp_path / "runs" / "x").groupby(["system", "metric"])["value"].mean()
    assert mean["mulaw", "nominal_bps"] == 128000
    assert mean["mulaw", "pesq_wb"] > 3.0


def test_the_lines_of_python_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(block("python"), names)
    assert "opus16" in capsys.readouterr().out
    assert names["quiet"].table()["value"].round(1).tolist() == [-6.0]


def test_the_example_is_twenty_lines():
    assert len([line for line in block("example").splitlines() if line.strip()]) <= 20


def test_ci_runs_the_test_command_of_the_readme():
    script = (Path(__file__).resolve().parents[2] / ".ci" / "run").read_text()
    assert "README.md" in script
    assert "pytest" in block("tests")


def test_both_commands_fetch_what_the_defaults_want():
    assert "run.fetch=true" in block("run") and "(.venv/bin/harness fetch || true) &&" in block("tests")


def test_every_name_in_the_readme_exists():
    from harness.settings.registry import config_choices, entries, variants

    known = set(variants())
    for systems in re.findall(r"systems=\[([\w,]+)\]", README):
        assert set(systems.split(",")) <= known | {"mulaw"}, systems
    for group in ("suite", "dataset", "asr"):
        for name in re.findall(rf"\b{group}=([a-z]\w*)", README):
            assert name in config_choices(group), (group, name)
    for names in re.findall(r"metrics=\[([\w,]+)\]", README):
        assert set(names.split(",")) <= set(entries("metrics"))
