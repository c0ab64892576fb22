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
from systems import bundled as weights
from systems.checkpoints import digest, exported
from systems.socodec.adapter import SocodecCodec
from systems.socodec.config import UtteranceConfig, socodec_config
from systems.socodec.model import SocodecModel
from systems.speech_encoder.model import SpeechEncoder, SpeechEncoderConfig
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
    monkeypatch.setattr(weights, "_WEIGHTS", tmp_path)
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


@pytest.mark.parametrize("name", ["socodec120", "socodec120_rq_seed1", "socodec120_codec1"])
def test_bundled_files_are_found_by_name(bundled, name):
    assert SocodecCodec.missing(name) is None
    codec = SocodecCodec(name)
    codes = codec.encode(_audio())
    assert codes.indices.shape == (4, 3) and codes.side["utterance"].dtype == np.float32
    assert codec.decode(codes).num_samples == 5000
    assert codec.info.training_data == "7 recordings, 1.50 h" and codec.info.size == "small"
    assert ("residual" in codec.info.description) == ("rq" in name)
    heard = "features" in codec.info.description
    assert heard == (name != "socodec120_codec1")  # nothing is heard for mel frames


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


def test_what_is_missing_is_said_with_what_to_do(bundled):
    assert "harness train system=socodec40 data=MANIFEST" in str(SocodecCodec.missing("socodec40"))
    with pytest.raises(FileNotFoundError, match="no checkpoint 'socodec40' comes with"):
        SocodecCodec("socodec40")
    paper = {"checkpoint": None, "vocoder": None, "ssl": None}
    reason = str(SocodecCodec.missing(**paper, shape={"size": "paper"}))
    assert all(word in reason for word in ("checkpoint=", "vocoder=", "ssl=", "weights=random", "chinese-hubert-large"))
    with pytest.raises(FileNotFoundError, match="checkpoint="):
        SocodecCodec(**paper)
    given = {"checkpoint": "socodec120", "vocoder": "mel_vocoder"}
    assert "give ssl=" in str(SocodecCodec.missing(**given, ssl=None))
    with pytest.raises((FileNotFoundError, RuntimeError), match=r"no HuBERT|pip install"):
        SocodecCodec(**given, ssl=bundled)
    (bundled / "mel_vocoder_small.safetensors").unlink()
    assert "harness train system=mel_vocoder" in str(SocodecCodec.missing())


def test_impossible_parameters():
    for parameters, message in (
        ({"weights": "borrowed"}, '"trained" or "random"'),
        ({"weights": "random", "shape": {"frame_ms": 50}}, "40, 120, 240 ms, got 50"),
        ({"weights": "random", "shape": {"quantizer": "fsq"}}, "opq, pq, rq, orq"),
        ({"weights": "random", "shape": {"size": "huge"}}, "sizes"),
    ):
        with pytest.raises(ValueError, match=message):
            SocodecCodec(**parameters)
    with pytest.raises(ValueError, match="holds no socodec model"):
        SocodecCodec("qdac16")
