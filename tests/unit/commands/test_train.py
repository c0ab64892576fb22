"""``harness train`` from words to files: what it accepts, continues, refuses, and how it stops."""

import csv
import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from harness.commands.train import train
from harness.errors import CheckpointError, ConfigError, HarnessError, MissingDependency, RunConflict, UnknownName
from harness.settings.training import planned, trainers


@pytest.fixture
def command(make_dataset, tmp_path, stubs, monkeypatch):
    """Runs ``harness train system=stub_frames`` on ten noise recordings in this process."""
    root = make_dataset([f"text {i}" for i in range(10)])
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()

    def run(*words, data=root, out="out"):
        return train(["system=stub_frames", f"data={data}", "steps=6", "held_out=2", *([f"out={out}"] if out else []), *words])

    yield run
    torch.set_num_threads(threads)


def last_step(folder):
    with (Path(folder) / "log.csv").open() as file:
        return int(float(list(csv.DictReader(file))[-1]["step"]))


@pytest.mark.cases("A11", before="training on a folder with unreadable files said nothing of them", after="a line says what is left out")
def test_what_the_data_leaves_out_is_said(command, capsys):
    text = Path("data/manifest.jsonl").read_text()
    Path("data/manifest.jsonl").write_text(text.replace('"id"', '"mood": "calm", "id"'))
    command()
    assert "data: left out: columns not read: mood" in capsys.readouterr().err


def test_a_model_with_its_history(command, tmp_path, capsys):
    assert command("width=4", "learning_rate=5e-3", "threads=1") == 0
    with safe_open("out/model.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert load_file("out/model.safetensors")["down.weight"].shape == (4, 64)
    assert metadata["family"] == "stub_frames"
    assert json.loads(metadata["parameters"]) == {"width": 4, "learning_rate": 0.005}
    assert metadata["steps"] == "6"
    assert metadata["seed"] == "0"
    assert metadata["num_items"] == "8"
    assert float(metadata["data_hours"]) == pytest.approx(8 * 0.59 / 3600, rel=0.2)
    assert len(metadata["data_digest"]) == 64
    assert metadata["command"].startswith("harness train system=stub_frames data=")
    assert metadata["git_commit"]
    notes = json.loads(Path("out/training.json").read_text())
    assert notes["starts"][0]["packages"]["torch"] == torch.__version__
    assert {p.name for p in Path("out").iterdir()} == {
        ".lock", "checkpoint.safetensors", "curve.png", "log.csv", "model.safetensors", "training.json"
    }  # fmt: skip
    error = capsys.readouterr().err
    assert "training stub_frames" in error
    assert "step 6/6" in error
    assert "finished at step 6" in error


def test_the_same_command_continues(command, capsys):
    command()
    first = load_file("out/model.safetensors")
    command()
    assert "nothing left to do: 6 steps are done" in capsys.readouterr().err
    train(["system=stub_frames", "data=data", "steps=9", "held_out=2", "out=out"])
    assert "continuing stub_frames" in capsys.readouterr().err
    assert last_step("out") == 9
    assert not torch.equal(first["down.weight"], load_file("out/model.safetensors")["down.weight"])
    assert len(json.loads(Path("out/training.json").read_text())["starts"]) == 3


def test_the_folder_is_named_by_what_is_trained(command):
    command(out=None)
    command("seed=1", out=None)
    command(out=None)
    assert len(list(Path("runs").glob("train-stub_frames-????????"))) == 2


def test_another_training_in_the_folder_is_refused_or_moved_aside(command):
    command()
    with pytest.raises(RunConflict, match=r"seed was 0, is 1.*overwrite=true"):
        command("seed=1")
    with pytest.raises(RunConflict, match="checkpoint at step 6 and resume=false"):
        command("resume=false")
    command("seed=1", "overwrite=true")
    assert Path("out.old1/model.safetensors").exists()
    assert len(json.loads(Path("out/training.json").read_text())["starts"]) == 1


def test_replaced_sound_is_noticed(command, make_dataset):
    command()
    source, target = Path("data/5.wav"), Path("data/4.wav")
    target.write_bytes(source.read_bytes())
    with pytest.raises(CheckpointError, match="belongs to another run \\(sound: "):
        train(["system=stub_frames", "data=data", "steps=9", "held_out=2", "out=out"])


def test_a_damaged_checkpoint_is_refused(command):
    command()
    Path("out/checkpoint.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0garbage!")
    with pytest.raises(CheckpointError, match="cannot be read"):
        command()


def test_two_trainings_do_not_share_a_folder(command):
    import fcntl

    Path("out").mkdir()
    with Path("out/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RunConflict, match="in use by process"):
            command()
    assert command() == 0


@pytest.mark.parametrize(
    ("words", "error", "text"),
    [
        (["system=stub_frames"], ConfigError, "data= is missing"),
        (["data=x"], ConfigError, "system= is missing"),
        (["system=stub_framse", "data=x"], UnknownName, "Did you mean stub_frames"),
        (["system=passthrough", "data=x"], UnknownName, "'passthrough' is of this family, which has nothing to train"),
        (["system=stub_absent", "data=x"], MissingDependency, "stub_recipe_missing"),
        (["system=stub_frames", "data=x", "widht=3"], ConfigError, "'widht' is neither .* Did you mean width"),
        (["system=stub_frames", "data=x", "steps=many"], ConfigError, "steps must be of type int, got 'many'"),
        (["system=stub_frames", "data=x", "steps=0"], ConfigError, "steps must be positive"),
        (["system=stub_frames", "data=x", "seed=true"], ConfigError, "seed must be of type int"),
        (["system=stub_frames", "data=x", "steps"], ConfigError, "'steps' is not an override"),
        (["system=stub_frames", "data=x", "steps=1", "steps=2"], ConfigError, "'steps' is given twice"),
        (["system=stub_frames", "data=x", "average_decay=1"], ConfigError, "average_decay must lie in"),
        (["system=stub_frames", "data=x"], ConfigError, "x: no such folder"),
        (["system=stub_frames", "data=x", "width=[1"], ConfigError, "cannot be read"),
    ],
)
def test_what_is_refused_before_anything_is_written(words, error, text, stubs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=text):
        train(words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["size=huge"], "refuses size=huge: size=huge: there are small and paper"),
        (["precision=float64"], "precision=float64 is unknown"),
        (["device=cuda:7"], "device=cuda:7 cannot be used"),
        (["held_out=10"], "10 recordings are to be held out, but there are only 10"),
    ],
)
def test_values_that_cannot_be_carried_out(command, words, text):
    with pytest.raises(ConfigError, match=text):
        train(["system=stub_frames", "data=data", *(w for w in ["held_out=2"] if not any("held_out" in x for x in words)), *words])


def test_a_file_of_the_recipe_that_is_not_there_is_told(command):
    with pytest.raises(ConfigError, match=r"the recipe of 'lm_tts' refuses .*no lm_tts checkpoint at nowhere"):
        train(["system=qtts_multihead", "data=data", "held_out=2", "start=nowhere"])


def test_an_unreadable_recording_is_named(command):
    Path("data/3.wav").write_bytes(b"RIFFnothing")
    with pytest.raises(ConfigError, match=r"1 of 10 recordings cannot be used:\n  .*3\.wav"):
        command()


def test_divergence_is_an_error_of_its_own(command):
    with pytest.raises(HarnessError, match="3 steps of 'codec' in a row") as caught:
        command("nan_steps=[1,2,3]", "max_skipped=3")
    assert caught.value.exit_code == 1


def test_held_out_data_of_ones_own(command, make_dataset):
    other = make_dataset(["a", "b", "c"], name="other")
    command(f"valid={other}")
    with safe_open("out/model.safetensors", framework="pt") as file:
        assert file.metadata()["num_items"] == "10"


def test_the_environment_is_not_read_by_interpolation(stubs):
    assert planned(["system=stub_frames", "data=x", "size=${oc.env:HOME}"]).parameters == {"size": "${oc.env:HOME}"}


def _described(folder, monkeypatch, name, text):
    """A system of this name, as if its YAML came with the package."""
    from harness.settings import registry

    path = folder / f"{name}.yaml"
    path.write_text(text)
    monkeypatch.setattr(registry, "_installed", lambda package, pattern: {name: path} if package == "systems" else {})


def test_a_variant_gives_the_recipe_the_parameters_it_has(stubs, tmp_path, monkeypatch):
    _described(tmp_path, monkeypatch, "frames4", "family: stub_frames\ntraining: {width: 4}\ncheckpoint: x.safetensors\n")
    plan = planned(["system=frames4", "data=x", "batch_size=3"])
    assert plan.parameters == {"width": 4, "batch_size": 3}
    assert plan.family == "stub_frames"


def test_a_repeated_training_has_the_seed_of_its_yaml_unless_another_is_typed():
    plan = planned(["system=socodec120_rq_seed1", "data=x"])
    assert plan.settings.seed == 1 and plan.parameters == {"frame_ms": 120, "quantizer": "rq"}
    assert planned(["system=socodec120_rq_seed1", "data=x", "seed=5"]).settings.seed == 5
    assert planned(["system=qdac16_noasr", "data=x"]).parameters == {"semantic": False}


def test_the_table_of_recipes(stubs):
    found = trainers()
    assert found["stub_frames"] == "stub_recipe:FramesRecipe"
    assert found["qdac"].startswith("systems.qdac.")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_same_command_goes_on(make_dataset, tmp_path, warm, number):
    root = make_dataset([f"text {i}" for i in range(6)])
    words = ["system=stub_frames", f"data={root}", "steps=120", "held_out=1", f"out={tmp_path / 'out'}", "pause_s=0.01", "log_s=0.2"]
    code = (
        "import sys; from harness.errors import HarnessError; from harness.commands.train import train\n"
        "try: sys.exit(train(sys.argv[1:]))\n"
        "except HarnessError as error: print(error, file=sys.stderr); sys.exit(error.exit_code)"
    )
    process = warm.start(code, words, tmp_path)
    limit = time.monotonic() + 60
    log = tmp_path / "out" / "log.csv"
    while not (log.exists() and len(log.read_text().splitlines()) > 1):
        assert time.monotonic() < limit and process.poll() is None, process.wait()
        time.sleep(0.05)
    os.kill(process.pid, number)
    error = process.wait()
    assert process.returncode == 130, error
    assert f"stopped by {signal.Signals(number).name}" in error
    stopped_at = last_step(tmp_path / "out")
    assert 0 < stopped_at < 120
    finished = warm.start(code, words, tmp_path)
    error = finished.wait()
    assert finished.returncode == 0, error
    assert f"continuing stub_frames (stub_frames, 0.00 M weights) at step {stopped_at} of 120" in error
    assert last_step(tmp_path / "out") == 120


def test_a_variant_that_cannot_be_trained_as_it_says_is_refused(stubs, tmp_path, monkeypatch):
    _described(tmp_path, monkeypatch, "frames5", "family: stub_frames\ntraining: {semantic: false}\n")
    with pytest.raises(ConfigError, match=r"system=frames5 says semantic: False, which the recipe .* \(it has: size, width"):
        planned(["system=frames5", "data=x"])


@pytest.mark.cases(
    "D10", before="data=[a could not be read, data=#x was nothing, 'data=a: b' a mapping", after="words and paths are taken as typed"
)
@pytest.mark.parametrize("text", ["2024", "2026_11_30", "true", "[a", "${oc.env:HOME}", "a: b", "#x"])
def test_paths_are_text_as_typed(text):
    from harness.settings.training import _parsed

    assert _parsed([f"data={text}", f"out={text}", f"start={text}", "steps=5", "valid=null"]) == {
        "data": text, "out": text, "start": text, "steps": 5, "valid": None,
    }  # fmt: skip
