"""Derived frames: cut where the audio is cut, computed once, zero behind the end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from harness.api import Item
from systems.training.data import DerivedFrames, Stream, load_corpus
from systems.training.recipe import BatchSpec, Derived

RATE, HOP, CROP = 1000, 20, 200


@pytest.fixture
def corpus(tmp_path):
    rng, items = np.random.default_rng(0), []
    for i, length in enumerate((1000, 1333, 130)):
        soundfile.write(tmp_path / f"{i}.wav", rng.uniform(-0.5, 0.5, length), RATE, subtype="PCM_16")
        items.append(Item(id=str(i), dataset="d", path=tmp_path / f"{i}.wav", speaker="s"))
    return load_corpus(items, RATE)


def _means(audio):
    count = audio.shape[0] // HOP
    return audio[: count * HOP].reshape(count, HOP).mean(dim=1, keepdim=True)


@pytest.mark.parametrize("memory_gib", [1.0, 0.0])
def test_frames_are_those_of_the_crop(corpus, memory_gib):
    calls = []

    def compute(audio):
        calls.append(audio.shape[0])
        return _means(audio)

    spec = BatchSpec(8, CROP / RATE, derived=(Derived("means", HOP, compute),))
    stream, frames = Stream(corpus, "crops", spec, seed=0), DerivedFrames(corpus, spec.derived, CROP, torch.device("cpu"), memory_gib)
    seen = set()
    for number in range(10):
        batch = stream.draw(number)
        seen |= set(batch.indices.tolist())
        assert (batch.starts % HOP == 0).all()
        found = frames.of(batch)["means"]
        assert found.shape == (8, CROP // HOP, 1)
        for row in range(8):
            assert torch.allclose(found[row], _means(torch.from_numpy(batch.audio[row] / 32768.0).float()), atol=1e-3)
    assert seen == {0, 1, 2} and min(calls) == CROP  # the short recording was padded to a crop
    assert len(calls) == (3 if memory_gib else 80)


def test_crops_stay_where_they_were_without_derived_frames(corpus):
    spec = BatchSpec(8, CROP / RATE)
    aligned = replace(spec, derived=(Derived("means", 1, _means),))
    assert np.array_equal(Stream(corpus, "crops", spec, 0).draw(3).starts, Stream(corpus, "crops", aligned, 0).draw(3).starts)


def test_frames_on_disk_are_shared_found_by_sound_and_mended(corpus, tmp_path):
    calls = []

    def compute(audio):
        calls.append(audio.shape[0])
        return _means(audio)

    def frames(identity, **settings):
        made = DerivedFrames(corpus, (Derived("means", HOP, compute, identity=identity),), CROP, torch.device("cpu"), **settings)
        return [made.of(batch)["means"] for batch in (Stream(corpus, "crops", BatchSpec(8, CROP / RATE), 0).draw(n) for n in range(3))]

    first, computed = frames("a", cache=tmp_path / "cache"), len(calls)
    assert computed == 3
    again = frames("a", cache=tmp_path / "cache", memory_gib=0.0)
    assert len(calls) == computed  # nothing anew, not even without room in memory
    assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))
    frames("b", cache=tmp_path / "cache")
    assert len(calls) == 2 * computed  # other weights, other frames
    frames("", cache=tmp_path / "cache")
    assert len(calls) == 3 * computed  # without an identity nothing is kept
    files = sorted((tmp_path / "cache").rglob("*.*"))
    assert len(files) == 6 and all(f.suffix == ".npy" for f in files)
    for file in files[:3]:
        file.write_bytes(file.read_bytes()[:-5])
    mended = frames("a", cache=tmp_path / "cache") + frames("b", cache=tmp_path / "cache")
    assert len(calls) == 3 * computed + 3
    assert all(torch.equal(x, y) for x, y in zip(first + first, mended, strict=True))
