"""FunASR and Whisper, through the real library calls on tiny checkpoints made here, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from harness.api import Recogniser
from harness.errors import CheckpointError
from harness.judges.recognisers import FunAsr, Whisper
from harness.torchaudio import ensure_torchaudio
from tests.stubs.checkpoint_folders import copy, damage, without_first

pytestmark = pytest.mark.usefixtures("offline")


# --- FunASR


@pytest.fixture(scope="module")
def paraformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paraformer")
    (folder / "tokens.json").write_text(json.dumps(["<blank>", "<s>", "</s>", *"今天气很好你们说话", "<unk>"]), encoding="utf-8")
    config: dict[str, Any] = {
        "model": "Paraformer",
        "model_conf": {"ctc_weight": 0.0, "lsm_weight": 0.1, "length_normalized_loss": True, "predictor_weight": 1.0, "predictor_bias": 1},
        "encoder": "SANMEncoder",
        "encoder_conf": {"output_size": 32, "attention_heads": 2, "linear_units": 64, "num_blocks": 2, "input_layer": "pe",
                         "kernel_size": 11, "pos_enc_class": "SinusoidalPositionEncoder", "normalize_before": True,
                         "selfattention_layer_type": "sanm"},
        "decoder": "ParaformerSANMDecoder",
        "decoder_conf": {"attention_heads": 2, "linear_units": 64, "num_blocks": 1, "att_layer_num": 1, "kernel_size": 11},
        "predictor": "CifPredictorV2",
        "predictor_conf": {"idim": 32, "threshold": 1.0, "l_order": 1, "r_order": 1, "tail_threshold": 0.45},
        "frontend": "WavFrontend",
        "frontend_conf": {"fs": 16000, "window": "hamming", "n_mels": 80, "frame_length": 25, "frame_shift": 10, "lfr_m": 7, "lfr_n": 6},
        "tokenizer": "CharTokenizer",
        "tokenizer_conf": {"unk_symbol": "<unk>", "split_with_space": True},
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    ensure_torchaudio()
    import torch
    from funasr import AutoModel

    torch.manual_seed(0)
    config["tokenizer_conf"]["token_list"] = str(folder / "tokens.json")
    model, _ = AutoModel.build_model(**config, device="cpu", ncpu=torch.get_num_threads())
    torch.save(model.state_dict(), folder / "model.pt")
    return folder


def test_funasr(paraformer: Path, tmp_path: Path) -> None:
    import torch

    threads = torch.get_num_threads()
    judge = FunAsr(str(paraformer))
    assert isinstance(judge, Recogniser)
    assert torch.get_num_threads() == threads
    noise = (0.1 * np.random.default_rng(0).standard_normal(24000)).astype(np.float32)
    text = judge.transcribe(noise, "zh")
    assert text and set(text) <= set("今天气很好你们说话 ")
    assert [judge.transcribe(noise, "zh") for _ in range(3)] == [text] * 3  # no dither
    with pytest.raises(ValueError, match="asked for 'en'"):
        judge.transcribe(noise, "en")
    assert FunAsr(str(copy(paraformer, tmp_path / "same"))).info.digest == judge.info.digest
    assert judge.info.languages == ("zh",)


def test_funasr_refuses_weights_that_do_not_fit(paraformer: Path, tmp_path: Path) -> None:
    folder = copy(paraformer, tmp_path / "short")
    damage(folder / "model.pt", without_first)
    with pytest.raises(CheckpointError, match="missing keys"):
        FunAsr(str(folder))
    folder = copy(paraformer, tmp_path / "rotten")
    damage(folder / "model.pt", lambda state: next(v for v in state.values() if v.ndim > 1).fill_(float("nan")))
    with pytest.raises(CheckpointError, match="NaN or Inf"):
        FunAsr(str(folder))


# --- Whisper


@pytest.fixture(scope="module")
def tiny_whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ensure_torchaudio()
    import torch
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    folder = tmp_path_factory.mktemp("whisper")
    vocabulary = {character: index for index, character in enumerate(bytes_to_unicode().values())}
    special = [
        "<|endoftext|>",
        "<|startoftranscript|>",
        "<|en|>",
        "<|zh|>",
        "<|translate|>",
        "<|transcribe|>",
        "<|startofprev|>",
        "<|notimestamps|>",
    ]
    ids = {token: len(vocabulary) + i for i, token in enumerate(special)}
    (folder / "vocab.json").write_text(json.dumps({**vocabulary, "<|endoftext|>": ids["<|endoftext|>"]}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    tokenizer = WhisperTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer.add_special_tokens({"additional_special_tokens": special[1:]})
    assert tokenizer.convert_tokens_to_ids(special) == list(ids.values())
    extractor = WhisperFeatureExtractor(feature_size=8)
    end = ids["<|endoftext|>"]
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(vocabulary) + len(special), num_mel_bins=8, d_model=16, encoder_layers=1, decoder_layers=1,
            encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_target_positions=32,
            bos_token_id=end, eos_token_id=end,
            pad_token_id=end, decoder_start_token_id=ids["<|startoftranscript|>"],
        )
    )  # fmt: skip
    model.generation_config = GenerationConfig(
        bos_token_id=end, eos_token_id=end, pad_token_id=end, decoder_start_token_id=ids["<|startoftranscript|>"], max_length=20,
        is_multilingual=True, lang_to_id={token: ids[token] for token in ("<|en|>", "<|zh|>")},
        task_to_id={task: ids[f"<|{task}|>"] for task in ("translate", "transcribe")}, no_timestamps_token_id=ids["<|notimestamps|>"],
    )  # fmt: skip
    model.save_pretrained(folder)
    WhisperProcessor(extractor, tokenizer).save_pretrained(folder)
    return folder


def test_whisper(tiny_whisper: Path) -> None:
    judge = Whisper(str(tiny_whisper))
    assert isinstance(judge, Recogniser)
    noise = (0.1 * np.random.default_rng(0).standard_normal(24000)).astype(np.float32)
    text = judge.transcribe(noise, "en")
    assert text and "<|" not in text
    assert judge.transcribe(noise, "en") == text
    long = (0.1 * np.random.default_rng(1).standard_normal(31 * 16000)).astype(np.float32)
    assert judge.transcribe(long, "en") == judge.transcribe(long[: 30 * 16000], "en")  # the first 30 s count
    assert "greedy float32 first 30 s" in judge.info.model


def test_whisper_refuses_weights_that_do_not_fit(tiny_whisper: Path, tmp_path: Path) -> None:
    folder = copy(tiny_whisper, tmp_path / "short")
    damage(folder / "model.safetensors", without_first)
    with pytest.raises(CheckpointError, match="missing keys"):
        Whisper(str(folder))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "model.safetensors" in str(Whisper.missing(str(folder)))  # no pickles
