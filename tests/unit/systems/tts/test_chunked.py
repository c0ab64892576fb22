"""Decoders in chunks: how far back and ahead a network sees, and that the chunks joined are the whole."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from systems.checkpoints import Loaded, untrained
from systems.lm.codes import QdacCodes, SocodecCodes
from systems.qdac.model import LappedDecoder, QdacModel, WaveformDecoder
from systems.socodec.model import SocodecModel
from systems.tts.chunked import ChunkedDecoder, ReceptiveField, pushed, receptive_field, vocoder_stages
from systems.tts.codecs import QdacSpeech, SocodecSpeech, Voice
from systems.vocoder.bigvgan import BigVgan, BigVganConfig, Vocoder
from systems.vocoder.wave import WaveVocoder
from tests.stubs.tiny_synthesizers import HOP, QDAC, SOCODEC, VOCODER

WAVEFORM = replace(QDAC, front="waveform", strides=(4, 4, 5, 8), encoder_width=2, decoder_width=32)


# -- decoders in chunks


def _conv(before: int, after: int):
    weight = torch.ones(1, 1, before + after + 1)
    return lambda x: torch.conv1d(torch.nn.functional.pad(x[..., 0], (before, after))[:, None], weight)[:, 0]


@pytest.mark.parametrize("field", [ReceptiveField(4, 0), ReceptiveField(0, 3), ReceptiveField(5, 40), ReceptiveField(0, 0)])
def test_a_receptive_field_is_that_of_the_convolution(field: ReceptiveField) -> None:
    assert receptive_field(_conv(field.before, field.after), 1) == field


def test_what_adds_up_reaches_back_to_the_start() -> None:
    assert (
        receptive_field(lambda x: x.cumsum(dim=1) + x.roll(-2, dims=1) * (torch.arange(x.shape[1]) < x.shape[1] - 2)[:, None], 2).before
        is None
    )
    with pytest.raises(ValueError, match="cannot be run chunk by chunk"):
        receptive_field(lambda x: x.flip(1).cumsum(dim=1).flip(1), 1)


def _decoders():
    """Networks, their output rate, and the numbers of a frame."""
    torch.manual_seed(0)
    yield "lapped", LappedDecoder(QDAC), HOP, 8
    yield "waveform", WaveformDecoder(WAVEFORM), HOP, 8
    yield "bigvgan", BigVgan(BigVganConfig(channels=32)).fold(), 160, 80


@pytest.mark.parametrize(("name", "network", "rate", "dim"), _decoders(), ids=lambda v: v if isinstance(v, str) else "")
def test_chunks_joined_are_the_whole_and_as_early_as_can_be(name: str, network: torch.nn.Module, rate: int, dim: int) -> None:
    network = network.eval().requires_grad_(False)
    frames = torch.randn(1, 70, dim, generator=torch.Generator().manual_seed(1))
    whole, field = network(frames), receptive_field(network, dim)
    assert field.before is not None and 0 < field.before < 25 and 0 < field.after < 25
    for sizes in ([1] * 70, [3, 0, 30, 1, 1, 35, 0], [70]):
        stream, given, found = ChunkedDecoder(network, rate, field), 0, []
        for number, size in enumerate(sizes):
            chunk = stream.push(frames[:, given : given + size] if size else None, number == len(sizes) - 1)
            given += size
            found += [] if chunk is None else [chunk]
            out = sum(p.shape[1] for p in found) // rate
            assert out == (70 if number == len(sizes) - 1 else max(0, given - field.after))
        assert torch.allclose(torch.cat(found, dim=1), whole, atol=2e-6)


def test_a_field_too_short_would_be_heard() -> None:
    """The measured field is needed: with a frame less on either side the chunks differ."""
    torch.manual_seed(0)
    network = WaveformDecoder(WAVEFORM).eval().requires_grad_(False)
    frames, field = torch.randn(1, 40, 8), receptive_field(network, 8)
    for wrong in (replace(field, after=field.after - 2), replace(field, before=field.before - 2)):
        stream = ChunkedDecoder(network, HOP, wrong)
        found = [stream.push(frames[:, i : i + 1], i == 39) for i in range(40)]
        assert not torch.allclose(torch.cat([f for f in found if f is not None], dim=1), network(frames), atol=1e-9, rtol=0)


def _vocoders():
    torch.manual_seed(0)
    shapes = (WaveVocoder(VOCODER), BigVgan(BigVganConfig(channels=32)).fold())
    return [Loaded(model.eval().requires_grad_(False), {}, "d") for model in shapes]


@pytest.mark.parametrize("vocoder", _vocoders(), ids=lambda v: v.model.TITLE)
def test_socodec_in_chunks(vocoder: Loaded[Vocoder]) -> None:
    source = SocodecCodes(untrained(lambda: SocodecModel(replace(SOCODEC, source="mel")), 0), None)
    codec = SocodecSpeech(source, vocoder, "cpu")
    codes, voice = torch.randint(20, (4, 25)), Voice(embedding=torch.randn(12))
    with torch.inference_mode():
        chunked, found = codec.chunked(voice), []
        for frame in range(25):
            chunk = chunked.push(codes[:, frame : frame + 1], False)
            found += [] if chunk is None else [chunk]
        assert len(found) > 15 and 0 < found[0].shape[0] < 3 * 1920
        found.append(chunked.push(codes[:, :0], True))
        # Roundings of a pitch add up in the phase of its pulses.
        difference = (torch.cat(found) - codec.decode(codes, voice)).abs().max()
        assert difference < (2e-4 if isinstance(vocoder.model, WaveVocoder) else 2e-6)


def test_chunks_of_the_small_vocoder_cost_the_same_however_late_they_come() -> None:
    """Only the frames around a chunk are kept, and its pulses and noise go on where those before ended."""
    torch.manual_seed(0)
    vocoder, mel = WaveVocoder(VOCODER).eval().requires_grad_(False), torch.randn(1, 300, 80) - 5.0
    whole, stages, kept, found = vocoder(mel), vocoder_stages(vocoder, "cpu")(), [], []
    for first in range(0, 300, 12):
        chunk = pushed(stages, mel[:, first : first + 12], first == 288)
        found += [] if chunk is None else [chunk]
        kept.append(max(stage.num_kept for stage in stages if isinstance(stage, ChunkedDecoder)))
    assert whole.abs().max() > 0.01
    assert torch.allclose(torch.cat(found, dim=1), whole, atol=2e-5)
    assert max(kept) == max(kept[:8]) < 100


def test_qdac_in_chunks_without_a_frame_gives_nothing() -> None:
    codec = QdacSpeech(QdacCodes(untrained(lambda: QdacModel(QDAC), 0), 2), "cpu")
    assert codec.spec.num_codebooks == 2 and codec.chunked(Voice()).push(torch.zeros(2, 0, dtype=torch.int64), True) is None
