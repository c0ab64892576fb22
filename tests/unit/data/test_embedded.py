"""The embedded set: complete, unchanged, and what its manifest says it is."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

from harness.data import embedded_set
from harness.data.audio import flags, read_audio
from harness.data.manifests import DatasetConfig, load_dataset
from harness.errors import ManifestError, MissingDependency, UsageError
from harness.settings.config import compose

ROWS = embedded_set.rows()


def chosen(*words):
    return load_dataset(DatasetConfig.from_mapping(compose([*words, "systems=[noise]"])["dataset"]))


@pytest.fixture(scope="module")
def data():
    return load_dataset(DatasetConfig("embedded", "embedded"))


def test_count_languages_voices_and_size(data):
    assert len(data.items) == 70
    assert [sum(i.language == code for i in data.items) for code in ("en", "zh")] == [60, 10]
    speakers = {i.speaker for i in data.items}
    assert len(speakers) == 15
    assert {*(f"flite-{v}" for v in ("slt", "rms", "awb", "kal16")), "hibari-heart"} < speakers
    assert all(i.synthetic for i in data.items)
    assert data.synthetic
    assert "synthetic" in data.licence
    files = [p for p in embedded_set.ROOT.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 6 * 2**20
    named = {r["audio"] for r in ROWS} | {r["prompt_audio"] for r in ROWS} | {"manifest.jsonl"}
    assert {p.relative_to(embedded_set.ROOT).as_posix() for p in files} == named


def test_english_by_rule_is_left_out_unless_it_is_asked_for(data):
    usual, part = chosen("dataset=embedded", "dataset.limit=null"), chosen("dataset=embedded")
    assert [sum(i.language == code for i in part.items) for code in ("en", "zh")] == [10, 10]
    assert {i.speaker for i in part.items} == {i.speaker for i in usual.items}  # every voice
    assert [sum(i.language == code for i in usual.items) for code in ("en", "zh")] == [50, 10]
    assert len({i.speaker for i in usual.items}) == 10
    assert not [i for i in usual.items if i.language == "en" and i.speaker.startswith("espeak")]
    formant = chosen("dataset=embedded", "dataset.split=formant")
    assert {i.id for i in formant.items} == {i.id for i in data.items} - {i.id for i in usual.items}
    assert chosen("dataset=embedded", "dataset.split=null", "dataset.limit=null").items == data.items


def test_the_first_set_can_still_be_asked_for(data):
    assert [i.id for i in chosen("dataset=embedded_1").items] == [i.id for i in data.items if not i.speaker.startswith("hibari")]


def test_the_first_items_are_spoken_by_different_voices(data):
    assert len({i.speaker for i in data.items[:15]}) == 15
    assert len({i.speaker for i in chosen("dataset=embedded", "dataset.limit=null").items[:10]}) == 10


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
    assert len(set(texts)) == 70
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
    try:
        return {row["tool"] for row in ROWS} == set(embedded_set.tool_versions().values())
    except MissingDependency:
        return False


@pytest.mark.skipif(not _same_programs(), reason="flite, espeak-ng and hibari of the versions that made the set are not installed")
def test_the_recipe_makes_the_same_samples_again(tmp_path):
    """Samples, not bytes: another libsndfile may pack the same samples otherwise. A network's depend on the processor as well."""
    assert embedded_set.make(tmp_path / "again") == 70
    again = embedded_set.rows(tmp_path / "again")
    packed = ("bytes", "sha256", "prompt_bytes", "prompt_sha256")
    lengths = ("duration_s", "prompt_duration_s")
    for row, made in zip(ROWS, again, strict=True):
        assert {k: v for k, v in made.items() if k not in packed + lengths} == {k: v for k, v in row.items() if k not in packed + lengths}
        for name in (row["audio"], row["prompt_audio"]):
            here, there = read_audio(tmp_path / "again" / name), read_audio(embedded_set.ROOT / name)
            if row["tool"].startswith("hibari"):
                assert here.duration_s == pytest.approx(there.duration_s, abs=0.1)
                assert here.samples.std() == pytest.approx(there.samples.std(), rel=0.05)
            else:
                assert here.digest() == there.digest()


def test_the_recipe_overwrites_nothing(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="not empty"):
        embedded_set.make(tmp_path)
    assert embedded_set.main([]) == 2
    assert "usage" in capsys.readouterr().err
