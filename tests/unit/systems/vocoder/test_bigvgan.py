"""The released vocoder's generator: its size and names, and its activation against the filters written out."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from systems.vocoder.bigvgan import BigVgan, BigVganConfig, DoubledActivation, low_pass

TINY = BigVganConfig(num_mels=6, channels=16, rates=(5, 2), kernels=(11, 4))


def test_parameters_of_the_released_generator():
    with torch.device("meta"):
        model = BigVgan()
    folded = {name: p for name, p in model.named_parameters() if not name.endswith("original0")}
    gains = [p for name, p in model.named_parameters() if name.endswith("original0")]
    assert round(sum(p.numel() for p in folded.values()) / 1e6, 1) == 5.7
    assert len(gains) == 1 + 5 + 5 * 3 * 2 + 1


@pytest.mark.parametrize("frames", [0, 1, 2, 7])
def test_audio_has_a_hop_of_samples_per_frame(frames):
    torch.manual_seed(0)
    model = BigVgan(TINY)
    audio = model(torch.randn(2, frames, 6))
    assert audio.shape == (2, 10 * frames)
    assert bool((audio.abs() <= 1.0).all())


def test_folded_weights_sound_the_same():
    torch.manual_seed(0)
    model, mel = BigVgan(TINY).eval().requires_grad_(False), torch.randn(1, 9, 6)
    before = model(mel)
    torch.testing.assert_close(model.fold()(mel), before, rtol=1e-4, atol=1e-5)
    assert "conv_pre.weight" in model.state_dict()


@pytest.mark.parametrize("length", [1, 4, 33])
def test_activation_equals_zero_stuffing_filtering_and_decimation(length):
    torch.manual_seed(0)
    activation = DoubledActivation(3)
    with torch.no_grad():
        activation.act.alpha.uniform_(-0.5, 0.5)
        activation.act.beta.uniform_(-0.5, 0.5)
    x, taps = torch.randn(2, 3, length), low_pass()
    # Upwards: edges repeated far out, a zero behind every sample, the filter (2 for the zeros), its delay of 5.5 doubled samples removed.
    far = functional.pad(x, (20, 20), mode="replicate")
    stuffed = torch.stack([far, torch.zeros_like(far)], dim=-1).flatten(-2)
    doubled = torch.zeros(2, 3, 2 * length)
    for n in range(2 * length):
        for k in range(12):
            doubled[..., n] += 2.0 * taps[k] * stuffed[..., 40 + n + 5 - k]
    alpha, beta = activation.act.alpha.exp()[:, None], activation.act.beta.exp()[:, None]
    active = doubled + torch.sin(alpha * doubled) ** 2 / beta
    active = functional.pad(active, (12, 12), mode="replicate")
    wanted = torch.stack([sum(taps[k] * active[..., 12 + 2 * n - 5 + k] for k in range(12)) for n in range(length)], dim=-1)
    torch.testing.assert_close(activation(x), wanted, rtol=1e-4, atol=1e-5)


def test_filter_is_symmetric_and_passes_what_does_not_change():
    taps = low_pass()
    torch.testing.assert_close(taps, taps.flip(0))
    assert float(taps.sum()) == pytest.approx(1.0)
    gain = torch.fft.rfft(taps, 1024).abs()
    assert float(gain[:60].min()) > 0.9  # the lower half of what is kept
    assert float(gain[-100:].max()) < 0.01
