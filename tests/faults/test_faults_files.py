"""Files that are not what they seem, or not what they were: what was read is what a result is stored under."""

import json
import os
import struct
from dataclasses import replace

import numpy as np
import pytest
import soundfile

import harness
import harness.running.predicting
import harness.running.runner
from harness.api import Audio, Item, Prediction, Weights
from harness.cli import main
from harness.data.digests import Contents
from harness.running.metric_set import MetricBuilder
from harness.running.scoring import Measure, ScoreWorker, Subject
from harness.storing.store import Store
from harness.workers.jobs import Job
from tests.faults.test_faults_running import by_item

fault = pytest.mark.fault
cases = pytest.mark.cases
WORDS = ("executor=serial", "systems=[stub_echo]")


def constant(path, level, count=8000):
    soundfile.write(path, np.full(count, level, np.float32), 16000, subtype="FLOAT")


def values(folder, metric="stub_peak"):
    frame = harness.load(folder)
    return frame[frame["metric"] == metric].set_index("item")["value"].round(6).to_dict()


@pytest.fixture
def before(monkeypatch):
    """Lets something happen once, when a run has been planned and before a stage ("predict", "score") begins."""

    def do(stage, action):
        real, done = getattr(harness.running.runner, stage), []

        def staged(*words, **more):
            if not done:
                done.append(action())
            return real(*words, **more)

        monkeypatch.setattr(harness.running.runner, stage, staged)

    return do


@fault(
    "F20",
    "recording replaced while the run goes on",
    "failed with its path; nothing stored under the old content",
    before="other numbers under the old key",
)
@cases(
    "A3",
    before="a recording replaced during a run: its number stored under the old digest, for ever",
    after="failed, naming the file; measured by the next run",
)
@pytest.mark.parametrize("stage", ["predict", "score"])
def test_a_recording_that_is_replaced_while_the_run_goes_on(make_dataset, harness_run, before, stage):
    root = make_dataset(["a", "a"])
    constant(root / "1.wav", 0.25)
    old = (root / "1.wav").read_bytes()

    def replaced():
        constant(root / "new.wav", 0.75)
        (root / "new.wav").rename(root / "1.wav")

    before(stage, replaced)
    code, folder = harness_run(root, *WORDS)
    found = by_item(folder)
    assert code == 1 and found["item0"][0] == "ok"
    assert found["item1"][:2] == ("failed", "reference")
    assert "1.wav: changed since the run was planned" in found["item1"][2]
    assert harness_run(root, *WORDS)[0] == 0
    assert values(folder)["item1"] == 0.75
    (root / "1.wav").write_bytes(old)
    assert harness_run(root, *WORDS)[0] == 0
    assert values(folder)["item1"] == 0.25


@cases(
    "A3",
    before="a file missing at the start that appears: its number also for another missing file with the same text",
    after="failed, naming the file; measured by the next run",
)
def test_a_file_that_appears_while_the_run_goes_on(make_dataset, harness_run, before):
    root = make_dataset(["same text"] * 3)
    for i in (1, 2):
        (root / f"{i}.wav").unlink()
    before("predict", lambda: constant(root / "1.wav", 0.25))
    code, folder = harness_run(root, *WORDS)
    found = by_item(folder)
    assert code == 1 and found["item0"][0] == "ok"
    assert found["item1"][:2] == ("failed", "reference") and "it was missing and is of content" in found["item1"][2]
    assert found["item2"][:2] == ("invalid_input", "reference") and "2.wav: missing" in found["item2"][2]
    assert harness_run(root, *WORDS)[0] == 1
    assert values(folder)["item1"] == 0.25
    assert by_item(folder)["item2"][:2] == ("invalid_input", "reference")
    assert harness.load(folder)["status"].eq("ok").sum() == 2


@fault("F02", "recording or output that vanishes while the run goes on", "failed with its path; measured when it is back")
@pytest.mark.parametrize("stage", ["predict", "score"])
def test_a_recording_that_vanishes_while_the_run_goes_on(make_dataset, harness_run, before, stage):
    root = make_dataset(["a", "a"])
    before(stage, lambda: (root / "1.wav").rename(root / "aside"))
    code, folder = harness_run(root, *WORDS)
    assert code == 1
    assert by_item(folder)["item1"][:2] == ("failed", "reference")
    assert "missing: no such file; changed since the run was planned" in by_item(folder)["item1"][2]
    (root / "aside").rename(root / "1.wav")
    assert harness_run(root, *WORDS)[0] == 0


@cases("A3", before="a prompt replaced during a run: the voice of the new one stored under the old digest", after="failed, naming the file")
def test_a_prompt_that_is_replaced_while_the_run_goes_on(tmp_path, harness_run, before):
    root = tmp_path / "data"
    root.mkdir()
    constant(root / "p.wav", 0.1)
    (root / "manifest.jsonl").write_text(json.dumps({"id": "a", "text": "words", "prompt_audio": "p.wav", "prompt_text": "x"}))
    words = ("executor=serial", "suite=stub_speech", "systems=[stub_voice]")
    before("predict", lambda: constant(root / "p.wav", 0.2))
    code, folder = harness_run(root, *words)
    assert code == 1
    assert by_item(folder)["a"][:2] == ("failed", "reference") and "p.wav: changed since" in by_item(folder)["a"][2]
    assert harness_run(root, *words)[0] == 0


@fault(
    "F27",
    "weights replaced between the start of a run and a prediction",
    "failed: another system than was planned",
    before="its outputs stored as the old system's",
)
@cases(
    "A3",
    before="weights replaced while a run goes on: outputs of the new ones stored under the old digest",
    after="failed: the system is another one than when the run was planned",
)
def test_weights_that_are_replaced_while_the_run_goes_on(make_dataset, harness_run, before, monkeypatch, tmp_path):
    root, weights, build = make_dataset(["a", "a"]), tmp_path / "weights", harness.running.predicting.build_system

    def built(entrant):
        system = build(entrant)
        if entrant.label == "stub_echo":
            system.info = replace(system.info, weights=Weights.TRAINED, weights_digest=weights.read_text())
        return system

    monkeypatch.setattr(harness.running.predicting, "build_system", built)
    weights.write_text("first")
    before("predict", lambda: weights.write_text("second"))
    words = ("executor=serial", "systems=[stub_echo,passthrough]")
    code, folder = harness_run(root, *words)
    assert code == 1
    for status, side, reason in by_item(folder, system="stub_echo").values():
        assert (status, side) == ("failed", "output") and "another one than when the run was planned" in reason
    assert {s for s, _, _ in by_item(folder, system="passthrough").values()} == {"ok"}
    assert harness_run(root, *words)[0] == 0


@cases(
    "A3",
    before="a judge's model replaced while a run goes on: its numbers stored under the old signature",
    after="failed: the metric is another one than was planned",
)
def test_a_metric_that_is_another_one_than_was_planned(make_dataset, tmp_path, stubs):
    item = Item("a", "set", make_dataset(["a"]) / "0.wav")
    store = Store(tmp_path / "store")
    store.save_prediction("p" * 32, Prediction(Audio.mono(np.full(100, 0.5), 16000)))
    worker = ScoreWorker(store.root, MetricBuilder(["stub_peak"], {}, ()))
    worker.begin(Job("a", Subject(item, Contents.of(item)), ()))
    signature = worker._set.cards.metrics["stub_peak"].signature()
    worker.step(Measure("p" * 32, "stub_peak", "same", signature))
    worker.step(Measure("p" * 32, "stub_peak", "other", signature + "digest"))
    worker.close()
    found = store.outcomes.find(["same", "other"]).found
    assert found["same"].value == 0.5
    assert (found["other"].status, found["other"].side, found["other"].retry) == ("failed", "reference", True)
    assert f"was {signature}digest when the run was planned" in found["other"].reason


@pytest.fixture
def recorded(make_dataset, harness_run, tmp_path):
    """Outputs of three items, and the run that scores them."""
    root = make_dataset(["a"] * 3)
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    for i in range(3):
        (outputs / f"item{i}.wav").write_bytes((root / f"{i}.wav").read_bytes())

    def run(*words, metrics="[stub_peak,clipped_samples,si_sdr_db]"):
        return harness_run(root, "executor=serial", "systems=[recorded]", f"systems.recorded.root={outputs}", *words, metrics=metrics)

    return outputs, run


@fault("F20", "recorded output replaced, size and time kept", "scored again", before="the old number")
@cases(
    "A1",
    before="an output replaced by another of the same size and time: 'already there', the old numbers",
    after="measured again: its bytes decide",
)
def test_an_output_replaced_under_the_same_size_and_time(recorded):
    outputs, run = recorded
    path = outputs / "item1.wav"
    constant(path, 0.25)
    os.utime(path, ns=(10**18, 10**18))
    size = path.stat().st_size
    code, folder = run()
    assert code == 1 or code == 0
    assert values(folder)["item1"] == 0.25
    constant(path, 0.5)
    os.utime(path, ns=(10**18, 10**18))
    assert path.stat().st_size == size
    run()
    assert values(folder)["item1"] == 0.5


@cases(
    "A1",
    before="what a plug-in recalls from an archive was replaced: the old numbers",
    after="recalled again by every run; measured again where it is another",
)
def test_what_a_plug_in_recalls_is_asked_for_again(make_dataset, harness_run, tmp_path, capsys):
    shelf, root = tmp_path / "shelf.txt", make_dataset(["a", "b"])

    def run():
        words = ("systems=[stub_shelf]", f"systems.stub_shelf.place={shelf}", "executor=serial")
        capsys.readouterr()
        code, folder = harness_run(root, *words)
        return code, values(folder), capsys.readouterr().err

    shelf.write_text("0.25")
    assert run()[:2] == (0, {"item0": 0.25, "item1": 0.25})
    assert "scores: 2 of 2 are already there" in run()[2]
    shelf.write_text("0.5")
    assert run()[:2] == (0, {"item0": 0.5, "item1": 0.5})
    shelf.write_text("gone")
    code, found, _ = run()
    assert code == 1
    assert all(value is None or value != value for value in found.values())
    assert not [*(tmp_path / "runs" / "store" / "predictions").glob("damaged-*")]


def test_an_output_with_another_time_or_place_is_not_measured_again(recorded, capsys):
    outputs, run = recorded
    run(metrics="[stub_peak]")
    for i in range(3):
        os.utime(outputs / f"item{i}.wav")
    capsys.readouterr()
    run(metrics="[stub_peak]")
    told = capsys.readouterr().err
    assert "scores: 3 of 3 are already there" in told


@cases(
    "A3",
    before="an output replaced while a run goes on: stored under the old listing",
    after="failed, naming the file; measured by the next run",
)
def test_an_output_that_is_replaced_while_the_run_goes_on(recorded, before):
    outputs, run = recorded

    def changed():
        constant(outputs / "item1.wav", 0.25)
        (outputs / "item2.wav").unlink()

    before("predict", changed)
    code, folder = run(metrics="[stub_peak]")
    found = by_item(folder)
    assert code == 1 and found["item0"][0] == "ok"
    for item in ("item1", "item2"):
        assert found[item][:2] == ("failed", "output")
        assert f"{item}.wav" in found[item][2] and "changed since the run was planned" in found[item][2]
    run(metrics="[stub_peak]")
    assert values(folder)["item1"] == 0.25
    assert by_item(folder)["item2"][:2] == ("failed", "output")


@cases(
    "A8",
    before="gate and compare of two runs over other recordings with equal ids and texts: REGRESSION",
    after="the recordings differ: n of m; a baseline carries their digests",
)
def test_runs_and_baselines_over_other_recordings_are_not_compared(make_dataset, harness_run, capsys):
    one, two = make_dataset(["a"] * 6, "one"), make_dataset(["a"] * 6, "two")
    for root in (one, two):
        for i in range(6):
            soundfile.write(root / f"{i}.wav", np.random.default_rng(i + 6 * (root == two and i == 4)).normal(0, 0.1, 16000), 16000)
    words = ("executor=serial", "systems=[passthrough]")
    for root, name in ((one, "left"), (two, "right")):
        assert harness_run(root, *words, name=name, metrics="[si_sdr_db,stoi]")[0] in (0, 1)
    assert main(["bless", "runs/left", "out=base"]) == 0
    for verb in (
        ["compare", "runs/left", "runs/right"],
        ["gate", "runs/right", "against=runs/left"],
        ["gate", "runs/right", "against=base"],
    ):
        capsys.readouterr()
        assert main(verb) == 3
        told = capsys.readouterr()
        assert "the recordings differ: 1 of 6 (first: item4)" in " ".join((told.out + told.err).split())
    assert main(["gate", "runs/left", "against=base"]) == 0


@cases("A8", before="a dataset's digest was of its manifest alone", after="of what the recordings hold too, in shards as in the whole")
def test_joined_shards_have_the_digest_of_the_whole(make_dataset, harness_run):
    root = make_dataset(["a"] * 6)
    found = []
    for name, words in (("whole", ()), ("cut", ("run.shard=1/2",)), ("cut", ("run.shard=2/2",))):
        assert harness_run(root, *WORDS, *words, name=name)[0] == 0
    assert main(["join", "runs/cut"]) == 0
    for name in ("whole", "cut"):
        dataset = json.loads((root.parent / "runs" / name / "manifest.json").read_text())["dataset"]
        found.append((dataset["digest"], dataset["rows_digest"], dataset["num_items"]))
    assert found[0] == found[1]
    constant(root / "5.wav", 0.25)
    assert harness_run(root, *WORDS, name="whole")[0] == 0  # the same run: what changed is measured anew
    dataset = json.loads((root.parent / "runs" / "whole" / "manifest.json").read_text())["dataset"]
    assert dataset["digest"] != found[0][0] and dataset["rows_digest"] == found[0][1]


def _cut(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _cut_aiff(path):
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 8000), 16000, format="AIFF")
    _cut(path)


def _nan(path):
    soundfile.write(path, np.r_[np.nan, np.full(7999, 0.1)], 16000, subtype="DOUBLE")


def _longer_header(path):
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    struct.pack_into("<I", data, place, 2 * struct.unpack_from("<I", data, place)[0])
    path.write_bytes(data)


def _integers(path):
    soundfile.write(path, np.full(8000, 12345.0, np.float32), 16000, subtype="FLOAT")


def _one_of_eight(path):
    samples = np.zeros((8000, 8), np.float32)
    samples[:, 4] = np.random.default_rng(0).normal(0, 0.1, 8000)
    soundfile.write(path, samples, 16000)


def _antiphase(path):
    one = np.random.default_rng(0).normal(0, 0.1, 8000)
    soundfile.write(path, np.stack([one, -one], 1), 16000)


def _empty(path):
    soundfile.write(path, np.zeros(0), 16000)


def _pipe(path):
    path.unlink()
    os.mkfifo(path)


def _folder(path):
    path.unlink()
    path.mkdir()


BROKEN = [
    (_cut, "truncated"),
    (_longer_header, "truncated: the header declares"),
    (_cut_aiff, "truncated"),
    (_nan, "NaN or Inf"),
    (_empty, "0 samples"),
    (_integers, "samples reach 12345 where full scale is 1: int16 values in a float file? Divide them by 32768"),
    (_one_of_eight, "only channel 5 of 8 holds sound"),
    (_antiphase, "the 2 channels cancel in their average"),
]


@fault("F03", "recorded output that is cut, or whose header lies", "failed, counted against the system", before="half of it scored")
@fault("F08", "recorded output with NaN, of integers in a float file, or silent by its channels", "failed, with what to do")
@cases("A2", before="an output cut short: half a file scored ok by MOS, WER, SIM", after="failed: truncated, the header declares ...")
def test_broken_outputs_fail_every_metric(make_dataset, harness_run, tmp_path):
    broken = [*BROKEN, (_pipe, "no output"), (_folder, "no output")]
    root, outputs = make_dataset(["a"] * (len(broken) + 1)), tmp_path / "outputs"
    outputs.mkdir()
    for i in range(len(broken) + 1):
        (outputs / f"item{i}.wav").write_bytes((root / f"{i}.wav").read_bytes())
    for i, (make, _) in enumerate(broken):
        make(outputs / f"item{i}.wav")
    words = ("executor=serial", "systems=[recorded]", f"systems.recorded.root={outputs}")
    code, folder = harness_run(root, *words, metrics="[stub_peak,clipped_samples,si_sdr_db]")
    assert code == 1
    for metric in ("stub_peak", "clipped_samples", "si_sdr_db"):
        found = by_item(folder, metric)
        for i, (_, said) in enumerate(broken):
            assert found[f"item{i}"][:2] == ("failed", "output")
            assert said in found[f"item{i}"][2] and f"item{i}.wav" in found[f"item{i}"][2]
        assert found[f"item{len(broken)}"][0] == "ok"


@fault("F03", "recording that is cut, of any format", "invalid_input with its path")
@fault("F08", "recording with NaN, of integers in a float file, or silent by its channels", "invalid_input with what to do")
@cases(
    "A12",
    before="a recording of speech on one channel of eight, or in anti-phase: averaged, the codec blamed",
    after="the reference's invalid input: dataset.channel=5 takes that one",
)
@cases(
    "A13",
    before="a recording of int16 values in a float file: PESQ and SI-SDR ruined, blamed on the codec",
    after="the reference's invalid input: divide by 32768",
)
def test_broken_recordings_are_their_own_fault(make_dataset, harness_run):
    broken = [*BROKEN, (_pipe, "not a file"), (_folder, "a folder, not a file")]
    root = make_dataset(["a"] * (len(broken) + 1))
    for i, (make, _) in enumerate(broken):
        make(root / f"{i}.wav")
    code, folder = harness_run(root, *WORDS, metrics="[stub_peak,si_sdr_db]")
    assert code == 1
    for metric in ("stub_peak", "si_sdr_db"):
        found = by_item(folder, metric)
        for i, (_, said) in enumerate(broken):
            assert found[f"item{i}"][:2] == ("invalid_input", "reference")
            assert f"{i}.wav: " in found[f"item{i}"][2] and said in found[f"item{i}"][2]
        assert found[f"item{len(broken)}"][0] == "ok"


@fault("F03", "prompt that is cut, of any format", "invalid_input with its path")
@fault("F08", "prompt with NaN, of integers in a float file, or silent by its channels", "invalid_input with what to do")
@cases("A13", before="a prompt of int16 values in a float file was spoken after", after="invalid input of the item: divide by 32768")
def test_broken_prompts_are_their_own_fault(tmp_path, harness_run):
    broken = [*BROKEN, (_pipe, "not a file"), (_folder, "a folder, not a file"), (os.unlink, "missing: no such file")]
    root = tmp_path / "data"
    root.mkdir()
    lines = []
    for i in range(len(broken) + 1):
        soundfile.write(root / f"p{i}.wav", np.random.default_rng(i).normal(0, 0.1, 8000), 16000)
        lines.append(json.dumps({"id": f"item{i}", "text": "words", "prompt_audio": f"p{i}.wav", "prompt_text": "x"}))
    (root / "manifest.jsonl").write_text("\n".join(lines))
    for i, (make, _) in enumerate(broken):
        make(root / f"p{i}.wav")
    code, folder = harness_run(root, "executor=serial", "suite=stub_speech", "systems=[stub_voice]")
    found = by_item(folder, system="stub_voice")
    assert code == 1 and found[f"item{len(broken)}"][0] == "ok"
    for i, (_, said) in enumerate(broken):
        assert found[f"item{i}"][:2] == ("invalid_input", "reference")
        assert f"p{i}.wav: " in found[f"item{i}"][2] and said in found[f"item{i}"][2]


@fault("F09", "recorded outputs of several formats, rates, channels and sample types", "the number of the same samples, within 1e-6")
def test_outputs_of_any_format_have_the_number_of_their_samples(make_dataset, harness_run, tmp_path):
    kinds = [
        ("flac", "PCM_24", 1),
        ("wav", "PCM_24", 1),
        ("wav", "DOUBLE", 1),
        ("wav", "FLOAT", 2),
        ("aiff", "PCM_24", 2),
        ("w64", "DOUBLE", 1),
        ("au", "FLOAT", 1),
    ]
    root, outputs = make_dataset(["a"] * len(kinds)), tmp_path / "outputs"
    outputs.mkdir()
    wanted = {}
    for i, (suffix, subtype, channels) in enumerate(kinds):
        samples = np.round(np.random.default_rng(i).uniform(-0.5, 0.5, 8000) * 2**23) / 2**23
        soundfile.write(outputs / f"item{i}.{suffix}", np.tile(samples[:, None], (1, channels)), 16000, subtype=subtype)
        wanted[f"item{i}"] = pytest.approx(np.abs(samples).max(), abs=1e-6)
    words = ("systems=[recorded]", f"systems.recorded.root={outputs}", "systems.recorded.pattern='{id}.*'")
    code, folder = harness_run(root, "executor=serial", *words)
    assert code == 0 and values(folder) == wanted


@cases("A12", before="a channel could not be chosen", after="dataset.channel=2 takes the second")
def test_a_channel_is_chosen(make_dataset, harness_run):
    root = make_dataset(["a", "a"])
    one = np.full(8000, 0.5, np.float32)
    soundfile.write(root / "1.wav", np.stack([0 * one, one], 1), 16000, subtype="FLOAT")
    constant(root / "0.wav", 0.25)
    code, folder = harness_run(root, *WORDS, "dataset.channel=2")
    assert code == 0
    assert values(folder) == {"item0": 0.25, "item1": 0.5}
    code, folder = harness_run(root, *WORDS, "dataset.channel=3", name="other")
    assert code == 1 and "channel 3 is asked for (dataset.channel), the file has 2" in by_item(folder)["item1"][2]
    assert harness_run(root, *WORDS, "dataset.channel=0", name="none")[0] == 2


@cases("A12", before="two channels averaged without a word", after="flag channels_averaged in the manifest's warnings and in the record")
@cases(
    "A13",
    before="clipped references and prompts were not flagged",
    after="warnings with side reference or prompt, counted once a recording",
)
def test_what_is_odd_about_recordings_is_told(make_dataset, harness_run):
    root = make_dataset(["a"] * 4)
    rng = np.random.default_rng(0)
    soundfile.write(root / "0.wav", np.clip(rng.normal(0, 1, 8000), -1, 1), 16000)
    soundfile.write(root / "1.wav", np.clip(rng.normal(0, 1, 8000), -1, 1), 16000)
    soundfile.write(root / "2.wav", rng.normal(0, 0.05, (8000, 2)), 16000)
    constant(root / "prompt.wav", 1.5)
    lines = [json.loads(line) for line in (root / "manifest.jsonl").read_text().splitlines()]
    lines[3]["prompt_audio"] = "prompt.wav"
    (root / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    words = (*WORDS[:1], "systems=[stub_echo,passthrough]")
    _, folder = harness_run(root, *words, metrics="[stub_peak,clipped_samples]")
    wanted = [
        {"system": "", "side": "prompt", "flag": "clipped", "items": 1},
        {"system": "", "side": "prompt", "flag": "over_full_scale", "items": 1},
        {"system": "", "side": "reference", "flag": "channels_averaged", "items": 1},
        {"system": "", "side": "reference", "flag": "clipped", "items": 2},
    ]

    def told():
        return [w for w in json.loads((folder / "manifest.json").read_text())["warnings"] if not w["system"]]

    assert [w for w in told() if w["flag"] not in ("silent", "dc")] == wanted
    harness_run(root, *words, metrics="[stub_peak,clipped_samples]")  # nothing is read again, and it is told again
    assert [w for w in told() if w["flag"] not in ("silent", "dc")] == wanted
    frame = harness.load(folder).query("metric == 'stub_peak' and system == 'stub_echo'").set_index("item")["detail"]
    assert [detail.get("reference_flags") for detail in frame[["item0", "item2", "item3"]]] == [
        "clipped",
        "channels_averaged",
        None,
    ]
    assert "over_full_scale" in frame["item3"]["prompt_flags"]


def test_several_channels_of_an_output_are_told(recorded):
    outputs, run = recorded
    one = np.random.default_rng(0).normal(0, 0.1, 8000)
    soundfile.write(outputs / "item0.wav", np.stack([one, one], 1), 16000)
    code, folder = run(metrics="[stub_peak]")
    assert code == 0
    warnings = json.loads((folder / "manifest.json").read_text())["warnings"]
    assert {"system": "recorded", "flag": "channels_averaged", "items": 1} in warnings
    frame = harness.load(folder).set_index("item")["detail"]
    assert frame["item0"] == {"output_flags": "channels_averaged"} and frame["item1"] == {}
