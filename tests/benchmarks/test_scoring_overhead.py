"""How much longer scoring takes than the libraries' own calls, spread over the cores, would; and a whole run than a plain loop over them."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from harness.data.audio import read_audio, write_audio
from harness.data.manifests import DatasetConfig, load_dataset
from harness.running.runner import run
from harness.settings.config import compose
from harness.storing.runfolder import open_run
from tests.stubs.consoles import Silent

SIGNAL = ["pesq_wb", "stoi", "si_sdr_db", "mcd_db"]
JUDGED = [*SIGNAL, "wer", "sim_o", "mos"]
ITEMS, SECONDS, RATE = 60, 5, 16000

LIBRARY_CALLS = """
import json, sys, time
import numpy as np, pesq, pystoi, pyworld, soundfile
def world(x):
    x = x.astype(np.float64)
    f0, t = pyworld.dio(x, 16000, f0_floor=71.0, f0_ceil=800.0)
    f0 = pyworld.stonemask(x, f0, t, 16000)
    pyworld.cheaptrick(x, f0, t, 16000)
calls = {
    "pesq": lambda reference, output: pesq.pesq(16000, reference, output, "wb"),
    "pystoi": lambda reference, output: pystoi.stoi(reference, output, 16000),
    "pyworld": lambda reference, output: (world(reference), world(output)),
}
if sys.argv[1] == "judged":
    from harness.judges.campplus import CamPlusPlus
    from harness.judges.opinions.distillmos import DistillMos
    from harness.judges.whisper_ct2 import WhisperCt2
    import torch
    torch.set_num_threads(1)
    asr, voice, mos = WhisperCt2(), CamPlusPlus(), DistillMos()
    # A recogniser hears the recording as well, for the row of calibration beside every error rate.
    calls |= {
        "whisper": lambda reference, output: [asr.transcribe(x, "en") for x in (reference, output)],
        "campplus": lambda reference, output: [voice.embed(x) for x in (reference, output)],
        "distillmos": lambda reference, output: [mos.predict(x) for x in (reference, output)],
    }
spent = {}
pairs = [[soundfile.read(path, dtype="float32")[0] for path in pair] for pair in json.load(sys.stdin)]
for round in range(2):  # the first pass warms caches and is not counted
    spent = dict.fromkeys(calls, 0.0)
    for reference, output in pairs[: 3 if round == 0 else None]:
        for name, call in calls.items():
            start = time.perf_counter(); call(reference, output); spent[name] += time.perf_counter() - start
print(json.dumps(spent))
"""

PLAIN_LOOP = """
import json, sys
from concurrent.futures import ProcessPoolExecutor
def measure(pair):
    import numpy as np, pesq, pystoi, soundfile
    reference, output = (soundfile.read(path, dtype="float32")[0] for path in pair)
    x, y = (side.astype(np.float64) - side.mean(dtype=np.float64) for side in (reference, output))
    target = (x @ y) / (x @ x) * x
    ratio = 10 * np.log10((target @ target) / ((y - target) @ (y - target)))
    return pesq.pesq(16000, reference, output, "wb"), pystoi.stoi(reference, output, 16000), ratio
if __name__ == "__main__":
    pairs = json.load(sys.stdin)
    with ProcessPoolExecutor(2) as pool:
        print([sum(column) / len(pairs) for column in zip(*pool.map(measure, pairs))])
"""
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


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
        lines.append(json.dumps({"id": f"item{i}", "audio": f"{i}.wav", "text": "a b c", "language": "en", "speaker": f"s{i % 7}"}))
    (root / "manifest.jsonl").write_text("\n".join(lines))
    return root


@pytest.mark.parametrize("kind", ["signal", "judged"])
def test_scoring_over_the_lower_bound(five_second_items, tmp_path, benchmark, capsys, kind):
    if benchmark.disabled:
        pytest.skip("a timing: run it by pytest tests/benchmarks --benchmark-enable on a quiet machine")
    words = ["dataset=jsonl", f"dataset.root={five_second_items}", "systems=[opus16]", f"run.root={tmp_path}"]
    metrics = SIGNAL if kind == "signal" else JUDGED
    run(compose([*words, "metrics=[length_ratio]", "run.name=outputs"]), "benchmark", Stopwatch())  # what is scored is there
    watch = Stopwatch()
    config = compose([*words, f"metrics=[{','.join(metrics)}]", "run.name=x"])
    benchmark.pedantic(lambda: run(config, "benchmark", watch), rounds=1)
    finished = open_run(tmp_path / "x")
    assert finished.frame["status"].eq("ok").all()
    pairs = [[str(finished.references[item]), str(path)] for (system, _, item, _), path in finished.outputs.items() if system == "opus16"]
    answer = subprocess.run(
        [sys.executable, "-c", LIBRARY_CALLS, kind], input=json.dumps(pairs), capture_output=True, text=True, env=ONE_THREAD, check=True
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
            f"\n{ITEMS} items of {SECONDS} s, {', '.join(metrics)}: scoring {watch.seconds['scoring']:.2f} s, calls "
            f"{sum(spent.values()):.2f} s on {cores} cores = {bound:.2f} s; ratio {ratio:.2f} ({whole:.2f} with loading)"
        )
    assert ratio >= 0.85, "faster than the libraries it calls: something was not measured"


@pytest.mark.parametrize("number", [1, ITEMS])
def test_a_whole_run_beside_a_plain_loop(five_second_items, tmp_path, benchmark, capsys, number):
    """From a command in a fresh folder to its page, of recorded outputs, beside two processes that call the libraries and print three means."""
    if benchmark.disabled:
        pytest.skip("a timing: run it by pytest tests/benchmarks --benchmark-enable on a quiet machine")
    references, outputs = tmp_path / "references", tmp_path / "outputs"
    references.mkdir()
    outputs.mkdir()
    pairs = []
    for i in range(number):
        audio = read_audio(five_second_items / f"{i}.wav")
        noise = np.random.default_rng(i).normal(0, 0.01, audio.samples.shape).astype(np.float32)
        write_audio(references / f"item{i}.wav", audio)
        write_audio(outputs / f"item{i}.wav", type(audio)(audio.samples + noise, RATE))
        pairs.append([str(folder / f"item{i}.wav") for folder in (references, outputs)])
    loop = tmp_path / "loop.py"
    loop.write_text(PLAIN_LOOP)
    words = ["suite=codec", "systems=[recorded]", f"systems.recorded.root={outputs}", "dataset=folder", f"dataset.root={references}",
             "metrics=[pesq_wb,stoi,si_sdr_db]", "run.name=x"]  # fmt: skip
    program = Path(sys.executable).with_name("harness")

    def ours(place):
        subprocess.run([program, "run", *words, f"run.root={place}"], check=True, capture_output=True)

    def plain(place):
        subprocess.run([sys.executable, loop], input=json.dumps(pairs).encode(), check=True, capture_output=True, env=ONE_THREAD)

    took = {ours: [], plain: []}
    for turn in range(4):  # by turns; the first pair warms the caches of files
        for call in (ours, plain):
            start = time.perf_counter()
            call(tmp_path / f"runs{turn}")
            took[call].append(time.perf_counter() - start)
    assert (tmp_path / "runs3" / "x" / "report.html").exists()
    benchmark.pedantic(lambda: ours(tmp_path / "last"), rounds=1)
    mine, theirs = (float(np.median(took[call][1:])) for call in (ours, plain))
    benchmark.extra_info.update(run_s=mine, loop_s=theirs, ratio=mine / theirs)
    with capsys.disabled():
        print(f"\n{number} recorded pairs of {SECONDS} s: run {mine:.2f} s, plain loop {theirs:.2f} s; ratio {mine / theirs:.2f}")
