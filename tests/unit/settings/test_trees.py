"""A tree of several systems' outputs is one entry of the command line."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import soundfile

import harness
from harness.cli import main
from harness.errors import ConfigError
from harness.settings.config import compose


@pytest.fixture
def tree(tmp_path):
    for name in ("ours", "theirs-v2"):
        (tmp_path / "outputs" / name).mkdir(parents=True)
    return tmp_path / "outputs"


def test_each_folder_is_a_system(tree):
    systems = compose(["systems=[opus6,recorded,noise]", f"systems.recorded.tree={tree}", "systems.recorded.pattern='{id}.*'"])["systems"]
    assert list(systems) == ["opus6", "ours", "theirs-v2", "noise"]
    assert systems["ours"] == {"family": "recorded", "root": str(tree / "ours"), "pattern": "{id}.*", "description": ""}


def test_what_cannot_be_is_said(tree):
    with pytest.raises(ConfigError, match="no such folder"):
        compose(["systems=[recorded]", "systems.recorded.tree=nowhere"])
    with pytest.raises(ConfigError, match="holds no folders"):
        compose(["systems=[recorded]", f"systems.recorded.tree={tree / 'ours'}"])
    with pytest.raises(ConfigError, match="exclude each other"):
        compose(["systems=[recorded]", f"systems.recorded.tree={tree}", f"systems.recorded.root={tree}"])
    (tree / "opus6").mkdir()
    with pytest.raises(ConfigError, match="two systems are called 'opus6'"):
        compose(["systems=[opus6,recorded]", f"systems.recorded.tree={tree}"])
    (tree / "a b").mkdir()
    with pytest.raises(ConfigError, match="'a b' cannot name a system"):
        compose(["systems=[recorded]", f"systems.recorded.tree={tree}"])


def test_seedtts_outputs_of_two_systems_in_one_command(tree, tmp_path, monkeypatch, stubs, capsys):
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "seedtts" / "en"
    (data / "prompt-wavs").mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = []
    for i in range(3):
        soundfile.write(data / "prompt-wavs" / f"p{i}.wav", rng.uniform(-0.5, 0.5, 16000).astype(np.float32), 16000)
        lines.append(f"utt{i}|words of the prompt|prompt-wavs/p{i}.wav|words to speak")
    (data / "meta.lst").write_text("\n".join(lines) + "\n")
    for name, missing in (("ours", ()), ("theirs-v2", (1,))):
        for i in set(range(3)) - set(missing):
            shutil.copy(data / "prompt-wavs" / f"p{i}.wav", tree / name / f"utt{i}.wav")
    words = [
        "run", "suite=zero_shot", "dataset=seedtts", f"dataset.root={tmp_path / 'seedtts'}", "systems=[recorded]",
        f"systems.recorded.tree={tree}", "metrics=[stub_peak,clipped_samples]", "executor=serial", "run.name=x",
    ]  # fmt: skip
    assert main(words) == 1, "a missing file is a failure of its system"
    shown = capsys.readouterr().out
    assert "theirs-v2" in shown and "2/3" in shown and "3/3" in shown
    status = harness.load(tmp_path / "runs" / "x").query("metric == 'stub_peak'").set_index(["system", "item"])["status"]
    assert status["ours"].eq("ok").all() and len(status["ours"]) == 3
    missed = status["theirs-v2"]
    assert missed.value_counts().to_dict() == {"ok": 2, "failed": 1} and "utt1" in missed[missed == "failed"].index[0]
