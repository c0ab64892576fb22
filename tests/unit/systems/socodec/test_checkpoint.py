"""SoCodec's files: the released names and shapes, written out here independently, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from harness.api import Audio
from harness.torchaudio import ensure_torchaudio
from systems.checkpoints import exported
from systems.socodec.adapter import SocodecCodec
from systems.socodec.config import UtteranceConfig, socodec_config
from systems.socodec.model import SocodecModel, load_socodec
from systems.vocoder.bigvgan import BigVgan, load_vocoder, low_pass
from systems.vocoder.wave import WaveVocoder, WaveVocoderConfig

# Convolutions and linear maps of socodec_16384x4_120ms_16khz_chinese: name, then the shape of its weight; a transposed one is marked.
PUBLISHED = """
speaker_encoder.blocks.0.conv.conv 256 80 5
speaker_encoder.blocks.{1,2,3}.{tdnn1,tdnn2}.conv.conv 256 256 1
speaker_encoder.blocks.{1,2,3}.res2net_block.blocks.0.conv.conv 128 128 3
speaker_encoder.blocks.{1,2,3}.se_block.conv1.conv 64 256 1
speaker_encoder.blocks.{1,2,3}.se_block.conv2.conv 256 64 1
speaker_encoder.mfa.conv.conv 768 768 1
speaker_encoder.asp.tdnn.conv.conv 64 2304 1
speaker_encoder.asp.conv.conv 768 64 1
speaker_encoder.fc.conv 1024 1536 1
encoder.layers.{0,8} 1024 1024 3
encoder.layers.{2,5}.layers.{0,3}.layers.{0,3} 1024 32 3
encoder.layers.2.layers.6 1024 1024 4
encoder.layers.5.layers.6 1024 1024 6
quantizer.quantizers.0.{project_in,project_out} 1024 1024
decoder_1.layers.{0,8} 1024 1024 3
decoder_1.layers.2.layers.0 1024 1024 6 transposed
decoder_1.layers.5.layers.0 1024 1024 4 transposed
decoder_1.layers.{2,5}.layers.{3,6}.layers.{0,3} 1024 32 3
decoder_2.layers.0 1024 1024 3
decoder_2.layers.2.layers.0 1024 1024 4 transposed
decoder_2.layers.2.layers.{3,6}.layers.{0,3} 1024 32 3
decoder_2.layers.5 80 1024 3
"""

# The same of mel_vocoder_80dim_10ms_16khz, whose convolutions are all weight-normalised.
PUBLISHED_VOCODER = """
conv_pre 512 80 7
ups.0.0 512 256 11 transposed
ups.1.0 256 128 8 transposed
ups.2.0 128 64 4 transposed
ups.3.0 64 32 4 transposed
ups.4.0 32 16 4 transposed
resblocks.0.convs.{0,1} 256 256 3
resblocks.1.convs.{0,1} 256 256 7
resblocks.2.convs.{0,1} 256 256 11
resblocks.3.convs.{0,1} 128 128 3
resblocks.4.convs.{0,1} 128 128 7
resblocks.5.convs.{0,1} 128 128 11
resblocks.6.convs.{0,1} 64 64 3
resblocks.7.convs.{0,1} 64 64 7
resblocks.8.convs.{0,1} 64 64 11
resblocks.9.convs.{0,1} 32 32 3
resblocks.10.convs.{0,1} 32 32 7
resblocks.11.convs.{0,1} 32 32 11
resblocks.12.convs.{0,1} 16 16 3
resblocks.13.convs.{0,1} 16 16 7
resblocks.14.convs.{0,1} 16 16 11
conv_post 1 16 7
"""


def _names(pattern: str) -> list[str]:
    head, brace, rest = pattern.partition("{")
    if not brace:
        return [head]
    choices, _, tail = rest.partition("}")
    return [head + choice + end for choice in choices.split(",") for end in _names(tail)]


def _layers(table: str) -> list[tuple[str, tuple[int, ...], int]]:
    """Name, shape of the weight and size of the bias of every line."""
    found = []
    for line in table.split("\n"):
        if line:
            pattern, *numbers = line.split()
            transposed = numbers[-1] == "transposed"
            shape = tuple(int(n) for n in (numbers[:-1] if transposed else numbers))
            found += [(name, shape, shape[1] if transposed else shape[0]) for name in _names(pattern)]
    return found


def _drawn(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Random weights that keep a signal's level, in half precision so that the file is small."""
    return (torch.randn(shape, generator=generator) / math.sqrt(max(1, math.prod(shape[1:])))).half()


@pytest.fixture(scope="module")
def released() -> dict[str, torch.Tensor]:
    generator, tensors = torch.Generator().manual_seed(0), {}
    for name, shape, bias in _layers(PUBLISHED):
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = _drawn(shape, generator), torch.zeros(bias, dtype=torch.half)
    for i in range(8):
        book = f"quantizer.quantizers.0._codebook.codebooks.{i}"
        tensors[f"{book}.embed"] = torch.randn(128, 128, generator=generator).half()
        tensors[f"{book}.embed_avg"] = tensors[f"{book}.embed"] * 3
        tensors[f"{book}.cluster_size"], tensors[f"{book}.inited"] = torch.full((128,), 3.0), torch.ones(1)
    return tensors


@pytest.fixture(scope="module")
def released_file(released, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("released") / "socodec_16384x4_120ms_16khz_chinese.safetensors"
    save_file({**released, "ssl_extractor.model.encoder.layer_norm.weight": torch.ones(1024)}, path)
    return path


@pytest.fixture(scope="module")
def vocoder_tensors() -> dict[str, torch.Tensor]:
    generator, tensors = torch.Generator().manual_seed(1), {}
    for name, shape, bias in _layers(PUBLISHED_VOCODER):
        tensors[f"{name}.weight_v"], tensors[f"{name}.bias"] = _drawn(shape, generator), torch.zeros(bias, dtype=torch.half)
        tensors[f"{name}.weight_g"] = torch.full((shape[0], 1, 1), 0.5)
    channels = {f"resblocks.{i}.activations.{j}": 256 // 2 ** (i // 3) for i in range(15) for j in range(2)} | {"activation_post": 16}
    for name, count in channels.items():
        tensors[f"{name}.act.alpha"], tensors[f"{name}.act.beta"] = torch.zeros(count), torch.zeros(count)
        for filtering in ("upsample.filter", "downsample.lowpass.filter"):
            tensors[f"{name}.{filtering}"] = low_pass()[None, None].clone()
    return tensors


@pytest.fixture(scope="module")
def vocoder_file(vocoder_tensors, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("released") / "mel_vocoder_80dim_10ms_16khz.safetensors"
    save_file(vocoder_tensors, path)
    return path


@pytest.fixture(scope="module")
def hubert_folder(tmp_path_factory) -> Path:
    """HuBERT-large's width and last steps, one layer deep, with narrow convolutions."""
    ensure_torchaudio()
    transformers = pytest.importorskip("transformers")
    shape = transformers.HubertConfig(
        hidden_size=1024, num_hidden_layers=1, num_attention_heads=16, intermediate_size=64, conv_dim=(16,) * 7, conv_bias=True,
        feat_extract_norm="layer", do_stable_layer_norm=True, num_conv_pos_embeddings=8,
    )  # fmt: skip
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("hubert")
    transformers.HubertModel(shape).save_pretrained(folder)
    return folder


def test_the_list_has_the_published_counts(released, vocoder_tensors):
    assert len(released) == 138
    learnt = {name: tensor for name, tensor in released.items() if "_codebook" not in name}
    assert round(sum(tensor.numel() for tensor in learnt.values()) / 1e6, 2) == 48.34
    parts = {name.split(".")[0] for name in learnt}
    counts = {part: sum(t.numel() for name, t in learnt.items() if name.startswith(f"{part}.")) / 1e6 for part in parts}
    published = {"speaker_encoder": 3.11, "encoder": 17.58, "quantizer": 2.10, "decoder_1": 17.58, "decoder_2": 7.99}
    assert {part: round(count, 2) for part, count in counts.items()} == pytest.approx(published, abs=0.011)
    assert len(vocoder_tensors) == 235
    weights = [tensor.numel() for name, tensor in vocoder_tensors.items() if not name.endswith((".filter", "weight_g"))]
    assert round(sum(weights) / 1e6, 1) == 5.7


def test_released_weights_land_in_their_places(released, released_file):
    loaded = load_socodec(released_file)
    model = loaded.model
    for name in ("encoder.layers.5.layers.6.weight", "decoder_1.layers.2.layers.0.weight", "speaker_encoder.asp.tdnn.conv.conv.weight"):
        assert torch.equal(model.state_dict()[name], released[name].float())
    assert torch.equal(model.quantizer.project_out.weight, released["quantizer.quantizers.0.project_out.weight"].float())
    # Stream 2, index 5 + 128 * 9: entry 5 of codebook 4 beside entry 9 of codebook 5, as the released code counts.
    books = [released[f"quantizer.quantizers.0._codebook.codebooks.{i}.embed"].float() for i in (4, 5)]
    entry = model.quantizer.stream(2).decode(torch.tensor([5 + 128 * 9]))[0]
    assert torch.equal(entry, torch.cat([books[0][5], books[1][9]]))
    assert sum(p.numel() for name, p in model.named_parameters() if not name.endswith(".entries")) == 48_342_736


def test_a_released_file_says_its_streams_by_its_codebooks(released, released_file, tmp_path):
    assert load_socodec(released_file).model.config == socodec_config("paper", 120)
    book = "quantizer.quantizers.0._codebook.codebooks.{}.embed"
    wider = {**released, **{book.format(i): released[book.format(0)].clone() for i in range(8, 16)}}
    save_file(wider, tmp_path / "wider.safetensors")
    with pytest.raises(ValueError, match=r"does not fit.*missing: decoder_1\.layers\.11\.bias"):
        load_socodec(tmp_path / "wider.safetensors")


def test_released_tensors_missing_or_spoilt_are_named_as_in_the_file(released, tmp_path):
    path = tmp_path / "x.safetensors"
    name = "quantizer.quantizers.0._codebook.codebooks.3.embed"
    save_file({key: value for key, value in released.items() if key != name}, path)
    with pytest.raises(ValueError, match="holds 7 codebooks; the released SoCodecs have 2, 8, 16"):
        load_socodec(path)
    save_file({key: value for key, value in released.items() if key != "encoder.layers.0.weight"}, path)
    with pytest.raises(ValueError, match=r"missing: encoder\.layers\.0\.weight"):
        load_socodec(path)
    save_file({**released, "encoder.layers.9.weight": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=r"unexpected: encoder\.layers\.9\.weight"):
        load_socodec(path)
    save_file({**released, name: torch.full((128, 128), math.nan)}, path)
    with pytest.raises(ValueError, match=f"not finite in {name}"):
        load_socodec(path)


def test_vocoder_in_each_form_of_its_weight_norm(vocoder_tensors, vocoder_file, tmp_path):
    loaded = load_vocoder(vocoder_file)
    assert isinstance(loaded.model, BigVgan)
    mel = torch.randn(1, 12, 80, generator=torch.Generator().manual_seed(0)) - 5.0
    audio = loaded.model(mel)
    assert audio.shape == (1, 1920) and float(audio.std()) > 0
    direction = vocoder_tensors["conv_pre.weight_v"].float()
    wanted = 0.5 * direction / direction.flatten(1).norm(dim=1)[:, None, None]
    torch.testing.assert_close(loaded.model.conv_pre.weight, wanted, rtol=1e-3, atol=1e-5)
    newer = {
        name.replace("weight_g", "parametrizations.weight.original0").replace("weight_v", "parametrizations.weight.original1"): tensor
        for name, tensor in vocoder_tensors.items()
    }
    folded = {name: tensor for name, tensor in loaded.model.state_dict().items()}
    for form in (newer, folded):
        save_file(form, tmp_path / "form.safetensors")
        torch.testing.assert_close(load_vocoder(tmp_path / "form.safetensors").model(mel), audio, rtol=1e-4, atol=1e-6)


def test_vocoders_that_do_not_fit_are_refused(vocoder_tensors, tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(FileNotFoundError, match="no mel_vocoder checkpoint at"):
        load_vocoder(path)
    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="no conv_pre"):
        load_vocoder(path)
    save_file({name: t for name, t in vocoder_tensors.items() if name != "ups.1.0.weight_g"}, path)
    with pytest.raises(ValueError, match=r"missing: ups\.1\.0\.weight_g"):
        load_vocoder(path)
    save_file({**vocoder_tensors, "activation_post.upsample.filter": torch.ones(1, 1, 12) / 12}, path)
    with pytest.raises(ValueError, match=r"other low-pass filters: activation_post\.upsample"):
        load_vocoder(path)
    save_file({"a": torch.ones(1)}, path, {"family": "qdac", "config": "{}"})
    with pytest.raises(ValueError, match="no mel_vocoder model: its metadata says family='qdac'"):
        load_vocoder(path)


def test_small_vocoder_comes_back_as_it_was_stored(tmp_path):
    shape = WaveVocoderConfig(width=8, hidden=8, depth=1, pitch_depth=1)
    torch.manual_seed(0)
    model = WaveVocoder(shape).eval()
    save_file(model.state_dict(), tmp_path / "v.safetensors", {"family": "mel_vocoder", "config": json.dumps(shape.to_dict())})
    loaded, mel = load_vocoder(tmp_path / "v.safetensors"), torch.randn(1, 5, 80) - 5.0
    with torch.no_grad():
        assert torch.equal(loaded.model(mel), model(mel))
    assert isinstance(loaded.model, WaveVocoder)


def test_the_papers_size_runs_from_released_files(released_file, vocoder_file, hubert_folder):
    files = {"checkpoint": released_file, "vocoder": vocoder_file, "ssl": hubert_folder}
    assert SocodecCodec.missing(**files) is None
    codec = SocodecCodec(**files)
    assert codec.spec.hop_length == 1920 and codec.spec.codebook_sizes == (16384,) * 4
    assert codec.spec.nominal_bps == pytest.approx(466.7, abs=0.1)
    assert codec.info.weights == "trained" and codec.info.num_parameters > 54_000_000
    audio = Audio.mono(0.1 * np.random.default_rng(0).standard_normal(9001), 16000)
    codes = codec.encode(audio)
    assert codes.indices.shape == (4, 5) and codes.side_bits == 32768
    assert len(np.unique(codes.indices)) > 4
    for b in (1, 4):
        made = codec.decode(codes.first(b))
        assert made.num_samples == 9001 and np.isfinite(made.samples).all() and made.samples.std() > 0
    assert not np.array_equal(codec.decode(codes.first(1)).samples, codec.decode(codes).samples)
    again = SocodecCodec(**files)
    assert again.info.weights_digest == codec.info.weights_digest
    assert np.array_equal(again.encode(audio).indices, codes.indices)


TINY = replace(
    socodec_config("small", 120),
    ssl_dim=6,
    width=12,
    groups=3,
    sizes=(4, 4),
    codebook_dim=2,
    utterance=UtteranceConfig(channels=8, pooled_channels=12, attention_channels=4, squeeze_channels=4),
)


def _metadata(**changes: str) -> dict[str, str]:
    return {"family": "socodec", "size": "small", "config": json.dumps(TINY.to_dict()), **changes}


def test_own_checkpoint_comes_back_as_it_was_exported(tmp_path):
    torch.manual_seed(0)
    model = SocodecModel(TINY).eval()
    tensors = exported(model, torch.float32)
    assert not any(name.endswith((".usage", ".started", ".calls")) for name in tensors)
    save_file(tensors, tmp_path / "s.safetensors", _metadata())
    loaded = load_socodec(tmp_path / "s.safetensors")
    assert loaded.model.config == TINY and not loaded.model.training
    assert all(bool(book.started) for stream in loaded.model.quantizer.streams for book in stream.codebooks)
    features, mel = torch.randn(1, 12, 6), torch.randn(1, 24, 80)
    assert torch.equal(loaded.model.encode(features, mel).indices, model.encode(features, mel).indices)


def test_own_checkpoints_that_do_not_fit_are_refused_by_name(tmp_path):
    stored = exported(SocodecModel(TINY), torch.float16)
    save_file(stored, tmp_path / "s.safetensors", _metadata(family="qdac"))
    with pytest.raises(ValueError, match="no socodec model: its metadata says family='qdac'"):
        load_socodec(tmp_path / "s.safetensors")
    save_file(stored | {"encoder.layers.0.bias": torch.zeros(3)}, tmp_path / "s.safetensors", _metadata())
    with pytest.raises(ValueError, match=r"misshapen: encoder\.layers\.0\.bias \(3,\) instead of \(12,\)"):
        load_socodec(tmp_path / "s.safetensors")


def test_no_file_and_no_safetensors_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no socodec checkpoint at"):
        load_socodec(tmp_path / "absent")
    (tmp_path / "broken").write_bytes(b"not safetensors")
    with pytest.raises(ValueError, match="no readable safetensors"):
        load_socodec(tmp_path / "broken")
