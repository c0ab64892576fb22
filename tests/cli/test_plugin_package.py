"""A distribution of a third party, installed and used exactly as its README says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import harness

PACKAGE = Path(__file__).resolve().parents[1] / "plugin_package"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the package; building in the checkout would leave files there."""
    return shutil.copytree(PACKAGE, tmp_path_factory.mktemp("plugin") / "package", ignore=shutil.ignore_patterns("__pycache__"))


def carried_out(folder):
    """Every block of the README in order, with what it printed. pip installs into a folder beside, which is on the path."""
    site = folder.parent / "site"
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PIP_TARGET": str(site),
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_COMPILE": "1",
        "PYTHONPATH": str(site),
    }
    said = {}
    for kind, text in re.findall(r"```(\w+)\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL):
        command = ["bash", "-e", "-c", text] if kind == "bash" else [sys.executable, "-c", text]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        said[text.splitlines()[0]] = done.stdout
    return said


def test_the_readme_works_as_it_stands(folder):
    said = carried_out(folder)
    lists = said["harness list systems"]
    for name in ("pcm", "bit_depth", "segmental_snr_db"):
        assert re.search(rf"^{name} +plug-in from waveform_extras-0\.1", lists, re.MULTILINE), name
    laws = said["from harness.testing import check_codec, check_metric, check_suite"]
    assert re.findall(r"^(\w+) keeps (?:[4-9]|1\d) laws$", laws, re.MULTILINE) == ["Pcm", "segmental_snr_db", "BitDepthSuite"]
    assert "Waveform codecs by bit depth" in said[next(command for command in said if command.startswith("harness run"))]
    frame = harness.load(folder / "runs" / "first")
    assert frame["status"].eq("ok").all()
    mean = frame.groupby(["metric", "system"])["value"].mean()
    snr, rate = mean["segmental_snr_db"], mean["nominal_bps"]
    assert [rate[name] for name in ("pcm4", "pcm", "pcm12")] == [64000, 128000, 192000]
    # 6.02 dB a bit, less where a ratio stops at 35 dB
    assert snr["pcm4"] < 10
    assert snr["pcm4"] + 15 < snr["pcm"] < snr["pcm12"] <= 35
    assert mean["si_sdr_db"]["pcm12"] - mean["si_sdr_db"]["pcm"] == pytest.approx(24.1, abs=1.5)
    assert (folder / "runs" / "first" / "report.html").exists()


def test_nothing_was_left_in_the_checkout(folder):
    assert {path.name for path in PACKAGE.iterdir()} <= {"README.md", "pyproject.toml", "waveform_extras", "variants", "__pycache__"}
