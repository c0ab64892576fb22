"""Training data: decoding, order, epochs, lengths, and what is refused."""

import os

import numpy as np
import pytest
import soundfile

from harness.api import Item
from systems.training.data import Stream, load_corpus, split
from systems.training.recipe import BadRecordings, BatchSpec

RATE = 16000


@pytest.fixture
def recordings(tmp_path):
    """Twelve recordings whose samples tell which one and where: value = 1000 * index + position in milliseconds."""
    items = []
    for i in range(12):
        length = 1600 * (i + 1)
        samples = (1000 * i + np.arange(length) // 16).astype(np.int16)
        soundfile.write(tmp_path / f"{i}.wav", samples, RATE)
        items.append(Item(f"r{i}", "train", tmp_path / f"{i}.wav", text=f"text {i}" if i % 2 else "", language="en" if i < 6 else "zh"))
    return items


def test_samples_are_kept_exactly(recordings):
    corpus = load_corpus(recordings, RATE)
    assert corpus.lengths.tolist() == [1600 * (i + 1) for i in range(12)]
    assert corpus.duration_s == pytest.approx(0.1 * 78)
    for i, item in enumerate(recordings):
        expected, _ = soundfile.read(item.path, dtype="int16")
        np.testing.assert_array_equal(corpus.read(i, 0, 10**6), expected)


def test_crops_are_stretches_of_one_recording_and_by_number_alone(recordings):
    corpus = load_corpus(recordings, RATE)
    spec = BatchSpec(batch_size=5, crop_s=0.25)
    stream, again = Stream(corpus, "crops", spec, seed=3), Stream(corpus, "crops", spec, seed=3)
    later = again.draw(7)  # asked for out of order
    for number in range(10):
        batch = stream.draw(number)
        assert batch.audio.shape == (5, 4000)
        for row in range(5):
            index, length = int(batch.indices[row]), int(batch.lengths[row])
            whole = corpus.read(index, 0, 10**6)
            assert length == min(4000, whole.size)
            piece = batch.audio[row, :length]
            assert any(np.array_equal(piece, whole[s : s + length]) for s in range(whole.size - length + 1))
            assert not batch.audio[row, length:].any()
            assert batch.texts[row] == (recordings[index].text if length == whole.size else "")
        if number == 7:
            np.testing.assert_array_equal(batch.audio, later.audio)
    assert not np.array_equal(stream.draw(0).audio, stream.draw(1).audio)


def test_crops_are_drawn_by_duration(recordings):
    corpus = load_corpus(recordings, RATE)
    stream = Stream(corpus, "crops", BatchSpec(batch_size=2000, crop_s=0.01), seed=0)
    counts = np.bincount(stream.draw(0).indices, minlength=12) / 2000
    np.testing.assert_allclose(counts, np.arange(1, 13) / 78, atol=0.03)


@pytest.mark.parametrize("other", [{"seed": 1}, {"name": "b"}, {"rank": 1, "processes": 2}])
def test_seeds_streams_and_processes_differ(recordings, other):
    corpus = load_corpus(recordings, RATE)
    spec = BatchSpec(batch_size=8, crop_s=0.1)
    plain = Stream(corpus, **{"name": "a", "spec": spec, "seed": 0})
    different = Stream(corpus, **{"name": "a", "spec": spec, "seed": 0, **other})
    assert not np.array_equal(plain.draw(0).audio, different.draw(0).audio)


def test_an_epoch_of_utterances_is_every_one_once_over_all_processes(recordings):
    corpus = load_corpus(recordings, RATE)
    spec = BatchSpec(batch_size=2, crop_s=10.0, whole=True)
    streams = [Stream(corpus, "whole", spec, seed=0, rank=r, processes=2) for r in range(2)]
    for epoch in range(3):
        drawn = [streams[r].draw(3 * epoch + n) for n in range(3) for r in range(2)]
        assert sorted(i for batch in drawn for i in batch.indices.tolist()) == list(range(12))
        for batch in drawn:
            assert batch.audio.shape[1] == batch.lengths.max()
            assert batch.lengths.tolist() == corpus.lengths[batch.indices].tolist()
            assert batch.texts == tuple(recordings[i].text for i in batch.indices)
            assert np.ptp(batch.indices) <= 4  # neighbours in length, roughly
    orders = [[tuple(streams[0].draw(3 * e + n).indices) for n in range(3)] for e in range(4)]
    assert len({tuple(o) for o in orders}) > 1


def test_filters_of_a_stream(recordings):
    corpus = load_corpus(recordings, RATE)
    stream = Stream(corpus, "s", BatchSpec(3, crop_s=0.85, whole=True, with_text=True, languages=("zh",)), seed=0)
    assert stream.num_recordings == 1  # of 7, 9, 11 only number 7 (0.8 s) is short enough
    batch = stream.draw(0)
    assert batch.indices.tolist() == [7, 7, 7]
    assert batch.languages == ("zh", "zh", "zh")
    with pytest.raises(BadRecordings, match=r"'s' wants recordings of 0.05 s at most, with a text; none of the 12 is"):
        Stream(corpus, "s", BatchSpec(3, crop_s=0.05, whole=True, with_text=True), seed=0)


def test_resampling_keeps_a_tone_and_mixes_channels(tmp_path):
    time_s = np.arange(24000) / 24000
    tone = 0.5 * np.sin(2 * np.pi * 440 * time_s)
    soundfile.write(tmp_path / "t.wav", np.stack([1.5 * tone, 0.5 * tone], axis=1).astype(np.float32), 24000, subtype="FLOAT")
    item = Item("t", "train", tmp_path / "t.wav")
    wanted = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000) * 32768
    for memory_gib in (1.0, 1e-9):
        corpus = load_corpus([item], RATE, memory_gib=memory_gib)
        assert (corpus.samples is None) == (memory_gib < 1)
        np.testing.assert_allclose(corpus.read(0, 0, 16000)[200:-200], wanted[200:-200], atol=3)
        np.testing.assert_allclose(corpus.read(0, 5001, 3000), wanted[5001:8001], atol=3)


def test_reading_from_disk_gives_the_same_crops(recordings):
    spec = BatchSpec(batch_size=6, crop_s=0.3)
    memory = Stream(load_corpus(recordings, RATE), "c", spec, seed=0).draw(4)
    disk = Stream(load_corpus(recordings, RATE, memory_gib=1e-9), "c", spec, seed=0).draw(4)
    np.testing.assert_array_equal(memory.audio, disk.audio)
    assert memory.texts == disk.texts


def test_the_digest_follows_sound_and_text(recordings):
    before = load_corpus(recordings, RATE).digest
    assert load_corpus(recordings, RATE).digest == before
    retold = [Item("r0", "train", recordings[0].path, text="other", language="en"), *recordings[1:]]
    assert load_corpus(retold, RATE).digest != before
    samples, _ = soundfile.read(recordings[3].path, dtype="int16")
    samples[100] += 1
    soundfile.write(recordings[3].path, samples, RATE)
    assert load_corpus(recordings, RATE).digest != before


def test_held_out_recordings_do_not_depend_on_the_order(recordings):
    parts = split(load_corpus(recordings, RATE), 3)
    turned = split(load_corpus(recordings[::-1], RATE), 3)
    held = {i.id for i in parts.held_out.items}
    assert len(held) == 3
    assert held == {i.id for i in turned.held_out.items}
    assert held.isdisjoint({i.id for i in parts.training.items})
    assert len(parts.training.items) == 9
    index = next(i for i, item in enumerate(parts.training.items) if item.id == "r5" or item.id == "r6")
    number = int(parts.training.items[index].id[1:])
    assert parts.training.read(index, 16, 1)[0] == 1000 * number + 1
    with pytest.raises(BadRecordings, match="12 recordings are to be held out"):
        split(load_corpus(recordings, RATE), 12)


def test_every_bad_recording_is_named(recordings, tmp_path):
    (tmp_path / "2.wav").write_bytes(b"no sound at all")
    (tmp_path / "5.wav").unlink()
    soundfile.write(tmp_path / "7.wav", np.zeros(0, dtype=np.float32), RATE)
    with pytest.raises(BadRecordings) as caught:
        load_corpus(recordings, RATE)
    text = str(caught.value)
    assert "3 of 12 recordings" in text
    assert all(f"{n}.wav" in text for n in (2, 5, 7))


def test_sound_that_is_not_finite_is_refused(recordings, tmp_path):
    soundfile.write(tmp_path / "4.wav", np.array([0.0, np.nan, 0.1], dtype=np.float32), RATE, subtype="FLOAT")
    with pytest.raises(BadRecordings, match=r"4\.wav: holds values that are not finite"):
        load_corpus(recordings, RATE)


@pytest.mark.parametrize("memory_gib", [8.0, 0.0])
@pytest.mark.cases("A13", before="int16 values in a float file were clipped, and trained on", after="refused, as a dataset's are")
def test_integers_in_a_float_file_are_refused(recordings, tmp_path, memory_gib):
    values = np.random.default_rng(0).normal(0, 3000, 8000).astype(np.float32)
    soundfile.write(tmp_path / "4.wav", values, RATE, subtype="FLOAT")
    with pytest.raises(BadRecordings, match="where full scale is 1"):
        corpus = load_corpus(recordings, RATE, memory_gib)
        corpus.read(4, 0, 100)


@pytest.mark.cases("D1", before="a pipe among the recordings: training waited for it", after="refused, naming it")
def test_a_pipe_is_refused(recordings, tmp_path):
    (tmp_path / "4.wav").unlink()
    os.mkfifo(tmp_path / "4.wav")
    with pytest.raises(BadRecordings, match=r"4\.wav: is not a regular file"):
        load_corpus(recordings, RATE)
