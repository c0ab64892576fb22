"""SoCodec's mel frames against librosa's filters and a plain short-time transform."""

from __future__ import annotations

import pytest
import torch

from systems.vocoder.mel import HOP, NUM_BANDS, SAMPLE_RATE, MelFrames


def _reference(audio):
    librosa = pytest.importorskip("librosa")
    bands = torch.from_numpy(librosa.filters.mel(sr=SAMPLE_RATE, n_fft=1024, n_mels=NUM_BANDS, fmin=0, fmax=8000))
    padded = torch.nn.functional.pad(audio[:, None], (432, 432), mode="reflect")[:, 0]
    spectrum = torch.stft(padded, 1024, HOP, 640, torch.hann_window(640), center=False, return_complex=True)
    return torch.log((bands @ torch.sqrt(spectrum.abs() ** 2 + 1e-9)).clamp(min=1e-5)).transpose(1, 2)


def test_equals_the_released_recipe():
    audio = 0.1 * torch.randn(2, 50 * HOP, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(MelFrames()(audio), _reference(audio), atol=1e-4)


@pytest.mark.parametrize("samples", [0, 1, 159, 160, 161, 433, 1000])
def test_any_length_gives_whole_frames(samples):
    mel = MelFrames()(0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(1)))
    assert mel.shape == (1, samples // HOP, NUM_BANDS)
    assert bool(torch.isfinite(mel).all())


def test_silence_is_the_floor_of_the_magnitudes_in_every_band():
    frames = MelFrames()
    expected = (1e-9**0.5 * frames.bands.sum(dim=0)).clamp(min=1e-5).log()
    assert torch.allclose(frames(torch.zeros(1, 10 * HOP)), expected.expand(1, 10, -1), atol=1e-4)
