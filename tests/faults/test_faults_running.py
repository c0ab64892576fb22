"""Faults injected into systems, metrics and input: every item ends with one record per metric, the rest is finished."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile

import harness
from harness.cli import main
from harness.storing.runfolder import open_run
from harness.testing import laws as signals
from reports.run.summarise import summarise

fault = pytest.mark.fault
STATUSES = {"ok", "invalid_input", "metric_undefined", "failed", "timeout", "skipped_by_policy"}


COSTS_ITSELF = "costs its item only: one record a metric with the reason; the rest is finished"


def by_item(folder, metric="stub_peak", system=None):
    frame = harness.load(folder)
    assert set(frame["status"]) <= STATUSES
    assert frame["value"].notna().eq(frame["status"].eq("ok")).all()
    assert not frame.duplicated(["system", "settings", "item", "seed", "metric"]).any()
    frame = frame[frame["metric"] == metric]
    if system:
        frame = frame[frame["system"] == system]
    return {r.item: (r.status, r.side, r.reason) for r in frame.itertuples()}


def test_a_clean_run(make_dataset, harness_run):
    code, folder = harness_run(make_dataset(["a"] * 5), "systems=[stub_echo]", "executor.workers=2")
    assert code == 0
    assert {s for s, _, _ in by_item(folder).values()} == {"ok"}
    assert len(by_item(folder)) == 5
    assert json.loads((folder / "manifest.json").read_text())["status"] == "complete"


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        pytest.param("crash", "failed", "native_crash", marks=fault("F11", "native crash (SIGSEGV) in a system", COSTS_ITSELF)),
        pytest.param(
            "hang", "timeout", "no result after", marks=fault("F13", "system that hangs", "timeout at the limit; the rest is finished")
        ),
        pytest.param("raise", "failed", "the decoder gave up", marks=fault("K06", "exception in a system", COSTS_ITSELF)),
        pytest.param("nan", "failed", "NaN", marks=fault("F08", "system that gives NaN", COSTS_ITSELF)),
        pytest.param("empty", "failed", "empty", marks=fault("F06", "system that gives 0 samples", COSTS_ITSELF)),
    ],
)
def test_a_system_that_fails_on_one_item(make_dataset, harness_run, fault, status, reason):
    root = make_dataset(["a"] * 4)
    length = soundfile.info(root / "2.wav").frames
    code, folder = harness_run(
        root,
        "systems=[stub_echo]",
        f"+systems.stub_echo.fault='{fault}'",
        f"+systems.stub_echo.at_samples={length}",
        "executor.timeout_s=1",
    )
    assert code == 1
    found = by_item(folder)
    assert len(found) == 4
    assert found["item2"][:2] == (status, "output")
    assert reason in found["item2"][2]
    assert {found[f"item{i}"][0] for i in (0, 1, 3)} == {"ok"}


@pytest.mark.parametrize(
    ("wish", "status", "reason"),
    [
        pytest.param("crash", "failed", "native_crash", marks=fault("F11", "native crash (SIGSEGV) in a metric", COSTS_ITSELF)),
        pytest.param(
            "hang", "timeout", "no result after", marks=fault("F13", "metric that hangs", "timeout at the limit; the rest is finished")
        ),
        pytest.param("raise", "failed", "ZeroDivisionError", marks=fault("K06", "exception in a metric", COSTS_ITSELF)),
        pytest.param(
            "memory",
            "failed",
            "tried twice",
            marks=fault(
                "F14",
                "out of memory in one item",
                "tried once more alone, then failed (oom); the rest is finished",
                before="failed at the first try",
            ),
        ),
    ],
)
def test_a_metric_that_fails_on_one_item(make_dataset, harness_run, wish, status, reason):
    root = make_dataset(["fine", wish, "fine", "fine"])
    words = ("systems=[stub_echo]", "executor.workers=2", "executor.timeout_s=1")
    code, folder = harness_run(root, *words, metrics="[stub_trouble,stub_peak]")
    assert code == 1
    found = by_item(folder, "stub_trouble")
    assert found["item1"][0] == status
    assert reason in found["item1"][2]
    assert {found[f"item{i}"][0] for i in (0, 2, 3)} == {"ok"}
    assert {s for s, _, _ in by_item(folder, "stub_peak").values()} == {"ok"}  # also of the very item


@fault("F19", "the same command after a failed item", "tried again; run.keep_failed=true keeps it; both counts are told")
def test_failures_are_tried_again_and_can_be_kept(make_dataset, harness_run, capsys):
    root = make_dataset(["fine", "raise"])
    words = ("systems=[stub_echo]",)
    assert harness_run(root, "executor=serial", *words, metrics="[stub_trouble]")[0] == 1
    capsys.readouterr()
    harness_run(root, "executor=serial", *words, metrics="[stub_trouble]")
    assert "scores: 1 of 2 are already there, 1 failed before and are tried again" in capsys.readouterr().err
    harness_run(root, "executor=serial", *words, "run.keep_failed=true", metrics="[stub_trouble]")
    assert "scores: 2 of 2 are already there" in capsys.readouterr().err


def test_allowed_failures_give_exit_0(make_dataset, harness_run):
    assert (
        harness_run(
            make_dataset(["fine", "raise"]), "executor=serial", "systems=[stub_echo]", "run.max_failures=2", metrics="[stub_trouble]"
        )[0]
        == 0
    )


@pytest.mark.cases(
    "A19",
    before="a table with failures counted against a system (metric undefined on its output) exits 0",
    after="exit code 1, in run and join; run.max_failures allows them; an anchor's are listed apart and cost nothing",
)
def test_an_output_that_cannot_be_scored_is_a_failure(make_dataset, harness_run, tmp_path, capsys, monkeypatch):
    root = make_dataset(["a"] * 5)
    words = ("executor=serial", "systems=[stub_echo]", "systems.stub_echo.fault=silence")
    assert harness_run(root, *words)[0] == 1
    told = capsys.readouterr()
    assert "Failures, counted against the system: 5 measurements" in told.out
    assert "5 of 5 measurements have no value" in told.err and "outputs that cannot be scored" in told.err
    assert harness_run(root, *words, "run.max_failures=5")[0] == 0
    assert harness_run(root, *words, "run.max_failures=4")[0] == 1
    for i in (1, 2):
        harness_run(root, *words, f"run.shard={i}/2", name="cut")
    assert main(["join", str(tmp_path / "runs" / "cut")]) == 1
    # a sound but silent recording is no failure of anybody, and what an anchor loses is none either
    soundfile.write(root / "1.wav", np.zeros(8000), 16000)
    assert harness_run(root, "executor=serial", "systems=[passthrough]", name="quiet", metrics="[si_sdr_db]")[0] == 0
    import stub_plugin

    class Floor(stub_plugin.Echo):
        def __init__(self, fault="", at_samples=-1, log="", sleep_s=0.0):
            super().__init__(fault, at_samples, log, sleep_s)
            self.info = replace(self.info, anchor=True)

    monkeypatch.setattr(stub_plugin, "Echo", Floor)
    capsys.readouterr()
    assert harness_run(root, *words, name="floor")[0] == 0
    assert "counted against no system: 5 measurements" in capsys.readouterr().out
    assert json.loads((tmp_path / "runs" / "floor" / "manifest.json").read_text())["failures"] == 0


@pytest.mark.cases(
    "A9",
    before="sim_o lost every item whose impostor row used the broken recording: 4/4 of 6 items, said to be unscorable references",
    after="only the item whose recording is broken is left out, for every metric that needs its recording",
)
def test_a_broken_recording_costs_its_own_item_only(make_dataset, harness_run, monkeypatch):
    monkeypatch.setattr("harness.running.plan.VOICE_METRICS", ("stub_peak",))
    root = make_dataset(["a"] * 6)
    (root / "1.wav").write_bytes(b"no audio at all")
    code, folder = harness_run(root, "executor=serial", "systems=[stub_echo]")
    assert code == 1  # unreadable input is told
    frame = harness.load(folder)
    impostor = frame[frame["system"] == "impostor"].set_index("item")
    assert list(impostor.index[impostor["status"] == "invalid_input"]) == ["item0"]
    (row,) = (r for r in summarise(open_run(folder)).systems)
    assert row.cells["stub_peak"].counted == "5/5" and row.cells["stub_peak"].n_excluded == 1


def test_what_cannot_be_read_is_missing_from_what_needs_it_only(make_dataset, harness_run, tmp_path):
    """Of a synthesis with a broken recording the words, of one with a broken prompt whatever needs none."""
    root = make_dataset(["a", "b"])
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    for i in range(2):
        shutil.copy(root / f"{i}.wav", outputs / f"item{i}.wav")
    (root / "0.wav").write_bytes(b"no audio")
    lines = [json.loads(line) for line in (root / "manifest.jsonl").read_text().splitlines()]
    (root / "manifest.jsonl").write_text(
        "".join(json.dumps({**line, "prompt_audio": "p.wav", "prompt_text": "p"}) + "\n" for line in lines)
    )
    (root / "p.wav").write_bytes(b"no audio either")
    words = ("executor=serial", "suite=stub_speech", "systems=[recorded]", f"systems.recorded.root={outputs}")
    _, folder = harness_run(root, *words, metrics="[stub_peak,clipped_samples,si_sdr_db]")
    found = {m: by_item(folder, m) for m in ("stub_peak", "clipped_samples", "si_sdr_db")}
    assert {s for m in ("stub_peak", "clipped_samples") for s, _, _ in found[m].values()} == {"ok"}
    assert {i: s for i, (s, _, _) in found["si_sdr_db"].items()} == {"item0": "invalid_input", "item1": "ok"}


def broken_inputs(root):
    rng = np.random.default_rng(1)
    noise = rng.uniform(-0.5, 0.5, 16000).astype(np.float32)
    soundfile.write(root / "silent.wav", np.zeros(16000), 16000)
    soundfile.write(root / "tenth.wav", noise[:1600], 16000)
    soundfile.write(root / "nan.wav", np.where(np.arange(16000) == 5, np.nan, noise).astype(np.float32), 16000, subtype="FLOAT")
    soundfile.write(root / "stereo.wav", np.stack([noise, noise], axis=1), 16000, subtype="FLOAT")
    soundfile.write(root / "rate48k.wav", np.repeat(noise, 3), 48000, subtype="FLOAT")
    soundfile.write(root / "truncated.wav", noise, 16000)
    data = (root / "truncated.wav").read_bytes()
    (root / "truncated.wav").write_bytes(data[: len(data) // 2])
    (root / "text.wav").write_text("this is no audio")
    soundfile.write(root / "empty.wav", noise[:0], 16000)
    names = ["silent", "tenth", "nan", "stereo", "rate48k", "truncated", "text", "empty", "missing"]
    lines = [json.dumps({"id": n, "audio": f"{n}.wav", "text": "hello there", "language": "en", "speaker": n}) for n in names]
    (root / "manifest.jsonl").write_text("\n".join(lines) + "\n")


@fault("F01", "recording of random bytes, or text, mid-list", "invalid_input with its path; the others scored")
@fault("F02", "recording that is missing", "invalid_input with its path; the others scored")
@fault("F03", "recording cut in the middle", "invalid_input: declared and decoded length differ")
@fault("F05", "silent recording", "PESQ, STOI and SI-SDR undefined, never a number")
@fault("F07", "recording of 0 samples, or .1 s", "invalid_input; undefined")
@fault("F08", "recording with a NaN", "invalid_input")
@fault("F09", "stereo and 48 kHz recordings", "scored as their mono at the system's rate")
def test_broken_recordings_have_a_status_each_and_never_a_number(tmp_path, harness_run):
    root = tmp_path / "broken"
    root.mkdir()
    broken_inputs(root)
    code, folder = harness_run(root, "executor=serial", "systems=[passthrough]", metrics="[pesq_wb,stoi,si_sdr_db,stub_peak]")
    assert code == 1
    pesq, stoi, sdr = (by_item(folder, m) for m in ("pesq_wb", "stoi", "si_sdr_db"))
    for name in ("nan", "truncated", "text", "empty", "missing"):
        for found in (pesq, stoi, sdr):
            assert found[name][:2] == ("invalid_input", "reference"), name
            assert f"{name}.wav" in found[name][2]
    for found in (pesq, stoi, sdr):
        assert found["silent"][:2] == ("metric_undefined", "reference")
    assert pesq["tenth"][0] == stoi["tenth"][0] == "metric_undefined"
    assert by_item(folder, "stub_peak")["tenth"][0] == "ok"
    assert sdr["stereo"][0] == sdr["rate48k"][0] == "ok"


@fault("F20", "other audio under the same path", "predicted and measured again")
def test_changed_audio_under_the_same_path_is_measured_again(make_dataset, harness_run):
    root = make_dataset(["a", "a"])
    code, folder = harness_run(root, "executor=serial", "systems=[stub_echo]")
    before = harness.load(folder).set_index("item")["value"]
    soundfile.write(root / "1.wav", np.full(8000, 0.25, dtype=np.float32), 16000, subtype="FLOAT")
    code, folder = harness_run(root, "executor=serial", "systems=[stub_echo]", "run.overwrite=true")
    after = harness.load(folder).set_index("item")["value"]
    assert code == 0
    assert after["item0"] == before["item0"]
    assert after["item1"] == pytest.approx(0.25, abs=1e-6) != before["item1"]


@fault("F22", "another run's folder", "refused; run.overwrite=true moves what is there aside, whole")
def test_another_run_in_the_same_folder_is_refused_or_moved_aside(make_dataset, harness_run, tmp_path, capsys):
    root = make_dataset(["a", "a"])
    harness_run(root, "executor=serial", "systems=[stub_echo]")
    code, folder = harness_run(root, "executor=serial", "systems=[passthrough]")
    assert code == 2
    assert "run.overwrite=true" in capsys.readouterr().err
    assert set(harness.load(folder)["system"]) == {"stub_echo"}
    code, folder = harness_run(root, "executor=serial", "systems=[passthrough]", "run.overwrite=true")
    assert code == 0
    assert set(harness.load(folder)["system"]) == {"passthrough"}
    assert (tmp_path / "runs" / "run.old1" / "records.parquet").exists()


@fault("F21", "folder locked by a living process; lock of a dead one", "refused with its number; taken over")
def test_a_run_in_use_is_refused(make_dataset, harness_run, tmp_path, capsys):
    import fcntl

    root = make_dataset(["a"])
    (tmp_path / "runs" / "run").mkdir(parents=True)
    with (tmp_path / "runs" / "run" / ".lock").open("w") as lock:
        lock.write("4711")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert harness_run(root, "executor=serial", "systems=[stub_echo]")[0] == 2
        assert "4711" in capsys.readouterr().err
    assert harness_run(root, "executor=serial", "systems=[stub_echo]")[0] == 0  # a stale lock of a dead process does not hold


@fault("F28", "one process or several", "the same records")
def test_serial_and_processes_give_the_same_records(make_dataset, harness_run):
    root = make_dataset(["fine", "raise", "fine"])
    _, one = harness_run(root, "systems=[stub_echo]", "run.root=a", "executor.workers=2", name="x", metrics="[stub_trouble,stub_peak]")
    _, two = harness_run(root, "systems=[stub_echo]", "run.root=b", "executor=serial", name="x", metrics="[stub_trouble,stub_peak]")
    frames = [harness.load(p.parents[1] / d / "x").drop(columns="reason") for p, d in ((one, "a"), (two, "b"))]
    assert frames[0].equals(frames[1])


@fault("F23", "metric whose model is not here", "exit 2 before the first item; run.allow_missing=true marks it absent")
def test_a_missing_metric_backend_is_said_before_anything_runs(make_dataset, harness_run, tmp_path, capsys):
    root = make_dataset(["a"])
    code, folder = harness_run(root, "systems=[stub_echo]", "asr=seedtts", metrics="[stub_peak,wer]")
    assert code == 2
    assert "wer" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "store" / "predictions").exists()
    code, folder = harness_run(
        root, "systems=[stub_echo]", "asr=seedtts", "run.allow_missing=true", metrics="[stub_peak,wer]", name="other"
    )
    assert code == 0
    assert set(harness.load(folder)["metric"]) == {"stub_peak"}
    assert "wer" in json.loads((folder / "manifest.json").read_text())["absent_metrics"]


def test_a_plugged_in_suite_asks_a_synthesizer_once_per_seed(make_dataset, harness_run):
    root = make_dataset(["a", "abc"])
    code, folder = harness_run(
        root, "executor=serial", "suite=stub_speech", "systems=[stub_voice]", "seeds=[0,1,2]", metrics="[stub_peak,rtf,nominal_bps]"
    )
    assert code == 0
    frame = harness.load(folder)
    assert sorted(frame[frame["metric"] == "stub_peak"]["seed"]) == [0, 0, 1, 1, 2, 2]
    assert frame[frame["metric"] == "rtf"]["value"].gt(0).all()
    assert frame[frame["metric"] == "nominal_bps"]["status"].eq("skipped_by_policy").all()
    outputs = open_run(folder).outputs
    durations = {item: soundfile.info(path).frames for (_, _, item, _), path in outputs.items()}
    assert durations == {"item0": 1600, "item1": 4800}


@fault("F02", "recorded outputs that are missing or no audio", "failed, counted against the system; found when they appear")
def test_outputs_recorded_elsewhere_are_scored_and_missing_ones_counted(make_dataset, harness_run, tmp_path):
    root = make_dataset(["a", "a", "a"])
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    shutil.copy(root / "0.wav", outputs / "item0.wav")
    (outputs / "item1.wav").write_bytes(b"no audio")
    code, folder = harness_run(root, "executor=serial", "systems=[recorded]", f"systems.recorded.root={outputs}", metrics="[si_sdr_db]")
    assert code == 1
    found = by_item(folder, "si_sdr_db")
    assert found["item0"][0] == "ok"
    assert found["item1"][:2] == found["item2"][:2] == ("failed", "output")
    assert "item2" in found["item2"][2]
    # a file that appears later is found by the same command
    shutil.copy(root / "2.wav", outputs / "item2.wav")
    _, folder = harness_run(root, "executor=serial", "systems=[recorded]", f"systems.recorded.root={outputs}", metrics="[si_sdr_db]")
    assert by_item(folder, "si_sdr_db")["item2"][0] == "ok"


@pytest.mark.parametrize(
    ("wish", "metrics", "said"),
    [pytest.param("half", ("stoi", "si_sdr_db"), "length", marks=fault("F04", "output half as long as its reference", "never cut to fit: a status with the ratio")),
     pytest.param("silence", ("pesq_wb", "stoi", "si_sdr_db"), "silent", marks=fault("F06", "silent output", "PESQ, STOI and SI-SDR undefined, counted against the system"))],
)  # fmt: skip
def test_outputs_that_no_number_may_describe(make_dataset, harness_run, wish, metrics, said):
    root = make_dataset(["a"] * 2)
    length = soundfile.info(root / "1.wav").frames
    words = ("systems=[stub_echo]", f"+systems.stub_echo.fault={wish}", f"+systems.stub_echo.at_samples={length}", "executor=serial")
    _, folder = harness_run(root, *words, metrics=f"[{','.join(metrics)}]")
    for metric in metrics:
        found = by_item(folder, metric)
        assert found["item1"][:2] == ("metric_undefined", "output"), (metric, found["item1"])
        assert said in found["item1"][2]
        assert found["item0"][0] != "failed"


@pytest.mark.cases(
    "A14",
    before="wide-band figures of 8-kHz recordings, and NB PESQ of two rates in one mean, nothing said",
    after="both named under the tables",
)
def test_recordings_below_the_metrics_rate_are_named(make_dataset, harness_run):
    root = make_dataset(["a"] * 4)
    for n in range(3):
        speech = signals.speechlike(1.5, 8000, n).samples[0]
        soundfile.write(root / f"{n}.wav", speech, 8000, subtype="FLOAT")
    soundfile.write(root / "3.wav", signals.speechlike(1.5, 16000, 3).samples[0], 16000, subtype="FLOAT")
    code, folder = harness_run(root, "systems=[stub_echo]", metrics="[stub_peak,pesq_nb,stoi]")
    assert code == 0
    run = open_run(folder)
    assert sorted(json.loads(c)["rate_hz"] for c in run.frame.loc[run.frame["metric"] == "pesq_nb", "counts"]) == [8000, 8000, 8000, 16000]
    notes = [note.text for note in summarise(run).notes]
    assert [n for n in notes if "upsampled" in n] == [
        "stoi: 3 recordings hold no more than a rate of 8 kHz does, less than these metrics compare at: their figures describe the upsampled signal."
    ]
    assert [n for n in notes if "two rates" in n] == [
        "pesq_nb: pools items compared at two rates, 3 at 8 kHz and 1 at 16 kHz; they are not one scale."
    ]
