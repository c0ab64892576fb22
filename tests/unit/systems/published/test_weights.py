"""Weights of published codecs: found or refused, and random ones known for what they are."""

from __future__ import annotations

import importlib
import importlib.util
import json
import shutil

import pytest
import torch

from harness.api import Weights
from harness.settings.registry import resolve
from systems.published.neural import locate, missing_package
from systems.published.speechtokenizer import SpeechTokenizer

pytest.importorskip("transformers", reason="the package transformers is not installed: pip install 'speech-systems-harness[hf]'")
with_speechtokenizer = pytest.mark.skipif(
    importlib.util.find_spec("speechtokenizer") is None, reason="the package speechtokenizer is not installed"
)
_ALL = ["encodec", "dac", "mimi", "xcodec", "xcodec2", pytest.param("speechtokenizer", marks=with_speechtokenizer)]


@pytest.fixture
def tiny(stubs):
    return importlib.import_module("tiny_codecs")


def lived_in(model):
    """The network as if it had been trained: nothing has its starting value any more."""
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point() and tensor.numel() > 1:
                tensor.add_(torch.rand_like(tensor) * 0.01)


@pytest.mark.parametrize("family", _ALL)
def test_random_weights_are_known_by_their_mark_and_by_their_starting_values(tiny, tmp_path, monkeypatch, family):
    kind = resolve("systems", family)
    untouched = kind(checkpoint=str(tiny.save(tmp_path / "untouched", family, mark=False)))
    assert untouched.info.weights == Weights.RANDOM and untouched.info.training_data == ""
    monkeypatch.setattr(tiny, "scatter_codebooks", lived_in)
    trained = kind(checkpoint=str(tiny.save(tmp_path / "trained", family, mark=False)))
    assert trained.info.weights == Weights.TRAINED and trained.info.training_data
    marked = kind(checkpoint=str(tiny.save(tmp_path / "marked", family)))
    assert marked.info.weights == Weights.RANDOM
    assert marked.info.weights_digest == trained.info.weights_digest != untouched.info.weights_digest
    assert dict(trained.info.tools)["weights"] == "trained" and trained.info.num_parameters > 1000


@pytest.mark.parametrize("family", _ALL)
def test_random_weights_are_built_without_any_file(tiny, monkeypatch, family):
    kind = resolve("systems", family)
    if family == "speechtokenizer":
        monkeypatch.setattr("systems.published.speechtokenizer._SHAPE", tiny.SPEECHTOKENIZER)
    else:
        monkeypatch.setattr(kind, "_shape", lambda self: getattr(tiny, family)().config.to_dict())
    assert kind.missing(weights="random") is None
    one, same, other = kind(weights="random"), kind(weights="random"), kind(weights="random", seed=1)
    assert one.info.weights == Weights.RANDOM
    assert one.info.weights_digest == same.info.weights_digest != other.info.weights_digest
    with pytest.raises(ValueError, match="trained"):
        kind(weights="guessed")


def test_shapes_of_the_releases():
    """Frames a second and codebooks as published; the networks themselves are not built."""
    from systems.published.transformers_codecs import DAC_MODELS

    assert {rate: (rate / torch.tensor(strides).prod().item(), books) for rate, (_, strides, books) in DAC_MODELS.items()} == {
        16000: (50, 12),
        24000: (75, 32),
        44100: (44100 / 512, 9),
    }


@pytest.mark.parametrize("fault", ["missing", "unexpected", "misshapen", "NaN"])
def test_weights_that_do_not_fit_are_refused_by_name(tiny, tmp_path, fault):
    from safetensors.torch import load_file, save_file

    folder = tiny.save(tmp_path / "dac", "dac")
    tensors = load_file(folder / "model.safetensors")
    name = "decoder.conv2.weight"
    if fault == "missing":
        del tensors[name]
    elif fault == "unexpected":
        name = "decoder.conv9.weight"
        tensors[name] = torch.zeros(2)
    elif fault == "misshapen":
        tensors[name] = torch.zeros(3, 2)
    else:
        tensors[name][0] = torch.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"{fault}.*{name}"):
        resolve("systems", "dac")(checkpoint=str(folder))


def test_a_checkpoint_of_another_model_or_rate_is_refused(tiny, tmp_path):
    folder = str(tiny.save(tmp_path / "dac", "dac"))
    with pytest.raises(ValueError, match=r"'dac'.*'encodec'"):
        resolve("systems", "encodec")(checkpoint=folder)
    with pytest.raises(ValueError, match="16000 Hz, asked was 44100"):
        resolve("systems", "dac")(checkpoint=folder, sample_rate=44100)
    with pytest.raises(ValueError, match="1 to 12"):
        resolve("systems", "dac")(checkpoint=folder, num_codebooks=13)
    encodec = str(tiny.save(tmp_path / "encodec", "encodec"))
    with pytest.raises(ValueError, match=r"1\.5, 3, 6, 12, 24"):
        resolve("systems", "encodec")(checkpoint=encodec, bandwidth_kbps=5)


@with_speechtokenizer
def test_a_pickle_that_runs_code_is_refused_whatever_the_environment_says(tiny, tmp_path, monkeypatch):
    folder = tiny.save(tmp_path / "st", "speechtokenizer")
    canary = tmp_path / "canary"

    class Trap:
        def __reduce__(self):
            return (open, (str(canary), "w"))

    torch.save({"encoder": Trap()}, folder / "SpeechTokenizer.pt")
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(ValueError, match="unreadable"):
        SpeechTokenizer(checkpoint=str(folder))
    assert not canary.exists()


def test_hub_names_are_looked_up_in_the_local_cache_by_revision(tiny, tmp_path, monkeypatch):
    kind, revision = resolve("systems", "dac"), "0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    absent = kind.missing()
    assert "hf download descript/dac_16khz (licence: MIT)" in absent and "checkpoint=FOLDER" in absent
    assert f"--revision {revision}" in kind.missing(revision=revision)
    with pytest.raises(FileNotFoundError, match="hf download"):
        kind()
    repository = tmp_path / "hub" / "models--descript--dac_16khz"
    tiny.save(repository / "snapshots" / revision, "dac")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    assert kind.missing() is None and kind.missing(revision=revision) is None
    assert kind.missing(revision="f" * 40) is not None and kind.missing(sample_rate=24000) is not None
    assert dict(kind().info.tools)["weights"] == "descript/dac_16khz@0123456789ab"
    # what is there is only part of it
    (repository / "snapshots" / revision / "model.safetensors").unlink()
    assert kind.missing() is not None


def test_a_folder_that_lacks_files_says_which(tiny, tmp_path):
    folder = tiny.save(tmp_path / "dac", "dac")
    (folder / "config.json").unlink()
    assert "lacks some of config.json" in resolve("systems", "dac").missing(checkpoint=str(folder))


def test_the_published_layout_of_speechtokenizer_has_a_folder_inside(tmp_path):
    inside = tmp_path / "snapshot" / "speechtokenizer_hubert_avg"
    inside.mkdir(parents=True)
    (inside / "config.json").write_text(json.dumps({}))
    (inside / "SpeechTokenizer.pt").write_bytes(b"")
    assert locate(SpeechTokenizer.release, str(tmp_path / "snapshot"), None).folder == inside
    shutil.move(inside, tmp_path / "plain")
    assert locate(SpeechTokenizer.release, str(tmp_path / "plain"), None).folder == tmp_path / "plain"


@pytest.mark.parametrize(("family", "line"), [("encodec", "[hf]"), ("speechtokenizer", "[speechtokenizer]")])
def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch, family, line):
    kind = resolve("systems", family)
    monkeypatch.setattr("systems.published.neural.importlib.util.find_spec", lambda name: None)
    assert f"pip install 'speech-systems-harness{line}'" in missing_package(kind.release)
    assert kind.missing(weights="random") == kind.missing() == missing_package(kind.release)
    with pytest.raises(ImportError, match="pip install"):
        kind(weights="random")
