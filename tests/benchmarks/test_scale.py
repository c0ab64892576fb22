"""Many records through store, records file, join and report: memory must not grow with their number.

Run with ``-m slow -s``; it prints seconds of processor time per million records and the peak memory of each stage, every stage in a
process of its own. ``RECORDS=1000,10000,100000,1000000`` in the environment says how many; a curve of costs from three sizes on.
``ITEMS=1000,10000,100000`` does the same for what lies between the command and its first output, ``WHOLE=100,1000,10000`` for whole runs.
"""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

METRICS = 20
STAGES = ("append", "compact", "look up", "records", "join", "report")
SMALL = 60_000

SIMULATION = r"""
import hashlib, resource, sys, time
from itertools import islice
from pathlib import Path
from harness.api import Record, Status
from harness.storing.outcomes import Outcome
from harness.storing.store import Store

stage, number, root, metrics = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), [f"m{i:02d}" for i in range(20)]
key = lambda i: hashlib.blake2b(str(i).encode(), digest_size=16).hexdigest()
signature = lambda m: f"{m}|v1|16000Hz|mean|{{}}"

def outcome(i):
    if i % 997 == 0:
        return Outcome(Status.FAILED, side="output", reason="score: simulated")
    return Outcome(Status.OK, (i * 7919 % 10007) / 10007, 1.0, counts={"frames": 100.0})

def held(shard):
    return [n for n in range(number // 20) if shard.holds(f"item{n:07d}")]

def records(shard):
    for i in (20 * n + k for n in held(shard) for k in range(20)):
        o, item, m = outcome(i), i // 20, metrics[i % 20]
        yield Record("scale", "simulated", f"item{item:07d}", m, o.status, signature=signature(m), value=o.value, weight=o.weight, side=o.side,
                     reason=o.reason, dataset="d", language="en", speaker=f"s{item % 100}", counts=o.counts)

def manifest(shard):
    declared = {m: {"name": m, "unit": "", "better": "higher", "aggregation": "mean", "bounds": [0, 1], "description": "", "needs": [],
                    "signature": signature(m)} for m in metrics}
    suite = {"name": "scale", "title": "Scale", "task": "resynthesis", "metrics": metrics, "headline": metrics[:3], "systems": [], "curves": []}
    items = {f"item{i:07d}": {"text": "", "language": "en", "speaker": f"s{i % 100}", "synthetic": False, "prompt_text": "", "path": None}
             for i in held(shard)}
    return {"schema": 2, "status": "complete", "plan_digest": "x", "shard": str(shard), "suite": suite, "metrics": declared, "absent_metrics": {}, "calibration": [],
            "systems": {"simulated": {"family": "f", "version": "1"}}, "items": items, "outputs": [], "warnings": [], "failures": 0, "created": "", "finished": "",
            "machine": {}, "git": {}, "command": "", "dataset": {"name": "d", "num_items": len(items)}, "counts": {"ok": 20 * len(items)},
            "config": {"report": {"audio_limit_mb": 1}, "run": {"max_failures": 0}}}

began = time.process_time()
if stage == "append":
    writer = Store(root).outcomes.writer()
    for i in range(number):
        writer.append(key(i), outcome(i))
    writer.close()
elif stage == "compact":
    assert Store(root).compact() == number
elif stage == "look up":
    assert len(Store(root).outcomes.find([key(i) for i in range(0, number, max(1, number // 20000))]).found) >= min(number, 20000)
elif stage == "records":
    from harness.storing.files import write_json
    from harness.storing.runfolder import write_records
    from harness.running.shards import Shard
    for shard in range(4):
        folder = root / f"x.{shard + 1}of4"
        folder.mkdir()
        section = write_records(folder, records(Shard(shard + 1, 4)))
        write_json(folder / "manifest.json", manifest(Shard(shard + 1, 4)) | {"records": section})
elif stage == "join":
    from harness.running.shards import join
    assert join(root / "x").records == number
elif stage == "report":
    from reports.run.summarise import read_summary
    from reports.run.output import write_report
    run, summary = read_summary(root / "x", large=1)
    write_report(run, summary=summary)
    assert [c.key for c in summary.columns] == metrics
    assert all(cell.n_total == number // 20 for cell in summary.rows[0].cells.values())
print(time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def simulate(folder, number):
    """(processor seconds, peak MiB) of each stage."""
    found = {}
    for stage in STAGES:
        command = [sys.executable, "-c", SIMULATION, stage, str(number), str(folder)]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        seconds, peak = map(float, result.stdout.split()[-2:])
        found[stage] = seconds, peak
    return found


@pytest.mark.slow
def test_memory_does_not_grow_with_the_records(tmp_path):
    sizes = [int(size) for size in os.environ.get("RECORDS", f"{SMALL},{4 * SMALL}").split(",")]
    found = {}
    print(f"\n{'records':>10}  " + "".join(f"{stage:>20}" for stage in STAGES) + "   (processor seconds per million, peak MiB)")
    for number in sizes:
        found[number] = simulate(tmp_path / str(number), number)
        shutil.rmtree(tmp_path / str(number))
        cells = [f"{1e6 * seconds / number:>12.1f}{peak:>8.0f}" for seconds, peak in found[number].values()]
        print(f"{number:>10}  " + "".join(cells), flush=True)
    small, large = min(n for n in sizes if n >= SMALL or n == max(sizes)), max(sizes)
    grown = (large - small) / 1e6
    for stage in STAGES:
        extra = found[large][stage][1] - found[small][stage][1]
        # What grows is what grows with the items (a twentieth of the records): their descriptions in the manifest, and one metric's frame.
        # A compaction holds up to 200 000 outcomes, whatever there is.
        allowed = {"compact": 300, "join": 60 + 100 * grown, "report": 100 + 250 * grown}.get(stage, 60)
        assert extra < allowed, f"{stage}: {extra:.0f} MiB more for {large - small} more records"


def request(folder, number, *words):
    """The words of a run about so many recordings, links to a few files, so that what is measured is the harness and not the disk."""
    import numpy as np
    import soundfile

    data = folder / "data"
    data.mkdir(parents=True)
    for i in range(8):
        soundfile.write(data / f"voice{i}.wav", np.random.default_rng(i).uniform(-0.5, 0.5, 16000).astype(np.float32), 16000)
    with (data / "manifest.jsonl").open("w") as file:
        for i in range(number):
            (data / f"{i}.wav").hardlink_to(data / f"voice{i % 8}.wav")
            row = {"id": f"item{i}", "audio": f"{i}.wav", "text": f"text {i}", "language": "en", "speaker": f"s{i * 100 // number}"}
            file.write(json.dumps(row) + "\n")
    return ["run", "dataset=jsonl", f"dataset.root={data}", f"run.root={folder / 'runs'}", "run.name=x", *words]


def start(folder, number):
    """(seconds, processor seconds of all processes, peak MiB of the largest) from the command to the first call of a system."""
    log = folder / "encoded"
    words = request(
        folder, number, "--no-report", "systems=[stub_echo,passthrough]", "metrics=[stub_peak,si_sdr_db]",
        f"+systems.stub_echo.log={log}", "executor.workers=1",
    )  # fmt: skip
    began = time.monotonic()
    run = subprocess.Popen(
        [sys.executable, "-m", "harness.cli", *words],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "stubs")},
        start_new_session=True,
        stderr=subprocess.PIPE,
    )
    try:
        while not log.exists():
            assert run.poll() is None, run.stderr.read().decode()
            time.sleep(0.01)
        took = time.monotonic() - began
        members = [p for p in Path("/proc").glob("[0-9]*") if _session(p) == run.pid]
        ticks = sum(sum(map(int, (p / "stat").read_text().rpartition(")")[2].split()[11:15])) for p in members)
        peaks = [int(line.split()[1]) for p in members for line in (p / "status").read_text().splitlines() if line.startswith("VmHWM")]
        return took, ticks / os.sysconf("SC_CLK_TCK"), max(peaks) / 1024
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()


def whole(folder, number):
    """(seconds, processor seconds, peak MiB of the largest process) of a run with cheap metrics, from its manifest to its page."""
    words = request(folder, number, "systems=[passthrough]", "metrics=[si_sdr_db,length_ratio]")
    timed = "import resource, sys; from harness.cli import main; code = main(sys.argv[1:]); "
    timed += "own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)); "
    timed += "print(own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime, max(own.ru_maxrss, others.ru_maxrss) / 1024); sys.exit(code)"
    began = time.monotonic()
    run = subprocess.run([sys.executable, "-c", timed, *words], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    took = time.monotonic() - began
    cpu_s, peak = map(float, run.stdout.split()[-2:])
    assert (folder / "runs" / "x" / "report.html").exists()
    return took, cpu_s, peak


@pytest.mark.slow
def test_a_run_costs_in_proportion_to_its_items(tmp_path):
    """``WHOLE=100,1000,10000,100000`` says of how many; the last takes a quarter of an hour."""
    sizes = [int(size) for size in os.environ.get("WHOLE", "100,1000,4000").split(",")]
    print(f"\n{'items':>8}{'s':>10}{'processor s':>13}{'peak MiB':>10}")
    found = {}
    for number in sizes:
        found[number] = whole(tmp_path / str(number), number)
        page = (tmp_path / str(number) / "runs" / "x" / "report.html").stat().st_size
        shutil.rmtree(tmp_path / str(number))
        took, cpu_s, peak = found[number]
        print(f"{number:>8}{took:>10.1f}{cpu_s:>13.1f}{peak:>10.0f}   page {page / 1e6:.1f} MB", flush=True)
    (small, least), (large, most) = min(found.items()), max(found.items())
    slopes = [math.log(most[i] / least[i]) / math.log(large / small) for i in (1, 2)]
    print(f"log-log slope from {small} to {large} items: processor time {slopes[0]:.2f}, peak memory {slopes[1]:.2f}")
    assert slopes[0] < 1.1


def _session(process):
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[3])
    except (FileNotFoundError, ProcessLookupError):
        return 0


@pytest.mark.slow
@pytest.mark.cases("D3", before="10^5 rows: 150 s of nothing, growing with the square", after="linear: see the curve this test prints")
def test_the_start_of_a_run_grows_with_its_items(tmp_path):
    sizes = [int(size) for size in os.environ.get("ITEMS", "1000,10000,40000").split(",")]
    print(f"\n{'items':>8}{'s to the first':>16}{'processor s':>13}{'peak MiB':>10}")
    found = {}
    for number in sizes:
        found[number] = start(tmp_path / str(number), number)
        shutil.rmtree(tmp_path / str(number))
        print(f"{number:>8}{found[number][0]:>16.1f}{found[number][1]:>13.1f}{found[number][2]:>10.0f}", flush=True)
    (small, (_, least, low)), (large, (_, most, high)) = (min(found.items()), max(found.items()))
    # processor time and memory, for other programs do not change them much: at most .4 ms and 6 kB an item
    assert most - least < 0.4e-3 * (large - small) + 2
    assert high - low < 6 / 1024 * (large - small) + 50
