"""HuBERT's CTC and Qwen3-ASR through transformers' own calls, on tiny checkpoints made here, with random weights."""

import json

import numpy as np
import pytest

from harness.api import Recogniser
from harness.errors import CheckpointError
from harness.judges.recognisers import HubertCtc, Qwen3Asr
from harness.torchaudio import ensure_torchaudio
from tests.stubs.checkpoint_folders import copy, damage, without_first

pytestmark = pytest.mark.usefixtures("offline")
NOISE = (0.1 * np.random.default_rng(0).standard_normal(24000)).astype(np.float32)


@pytest.fixture(scope="module")
def hubert(tmp_path_factory):
    """A folder as facebook/hubert-large-ls960-ft is one: a pickle, a vocabulary of letters, a feature extractor that normalises."""
    ensure_torchaudio()
    import torch
    from transformers import HubertConfig, HubertForCTC, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor

    folder = tmp_path_factory.mktemp("hubert")
    tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVKXJQZ", "'"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), do_lower_case=False).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(feature_size=1, sampling_rate=16000, do_normalize=True, return_attention_mask=True).save_pretrained(folder)
    torch.manual_seed(0)
    config = HubertConfig(
        vocab_size=len(tokens), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, feat_extract_norm="layer", conv_bias=True, do_stable_layer_norm=True,
    )  # fmt: skip
    config.architectures = ["HubertForCTC"]
    config.save_pretrained(folder)
    state = HubertForCTC(config).state_dict()
    state["lm_head.bias"][1:4] = -100  # a trained model never spells <s>, </s> and <unk>
    torch.save(state, folder / "pytorch_model.bin")
    return folder


def test_hubert(hubert, tmp_path):
    judge = HubertCtc(str(hubert))
    assert isinstance(judge, Recogniser)
    heard = judge.transcribe(NOISE, "en")
    assert heard and set(heard) <= set("ETAONIHSRDLUMWCFGYPBVKXJQZ' ")
    assert [judge.transcribe(clip, "en") for clip in (NOISE[:9000], NOISE)][1] == heard
    assert judge.transcribe(0.5 * NOISE, "en") == heard  # the published extractor brings every clip to one level
    with pytest.raises(ValueError, match="asked for 'zh'"):
        judge.transcribe(NOISE, "zh")
    assert "greedy float32" in judge.info.model and judge.info.languages == ("en",)
    assert HubertCtc(str(copy(hubert, tmp_path / "same"))).info.digest == judge.info.digest


def test_hubert_without_its_letters_is_refused(hubert, tmp_path):
    folder = copy(hubert, tmp_path / "headless")
    damage(folder / "pytorch_model.bin", lambda state: [state.pop(key) for key in [*state] if key.startswith("lm_head")])
    with pytest.raises(CheckpointError, match=r"missing keys lm_head\.bias, lm_head\.weight"):
        HubertCtc(str(folder))
    (folder / "vocab.json").unlink()
    assert "vocab.json" in str(HubertCtc.missing(str(folder)))


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    """A folder as the repositories of Qwen3-ASR in transformers' layout are one."""
    ensure_torchaudio()
    import torch
    from transformers import Qwen2Tokenizer, Qwen3ASRConfig, Qwen3ASRFeatureExtractor, Qwen3ASRForConditionalGeneration, Qwen3ASRProcessor
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    folder = tmp_path_factory.mktemp("qwen")
    (folder / "vocab.json").write_text(json.dumps({c: i for i, c in enumerate(bytes_to_unicode().values())}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n")
    sounds = {"audio_token": "<|audio_pad|>", "audio_bos_token": "<|audio_start|>", "audio_eos_token": "<|audio_end|>"}
    tokenizer = Qwen2Tokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), extra_special_tokens=sounds)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.add_tokens(["<asr_text>"])
    pad, end, last = tokenizer.convert_tokens_to_ids(["<|audio_pad|>", "<|endoftext|>", "<|im_end|>"])
    template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}{% if c['type'] == 'audio' %}"
        "<|audio_start|><|audio_pad|><|audio_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    )
    torch.manual_seed(0)
    config = Qwen3ASRConfig(
        audio_config={"model_type": "qwen3_asr_encoder", "num_mel_bins": 8, "encoder_layers": 1, "encoder_attention_heads": 2,
                      "encoder_ffn_dim": 32, "d_model": 16, "output_dim": 32, "downsample_hidden_size": 4},
        text_config={"model_type": "qwen3", "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 32,
                     "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
                     "tie_word_embeddings": False},
        audio_token_id=pad, pad_token_id=end, eos_token_id=[end, last], tie_word_embeddings=False,
    )  # fmt: skip
    model = Qwen3ASRForConditionalGeneration(config)
    with torch.no_grad():  # or the random model might end before it says anything
        model.lm_head.weight[[end, last]] = 0
        model.lm_head.weight[:256] += 0.5 * torch.randn(256, 32)
    model.save_pretrained(folder)
    Qwen3ASRProcessor(Qwen3ASRFeatureExtractor(feature_size=8), tokenizer, chat_template=template).save_pretrained(folder)
    return folder


def test_qwen(qwen, tmp_path):
    judge = Qwen3Asr(str(qwen))
    assert isinstance(judge, Recogniser)
    heard = judge.transcribe(NOISE, "en")
    assert heard and "<" not in heard and "language" not in heard
    assert judge.transcribe(NOISE, "zh") != heard  # the language is part of what it is asked
    assert judge.transcribe(NOISE, "en") == heard
    assert len(heard) <= 64 + 25 * 1.5  # it has no end of its own here
    with pytest.raises(ValueError, match="xx"):
        judge.transcribe(NOISE, "xx")
    assert Qwen3Asr(str(copy(qwen, tmp_path / "same"))).info.digest == judge.info.digest


def test_qwen_refuses_what_does_not_fit(qwen, tmp_path):
    folder = copy(qwen, tmp_path / "short")
    damage(folder / "model.safetensors", without_first)
    with pytest.raises(CheckpointError, match="missing keys"):
        Qwen3Asr(str(folder))
    # The layout of the package qwen-asr, of the repositories without "-hf": every key below "thinker".
    folder = copy(qwen, tmp_path / "other")
    damage(folder / "model.safetensors", lambda state: state.update({f"thinker.{key}": state.pop(key) for key in [*state]}))
    with pytest.raises(CheckpointError, match="does not fit its model"):
        Qwen3Asr(str(folder))
