"""Many records through store, records file, join and report: memory must not grow with their number.

Run with ``-m slow -s``; it prints seconds of processor time per million records and the peak memory of each stage, every stage in a
process of its own. ``RECORDS=1000,10000,100000,1000000`` in the environment says how many; a curve of costs from three sizes on.
"""

import os
import shutil
import subprocess
import sys

import pytest

METRICS = 20
STAGES = ("append", "compact", "look up", "records", "join", "report")
SMALL = 60_000

SIMULATION = r"""
import hashlib, resource, sys, time
from itertools import islice
from pathlib import Path
from harness.api import Record, Status
from harness.store import Outcome, Store

stage, number, root, metrics = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), [f"m{i:02d}" for i in range(20)]
key = lambda i: hashlib.blake2b(str(i).encode(), digest_size=16).hexdigest()
signature = lambda m: f"{m}|v1|16000Hz|mean|{{}}"

def outcome(i):
    if i % 997 == 0:
        return Outcome(Status.FAILED, side="output", reason="score: simulated")
    return Outcome(Status.OK, (i * 7919 % 10007) / 10007, 1.0, counts={"frames": 100.0})

def records(first, last):
    for i in range(first, last):
        o, item, m = outcome(i), i // 20, metrics[i % 20]
        yield Record("scale", "simulated", f"item{item:07d}", m, o.status, signature=signature(m), value=o.value, weight=o.weight, side=o.side,
                     reason=o.reason, dataset="d", language="en", speaker=f"s{item % 100}", counts=o.counts)

def manifest(first, last, shard):
    declared = {m: {"name": m, "unit": "", "better": "higher", "aggregation": "mean", "bounds": [0, 1], "description": "", "needs": [],
                    "signature": signature(m)} for m in metrics}
    suite = {"name": "scale", "title": "Scale", "task": "resynthesis", "metrics": metrics, "headline": metrics[:3], "systems": [], "curves": []}
    items = {f"item{i:07d}": {"text": "", "language": "en", "speaker": f"s{i % 100}", "synthetic": False, "prompt_text": "", "path": None}
             for i in range(first // 20, last // 20)}
    return {"schema": 2, "status": "complete", "plan_digest": "x", "shard": shard, "suite": suite, "metrics": declared, "absent_metrics": {}, "calibration": [],
            "systems": {"simulated": {"family": "f", "version": "1"}}, "items": items, "outputs": [], "warnings": [], "created": "", "finished": "",
            "machine": {}, "git": {}, "command": "", "dataset": {"name": "d", "num_items": len(items)}, "counts": {"ok": last - first},
            "config": {"report": {"audio_limit_mb": 1}}}

began = time.process_time()
if stage == "append":
    writer = Store(root).writer()
    for i in range(number):
        writer.append(key(i), outcome(i))
    writer.close()
elif stage == "compact":
    assert Store(root).compact() == number
elif stage == "look up":
    assert len(Store(root).outcomes([key(i) for i in range(0, number, max(1, number // 20000))]).found) >= min(number, 20000)
elif stage == "records":
    from harness.files import write_json
    from harness.runfolder import write_records
    for shard in range(4):
        folder = root / f"x.{shard + 1}of4"
        folder.mkdir()
        first, last = number // 4 * shard, number // 4 * (shard + 1)
        section = write_records(folder, records(first, last))
        write_json(folder / "manifest.json", manifest(first, last, f"{shard + 1}/4") | {"records": section})
elif stage == "join":
    from harness.shards import join
    assert join(root / "x").records == number
elif stage == "report":
    from reports.large import read_summary
    from reports.output import write_report
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
