"""Spectra and their inverse, mel bands, ConvNeXt and strided convolutions, beside slow references."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from systems.layers.convolution import ConvNeXtBlock, DownBlock, UpBlock
from systems.layers.spectrum import Analysis, LappedTransform, LogMel, compand, compress, mel_bands


def test_analysis_is_the_transform_of_each_centred_window():
    torch.manual_seed(0)
    audio, window, hop = torch.randn(1, 40), 16, 8
    spectrum = Analysis(window, hop)(audio)
    taper = [0.5 - 0.5 * math.cos(2 * math.pi * n / window) for n in range(window)]
    for t in range(5):
        samples = []
        for n in range(window):
            at = t * hop - (window - hop) // 2 + n
            samples.append(taper[n] * float(audio[0, at]) if 0 <= at < 40 else 0.0)
        for f in (0, 3, 8):
            wanted = sum(
                s * complex(math.cos(2 * math.pi * f * n / window), -math.sin(2 * math.pi * f * n / window)) for n, s in enumerate(samples)
            )
            assert abs(complex(spectrum[0, t, f]) - wanted) < 1e-4


def test_windows_that_cannot_be_centred_are_refused():
    with pytest.raises(ValueError, match="centred"):
        Analysis(8, 16)
    with pytest.raises(ValueError, match="centred"):
        Analysis(17, 8)


def test_compression_keeps_phases_and_has_a_finite_gradient_at_zero():
    spectrum = torch.polar(torch.tensor([1e-2, 1.0, 50.0]), torch.tensor([0.3, -2.0, 1.0]))
    made = torch.view_as_complex(compress(spectrum, 0.3))
    torch.testing.assert_close(made.abs(), spectrum.abs() ** 0.3, rtol=1e-3, atol=0)
    torch.testing.assert_close(made.angle(), spectrum.angle())
    zero = torch.zeros(3, dtype=torch.complex64, requires_grad=True)
    compress(zero, 0.3).sum().backward()
    assert bool(torch.isfinite(torch.view_as_real(zero.grad)).all())


@pytest.mark.parametrize(("rate", "window", "bands"), [(16000, 1024, 80), (24000, 2048, 320), (16000, 128, 12)])
def test_mel_bands_equal_librosa(rate, window, bands):
    librosa = pytest.importorskip("librosa")
    wanted = librosa.filters.mel(sr=rate, n_fft=window, n_mels=bands)
    np.testing.assert_allclose(mel_bands(rate, window, bands).T.numpy(), wanted, rtol=1e-4, atol=1e-7)


def test_log_mel_of_silence_is_the_clamp():
    mel = LogMel(16000, 512, 40)
    assert mel(torch.zeros(1, 1000)).shape == (1, 7, 40)
    torch.testing.assert_close(mel(torch.zeros(1, 1000)), torch.full((1, 7, 40), -5.0))


def test_convnext_block_is_depthwise_convolution_and_a_network_per_frame():
    torch.manual_seed(0)
    block, x = ConvNeXtBlock(4, 8, kernel=3, scale=0.7), torch.randn(2, 6, 4)
    padded = torch.nn.functional.pad(x, (0, 0, 1, 1))
    mixed = torch.zeros_like(x)
    for c in range(4):
        for k in range(3):
            mixed[..., c] += block.depthwise.weight[c, 0, k] * padded[:, k : k + 6, c]
        mixed[..., c] += block.depthwise.bias[c]
    hidden = torch.nn.functional.gelu(block.widen(block.norm(mixed)), approximate="tanh")
    torch.testing.assert_close(block(x), x + 0.7 * block.narrow(hidden))


@pytest.mark.parametrize("stride", [2, 4, 5, 6, 8])
def test_strided_blocks_divide_and_multiply_the_length_exactly(stride):
    down, up = DownBlock(2, 3, stride), UpBlock(3, 2, stride)
    for frames in (1, 2, 5):
        x = torch.randn(1, 2, frames * stride)
        y = down(x)
        assert y.shape == (1, 3, frames)
        assert up(y).shape == x.shape


@pytest.mark.parametrize("hop", [2, 16, 320])
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_the_lapped_transform_is_orthonormal_and_exactly_inverted(hop, frames):
    torch.manual_seed(0)
    transform, audio = LappedTransform(hop), torch.randn(2, frames * hop)
    coefficients = transform(audio)
    assert coefficients.shape == (2, frames, hop)
    torch.testing.assert_close(transform.inverse(coefficients), audio, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(coefficients.square().sum(dim=(1, 2)), audio.square().sum(dim=1), rtol=1e-4, atol=1e-4)


def test_a_coefficient_is_a_windowed_cosine():
    torch.manual_seed(0)
    hop, audio = 8, torch.randn(1, 40)
    made = LappedTransform(hop)(audio)
    for t, k in ((1, 0), (2, 3), (3, 7)):
        wanted = 0.0
        for n in range(2 * hop):
            cosine = math.cos(math.pi / hop * (n + 0.5 + hop / 2) * (k + 0.5))
            wanted += math.sin(math.pi / (2 * hop) * (n + 0.5)) * float(audio[0, t * hop - hop // 2 + n]) * math.sqrt(2 / hop) * cosine
        assert abs(float(made[0, t, k]) - wanted) < 1e-4
    with pytest.raises(ValueError, match="even"):
        LappedTransform(7)


def test_companding_is_undone():
    values = torch.tensor([-3.0, -0.01, 0.02, 1.0])
    torch.testing.assert_close(compand(values, 0.5), values.sign() * values.abs().sqrt(), rtol=1e-4, atol=0)
    torch.testing.assert_close(compand(compand(values, 0.5), 2.0), values, rtol=1e-3, atol=0)
