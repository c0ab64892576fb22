"""Frames of models, from checkpoints of the published formats that the tests write, and from the weights that install."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from harness.api import FeatureExtractor
from harness.errors import CheckpointError, MissingDependency
from harness.judges import build, missing
from harness.judges.weights import WEIGHTS, absence
from harness.testing.laws import speechlike
from harness.torchaudio import ensure_torchaudio


@pytest.fixture
def noise():
    return (0.1 * np.random.default_rng(0).standard_normal(24000)).astype(np.float32)


# --- self-supervised models


@pytest.fixture(scope="module")
def tiny_wavlm(tmp_path_factory) -> Path:
    ensure_torchaudio()
    import torch
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("wavlm")
    shape = {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "num_buckets": 32}
    WavLMModel(
        WavLMConfig(hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64, max_bucket_distance=80, **shape)
    ).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


def test_a_layer_is_that_of_transformers(tiny_wavlm, noise):
    import torch
    from transformers import WavLMModel

    judge = build("features", {"family": "ssl", "checkpoint": str(tiny_wavlm), "layer": 2})
    assert isinstance(judge, FeatureExtractor) and judge.info.family == "wavlm" and "layer 2" in judge.info.model
    centred = torch.tensor((noise - noise.mean()) / np.sqrt(noise.var() + 1e-7))[None]
    with torch.inference_mode():
        expected = WavLMModel.from_pretrained(tiny_wavlm).eval()(centred, output_hidden_states=True).hidden_states[2][0]
    np.testing.assert_allclose(judge.frames(noise), expected, atol=1e-5)
    assert judge.frames(noise[:399]).shape == (0, 32)


def test_layers_that_are_not_there_and_weights_that_do_not_fit_are_refused(tiny_wavlm, tmp_path):
    from safetensors.torch import load_file, save_file

    with pytest.raises(CheckpointError, match="has 3 layers, asked for layer 14"):
        build("features", {"family": "ssl", "checkpoint": str(tiny_wavlm)})
    for path in tiny_wavlm.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    state.pop("encoder.layers.1.attention.q_proj.weight")
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing keys .*encoder\.layers\.1\.attention\.q_proj\.weight"):
        build("features", {"family": "ssl", "checkpoint": str(tmp_path), "layer": 2})
    config = json.loads((tiny_wavlm / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    with pytest.raises(CheckpointError, match="holds a 'bert', wanted one of wavlm, hubert, wav2vec2"):
        build("features", {"family": "ssl", "checkpoint": str(tmp_path), "layer": 2})


# --- emotion2vec


@pytest.fixture(scope="module")
def tiny_emotion2vec(tmp_path_factory) -> Path:
    ensure_torchaudio()
    import torch
    from funasr import AutoModel

    audio = {
        "type": "AUDIO", "prenet_depth": 1, "prenet_layerdrop": 0.0, "prenet_dropout": 0.0, "start_drop_path_rate": 0.0,
        "end_drop_path_rate": 0.0, "num_extra_tokens": 2, "init_extra_token_zero": True, "mask_noise_std": 0.01, "mask_prob": 0.5,
        "inverse_mask": False, "mask_prob_adjust": 0.05, "mask_length": 5, "mask_prob_min": None, "keep_masked_pct": 0.0, "add_masks": False,
        "remove_masks": False, "mask_dropout": 0.0, "encoder_zero_mask": True, "mask_channel_prob": 0.0, "mask_channel_length": 64,
        "ema_local_encoder": False, "local_grad_mult": 1.0, "use_alibi_encoder": True, "alibi_scale": 1.0, "learned_alibi": False,
        "alibi_max_pos": None, "learned_alibi_scale": True, "learned_alibi_scale_per_head": True, "learned_alibi_scale_per_layer": False,
        "num_alibi_heads": 2, "model_depth": 2, "decoder": None, "extractor_mode": "layer_norm",
        "feature_encoder_spec": "[(16, 10, 5)] + [(16, 3, 2)] * 4 + [(16, 2, 2)] + [(16, 2, 2)]", "conv_pos_width": 19,
        "conv_pos_groups": 4, "conv_pos_depth": 2, "conv_pos_pre_ln": False,
    }  # fmt: skip
    config = {
        "model": "Emotion2vec",
        "model_conf": {
            "loss_beta": 0.0, "loss_scale": None, "depth": 2, "start_drop_path_rate": 0.0, "end_drop_path_rate": 0.0, "num_heads": 2,
            "norm_eps": 1e-5, "norm_affine": True, "encoder_dropout": 0.1, "post_mlp_drop": 0.1, "attention_dropout": 0.1,
            "activation_dropout": 0.0, "dropout_input": 0.0, "layerdrop": 0.05, "embed_dim": 32, "mlp_ratio": 2.0, "layer_norm_first": False,
            "end_of_block_targets": False, "clone_batch": 2, "average_top_k_layers": 2, "normalize": True, "modalities": {"audio": audio},
        },
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("emotion2vec")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    torch.manual_seed(0)
    model, _ = AutoModel.build_model(**yaml.safe_load((folder / "config.yaml").read_text()), device="cpu", ncpu=1)
    torch.save({"model": model.state_dict()}, folder / "model.pt")
    return folder


def test_emotion2vec_gives_the_frames_of_funasr(tiny_emotion2vec, noise):
    judge = build("emotion", {"family": "emotion2vec", "checkpoint": str(tiny_emotion2vec)})
    frames = judge.frames(noise)
    assert frames.shape == (74, 32) and np.isfinite(frames).all() and frames.std() > 0
    np.testing.assert_array_equal(judge.frames(noise), frames)
    (whole,) = judge._model.generate(input=noise, granularity="utterance", extract_embedding=True)
    np.testing.assert_allclose(frames.mean(axis=0), whole["feats"], atol=1e-6)


def test_a_judge_that_is_not_here_says_how_to_get_it(monkeypatch, tmp_path):
    for name in ("HF_HUB_CACHE", "MODELSCOPE_CACHE"):
        monkeypatch.setenv(name, str(tmp_path))
    assert "modelscope download --model iic/emotion2vec_plus_base" in missing("emotion", {"family": "emotion2vec"})
    with pytest.raises(MissingDependency, match="microsoft/wavlm-large"):
        build("features", {"family": "ssl"})


# --- what installs with its weights


def test_the_whisper_encoder_hears_more_than_thirty_seconds():
    if reason := absence(WEIGHTS["whisper-base"]):
        pytest.skip(reason)
    judge = build("features", {"family": "whisper"})
    one = speechlike(2.0, sample_rate=16000).samples[0]
    frames = judge.frames(one)
    assert frames.shape == (100, 512) and np.isfinite(frames).all()
    long = judge.frames(np.concatenate([one, np.zeros(29 * 16000, np.float32)]))
    assert long.shape == (1550, 512)
    np.testing.assert_allclose(long[:100], frames, atol=1e-4)  # the first window is the same up to its end


def test_phones_are_heard_and_spelled():
    pytest.importorskip("hama", reason="the phone recogniser needs hama")
    from harness.judges.phones import PhoneRecogniser
    from harness.metrics.text import PhonesOfText

    judge: PhonesOfText = PhoneRecogniser()
    assert judge.phones(["boats", "came"]).split()[:2] == ["b", "oʊ"]
    assert judge.transcribe(np.zeros(8000, np.float32), "en") == judge.transcribe(np.zeros(8000, np.float32), "en")
