"""A disk that is full, read-only or has altered what was written; clocks that jump."""

import os
import shutil
import subprocess
import time

import pytest
import soundfile

import harness
from harness.cli import main
from harness.storing.store import Store

fault = pytest.mark.fault


def run(root, folder, *extra, metrics="[stub_peak,si_sdr_db]"):
    return main(
        ["run", "--no-report", "dataset=jsonl", f"dataset.root={root}", "systems=[stub_echo]", f"metrics={metrics}", f"run.root={folder}",
         "run.name=x", "executor=serial", *extra]
    )  # fmt: skip


def records(folder):
    return harness.load(folder / "x").sort_values(["system", "item", "metric"]).reset_index(drop=True)


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a file system in memory; ``size(kib)`` changes how much it holds, 0 makes it read-only."""
    place = tmp_path / "disk"
    place.mkdir()
    program = shutil.which("mount")
    if program is None or subprocess.run([program, "-t", "tmpfs", "-o", "size=4k", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here (needs root)")

    def size(kib):
        options = f"remount,size={kib}k" if kib else "remount,ro"
        subprocess.run([program, "-o", options, place], check=True, capture_output=True)

    yield place, size
    subprocess.run(["umount", "--lazy", place], check=True)


@fault("F17", "disk full at a dozen points of a run", "exit 1 or 2 with a message; after space returns the same command completes, same records")  # fmt: skip
def test_disk_full(make_dataset, stubs, small_disk, tmp_path, capfd):
    root = make_dataset(["a"] * 6)
    assert run(root, tmp_path / "runs") == 0
    expected = records(tmp_path / "runs")
    place, size = small_disk
    refused = 0
    for kib in (4, 8, 12, 24, 60, 120, 200, 240, 252, 264, 276, 288, 300):
        size(kib)
        capfd.readouterr()
        code = run(root, place)
        err = capfd.readouterr().err
        assert code in (0, 1, 2)
        assert "Traceback" not in err
        if code:
            refused += 1
            assert "No space left" in err, err
        size(16384)
        assert run(root, place) == 0
        assert records(place).equals(expected)
        for path in list(place.iterdir()):
            shutil.rmtree(path)
    assert refused >= 6


@fault("F17", "disk full in the middle of a run that is resumed twice", "what was stored before is kept: nothing is predicted twice")
def test_disk_full_keeps_what_was_done(make_dataset, stubs, small_disk, tmp_path, capfd):
    root, log = make_dataset(["a"] * 6), tmp_path / "log"
    place, size = small_disk
    size(120)
    assert run(root, place, f"+systems.stub_echo.log={log}") == 1
    before = len(set(log.read_text().split()))
    assert 1 <= before < 6
    size(16384)
    assert run(root, place, f"+systems.stub_echo.log={log}") == 0
    assert len(log.read_text().split()) <= 6 + 2 + 1  # two warm-ups, and the one that did not fit


@fault("K02", "read-only folder for runs", "exit 2 with a message, nothing half done")
def test_read_only_folder(make_dataset, stubs, small_disk, tmp_path, capfd):
    root = make_dataset(["a"] * 2)
    place, size = small_disk
    size(16384)
    assert run(root, place) == 0
    expected = records(place)
    size(0)
    for extra in ((), ("run.overwrite=true", "metrics=[stub_peak]")):
        assert run(root, place, *extra) in (1, 2)
        err = capfd.readouterr().err
        assert "Read-only file system" in err
        assert "Traceback" not in err
    assert records(place).equals(expected)
    assert main(["report", str(place / "x")]) == 1
    assert "cannot write" in capfd.readouterr().err


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(bytes(data))


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "damage",
    [pytest.param(cut, marks=fault("F16", "truncated Parquet part of the store", "dropped, counted, measured again; same records")),
     pytest.param(flip, marks=fault("F16", "flipped byte in a Parquet part", "dropped or harmless; never another number")),
     pytest.param(empty, marks=fault("F16", "empty Parquet part", "dropped, counted, measured again; same records"))],
)  # fmt: skip
def test_a_damaged_part(make_dataset, stubs, tmp_path, damage, capfd):
    root = make_dataset(["a"] * 4)
    assert run(root, tmp_path) == 0
    expected = records(tmp_path)
    (part,) = (tmp_path / "store" / "outcomes").glob("*.parquet")
    damage(part)
    assert run(root, tmp_path) == 0
    assert records(tmp_path).equals(expected)
    if damage is not flip:
        assert "1 damaged record dropped" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "damage"), [("audio.wav", cut), ("audio.wav", flip), ("codes.npz", cut), ("prediction.json", cut), ("prediction.json", empty)]
)
@fault("F16", "stored output cut, altered or without its description", "set aside, made again, same records",
    before="audio or codes: the whole run stopped, also every time after; description: JSONDecodeError traceback")  # fmt: skip
def test_a_damaged_output(make_dataset, stubs, tmp_path, name, damage, capfd):
    root = make_dataset(["a"] * 4)
    assert run(root, tmp_path) == 0
    expected = records(tmp_path)
    for part in (tmp_path / "store" / "outcomes").glob("*.parquet"):
        part.unlink()  # so that everything is scored again
    damage(sorted((tmp_path / "store" / "predictions").glob("*/*/" + name))[1])
    code = run(root, tmp_path)
    if name != "prediction.json":  # found when it is scored: a failure of that item, and the next start makes it again
        assert code == 1
        assert list(records(tmp_path)["status"]).count("failed") == 2
        code = run(root, tmp_path)
    assert code == 0
    assert "Traceback" not in capfd.readouterr().err
    assert records(tmp_path).equals(expected)
    assert len(list((tmp_path / "store" / "predictions").glob("damaged-*"))) == 1


@fault(
    "F20", "other audio under the same path, its times set back", "key changes: predicted and measured again; the old record is not shown"
)
def test_changed_audio_with_the_old_times(make_dataset, stubs, tmp_path):
    root = make_dataset(["a"] * 2)
    assert run(root, tmp_path) == 0
    before, times = records(tmp_path).set_index(["item", "metric"])["value"], (root / "1.wav").stat()
    samples, rate = soundfile.read(root / "1.wav", dtype="float32")
    soundfile.write(root / "1.wav", samples[::-1] * 0.5, rate, subtype="FLOAT")
    os.utime(root / "1.wav", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert run(root, tmp_path) == 0
    after = records(tmp_path).set_index(["item", "metric"])["value"]
    assert after["item0", "stub_peak"] == before["item0", "stub_peak"]
    assert after["item1", "stub_peak"] == pytest.approx(0.5 * before["item1", "stub_peak"], rel=1e-6)
    assert len(records(tmp_path)) == 4


@fault("F34", "time of day running backwards during a run", "durations unaffected: they are of a monotonic clock")
def test_clock_going_backwards(make_dataset, stubs, tmp_path, monkeypatch):
    root, now = make_dataset(["a"] * 3), time.time()
    with monkeypatch.context() as patch:
        ticks = iter(range(10**9))
        patch.setattr(time, "time", lambda: now - 3600.0 * next(ticks))
        assert run(root, tmp_path, metrics="[stub_peak,rtf]") == 0
    frame = records(tmp_path)
    assert frame["status"].eq("ok").all()
    assert frame.loc[frame["metric"] == "rtf", "value"].between(0, 10).all()
    store = Store(tmp_path / "store")
    timings = [store.load_prediction(p.name).timing for p in (tmp_path / "store" / "predictions").glob("*/*") if p.is_dir()]
    assert len(timings) == 3
    assert all(0 < t.total_s < 10 for t in timings)
