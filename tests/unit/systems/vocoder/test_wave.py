"""The source-filter vocoder: its sources and filters against slow sums, its pitch classes, its training."""

from __future__ import annotations

import math

import pytest
import torch

from systems.training.recipe import Batch
from systems.vocoder.mel import HOP, NUM_BANDS, SAMPLE_RATE, MelFrames
from systems.vocoder.recipe import VocoderTraining, WaveVocoderRecipe, pitch_of
from systems.vocoder.wave import Controls, Pitch, WaveVocoder, WaveVocoderConfig, pulses

TINY = WaveVocoderConfig(width=16, hidden=32, depth=2, pitch_depth=1)


def _vocoder():
    torch.manual_seed(0)
    return WaveVocoder(TINY).eval()


def _hum(hz, frames=60, tilt=1.0):
    time = torch.arange(frames * HOP, dtype=torch.float64) / SAMPLE_RATE
    count = int(0.5 * SAMPLE_RATE / hz)
    return 0.05 * sum(torch.cos(2 * math.pi * hz * h * time) / h**tilt for h in range(1, count + 1)).float()[None]


def test_pulses_are_the_sum_of_all_harmonics():
    hz = 137.0
    train = pulses(Pitch(torch.full((1, 20), hz), torch.ones(1, 20)))[0]
    count = int(0.5 * SAMPLE_RATE / hz)
    phases = 2 * math.pi * hz / SAMPLE_RATE * torch.arange(1, 20 * HOP + 1, dtype=torch.float64)
    slow = sum(torch.cos(h * phases) for h in range(1, count + 1)) * math.sqrt(2 / count)
    assert torch.allclose(train.double(), slow, atol=1e-3)
    assert abs(float(train.square().mean()) - 1.0) < 0.05


def test_unvoiced_frames_have_no_pulses():
    voiced = torch.zeros(1, 30)
    voiced[:, 20:] = 1
    train = pulses(Pitch(torch.full((1, 30), 150.0), voiced))
    assert float(train[:, : 19 * HOP].abs().max()) == 0.0
    assert float(train[:, 21 * HOP :].abs().max()) > 1.0


def test_flat_filters_give_the_sources_back():
    vocoder, pitch = _vocoder(), Pitch(torch.full((1, 40), 120.0), torch.ones(1, 40))
    silent = torch.full((1, 40, 321), -30.0)
    voiced = vocoder.render(Controls(torch.empty(0), torch.zeros(1, 40, 321), silent), pitch)
    inner = slice(3 * HOP, -3 * HOP)
    assert torch.allclose(voiced[:, inner], pulses(pitch)[:, inner], atol=1e-4)
    noise = vocoder.render(Controls(torch.empty(0), silent, torch.zeros(1, 40, 321)), pitch)
    assert torch.allclose(noise[0, inner], vocoder.noise[: 40 * HOP][inner], atol=1e-4)


def test_harmonic_filters_are_causal_and_have_the_asked_gain():
    vocoder = _vocoder()
    curve = 0.3 * torch.randn(1, 1, 321, generator=torch.Generator().manual_seed(1)).cumsum(-1) / 10
    # the pulse train of a very low pitch is single pulses: the answer to one of them begins with it
    pitch = Pitch(torch.full((1, 40), 20.0), torch.ones(1, 40))
    audio = vocoder.render(Controls(torch.empty(0), curve.expand(1, 40, -1), torch.full((1, 40, 321), -30.0)), pitch)[0]
    peak = int(pulses(pitch)[0, 8 * HOP : 20 * HOP].argmax()) + 8 * HOP
    before, after = audio[peak - 60 : peak - 4].square().sum(), audio[peak - 4 : peak + 200].square().sum()
    assert float(before) < 0.02 * float(after)


@pytest.mark.parametrize("frames", [0, 1, 2, 7])
def test_lengths_and_determinism(frames):
    vocoder, mel = _vocoder(), torch.randn(2, frames, NUM_BANDS, generator=torch.Generator().manual_seed(2)) - 5
    with torch.no_grad():
        audio = vocoder(mel)
        assert audio.shape == (2, frames * HOP)
        assert torch.equal(audio, vocoder(mel)) and bool(torch.isfinite(audio).all())


def test_batched_equals_single():
    vocoder, mel = _vocoder(), torch.randn(3, 25, NUM_BANDS, generator=torch.Generator().manual_seed(3)) - 5
    with torch.no_grad():
        assert torch.allclose(vocoder(mel), torch.cat([vocoder(row[None]) for row in mel]), atol=1e-4)


def test_looks_no_further_ahead_than_declared():
    vocoder, generator = _vocoder(), torch.Generator().manual_seed(4)
    mel = torch.randn(1, 60, NUM_BANDS, generator=generator) - 5
    other = mel.clone()
    other[:, 40:] += torch.randn(1, 20, NUM_BANDS, generator=generator)
    with torch.no_grad():
        first, second = vocoder(mel), vocoder(other)
    # frames of the network, then a frame for drawing the pitch to samples and two for the overlapping windows
    same = (40 - TINY.lookahead * max(TINY.depth, TINY.pitch_depth) - 3) * HOP
    assert torch.allclose(first[:, :same], second[:, :same], atol=1e-5)
    assert not torch.allclose(first[:, same:], second[:, same:], atol=1e-3)


def test_pitch_classes_read_back_what_they_were_made_from():
    vocoder = _vocoder()
    hz = torch.tensor([[60.0, 100.0, 173.2, 251.0, 440.0, 100.0]])
    voiced = torch.tensor([[1.0, 1.0, 1.0, 1.0, 1.0, 0.0]])
    targets = vocoder.pitch_targets(Pitch(hz, voiced))
    assert torch.allclose(targets.sum(-1), torch.ones(1, 6))
    found = vocoder.read_pitch((targets + 1e-9).log())
    assert torch.equal(found.voiced, voiced)
    cents = 1200 * torch.log2(found.hz / hz)[voiced > 0]
    assert float(cents.abs().max()) < 5


def test_worlds_pitch_stands_at_the_frame_centres():
    audio = torch.cat([torch.zeros(1, 30 * HOP), _hum(180.0), torch.zeros(1, 30 * HOP)], dim=1)
    pitch = pitch_of(audio)
    assert pitch.hz.shape == (1, 120)
    assert float(pitch.voiced[:, 40:80].mean()) == 1.0 and float(pitch.voiced[:, :25].mean()) == 0.0
    assert float((pitch.hz[:, 40:80] - 180.0).abs().max()) < 3.0
    assert bool((pitch.hz > 0).all())


def test_training_lowers_the_loss():
    choices = VocoderTraining(batch_size=2, crop_frames=60, windows=(256, 1024), blur=0.5)
    recipe, generator = WaveVocoderRecipe(TINY, choices), torch.Generator().manual_seed(0)
    audio = torch.cat([_hum(110.0), _hum(220.0)])
    batch = {"crops": Batch(audio, torch.full((2,), audio.shape[1]), ("", ""), ("", ""))}
    optimiser = torch.optim.Adam(recipe.parameters("generator"), lr=3e-3)
    seen = []
    for step in range(25):
        losses = recipe.losses("generator", batch, step, generator)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        seen.append(float(losses.parts["spectral"]))
    assert set(losses.parts) == {"spectral", "pitch"}
    assert sum(seen[-3:]) < 0.8 * sum(seen[:3])
    numbers = recipe.validate([audio[0]])
    assert numbers["spectral"] > 0 and 0 <= numbers["pitch_right"] <= 1


def test_an_exported_vocoder_is_read_back(tmp_path):
    from safetensors.torch import save_file

    from systems.vocoder.bigvgan import load_vocoder

    recipe = WaveVocoderRecipe(TINY)
    tensors, metadata = recipe.export()
    save_file(tensors, tmp_path / "v.safetensors", metadata=metadata)
    mel = MelFrames()(_hum(130.0))
    loaded = load_vocoder(tmp_path / "v.safetensors").model
    with torch.no_grad():
        assert torch.allclose(loaded.controls(mel).harmonic, recipe.model.controls(mel).harmonic, atol=0.05)
