"""How much longer the scoring stage takes than the libraries' own calls, spread over the cores, would."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from harness.data.audio import read_audio, write_audio
from harness.data.manifests import DatasetConfig, load_dataset
from harness.running.runner import run
from harness.settings.config import compose
from harness.storing.runfolder import open_run
from tests.stubs.consoles import Silent

METRICS = ["pesq_wb", "stoi", "si_sdr_db", "mcd_db"]
ITEMS, SECONDS, RATE = 60, 5, 16000

LIBRARY_CALLS = """
import json, sys, time
import numpy as np, pesq, pystoi, pyworld, soundfile
def world(x):
    x = x.astype(np.float64)
    f0, t = pyworld.dio(x, 16000, f0_floor=71.0, f0_ceil=800.0)
    f0 = pyworld.stonemask(x, f0, t, 16000)
    pyworld.cheaptrick(x, f0, t, 16000)
spent = dict.fromkeys(("pesq", "pystoi", "pyworld"), 0.0)
pairs = [[soundfile.read(path, dtype="float32")[0] for path in pair] for pair in json.load(sys.stdin)]
for round in range(2):  # the first pass warms caches and is not counted
    for name in spent: spent[name] = 0.0
    for reference, output in pairs[: 3 if round == 0 else None]:
        for name, call in (
            ("pesq", lambda: pesq.pesq(16000, reference, output, "wb")),
            ("pystoi", lambda: pystoi.stoi(reference, output, 16000)),
            ("pyworld", lambda: (world(reference), world(output))),
        ):
            start = time.perf_counter(); call(); spent[name] += time.perf_counter() - start
print(json.dumps(spent))
"""


class Stopwatch(Silent):
    """A progress that times each stage."""

    def __init__(self):
        self.seconds = {}

    def stage(self, name, total):
        self._name, self._start = name, time.perf_counter()

    def done(self):
        self.seconds[self._name] = time.perf_counter() - self._start


@pytest.fixture
def five_second_items(tmp_path):
    """Speech of exactly five seconds each: utterances of the embedded set, one after another."""
    items = load_dataset(DatasetConfig(name="embedded", kind="embedded")).items
    speech = np.concatenate([read_audio(item.path).samples for item in items] * 2, axis=1)
    root = tmp_path / "data"
    root.mkdir()
    lines = []
    for i in range(ITEMS):
        part = speech[:, i * SECONDS * RATE : (i + 1) * SECONDS * RATE]
        write_audio(root / f"{i}.wav", type(read_audio(items[0].path))(part, RATE))
        lines.append(json.dumps({"id": f"item{i}", "audio": f"{i}.wav", "speaker": f"s{i % 7}"}))
    (root / "manifest.jsonl").write_text("\n".join(lines))
    return root


def test_scoring_over_the_lower_bound(five_second_items, tmp_path, benchmark, capsys):
    if benchmark.disabled:
        pytest.skip("a timing: run it by pytest tests/benchmarks --benchmark-enable on a quiet machine")
    config = compose(
        [
            "dataset=jsonl",
            f"dataset.root={five_second_items}",
            "systems=[opus16]",
            f"metrics=[{','.join(METRICS)}]",
            f"run.root={tmp_path}",
            "run.name=x",
        ]
    )
    watch = Stopwatch()
    benchmark.pedantic(lambda: run(config, "benchmark", watch), rounds=1)
    finished = open_run(tmp_path / "x")
    assert finished.frame["status"].eq("ok").all()
    pairs = [[str(finished.references[item]), str(path)] for (_, _, item, _), path in finished.outputs.items()]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    answer = subprocess.run(
        [sys.executable, "-c", LIBRARY_CALLS], input=json.dumps(pairs), capture_output=True, text=True, env=one_thread, check=True
    )
    spent = json.loads(answer.stdout)
    cores = len(os.sched_getaffinity(0))
    bound = sum(spent.values()) / cores
    ratio, whole = watch.seconds["scoring"] / bound, (watch.seconds["scoring"] + watch.seconds["loading systems and metrics"]) / bound
    benchmark.extra_info.update(
        library_seconds=spent, cores=cores, bound_s=bound, scoring_s=watch.seconds["scoring"], ratio=ratio, ratio_with_loading=whole
    )
    with capsys.disabled():
        print(
            f"\n{ITEMS} items of {SECONDS} s, {', '.join(METRICS)}: scoring {watch.seconds['scoring']:.2f} s, library calls "
            f"{sum(spent.values()):.2f} s on {cores} cores = {bound:.2f} s; ratio {ratio:.2f} ({whole:.2f} with loading)"
        )
    assert ratio >= 0.9, "faster than the libraries it calls: something was not measured"
