"""DistillMOS with the weights in its wheel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

import harness
from harness.api import FloatArray, MosPredictor
from harness.errors import CheckpointError
from harness.judges import build
from harness.judges.opinions.distillmos import DistillMos
from harness.torchaudio import ensure_torchaudio


@pytest.fixture(scope="module")
def predictor() -> DistillMos:
    return build("mos", {"family": "distillmos"})


@pytest.fixture(scope="module")
def clean() -> FloatArray:
    return soundfile.read(Path(harness.__file__).parent / "data" / "embedded" / "flite-slt" / "01.flac", dtype="float32")[0]


def score(predictor: DistillMos, samples: FloatArray) -> float:
    return predictor.predict(samples.astype(np.float32))["overall"]


def test_noise_costs_and_nothing_is_random(predictor: DistillMos, clean: FloatArray) -> None:
    assert isinstance(predictor, MosPredictor)
    before = clean.copy()
    noise = np.random.default_rng(0).standard_normal(len(clean)) * np.sqrt(np.mean(clean**2))
    scores = [score(predictor, clean + noise * level) for level in (0, 0.1, 0.3, 1)]
    assert sorted(scores, reverse=True) == scores and scores[0] > scores[-1] + 0.5
    assert score(predictor, clean) == scores[0] and np.array_equal(clean, before)


def test_it_is_what_the_package_says(predictor: DistillMos, clean: FloatArray, capsys: pytest.CaptureFixture[str]) -> None:
    ensure_torchaudio()
    import torch
    from distillmos import ConvTransformerSQAModel

    build("mos", {"family": "distillmos"})
    assert capsys.readouterr().out == ""
    reference = ConvTransformerSQAModel().eval()
    # Silence behind by more or less, one window filled by a few samples or just beyond, several windows; and next to nothing.
    loud = np.tile(clean, 4)
    lengths = (1, 8000, len(clean), 119_000, 120_500, 122_881, 150_000)
    for samples in (loud[:length] for length in lengths):
        with torch.inference_mode():
            assert score(predictor, samples) == pytest.approx(reference(torch.from_numpy(samples - samples.mean())[None]).item(), abs=2e-6)


def test_neither_level_nor_offset_says_anything(predictor: DistillMos, clean: FloatArray) -> None:
    for same in (clean * 0.1, clean + 0.02):
        assert score(predictor, same) == pytest.approx(score(predictor, clean), abs=1e-3)


def test_what_it_refuses(predictor: DistillMos, tmp_path: Path) -> None:
    for bad in (np.zeros(0, np.float32), np.full(16000, np.nan, np.float32)):
        with pytest.raises(ValueError, match="finite samples"):
            predictor.predict(bad)
    (tmp_path / "distill_mos_v7.pt").write_bytes(b"something else")
    with pytest.raises(CheckpointError, match="not the published one"):
        DistillMos(str(tmp_path))
