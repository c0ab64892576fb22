"""SoCodec as a user builds it: names of variants, bundled and given files, and what is said where they are missing or do not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from harness.api import Audio, Codes
from systems.checkpoints import digest, exported
from systems.socodec import variant
from systems.socodec.adapter import SocodecCodec
from systems.socodec.config import UtteranceConfig, socodec_config
from systems.socodec.model import SocodecModel
from systems.socodec.variant import SocodecVariant
from systems.speech_encoder.config import SpeechEncoderConfig
from systems.speech_encoder.model import SpeechEncoder
from systems.vocoder.wave import WaveVocoder, WaveVocoderConfig

TINY = replace(
    socodec_config("small", 120),
    ssl_dim=6,
    width=12,
    groups=3,
    sizes=(4, 4),
    codebook_dim=2,
    utterance=UtteranceConfig(channels=8, pooled_channels=12, attention_channels=4, squeeze_channels=4),
)


def _stored(path: Path, dim: int = 6) -> str:
    """Writes a narrow speech encoder; returns its digest."""
    shape = SpeechEncoderConfig(width=8, hidden=8, depth=1, dim=dim)
    tensors = exported(SpeechEncoder(shape), torch.float16)
    save_file(tensors, path, {"family": "speech_encoder", "config": json.dumps(shape.to_dict())})
    return digest(tensors)


@pytest.fixture
def bundled(tmp_path, monkeypatch) -> Path:
    """A folder of narrow weights under the names of the bundled ones."""
    monkeypatch.setattr(variant, "_BUNDLED", tmp_path)
    torch.manual_seed(0)
    heard = _stored(tmp_path / "speech_encoder_small.safetensors")
    told = {"family": "socodec", "size": "small", "ssl": heard, "num_items": "7", "data_hours": "1.5"}
    kinds = {"socodec120": TINY, "socodec120_rq_seed1": replace(TINY, quantizer="rq")}
    kinds["socodec120_codec1"] = replace(TINY, source="mel", semantic=False)
    for name, config in kinds.items():
        metadata = {**told, "config": json.dumps(config.to_dict())}
        save_file(exported(SocodecModel(config), torch.float16), tmp_path / f"{name}_small.safetensors", metadata)
    shape = WaveVocoderConfig(width=8, hidden=8, depth=1, pitch_depth=1)
    metadata = {"family": "mel_vocoder", "size": "small", "config": json.dumps(shape.to_dict())}
    save_file(WaveVocoder(shape).state_dict(), tmp_path / "mel_vocoder_small.safetensors", metadata)
    return tmp_path


def _audio(samples: int = 5000) -> Audio:
    return Audio.mono(0.1 * np.random.default_rng(0).standard_normal(samples), 16000)


def test_variants_have_the_names_of_their_weights():
    names = {
        "socodec40": {"frame_ms": 40},
        "socodec240_pq": {"frame_ms": 240, "quantizer": "pq"},
        "socodec120_codec1": {"source": "mel", "semantic": False},
        "socodec120_codec2": {"semantic": False},
        "socodec120_rq_seed2": {"quantizer": "rq", "training_seed": 2},
    }
    assert {name: SocodecVariant(**parameters).name for name, parameters in names.items()} == {name: name for name in names}


@pytest.mark.parametrize(
    "parameters", [{}, {"quantizer": "rq", "training_seed": 1}, {"source": "mel", "semantic": False}], ids=["opq", "rq_seed1", "codec1"]
)
def test_bundled_files_are_found_by_the_variant(bundled, parameters):
    assert SocodecCodec.missing(**parameters) is None
    codec = SocodecCodec(**parameters)
    codes = codec.encode(_audio())
    assert codes.indices.shape == (4, 3) and codes.side["utterance"].dtype == np.float32
    assert codec.decode(codes).num_samples == 5000
    assert codec.info.training_data == "7 recordings, 1.50 h" and codec.info.size == "small"
    heard = "features" in codec.info.description
    assert heard == ("source" not in parameters)  # nothing is heard for mel frames


def test_embedding_travels_with_the_codes_and_is_counted_apart(bundled):
    codec, codes = SocodecCodec(), SocodecCodec().encode(_audio())
    assert codes.side_bits == 12 * 32
    assert codes.emitted_bits == 4 * 3 * 4
    with pytest.raises(ValueError, match=r"side\['utterance'\], an embedding of 12 numbers; got none"):
        codec.decode(replace(codes, side={}))
    with pytest.raises(ValueError, match=r"got shape \(3,\)"):
        codec.decode(replace(codes, side={"utterance": np.zeros(3, dtype=np.float32)}))
    other = replace(codes, side={"utterance": codes.side["utterance"] + 3.0})
    assert not np.array_equal(codec.decode(other).samples, codec.decode(codes).samples)
    with pytest.raises(ValueError, match="these codes were made with"):
        codec.decode(Codes(codes.indices, replace(codes.spec, hop_length=640), 5000, codes.side))


def test_features_of_other_weights_than_in_training_are_refused(bundled, tmp_path):
    other = tmp_path / "other.safetensors"
    _stored(other)
    with pytest.raises(ValueError, match="trained on the features of other weights"):
        SocodecCodec(ssl=other)
    _stored(other, dim=7)
    with pytest.raises(ValueError, match="have 7 numbers, this codec was made for 6"):
        SocodecCodec(ssl=other)


def test_a_checkpoint_of_another_variant_is_refused(bundled):
    path = bundled / "socodec120_small.safetensors"
    for parameters, message in (
        ({"frame_ms": 240}, "frames: 120 ms instead of 240 ms, streams: 4 instead of 8"),
        ({"quantizer": "pq"}, "quantizer: opq instead of pq"),
        ({"source": "mel"}, "source: ssl instead of mel"),
        ({"semantic": False}, "semantic: True instead of False"),
    ):
        with pytest.raises(ValueError, match=message):
            SocodecCodec(checkpoint=path, **parameters)


def test_what_is_missing_is_said_with_what_to_do(bundled):
    assert "harness train system=socodec40 " in str(SocodecCodec.missing(frame_ms=40))
    assert str(SocodecCodec.missing(quantizer="pq", training_seed=3)).endswith("harness train system=socodec120_pq data=MANIFEST seed=3")
    with pytest.raises(FileNotFoundError, match="no SoCodec checkpoint at"):
        SocodecCodec(frame_ms=40)
    reason = str(SocodecCodec.missing(size="paper"))
    assert all(word in reason for word in ("checkpoint=", "vocoder=", "ssl=", "weights=random", "chinese-hubert-large"))
    with pytest.raises(ValueError, match="checkpoint="):
        SocodecCodec(size="paper")
    given = {"size": "paper", "checkpoint": bundled / "socodec120_small.safetensors", "vocoder": bundled / "mel_vocoder_small.safetensors"}
    assert "ssl=" in str(SocodecCodec.missing(**given))
    assert "no HuBERT" in str(SocodecCodec.missing(**given, ssl=bundled))
    (bundled / "mel_vocoder_small.safetensors").unlink()
    assert "harness train system=mel_vocoder" in str(SocodecCodec.missing())


def test_impossible_parameters():
    for parameters, message in (
        ({"weights": "borrowed"}, '"trained" or "random"'),
        ({"weights": "random", "checkpoint": "x"}, "exclude each other"),
        ({"config": TINY}, "trained weights bring theirs"),
        ({"frame_ms": 50}, "40, 120, 240 ms, got 50"),
        ({"quantizer": "fsq"}, "opq, pq, rq, orq"),
        ({"size": "huge"}, "sizes"),
    ):
        with pytest.raises(ValueError, match=message):
            SocodecCodec(**parameters)
