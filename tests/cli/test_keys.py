"""What a stored result is found by: the code of plug-ins, the machine and the threads of times, the versions of libraries."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.api import CodecSpec, Need, SystemInfo
from harness.data.digests import Contents
from harness.running.plan import Card, Digests, Entrant, attempts
from harness.settings.registry import resolve, source_digest
from harness.storing.runfolder import open_run
from tests.stubs.forks import ended_with, forked

PLUGIN = {
    "loud.py": """
import numpy as np
import gains
from harness.api import Audio, Better, Bitstream, CodecSpec, Evidence, MetricInfo, Need, SystemInfo


class Loud:
    def __init__(self):
        self.info, self.spec = SystemInfo(family="loud", version="1"), CodecSpec(sample_rate=16000, hop_length=320)

    def encode(self, audio):
        return Bitstream((audio.samples.tobytes(),), audio.num_samples, 16000)

    def decode(self, encoded):
        return Audio.mono(gains.SYSTEM * np.frombuffer(encoded.packets[0], dtype=np.float32), 16000)


class Level:
    info = MetricInfo("level", "1", "", Better.HIGHER, frozenset({Need.OUTPUT}), 16000, (0.0, 9.0), "level")

    def measure(self, sample):
        from weights.table import METRIC

        return Evidence(METRIC * float(np.abs(sample.output.at(16000)).max()))
""",
    "gains.py": "SYSTEM = 0.5\n",
    "weights/__init__.py": "",
    "weights/table.py": "METRIC = 1.0\n",
    "unrelated.py": "X = 1\n",
    "loud-1.0.dist-info/entry_points.txt": "[harness.systems]\nloud = loud:Loud\n[harness.metrics]\nlevel = loud:Level\n",
}


@pytest.fixture
def plugin(tmp_path):
    """The folder of a plug-in that is being worked on: two modules and a package, none with a new version after an edit."""
    folder = tmp_path / "work"
    for name, text in PLUGIN.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def asked(plugin, make_dataset, tmp_path):
    """Runs the plug-in in a process of its own, as somebody does who edits between two commands; the records and what was said."""
    root = make_dataset(["a", "b"])
    base = [
        "run",
        "--no-report",
        "dataset=jsonl",
        f"dataset.root={root}",
        "systems=[loud]",
        "metrics=[level]",
        "run.name=x",
        "executor=serial",
    ]
    said = tmp_path / "said"

    def arrange():
        os.chdir(tmp_path)
        sys.path.insert(0, str(plugin))
        sys.dont_write_bytecode = True  # edits within a second would meet the compiled file of the last one
        sys.stderr = said.open("w", encoding="utf-8", buffering=1)

    def run():
        assert "loud" not in sys.modules
        assert ended_with(forked(base, arrange)) == 0, said.read_text()
        frame = open_run(tmp_path / "runs" / "x").frame
        return frame.sort_values("item")["value"].tolist(), said.read_text()

    return run


@pytest.mark.cases(
    "A18",
    before="an edited plug-in without a new version was 'already there' with the old number",
    after="its source, and what it imports from its own folder, are part of its key; the run says that it changed",
)
def test_an_edited_plugin_is_computed_anew(asked, plugin):
    first, _ = asked()
    again, said = asked()
    assert again == first
    assert "predictions: 2 of 2 are already there" in said
    (plugin / "unrelated.py").write_text("X = 2\n", encoding="utf-8")
    assert "scores: 2 of 2 are already there" in asked()[1]
    (plugin / "gains.py").write_text("SYSTEM = 0.25\n", encoding="utf-8")
    halved, said = asked()
    assert halved == pytest.approx([v / 2 for v in first])
    assert "system 'loud': its source changed since" in said
    (plugin / "weights" / "table.py").write_text("METRIC = 2.0\n", encoding="utf-8")
    doubled, said = asked()
    assert doubled == pytest.approx(first)
    assert "metric 'level': its source changed since" in said


def test_the_source_of_what_comes_with_the_harness_is_its_version():
    assert source_digest(resolve("systems", "noise")) == source_digest(resolve("metrics", "stoi")()) == ""


def test_the_source_is_of_the_module_that_was_imported(plugin, monkeypatch):
    monkeypatch.syspath_prepend(str(plugin))
    import gains
    import weights.table

    assert len({source_digest(gains.__spec__.loader), ""}) == 1  # an object of the standard library
    gains.gain, weights.table.gain = (type("Gain", (), {"__module__": name}) for name in ("gains", "weights.table"))
    assert len({source_digest(gains.gain), source_digest(weights.table.gain), ""}) == 3


@pytest.mark.cases(
    "A18",
    before="a plug-in that changed while a run went on was stored under the old key by the next worker that built it",
    after="a worker that builds something else than the run described makes nothing",
)
def test_a_system_that_changes_while_a_run_goes_on(tmp_path):
    from harness.running.predicting import PredictWorker
    from harness.storing.store import Store
    from harness.workers.jobs import Job

    worker = PredictWorker(tmp_path / "store", {}, 1)
    entrant = Entrant("noise", {"family": "noise"})
    worker.begin(Job("x", entrant, ()))
    planned = replace(worker._card, source="cafe", settings=({},))
    (attempt,) = attempts({"noise": entrant}, {"noise": planned}, [ITEM], DIGESTS, [0], SUITE)
    worker.step(attempt)
    worker.close()
    outcome = Store(tmp_path / "store").outcomes.find([attempt.key]).found[attempt.key]
    assert outcome.retry and "another one than when the run was planned" in outcome.reason


@pytest.mark.cases(
    "A7",
    before="rtf of a store's predictions was shown beside other threads, another machine, another torch",
    after="a time counts only where machine, processor, cores, threads, device and versions are this run's; asked for by name it is taken anew",
)
def test_times_of_other_circumstances_are_not_shown(harness_run, make_dataset, capsys):
    root = make_dataset(["a", "b"])
    words = ("suite=stub_speech", "systems=[stub_voice]")

    def rtf(name, threads, metrics="null"):
        code, folder = harness_run(root, *words, f"executor.threads={threads}", name=name, metrics=metrics)
        assert code == 0
        frame = open_run(folder).frame
        assert set(frame[frame["metric"] == "stub_peak"]["status"]) == {"ok"}
        found = frame[frame["metric"] == "rtf"]
        return set(found["status"]), set(found["reason"]), capsys.readouterr().err

    assert rtf("a", 1)[0] == {"ok"}
    assert rtf("b", 1)[0] == {"ok"}
    statuses, reasons, said = rtf("c", 2)
    assert statuses == {"skipped_by_policy"}
    (reason,) = reasons
    assert "timed elsewhere: threads 1, here 2" in reason and "fresh run.root" in reason
    assert "predictions: 2 of 2 are already there" in said and "times of 2 stored predictions are not shown" in said
    statuses, _, said = rtf("d", 2, metrics="[stub_peak,rtf]")
    assert statuses == {"ok"}
    assert "predictions" not in said.replace("predicting", "") and "scores: 2 of 4 are already there" in said  # the peaks: same sound
    assert "predictions: 2 of 2 are already there" in rtf("e", 2, metrics="[stub_peak,rtf]")[2]


ITEM = type("Item", (), {"id": "i"})()
DIGESTS = Digests({"i": Contents()}, {"i": "d"}, {})
SUITE = replace(resolve("suites", "codec")().info)


@pytest.mark.cases(
    "A7",
    before="a timing plan's key held the host's name and its number of cores only",
    after="threads, processor, device and versions are in it too",
)
def test_keys_of_timed_predictions_and_of_plain_ones():
    spec = CodecSpec(sample_rate=16000, hop_length=320)
    here = {"machine": "m", "processor": "p", "cores": "2", "threads": "2", "device": "cpu", "python": "3", "numpy": "2", "torch": "2"}

    def key(suite, timed=False, **other):
        card = Card(SystemInfo("x", "1"), spec, "codec", ({},), timed_with={**here, **other})
        needs = {Need.TIMING} if timed else set()
        return attempts({"x": Entrant("x", {})}, {"x": card}, [ITEM], DIGESTS, [0], suite, needs)[0].key

    speed = resolve("suites", "speed")().info
    for suite, timed in ((speed, False), (SUITE, True)):
        assert key(suite, timed) == key(suite, timed)
        assert len({key(suite, timed), *(key(suite, timed, **{name: "other"}) for name in here)}) == 1 + len(here)
    assert len({key(SUITE), *(key(SUITE, **{name: "other"}) for name in here)}) == 1


def test_only_a_codec_of_tokens_that_encodes_again_has_another_key():
    def attempt(sizes, needs):
        card = Card(SystemInfo("x", "1"), CodecSpec(16000, 320, sizes), "codec", ({},))
        return attempts({"x": Entrant("x", {})}, {"x": card}, [ITEM], DIGESTS, [0], SUITE, needs)[0]

    plain, again, packets = attempt((64,), {Need.CODES}), attempt((64,), {Need.ENCODED_AGAIN}), attempt((), {Need.ENCODED_AGAIN})
    assert again.again and not (plain.again or packets.again)
    assert plain.key == attempt((64,), set()).key != again.key
    assert packets.key == attempt((), set()).key


def test_what_shapes_an_output_is_in_its_key_and_the_number_of_a_gpu_is_not():
    card = Card(SystemInfo("x", "1", device="cuda:0", tools=(("torch", "2.1"),)), CodecSpec(16000, 320), "codec", ())
    assert card.digest() == replace(card, info=replace(card.info, device="cuda:1"), timed_with={"threads": "3"}).digest()
    others = [
        replace(card, info=replace(card.info, **part))
        for part in ({"tools": (("torch", "2.2"),)}, {"device": "cpu"}, {"weights_digest": "d"})
    ]
    assert len({c.digest() for c in (card, *others, replace(card, spec=CodecSpec(16000, 640)), replace(card, source="cafe"))}) == 6


def test_the_decoder_of_lossy_files_counts(monkeypatch):
    from harness.api import Item
    from harness.data import digests

    def keys(version):
        monkeypatch.setattr(digests, "library", lambda name: f"{name} {version}")
        same = Contents("d", "")
        return [digests.item_digest(Item("i", "d", Path(f"a{suffix}")), same) for suffix in (".wav", ".flac", ".mp3", ".OGG", ".opus")]

    one, other = keys("1"), keys("2")
    assert [a == b for a, b in zip(one, other, strict=True)] == [True, True, False, False, False]
    card = Card(SystemInfo("recorded", "2"), None, "recorded", ())
    monkeypatch.setattr("harness.running.plan.library", lambda name: f"{name} 0")
    assert "soundfile 0" in str(card.identity())


def test_libraries_that_make_a_number_stand_in_signatures_and_keys(tmp_path):
    from harness.running.metric_set import MetricBuilder
    from harness.running.scoring import DescribeMetrics, ScoreWorker
    from harness.workers.jobs import Job

    config = {"asr": {}, "speaker": {"family": "resemblyzer"}, "mos": {"family": "dnsmos"}}
    worker = ScoreWorker(tmp_path, MetricBuilder(("pesq_wb", "stoi", "mcd_db", "sim_o", "mos"), config, ()))
    worker.begin(Job("the metrics", None, ()))
    infos = worker.step(DescribeMetrics()).metrics
    wanted = {"pesq_wb": ["pesq"], "stoi": ["pystoi"], "mcd_db": ["pyworld-prebuilt"], "sim_o": ["resemblyzer", "torch", "librosa", "webrtcvad"],
              "mos": ["speechmos", "onnxruntime", "librosa"]}  # fmt: skip
    from importlib.metadata import version

    for key, libraries in wanted.items():
        signature = infos[key].signature()
        for name in [*libraries, "soxr"]:
            assert f"{name} {version(name)}" in signature.replace("==", " "), (key, name)
    import harness.metrics.text as text

    assert f"jiwer {version('jiwer')}" in text.IntelligibilityProbe(Probe()).info.signature()
    for family, tool in (("noise", "numpy"), ("qdac", "torch"), ("mel_vocoder", "torch"), ("ffmpeg", "PyAV")):
        assert tool in dict(resolve("systems", family)().info.tools), family


class Probe:
    """As much of a recogniser as the probe's signature needs."""

    def __init__(self):
        from harness.api import JudgeInfo

        self.info = JudgeInfo("probe", "m", "d", "pocketsphinx==5", languages=("en",))
