"""Published neural codecs keep every law of a codec: tiny copies with random weights, through the real loading calls."""

from __future__ import annotations

import importlib
import importlib.util

import numpy as np
import pytest
import torch

from harness.api import Audio, Codes
from harness.settings.registry import resolve
from harness.testing import BrokenLaw, check_codec
from harness.testing.laws import speechlike

pytest.importorskip("transformers", reason="the package transformers is not installed: pip install 'speech-systems-harness[hf]'")
with_speechtokenizer = pytest.mark.skipif(
    importlib.util.find_spec("speechtokenizer") is None, reason="the package speechtokenizer is not installed"
)

_LAWS = {"codes", "length", "determinism", "decode needs only the encoded", "edge lengths", "silence", "wrong sample rate", "prefix"}
# family, parameters, shape of the tiny copy, sample rate, frames a second, codebooks, bits of each
_VARIANTS = [
    ("encodec", {"bandwidth_kbps": 1.5}, {}, 24000, 75, 2, 10),
    ("encodec", {"bandwidth_kbps": 24}, {}, 24000, 75, 32, 10),
    ("dac", {}, {}, 16000, 50, 12, 6),
    ("dac", {"sample_rate": 24000}, {"sample_rate": 24000}, 24000, 75, 32, 6),
    ("dac", {"sample_rate": 44100, "num_codebooks": 5}, {"sample_rate": 44100}, 44100, 44100 / 512, 5, 6),
    ("mimi", {"num_codebooks": 8}, {}, 24000, 12.5, 8, 6),
    ("xcodec", {}, {}, 16000, 50, 8, 10),
    ("xcodec2", {}, {}, 16000, 50, 1, 16),
    pytest.param("speechtokenizer", {}, {}, 16000, 50, 8, 6, marks=with_speechtokenizer),
]


def inputs(sample_rate):
    return [speechlike(seconds, sample_rate, seed) for seed, seconds in enumerate((0.31, 0.43))]


@pytest.fixture
def checkpoint(stubs, tmp_path):
    tiny = importlib.import_module("tiny_codecs")
    return lambda kind, **shape: str(tiny.save(tmp_path / kind, kind, **shape))


@pytest.mark.parametrize(("family", "parameters", "shape", "sample_rate", "frame_rate_hz", "codebooks", "bits"), _VARIANTS)
def test_every_law_holds(checkpoint, family, parameters, shape, sample_rate, frame_rate_hz, codebooks, bits):
    kind, folder = resolve("systems", family), checkpoint(family, **shape)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    codec = kind(**parameters, checkpoint=folder)
    assert torch.equal(before, torch.random.get_rng_state()), "building a codec disturbs the process's random numbers"
    spec = codec.spec
    assert (spec.sample_rate, spec.num_codebooks) == (sample_rate, codebooks)
    assert spec.frame_rate_hz == pytest.approx(frame_rate_hz) and spec.nominal_bps == pytest.approx(frame_rate_hz * codebooks * bits)
    report = check_codec(codec, inputs(sample_rate), factory=lambda: kind(**parameters, checkpoint=folder))
    assert set(report.checked) >= _LAWS - (set() if spec.prefix_decodable else {"prefix"}) | ({"causal"} if family == "mimi" else set())
    codes = codec.encode(speechlike(0.5, sample_rate))
    assert len(np.unique(codes.indices)) > 4, "all codes alike: nothing of the codec is exercised"


def test_fewer_codebooks_are_the_first_of_more(checkpoint):
    for family, few, many in (("encodec", {"bandwidth_kbps": 3}, {"bandwidth_kbps": 12}), ("mimi", {"num_codebooks": 2}, {})):
        kind, folder = resolve("systems", family), checkpoint(family)
        audio = speechlike(0.5, 24000)
        codes = kind(checkpoint=folder, **few).encode(audio)
        assert np.array_equal(codes.indices, kind(checkpoint=folder, **many).encode(audio).indices[: codes.num_codebooks])


def test_dac_gives_back_every_sample_of_whole_frames(checkpoint):
    codec = resolve("systems", "dac")(checkpoint=checkpoint("dac"))
    for frames in (1, 5):
        codes = codec.encode(speechlike(frames * 320 / 16000, 16000))
        assert codes.num_samples == frames * 320 and codes.num_frames == frames + 1
        assert codec.decode(codes).num_samples == frames * 320
    # 8 samples fewer are all that the decoder's odd stride loses
    assert codec.encode(Audio.mono(np.zeros(5 * 320 - 8), 16000)).num_frames == 5


class InBatches:
    """Any of the codecs, padding shorter utterances as its package would."""

    def __init__(self, codec):
        self._codec, self.info, self.spec, self.encode, self.decode = codec, codec.info, codec.spec, codec.encode, codec.decode

    def encode_batch(self, audios):
        longest = max(a.num_samples for a in audios)
        longest += -longest % self.spec.hop_length
        together = torch.stack([torch.nn.functional.pad(torch.from_numpy(a.samples.copy()), (0, longest - a.num_samples)) for a in audios])
        with torch.inference_mode():
            codes = self._codec._model.encode(together).audio_codes
        codes = codes[0] if codes.ndim == 4 else codes
        return [
            Codes(c[: self.spec.num_codebooks, : self.encode(a).num_frames].numpy(), self.spec, a.num_samples)
            for a, c in zip(audios, codes, strict=True)
        ]

    def decode_batch(self, encoded):
        return [self.decode(e) for e in encoded]


@pytest.mark.parametrize("family", ["dac", "mimi", "xcodec"])
def test_batches_differ_from_one_by_one_and_are_not_offered(checkpoint, family):
    codec = resolve("systems", family)(checkpoint=checkpoint(family))
    if family == "dac":  # its biases start as zeros, and only through them is a padding of zeros heard
        for name, parameter in codec._model.encoder.named_parameters():
            if "bias" in name:
                parameter.fill_(0.01)
    assert not hasattr(codec, "encode_batch")
    with pytest.raises(BrokenLaw, match="batched"):
        check_codec(InBatches(codec), inputs(codec.spec.sample_rate))


class InChunks:
    """Mimi's decoder with the cache that transformers offers for streaming."""

    def __init__(self, codec):
        self._codec, self.info, self.spec, self.encode, self.decode = codec, codec.info, codec.spec, codec.encode, codec.decode

    def decode_chunks(self, chunks):
        cache = None
        for chunk in chunks:
            with torch.inference_mode():
                told = self._codec._model.decode(torch.from_numpy(chunk.indices)[None], decoder_past_key_values=cache, use_cache=True)
            cache = told.decoder_past_key_values
            yield Audio.mono(told.audio_values[0, 0, : chunk.num_samples].numpy(), self.spec.sample_rate)


def test_chunks_of_mimi_differ_from_the_whole_and_are_not_offered(checkpoint):
    codec = resolve("systems", "mimi")(checkpoint=checkpoint("mimi"))
    assert codec.spec.causal and not hasattr(codec, "decode_chunks")
    with pytest.raises(BrokenLaw, match="chunked"):
        check_codec(InChunks(codec), inputs(24000), tolerance=1e-6)


def test_encodec_hears_a_little_ahead_at_its_start_and_is_not_called_causal(checkpoint):
    codec = resolve("systems", "encodec")(checkpoint=checkpoint("encodec"))
    codes = codec.encode(speechlike(0.5, 24000))
    other = codes.indices.copy()
    other[:, 6:] = (other[:, 6:] + 1) % 1024
    ahead = np.abs(codec.decode(codes).samples - codec.decode(Codes(other, codes.spec, codes.num_samples)).samples)[0, : 6 * 320]
    other = codes.indices.copy()
    other[:, 20:] = (other[:, 20:] + 1) % 1024
    later = np.abs(codec.decode(codes).samples - codec.decode(Codes(other, codes.spec, codes.num_samples)).samples)[0, : 20 * 320]
    assert not codec.spec.causal
    assert ahead.max() > 1e-9 and ahead.max() > 100 * later.max(), "only in its first frames it hears ahead"
