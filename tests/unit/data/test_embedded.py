"""The embedded set: complete, unchanged, and what its manifest says it is."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

from harness.data import embedded_recipe, embedded_set
from harness.data.audio import flags, read_audio
from harness.data.manifests import DatasetConfig, load_dataset
from harness.errors import ManifestError, UsageError

ROWS = embedded_set.rows()


@pytest.fixture(scope="module")
def data():
    return load_dataset(DatasetConfig("embedded", "embedded"))


def test_count_languages_voices_and_size(data):
    assert len(data.items) == 60
    assert [sum(i.language == code for i in data.items) for code in ("en", "zh")] == [50, 10]
    speakers = {i.speaker for i in data.items}
    assert len(speakers) == 14
    assert {f"flite-{v}" for v in ("slt", "rms", "awb", "kal16")} < speakers
    assert all(i.synthetic for i in data.items)
    assert data.synthetic
    assert "synthetic" in data.licence
    files = [p for p in embedded_set.ROOT.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 6 * 2**20
    named = {r["audio"] for r in ROWS} | {r["prompt_audio"] for r in ROWS} | {"manifest.jsonl"}
    assert {p.relative_to(embedded_set.ROOT).as_posix() for p in files} == named


def test_the_first_items_are_spoken_by_different_voices(data):
    assert len({i.speaker for i in data.items[:14]}) == 14


def test_recordings_are_what_the_manifest_says(data):
    for item, row in zip(data.items, ROWS, strict=True):
        for path, key in ((item.path, "duration_s"), (item.prompt_path, "prompt_duration_s")):
            audio = read_audio(path)
            assert (audio.sample_rate, audio.num_channels) == (16000, 1)
            assert 2 <= audio.duration_s <= 6
            assert audio.duration_s == pytest.approx(row[key], abs=1e-4)
            assert flags(audio) == ()
            assert np.abs(audio.samples).max() < 1


def test_prompts_are_of_the_same_voice_and_say_something_else(data):
    texts = [i.text for i in data.items]
    assert len(set(texts)) == 60
    for item in data.items:
        assert item.path.parent == item.prompt_path.parent
        assert item.path.parent.name == item.speaker
        assert item.prompt_text not in texts
        assert item.prompt_text


def test_sentences_are_natural_in_length_and_spelling(data):
    for item in data.items:
        if item.language == "en":
            assert 6 <= len(item.text.split()) <= 16
            assert re.fullmatch(r"[A-Z][A-Za-z,' é]+[.?]", item.text), item.text
        else:
            assert re.fullmatch(r"[\u4e00-\u9fff]{8,20}。", item.text), item.text


def test_only_one_language(data):
    zh = load_dataset(DatasetConfig("embedded", "embedded", language="zh"))
    assert zh.items == tuple(i for i in data.items if i.language == "zh")


def test_damage_is_noticed(tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(embedded_set.ROOT, copy)
    embedded_set.verify(copy)
    changed = copy / ROWS[3]["audio"]
    content = bytearray(changed.read_bytes())
    content[-1] ^= 1
    changed.write_bytes(content)
    (copy / ROWS[5]["prompt_audio"]).unlink()
    embedded_set.verify.cache_clear()
    with pytest.raises(ManifestError) as caught:
        embedded_set.verify(copy)
    assert f"{ROWS[3]['audio']}: changed" in str(caught.value)
    assert f"{ROWS[5]['prompt_audio']}: missing" in str(caught.value)


def _same_programs():
    if shutil.which("flite") is None or shutil.which("espeak-ng") is None:
        return False
    return {row["tool"] for row in ROWS} == set(embedded_recipe.tool_versions().values())


@pytest.mark.skipif(not _same_programs(), reason="flite and espeak-ng of the versions that made the set are not installed")
def test_the_recipe_makes_the_same_samples_again(tmp_path):
    """Samples, not bytes: another libsndfile may pack the same samples otherwise."""
    assert embedded_recipe.make(tmp_path / "again") == 60
    again = embedded_set.rows(tmp_path / "again")
    packed = ("bytes", "sha256", "prompt_bytes", "prompt_sha256")
    assert [{k: v for k, v in r.items() if k not in packed} for r in again] == [
        {k: v for k, v in r.items() if k not in packed} for r in ROWS
    ]
    for name in {r["audio"] for r in ROWS} | {r["prompt_audio"] for r in ROWS}:
        assert read_audio(tmp_path / "again" / name).digest() == read_audio(embedded_set.ROOT / name).digest()


def test_the_recipe_overwrites_nothing(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="not empty"):
        embedded_recipe.make(tmp_path)
    assert embedded_recipe.main([]) == 2
    assert "usage" in capsys.readouterr().err
