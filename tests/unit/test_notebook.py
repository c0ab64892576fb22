"""The harness from Python: the examples in its docstrings, and that it is the same machine as the command line."""

import doctest
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import harness
import harness.notebook
from harness.api import Audio, Bitstream, CodecSpec, Codes, SystemInfo
from harness.cli import main
from harness.errors import ConfigError, HarnessError, Incomplete

ASKED = {"systems": ["noise", "passthrough"], "metrics": ["si_sdr_db", "emitted_bps"], "limit": 2, "executor": "serial"}


def test_the_examples_are_true(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = harness.run(systems=["passthrough", "opus6"], metrics=["stoi"], limit=2, executor="serial", run_root=tmp_path)
    found = doctest.testmod(harness.notebook, extraglobs={"harness": harness, "folder": tmp_path, "done": done})
    assert found.attempted >= 7 and not found.failed


def test_a_run_is_that_of_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = harness.run(run_name="x", **ASKED)
    assert (
        main(["run", "systems=[noise,passthrough]", "metrics=[si_sdr_db,emitted_bps]", "dataset.limit=2", "executor=serial", "run.name=x"])
        == 0
    )
    assert done.result.predicted and harness.run(run_name="x", **ASKED).result.predicted == 0  # the same run, resumed
    frame = harness.load(done.folder)
    assert {"metric", "name"} <= set(frame) and all(isinstance(c, dict) for c in [*frame["counts"], *frame["detail"]])
    table = done.table().set_index(["system", "metric"])
    assert table.loc[("passthrough", "si_sdr_db"), ["value", "low", "high", "n_ok", "n_total"]].tolist() == [100, 100, 100, 2, 2]
    assert ("noise", "emitted_bps") in table.index and table["signature"].all()
    assert (done.folder / "report.csv").read_bytes() == done.report(tmp_path / "again").csv.read_bytes()
    assert "harness run suite=codec" in json.loads((done.folder / "manifest.json").read_text())["command"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"limit": 0}, ["dataset.limit=0"]),
        ({"suite": "codex"}, ["suite=codex"]),
        ({"systems": ["opsu"]}, ["systems=[opsu]"]),
        ({"dataset": "nope"}, ["dataset=nope"]),
        ({"metrics": ["pesq"]}, ["metrics=[pesq]"]),
        ({"overrides": {"run.rot": 1}}, ["run.rot=1"]),
        ({"overrides": {"systems.noise._target_": "os.system"}}, ["systems.noise._target_=os.system"]),
        ({"run_root": "~nobody-here/x"}, ["run.root=~nobody-here/x"]),
        ({"executor": "seriel"}, ["executor=seriel"]),
    ],
)
def test_the_same_is_refused_with_the_same_message(asked, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HarnessError) as refused:
        harness.run(**{"systems": ["noise"], "metrics": ["stoi"], **asked})
    given = [word for word in ("systems=[noise]", "metrics=[stoi]") if word.split("=")[0] not in {w.split("=")[0] for w in words}]
    assert main(["run", *given, *words]) == 2
    assert capsys.readouterr().err.strip() == f"harness: {refused.value}"
    assert not (tmp_path / "runs").exists()


def test_text_is_never_parsed(tmp_path):
    for name in ("2026_11_30", "null", "[a,b", "'quoted'"):
        config = harness.notebook.composed(["systems=[noise]"], None, {"run.root": str(tmp_path / name), "run.name": "1e3"})
        assert config["run"]["root"] == str(tmp_path / name) and config["run"]["name"] == "1e3"


def test_what_is_no_setting_is_refused():
    with pytest.raises(ConfigError, match="no setting"):
        harness.run(systems=["noise"], limit=object())
    assert harness.notebook.composed(["systems=[noise]"], None, {"dataset.limit": np.int64(3)})["dataset"]["limit"] == 3


class Coarse:
    """16-bit samples, the lowest bits cut off."""

    info = SystemInfo(family="coarse", version="1")
    spec = CodecSpec(16000, 1, causal=True)
    bits = 8

    def encode(self, audio):
        step = 2 ** (16 - self.bits)
        levels = np.clip(np.round(audio.samples[0] * 2**15 / step) * step, -(2**15), 2**15 - 1)
        return Bitstream((levels.astype("<i2").tobytes(),), audio.num_samples, 16000)

    def decode(self, encoded):
        return Audio.mono(np.frombuffer(encoded.packets[0], "<i2").astype(np.float32) / 2**15, 16000)


def test_an_object_is_measured_as_it_is_now(tmp_path):
    codec, found = Coarse(), []
    for bits in (12, 6):
        codec.bits = bits  # nothing tells the store of it
        done = harness.evaluate(codec, metrics=["si_sdr_db"], limit=2, systems=["noise"], run_root=tmp_path)
        assert list(done.table()["system"]) == ["Coarse", "noise"] and not len(done.failures)
        found.append(done.table()["value"][0])
    assert found[0] > found[1] + 20
    from harness.settings import registry

    assert not registry.LENT


class Steps(Coarse):
    """Tokens of one sample each: its own output is on the steps already, and a shifted input is another."""

    spec = CodecSpec(sample_rate=16000, hop_length=1, codebook_sizes=(16,))

    def encode(self, audio):
        return Codes(np.clip(np.round(audio.samples * 8) + 8, 0, 15).astype(int), self.spec, audio.num_samples)

    def decode(self, encoded):
        return Audio.mono((encoded.indices[0] - 8) / 8, 16000)


def test_tokens_are_encoded_again_where_a_metric_asks(tmp_path):
    asked = {"limit": 2, "systems": ["opus16"], "run_root": tmp_path}
    plain = harness.evaluate(Steps(), metrics=["si_sdr_db", "emitted_bps"], **asked)
    more = harness.evaluate(Steps(), metrics=["token_consistency", "token_consistency_shift", "si_sdr_db"], **asked)
    table = more.table().set_index(["system", "metric"])["value"]
    assert table["Steps", "token_consistency"] == 1.0
    assert 0.3 < table["Steps", "token_consistency_shift"] < 1
    skipped = more.records().set_index(["system", "metric"]).loc[("opus16", "token_consistency")]
    assert set(skipped["status"]) == {"skipped_by_policy"} and "no codec of tokens" in skipped["reason"].iloc[0]
    assert (plain.result.predicted, more.result.predicted) == (4, 2)  # an object is always asked anew, opus16 is not


def test_what_an_object_loses_is_listed(tmp_path):
    def broken(samples, sample_rate):
        raise RuntimeError("out of tubes")

    done = harness.evaluate(broken, metrics=["stoi"], limit=2, run_root=tmp_path)
    assert list(done.failures["status"]) == ["failed"] * 2 and done.failures["reason"].str.contains("out of tubes").all()
    with pytest.raises(Incomplete):
        done.check()
    with pytest.raises(ConfigError, match="neither a Codec"):
        harness.evaluate(3)
    with pytest.raises(ConfigError, match="in this process"):
        harness.evaluate(Coarse(), executor="local", run_root=tmp_path)


def test_items_may_be_arrays_paths_and_texts(tmp_path):
    from harness.data.audio import write_audio

    sound = np.random.default_rng(0).normal(scale=0.1, size=16000).astype(np.float32)
    write_audio(tmp_path / "b.wav", Audio.mono(sound, 8000))
    items = [
        ("a", (sound, 16000), "one", "anna"),
        {"id": "b", "audio": tmp_path / "b.wav", "language": "en"},
        ("c", Audio.mono(sound, 16000)),
    ]
    asked = {"metrics": ["level_rms_db"], "run_root": tmp_path / "runs"}
    done = harness.evaluate(lambda samples, rate: (samples / 2, rate), dataset=items, name="half", **asked)
    frame = done.records().set_index("item")
    assert list(frame.index) == ["a", "b", "c"] and frame["value"].round(2).tolist() == [-6.02] * 3
    assert frame.loc["a", "speaker"] == "anna" and frame.loc["b", "language"] == "en"
    (tmp_path / "folder").mkdir()
    (tmp_path / "b.wav").rename(tmp_path / "folder" / "b.wav")
    again = harness.run(systems=["passthrough"], dataset=tmp_path / "folder", executor="serial", **asked)
    assert again.records()["item"].tolist() == ["b"]
    with pytest.raises(ConfigError, match="item 'a'"):
        harness.run(systems=["noise"], dataset=[("a", tmp_path / "nowhere.wav")], **asked)


def test_a_side_thread_may_ask(tmp_path):
    with ThreadPoolExecutor(1) as side:
        done = side.submit(harness.run, systems=["passthrough"], metrics=["level_rms_db"], limit=2, executor="serial", run_root=tmp_path)
        assert done.result().records()["status"].tolist() == ["ok"] * 2


def test_a_script_without_a_guard_is_not_run_again_by_its_workers(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "print('begun')\nimport harness\n"
        "done = harness.run(systems=['passthrough'], metrics=['level_rms_db'], limit=2, executor_workers=1, run_root='runs')\n"
        "print(len(done.records()))\n"
    )
    result = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.stdout.split() == ["begun", "2"], result.stderr
