"""What several test folders share: the stub plug-in and small datasets."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

STUBS = Path(__file__).parent / "stubs"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Takes SpeechBrain's lazy modules away before a hypothesis test.

    hypothesis looks at every imported module for constants worth trying, and to be looked at makes these import what is not installed.
    """
    if item.get_closest_marker("hypothesis"):
        for name in [name for name, module in sys.modules.items() if type(module).__module__ == "speechbrain.utils.importutils"]:
            del sys.modules[name]


@pytest.fixture
def stubs(monkeypatch):
    """The misbehaving plug-in, registered by its entry points (also in worker processes, which inherit the path)."""
    monkeypatch.setattr(sys, "path", [str(STUBS), *sys.path])
    return STUBS


@pytest.fixture
def make_dataset(tmp_path):
    """Writes a JSONL manifest with noise recordings; ``texts`` gives one item each, 0.5 s plus 20 ms per index."""

    def make(texts, name="data"):
        root = tmp_path / name
        root.mkdir()
        rng = np.random.default_rng(0)
        with (root / "manifest.jsonl").open("w", encoding="utf-8") as file:
            for i, text in enumerate(texts):
                soundfile.write(root / f"{i}.wav", rng.uniform(-0.5, 0.5, 8000 + 320 * i).astype(np.float32), 16000, subtype="FLOAT")
                file.write(
                    json.dumps({"id": f"item{i}", "audio": f"{i}.wav", "text": text, "language": "en", "speaker": f"s{i % 3}"}) + "\n"
                )
        return root

    return make


@pytest.fixture
def harness_run(tmp_path, monkeypatch, stubs):
    """Runs ``harness run`` in this process in a folder of its own; returns exit code and run folder."""
    from harness.cli import main

    monkeypatch.chdir(tmp_path)

    def run(root, *words, name="run", metrics="[stub_peak]"):
        code = main(
            [
                "run",
                "--no-report",
                "dataset=jsonl",
                f"dataset.root={root}",
                f"metrics={metrics}",
                f"run.name={name}",
                "executor.workers=2",
                *words,
            ]
        )
        return code, tmp_path / "runs" / name

    return run
