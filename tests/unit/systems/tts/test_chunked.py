"""Decoders in pieces: how far back and ahead a network reaches, and that the pieces joined are the whole."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from systems.checkpoints import Loaded
from systems.qdac.decoder import build_decoder
from systems.socodec.parts import Parts, random_parts
from systems.socodec.variant import Files, SocodecVariant
from systems.tts.chunked import Piecewise, Reach, pushed, reach_of
from systems.tts.codec import Voice
from systems.tts.qdac_speech import random_qdac
from systems.tts.socodec_speech import SocodecSpeech
from systems.tts.wave_pieces import wave_stages
from systems.vocoder.bigvgan import BigVgan, BigVganConfig
from systems.vocoder.loading import Vocoder
from systems.vocoder.wave import WaveVocoder
from tests.stubs.tiny_synthesizers import HOP, QDAC, SOCODEC, VOCODER

WAVEFORM = replace(QDAC, front="waveform", strides=(4, 4, 5, 8), encoder_width=2, decoder_width=32)


# -- decoders in pieces


def _conv(before: int, after: int):
    weight = torch.ones(1, 1, before + after + 1)
    return lambda x: torch.conv1d(torch.nn.functional.pad(x[..., 0], (before, after))[:, None], weight)[:, 0]


@pytest.mark.parametrize("reach", [Reach(4, 0), Reach(0, 3), Reach(5, 40), Reach(0, 0)])
def test_reach_is_that_of_the_convolution(reach: Reach) -> None:
    assert reach_of(_conv(reach.before, reach.after), 1) == reach


def test_what_adds_up_reaches_back_to_the_start() -> None:
    assert reach_of(lambda x: x.cumsum(dim=1) + x.roll(-2, dims=1) * (torch.arange(x.shape[1]) < x.shape[1] - 2)[:, None], 2).before is None
    with pytest.raises(ValueError, match="cannot be run piece by piece"):
        reach_of(lambda x: x.flip(1).cumsum(dim=1).flip(1), 1)


def _decoders():
    """Networks, their output rate, and the numbers of a frame."""
    torch.manual_seed(0)
    yield "lapped", build_decoder(QDAC), HOP, 8
    yield "waveform", build_decoder(WAVEFORM), HOP, 8
    yield "bigvgan", BigVgan(BigVganConfig(channels=32)).fold(), 160, 80


@pytest.mark.parametrize(("name", "network", "rate", "dim"), _decoders(), ids=lambda v: v if isinstance(v, str) else "")
def test_pieces_joined_are_the_whole_and_as_early_as_can_be(name: str, network: torch.nn.Module, rate: int, dim: int) -> None:
    network = network.eval().requires_grad_(False)
    frames = torch.randn(1, 70, dim, generator=torch.Generator().manual_seed(1))
    whole, reach = network(frames), reach_of(network, dim)
    assert reach.before is not None and 0 < reach.before < 25 and 0 < reach.after < 25
    for sizes in ([1] * 70, [3, 0, 30, 1, 1, 35, 0], [70]):
        stream, given, found = Piecewise(network, rate, reach), 0, []
        for number, size in enumerate(sizes):
            piece = stream.push(frames[:, given : given + size] if size else None, number == len(sizes) - 1)
            given += size
            found += [] if piece is None else [piece]
            heard = sum(p.shape[1] for p in found) // rate
            assert heard == (70 if number == len(sizes) - 1 else max(0, given - reach.after))
        assert torch.allclose(torch.cat(found, dim=1), whole, atol=2e-6)


def test_a_reach_too_short_would_be_heard() -> None:
    """The measured reach is needed: with a frame less on either side the pieces differ."""
    torch.manual_seed(0)
    network = build_decoder(WAVEFORM).eval().requires_grad_(False)
    frames, reach = torch.randn(1, 40, 8), reach_of(network, 8)
    for wrong in (replace(reach, after=reach.after - 2), replace(reach, before=reach.before - 2)):
        stream = Piecewise(network, HOP, wrong)
        found = [stream.push(frames[:, i : i + 1], i == 39) for i in range(40)]
        assert not torch.allclose(torch.cat([f for f in found if f is not None], dim=1), network(frames), atol=1e-9, rtol=0)


def _vocoders():
    torch.manual_seed(0)
    shapes = (WaveVocoder(VOCODER), BigVgan(BigVganConfig(channels=32)).fold())
    return [Loaded(model.eval().requires_grad_(False), {}, "d") for model in shapes]


@pytest.mark.parametrize("vocoder", _vocoders(), ids=lambda v: v.model.TITLE)
def test_socodec_in_pieces(vocoder: Loaded[Vocoder]) -> None:
    parts = random_parts(SocodecVariant(), Files(), SOCODEC, 0)
    codec = SocodecSpeech(Parts(parts.model, parts.features, vocoder, {}, parts.digests), "cpu")
    codes, voice = torch.randint(20, (4, 25)), Voice(embedding=torch.randn(12))
    with torch.inference_mode():
        pieces, found = codec.pieces(voice), []
        for frame in range(25):
            piece = pieces.push(codes[:, frame : frame + 1], False)
            found += [] if piece is None else [piece]
        assert len(found) > 15 and 0 < found[0].shape[0] < 3 * 1920
        found.append(pieces.push(codes[:, :0], True))
        # Roundings of a pitch add up in the phase of its pulses.
        difference = (torch.cat(found) - codec.decode(codes, voice)).abs().max()
        assert difference < (2e-4 if isinstance(vocoder.model, WaveVocoder) else 2e-6)


def test_pieces_of_the_small_vocoder_cost_the_same_however_late_they_come() -> None:
    """Only the frames around a piece are kept, and its pulses and noise go on where those before ended."""
    torch.manual_seed(0)
    vocoder, mel = WaveVocoder(VOCODER).eval().requires_grad_(False), torch.randn(1, 300, 80) - 5.0
    whole, stages, kept, found = vocoder(mel), wave_stages(vocoder, "cpu")(), [], []
    for first in range(0, 300, 12):
        piece = pushed(stages, mel[:, first : first + 12], first == 288)
        found += [] if piece is None else [piece]
        kept.append(max(stage.num_kept for stage in stages if isinstance(stage, Piecewise)))
    assert whole.abs().max() > 0.01
    assert torch.allclose(torch.cat(found, dim=1), whole, atol=2e-5)
    assert max(kept) == max(kept[:8]) < 100


def test_qdac_in_pieces_without_a_frame_gives_nothing() -> None:
    codec = random_qdac(QDAC, 2, 0, "cpu")
    assert codec.spec.num_codebooks == 2 and codec.pieces(Voice()).push(torch.zeros(2, 0, dtype=torch.int64), True) is None
