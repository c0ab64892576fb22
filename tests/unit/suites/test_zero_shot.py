"""The suite of zero-shot synthesis: what its rows and columns are, and runs of a parrot through it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import harness
from harness.api import Better, Item, MetricInfo, Need, Task
from harness.cli import main
from harness.data.audio import read_audio, resample
from harness.data.manifests import DatasetConfig, load_dataset
from harness.judges.speakers import Resemblyzer
from harness.running.metric_set import MetricBuilder
from harness.running.plan import belongs, calibration_entrants, calibration_metrics, calibration_rows, score_key
from harness.settings.config import compose
from harness.settings.registry import METRICS, resolve
from harness.testing import check_suite
from suites.codec import CodecSuite
from suites.speed import SpeedSuite
from suites.zero_shot import ZeroShotSuite

PARROT = '''
"""Says whatever its prompt says, through a codec of its own."""
from pathlib import Path
import numpy as np
from harness.api import Audio, MissingOutput, Speech, SystemInfo

class Parrot:
    """Seed 2 is a runaway; a text that starts with ? is of a language it does not speak."""
    sample_rate = 8000
    def __init__(self, log=""):
        self.log, self.info = log, SystemInfo(family="parrot", version="1")
    def synthesize(self, utterance, seed):
        if utterance.text.startswith("?"):
            raise MissingOutput("it speaks parrot only")
        samples = self._coded(utterance.prompt).samples
        spoken = samples if seed != 2 else np.concatenate([samples, samples], axis=1)
        return Speech(Audio(spoken * (1 - 0.1 * seed), 8000), stop_reason="length" if seed == 2 else "end")
    def stream(self, utterance, seed):
        yield self.synthesize(utterance, seed).audio
    def resynthesize(self, prompt):
        if self.log:
            with Path(self.log).open("a") as file:
                file.write(f"{prompt.digest()}\\n")
        return self._coded(prompt)
    def _coded(self, prompt):
        assert prompt.sample_rate == 16000
        return Audio((np.round(prompt.samples[:, ::2] * 12) / 12).astype(np.float32), 8000)
'''


@pytest.fixture
def parrot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "parrot_plugin.py").write_text(PARROT)
    (tmp_path / "parrot_plugin-1.0.dist-info").mkdir()
    (tmp_path / "parrot_plugin-1.0.dist-info" / "entry_points.txt").write_text("[harness.systems]\nparrot = parrot_plugin:Parrot\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("parrot_plugin", None)


EMBEDDED = {item.id: item for item in load_dataset(DatasetConfig(name="embedded", kind="embedded", language="en")).items}
SLT, RMS = EMBEDDED["flite-slt-01"], EMBEDDED["flite-rms-01"]


def manifest(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """A dataset of links to the embedded recordings."""
    root = folder / "data"
    root.mkdir()
    for name, path in (("slt", SLT.path), ("slt_p", SLT.prompt_path), ("rms", RMS.path), ("rms_p", RMS.prompt_path)):
        assert path is not None
        (root / f"{name}.flac").write_bytes(path.read_bytes())
    (root / "broken.wav").write_bytes(b"RIFF")
    lines = [json.dumps({"language": "en", "text": "some words", **row}) + "\n" for row in rows]
    (root / "manifest.jsonl").write_text("".join(lines))
    return root


def run(root: Path, *words: str, name: str = "run") -> tuple[int, pd.DataFrame]:
    code = main(["run", "suite=zero_shot", "systems=[parrot]", "dataset=jsonl", f"dataset.root={root}", f"run.name={name}",
                 "executor=serial", *words])  # fmt: skip
    return code, harness.load(Path("runs") / name)


def test_laws() -> None:
    check_suite(ZeroShotSuite())
    info = ZeroShotSuite().info
    assert info.task is Task.SYNTHESIS and set(info.metrics) <= set(METRICS)
    assert compose(["suite=zero_shot"])["suite"] == {"name": "zero_shot"}
    # Two readings do not align: nothing is compared sample by sample.
    aligned = {"pesq_wb", "stoi", "si_sdr_db", "mcd_db", "f0_rmse_cents", "log_mel_distance_db"}
    assert not aligned & set(info.metrics)
    assert isinstance(resolve("suites", "zero_shot")(), ZeroShotSuite)


ITEMS = (
    Item("a", "d", Path("a.wav"), "x", "en", "s1", Path("ap.wav")),
    Item("b", "d", Path("b.wav"), "x", "en", "s2", Path("bp.wav")),
    Item("c", "d", None, "x", "en", "s2", Path("cp.wav")),
    Item("d", "d", Path("d.wav"), "x", "zh", "s3", Path("dp.wav")),
)


def chosen(name: str, task: Task, items: tuple[Item, ...] = ITEMS) -> dict[str, str]:
    rows = calibration_entrants([name], items, task)
    return {item: str(path) for row in rows for item, path in (row.recordings or {}).items()}


def test_calibration_rows_by_task() -> None:
    assert chosen("ground_truth", Task.SYNTHESIS) == {"a": "a.wav", "b": "b.wav", "d": "d.wav"}
    assert chosen("same_speaker", Task.SYNTHESIS) == chosen("ground_truth", Task.SYNTHESIS)
    assert chosen("same_speaker", Task.RESYNTHESIS) == {"a": "ap.wav", "b": "bp.wav", "c": "cp.wav", "d": "dp.wav"}
    # The only Mandarin item has no impostor; where the next speaker has no recording, the prompt stands in.
    assert chosen("impostor", Task.SYNTHESIS) == {"a": "b.wav", "b": "a.wav", "c": "a.wav"}
    assert chosen("impostor", Task.SYNTHESIS, (ITEMS[0], ITEMS[2])) == {"a": "cp.wav", "c": "a.wav"}
    assert calibration_entrants(["impostor"], ITEMS[:1], Task.SYNTHESIS) == []


def slow_impostor(i: int, items: tuple[Item, ...]) -> Path | None:
    """As its docstring says: the next item by somebody else, looked for one by one."""
    others = (o for o in (*items[i + 1 :], *items[:i]) if o.speaker != items[i].speaker and o.language == items[i].language)
    return next((path for o in others if (path := o.path or o.prompt_path)), None) if items[i].speaker else None


@pytest.mark.cases("D3", before="pairing 10^5 items took 150 s and grew with their square", after="one walk over the items, .2 s")
def test_impostors_are_found_in_one_walk() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        n = int(rng.integers(1, 9))
        items = tuple(
            Item(
                f"i{i}", "d", Path(f"{i}.wav") if rng.random() < 0.6 else None, "t", str(rng.choice(["en", "zh"])),
                str(rng.choice(["", "a", "b", "c"])), Path(f"{i}p.wav") if rng.random() < 0.6 else None,
            )
            for i in range(n)
        )  # fmt: skip
        expected = {items[i].id: str(path) for i in range(n) if (path := slow_impostor(i, items)) is not None}
        assert chosen("impostor", Task.SYNTHESIS, items) == expected


def info(*needs: Need) -> MetricInfo:
    return MetricInfo("m", "1", "", Better.LOWER, frozenset(needs), None, (0.0, 1.0), "")


def test_a_reference_row_is_measured_by_what_listens() -> None:
    metrics = {
        "wer": info(Need.OUTPUT, Need.TEXT), "sim_o": info(Need.OUTPUT, Need.PROMPT), "mos": info(Need.OUTPUT),
        "rtf": info(Need.TIMING), "pesq_wb": info(Need.OUTPUT, Need.REFERENCE), "sim_r": info(Need.OUTPUT, Need.PROMPT_RESYNTHESIS),
        "stopped_by_itself": info(Need.STOP_REASON),
    }  # fmt: skip
    assert calibration_metrics("ground_truth", metrics) == ["wer", "sim_o", "mos"]
    assert calibration_metrics("impostor", metrics) == calibration_metrics("same_speaker", metrics) == ["sim_o"]
    assert calibration_metrics("ground_truth", {"rtf": info(Need.TIMING)}) == []


@pytest.mark.cases(
    "A22",
    before="a codec suite had no row of the recordings: a recogniser that does worse on them than on three of five systems went unsaid",
    after="the recording is a calibration row wherever words are measured; what is identical audio is transcribed once",
)
def test_the_recording_stands_beside_every_figure_about_words() -> None:
    suite = CodecSuite().info
    assert next(row.label for row in calibration_rows(suite, ITEMS)) == "ground_truth"
    assert "ground_truth" not in [row.label for row in calibration_rows(suite, [replace(i, text="") for i in ITEMS])]
    assert "ground_truth" not in [row.label for row in calibration_rows(SpeedSuite().info, ITEMS)]
    words, voice = (info(Need.OUTPUT, Need.TEXT), info(Need.OUTPUT))
    assert belongs("ground_truth", suite, {"wer": words, "mos": voice})
    assert not belongs("ground_truth", suite, {"mos": voice})
    assert belongs("ground_truth", ZeroShotSuite().info, {"mos": voice})
    # A codec that loses nothing sounds as the recording: whatever only listens has one key, whatever reads codes or times has two.
    one, two = ({"digest": d, "audio": "same", "timing": None} for d in "ab")
    assert score_key(one, "i", words) == score_key(two, "i", words) != score_key({**one, "audio": "other"}, "i", words)
    for need in (Need.CODES, Need.ENCODED, Need.TIMING, Need.STOP_REASON, Need.PROMPT_RESYNTHESIS):
        metric = info(Need.OUTPUT, need)
        assert score_key(one, "i", metric) != score_key(two, "i", metric)


def test_the_task_decides_what_similarity_is_to() -> None:
    infos = {task: MetricBuilder(["sim_o"], compose([]), (), task=task).build().metrics["sim_o"].info for task in Task}
    assert infos[Task.SYNTHESIS].params["against"] == "prompt" and infos[Task.RESYNTHESIS].params["against"] == "reference"
    assert infos[Task.SYNTHESIS].signature() != infos[Task.RESYNTHESIS].signature()
    assert Need.PROMPT in infos[Task.SYNTHESIS].needs and Need.REFERENCE not in infos[Task.SYNTHESIS].needs


def test_a_dataset_without_english_needs_no_probe() -> None:
    metrics = MetricBuilder(["intelligibility_probe", "rtf"], compose([]), ()).build()
    assert set(metrics.metrics) == {"rtf"} and "no English texts" in metrics.cards.absent["intelligibility_probe"]


def cosine(encoder: Resemblyzer, first: Path | None, second: Path | None) -> float:
    def embedded(path: Path | None) -> Any:
        assert path is not None
        audio = read_audio(path)
        return encoder.embed(resample(audio.samples[0], audio.sample_rate, encoder.info.sample_rate))

    return float(np.dot(embedded(first), embedded(second)))


def test_seeds_rows_and_voices_end_to_end(parrot: Path) -> None:
    root = manifest(parrot, [
        {"id": "slt", "audio": "slt.flac", "speaker": "slt", "prompt_audio": "slt_p.flac", "text": SLT.text},
        {"id": "rms", "audio": "rms.flac", "speaker": "rms", "prompt_audio": "rms_p.flac", "text": RMS.text},
        {"id": "unrecorded", "speaker": "rms", "prompt_audio": "rms_p.flac"},
    ])  # fmt: skip
    log = parrot / "log"
    code, frame = run(
        root,
        "seeds=[0,1,2]",
        "speaker=resemblyzer",
        "metrics=[intelligibility_probe,sim_o,sim_r,stopped_by_itself,length_ratio,rtf]",
        f"systems.parrot.log={log}",
    )
    assert code == 0
    value: Callable[..., Any] = lambda system, metric, item: sorted(  # noqa: E731
        frame[(frame.system == system) & (frame.metric == metric) & (frame.item == item) & (frame.status == "ok")].value
    )
    ours = frame[frame.system == "parrot"]
    assert sorted(ours[ours.metric == "sim_o"].seed) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    # Through its own codec nothing is lost; the codec itself costs likeness.
    assert min(value("parrot", "sim_r", "slt")) > 0.98 > max(value("parrot", "sim_o", "slt"))
    assert value("parrot", "stopped_by_itself", "rms") == [0, 100, 100]
    assert value("parrot", "length_ratio", "unrecorded") == [] and len(value("parrot", "length_ratio", "slt")) == 3
    assert len(value("parrot", "rtf", "unrecorded")) == 3
    # Once a prompt, however many seeds (and the warm-up).
    assert len(log.read_text().split()) == 2
    # The calibration rows: no seeds, only what listens, the same encoder.
    encoder = Resemblyzer()
    assert set(frame[frame.system == "ground_truth"].metric) == {"intelligibility_probe", "sim_o"}
    assert set(frame[frame.system == "impostor"].metric) == {"sim_o"}
    assert set(frame[frame.system == "ground_truth"].item) == {"slt", "rms"}
    assert set(frame[frame.system.isin(["ground_truth", "impostor"])].seed) == {0}
    assert value("ground_truth", "sim_o", "slt") == [pytest.approx(cosine(encoder, SLT.path, SLT.prompt_path), abs=1e-6)]
    assert value("impostor", "sim_o", "slt") == [pytest.approx(cosine(encoder, RMS.path, SLT.prompt_path), abs=1e-6)]
    assert value("impostor", "sim_o", "unrecorded") == [pytest.approx(cosine(encoder, SLT.path, RMS.prompt_path), abs=1e-6)]
    # The recogniser's own error on the recording is far below that on a parrot, who says other words.
    assert value("ground_truth", "intelligibility_probe", "slt")[0] < min(value("parrot", "intelligibility_probe", "slt"))
    told = (Path("runs") / "run" / "report.md").read_text()
    assert "parrot end 6, length 3" in told and "standard deviation over 3 seeds" in told
    described = json.loads((Path("runs") / "run" / "manifest.json").read_text())
    assert described["calibration"] == ["ground_truth", "impostor"]
    # A parrot is like its prompt by being its prompt.
    assert {(w["system"], w["flag"], w["items"]) for w in described["warnings"]} == {
        ("parrot", "prompt_copied", 6), ("parrot", "begins_with_prompt", 3)
    }  # fmt: skip
    assert {o.get("seed") for o in described["outputs"] if "begins_with_prompt" in o.get("flags", ())} == {2}
    assert "parrot: 3 outputs begin with their prompt and 6 outputs are their prompt over again" in told.replace("\\", "")
    assert {o.get("stop_reason") for o in described["outputs"] if o["label"] != "parrot"} == {None}


def test_rows_that_no_metric_can_fill_are_left_out(parrot: Path) -> None:
    root = manifest(parrot, [{"id": "slt", "audio": "slt.flac", "speaker": "slt", "prompt_audio": "slt_p.flac"}])
    code, frame = run(root, "metrics=[rtf,stopped_by_itself]", "--no-report")
    assert code == 0 and set(frame.system) == {"parrot"}
    assert json.loads((Path("runs") / "run" / "manifest.json").read_text())["calibration"] == []


def test_whose_fault_a_missing_output_is(parrot: Path) -> None:
    root = manifest(parrot, [
        {"id": "refused", "audio": "slt.flac", "speaker": "slt", "prompt_audio": "slt_p.flac", "text": "?que"},
        {"id": "fine", "audio": "slt.flac", "speaker": "slt", "prompt_audio": "slt_p.flac"},
        {"id": "mute", "audio": "slt.flac", "speaker": "slt", "prompt_audio": "slt_p.flac", "text": ""},
        {"id": "broken", "audio": "slt.flac", "speaker": "slt", "prompt_audio": "broken.wav"},
        {"id": "torn", "audio": "broken.wav", "speaker": "slt", "prompt_audio": "slt_p.flac"},
    ])  # fmt: skip
    code, frame = run(root, "metrics=[sim_o,clipped_samples]", "--no-report")
    assert code == 1
    found = {(r.item, r.metric): (r.status, r.side, r.reason) for r in frame[frame.system == "parrot"].itertuples()}
    assert found["refused", "sim_o"] == ("failed", "output", "no output: it speaks parrot only")  # also as the first call, the warm-up
    assert found["fine", "sim_o"][0] == found["fine", "clipped_samples"][0] == "ok"
    assert found["mute", "sim_o"] == ("invalid_input", "reference", "the item has no text to speak")
    assert found["broken", "sim_o"][:2] == ("invalid_input", "reference") and "broken.wav" in found["broken", "sim_o"][2]
    # The recording of an item whose prompt is broken is still a recording.
    truth = {(r.item, r.metric): (r.status, r.side) for r in frame[frame.system == "ground_truth"].itertuples()}
    assert truth["broken", "clipped_samples"][0] == "ok" and truth["broken", "sim_o"] == ("invalid_input", "reference")
    assert truth["mute", "sim_o"][0] == "ok" and truth["torn", "sim_o"] == ("invalid_input", "reference")
