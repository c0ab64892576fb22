"""Synthetic training speech: who speaks, what is held out, what the files are."""

from __future__ import annotations

import csv
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from harness.data import embedded_set
from harness.data.audio import read_audio
from harness.data.training_speech import (
    FLITE_F0_HZ,
    Speaker,
    dealt,
    main,
    make,
    mandarin_phrases,
    speakers,
    utterances,
    wordnet_examples,
)
from harness.errors import UsageError

needs_tools = pytest.mark.skipif(not (shutil.which("flite") and shutil.which("espeak-ng")), reason="flite or espeak-ng is not installed")
TEXT = "Heavy clouds drifted over the harbor while the fishermen mended their nets."


def mean_f0_hz(file: Path) -> float:
    import pyworld

    audio = read_audio(file)
    f0, _ = pyworld.dio(audio.samples[0].astype(np.float64), audio.sample_rate)
    return math.exp(np.log(f0[f0 > 0]).mean())


def test_held_out_voices_never_speak() -> None:
    taken = {row["voice"] for row in embedded_set.rows() if row["tool"].startswith("espeak-ng")}
    drawn = [*speakers(60, "en", "flite", 0), *speakers(60, "en", "espeak-ng", 0), *speakers(60, "zh", "espeak-ng", 0)]
    assert {speaker.voice for speaker in drawn if speaker.tool == "flite"} == {"slt", "awb", "kal16"}
    assert not taken & {speaker.voice for speaker in drawn}
    assert len({speaker.name for speaker in drawn}) == len(drawn)
    assert speakers(60, "en", "flite", 0) != speakers(60, "en", "flite", 1)


def test_sentences_of_the_embedded_set_are_left_out() -> None:
    held_out = embedded_set.rows()[0]["text"]
    found = dealt([(speakers(2, "en", "flite", 0), [held_out, "Something else entirely.", f"And then. {held_out}"])])
    assert [text for _, text in found] == ["Something else entirely."]


def test_every_sentence_once_before_one_comes_again() -> None:
    sentences = ["one two three", "four five six", "seven eight nine", "a 'quoted' end?"]
    single = list(utterances(sentences, 4, 0.0, 0))
    assert sorted(single) == ["A 'quoted' end.", "Four five six.", "One two three.", "Seven eight nine."]
    joint = list(utterances(sentences, 2, 1.0, 0))
    assert sorted(". ".join(text.rstrip(".") for text in joint).split(". ")) == sorted(text.rstrip(".") for text in single)
    assert next(utterances(["今天下雨"], 1, 0.0, 0)) == "今天下雨。"


def test_mandarin_phrases_are_chinese_and_repeat_by_seed() -> None:
    found = mandarin_phrases(20, 3)
    assert found == mandarin_phrases(20, 3) != mandarin_phrases(20, 4)
    assert all(4 <= len(text) <= 16 and all("\u4e00" <= c <= "\u9fff" for c in text) for text in found)


def test_wordnet_examples(tmp_path: Path) -> None:
    (tmp_path / "data.noun").write_text(
        '  1 licence "not an example of anything"\n'
        '00001740 03 n 01 entity 0 001 ~ | that which exists; "the nature of the thing was clear"; "too short"; "4 digits are left out"\n'
        '00001930 03 n 01 entity 0 001 ~ | again; "the nature of the thing was clear"; "a `quoted\' word in the middle"\n'
    )
    assert wordnet_examples(tmp_path) == ["the nature of the thing was clear", "a quoted' word in the middle"]
    with pytest.raises(UsageError, match="wordnet-base"):
        wordnet_examples(tmp_path / "nowhere")


@needs_tools
@pytest.mark.parametrize("tool", ["flite", "espeak-ng"])
def test_f0_envelope_and_tempo_move_apart(tool: str, tmp_path: Path) -> None:
    """An envelope moved by resampling must not take F0 and tempo along."""
    voice = "slt" if tool == "flite" else "en-us+m2"
    files = {}
    for name, f0, envelope in (("plain", 1.0, 1.0), ("f0", 1.3, 1.0), ("envelope", 1.0, 1.12)):
        made = make(tmp_path / name, [(Speaker(tool, voice, "en", f0, envelope, 1.0), TEXT)])
        assert made == 1
        files[name] = next((tmp_path / name).rglob("*.flac"))
    plain = read_audio(files["plain"])
    for name, ratio in (("f0", 1.3), ("envelope", 1.0)):
        audio = read_audio(files[name])
        assert audio.sample_rate == 16000 and audio.num_samples == pytest.approx(plain.num_samples, rel=0.05)
        assert mean_f0_hz(files[name]) / mean_f0_hz(files["plain"]) == pytest.approx(ratio, rel=0.08)
    centres = [centroid_hz(files[name]) for name in ("plain", "envelope")]
    assert centres[1] > 1.04 * centres[0]


def centroid_hz(file: Path) -> float:
    power = np.abs(np.fft.rfft(read_audio(file).samples[0])) ** 2
    return float((power * np.linspace(0, 8000, power.size)).sum() / power.sum())


@needs_tools
def test_the_command_makes_a_manifest_that_training_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "en.txt").write_text("the first sentence is this one\nand here comes another of them\n")
    words = [str(tmp_path / "out"), "--english", str(tmp_path / "en.txt"), "--flite", "4", "--espeak", "1", "--espeak-mandarin", "2"]
    assert main(words) == 0 and "7 recordings" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "out" / "manifest.csv").open(encoding="utf-8")))
    assert {row["language"] for row in rows} == {"en", "zh"} and all(row["text"] and row["synthetic"] == "true" for row in rows)
    first = {row["path"]: (tmp_path / "out" / row["path"]).read_bytes() for row in rows}
    assert main([str(tmp_path / "again"), *words[1:]]) == 0
    assert {path: (tmp_path / "again" / path).read_bytes() for path in first} == first
    from harness.data.manifests import DatasetConfig, load_dataset

    items = load_dataset(DatasetConfig(name="train", root=tmp_path / "out" / "manifest.csv")).items
    assert len(items) == 7 and {item.text for item in items} == {row["text"] for row in rows}


def test_nothing_to_speak_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "out"), "--espeak-mandarin", "0"]) == 2 and "--english FILE" in capsys.readouterr().err
    assert main([str(tmp_path / "out"), "--english", str(tmp_path / "no.txt")]) == 2 and "no.txt" in capsys.readouterr().err
    assert "rms" not in FLITE_F0_HZ
