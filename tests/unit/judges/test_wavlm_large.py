"""WavLM-large with its ECAPA-TDNN: a small file of the published names, the published names and shapes, and other implementations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.api import FloatArray, SpeakerEncoder
from harness.errors import CheckpointError, MissingDependency
from harness.judges import NoSpeechError, missing
from harness.judges.fairseq import fairseq_names
from harness.judges.wavlm_large import WavLmLarge, head_name, hidden_states
from harness.torchaudio import ensure_torchaudio, load_torchaudio
from tests.stubs.checkpoint_folders import SMALL_TORCHAUDIO, SMALL_TRANSFORMERS, fairseq_state, shaken

pytestmark = pytest.mark.usefixtures("offline")

ensure_torchaudio()
torch = pytest.importorskip("torch")

WIDTH, LAYERS = SMALL_TRANSFORMERS["hidden_size"], 3


def small() -> Any:
    """A WavLM of the large one's kind: layer norms first, a norm after every convolution."""
    return load_torchaudio().models.wavlm_model(
        extractor_mode="layer_norm", encoder_num_layers=LAYERS, encoder_num_buckets=320, encoder_max_distance=800,
        encoder_layer_norm_first=True, **SMALL_TORCHAUDIO,
    )  # fmt: skip


def transformers_wavlm() -> Any:
    from transformers import WavLMConfig, WavLMModel

    torch.manual_seed(0)
    config = WavLMConfig(
        num_hidden_layers=LAYERS, feat_extract_norm="layer", do_stable_layer_norm=True, num_buckets=320, max_bucket_distance=800,
        **SMALL_TRANSFORMERS,
    )  # fmt: skip
    return shaken(WavLMModel(config))


def head_state() -> dict[str, Any]:
    from harness.judges.ecapa_head import EcapaHead

    torch.manual_seed(1)
    head = EcapaHead(LAYERS + 1, WIDTH)
    norms = {k: v + 0.2 * torch.rand_like(v) for k, v in head.state_dict().items() if ".bn" in f".{k}" and v.is_floating_point()}
    state = {**head.state_dict(), **norms, "feature_weight": torch.randn(LAYERS + 1)}
    return {head_name(name): value for name, value in state.items()}


@pytest.fixture
def wave() -> FloatArray:
    t = np.arange(16000) / 16000
    rng = np.random.default_rng(0)
    return (0.1 * sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 20)) + 0.01 * rng.standard_normal(16000)).astype(np.float32)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(WavLmLarge, "speech_network", staticmethod(small))
    path = tmp_path / "wavlm_large_finetune.pth"
    state = {
        **fairseq_state(transformers_wavlm(), "feature_extract.model.", "2.1"),
        **head_state(),
        "loss_calculator.projection.weight": torch.zeros(5, 256),
    }
    torch.save({"model": state, "best_valid_eer": 0.5}, path)
    return path


def test_it_embeds_and_is_what_transformers_and_plain_arithmetic_say(file: Path, wave: FloatArray) -> None:
    encoder = WavLmLarge(str(file))
    assert isinstance(encoder, SpeakerEncoder)
    vector = encoder.embed(wave)
    assert vector.shape == (256,) and np.linalg.norm(vector) == pytest.approx(1) and np.array_equal(encoder.embed(wave), vector)
    state = torch.load(file, weights_only=True)["model"]
    with torch.inference_mode():
        normal = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-5)
        given = transformers_wavlm()(torch.from_numpy(normal)[None], output_hidden_states=True)
        states = torch.stack([*given.hidden_states[:-1], given.last_hidden_state])  # the last one with its norm
        expected = plain_head(state, states[:, 0])
    assert vector @ (expected / expected.norm()).double().numpy() == pytest.approx(1, abs=1e-5)
    with torch.inference_mode():
        ours = hidden_states(encoder._speech, torch.from_numpy(normal.astype(np.float32))[None])
    assert float((ours - states).abs().max()) < 1e-3


def plain_head(state: dict[str, Any], states: Any) -> Any:
    """The ECAPA-TDNN as the paper and the published script compute it, from the file's own names: ``[L, T, D]`` to ``[256]``."""
    conv1d = torch.nn.functional.conv1d

    def norm(x: Any, name: str) -> Any:
        mean, variance, weight, bias = (state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        shape = (-1, 1) if x.dim() == 2 else (-1,)
        return (x - mean.view(shape)) / (variance.view(shape) + 1e-5).sqrt() * weight.view(shape) + bias.view(shape)

    def layer(x: Any, name: str, padding: int = 0) -> Any:
        y = conv1d(x[None], state[f"{name}.conv.weight"], state[f"{name}.conv.bias"], padding=padding)[0]
        return norm(y.clamp(min=0), f"{name}.bn")

    def block(x: Any, name: str, dilation: int) -> Any:
        y = layer(x, f"{name}.Conv1dReluBn1")
        parts, last = [], None
        for i in range(7):
            part = y[64 * i : 64 * (i + 1)]
            part = part if last is None else part + last
            inner = f"{name}.Res2Conv1dReluBn"
            part = conv1d(
                part[None], state[f"{inner}.convs.{i}.weight"], state[f"{inner}.convs.{i}.bias"], padding=dilation, dilation=dilation
            )
            last = norm(part[0].clamp(min=0), f"{inner}.bns.{i}")
            parts.append(last)
        y = layer(torch.cat([*parts, y[448:]]), f"{name}.Conv1dReluBn2")
        gate = f"{name}.SE_Connect"
        factor = (state[f"{gate}.linear1.weight"] @ y.mean(1) + state[f"{gate}.linear1.bias"]).clamp(min=0)
        return x + y * torch.sigmoid(state[f"{gate}.linear2.weight"] @ factor + state[f"{gate}.linear2.bias"])[:, None]

    weights = torch.softmax(state["feature_weight"], 0)
    x = (weights[:, None, None] * states).sum(0).T
    x = (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    x = layer(x, "layer1", padding=2)
    outputs = []
    for number, dilation in ((2, 2), (3, 3), (4, 4)):
        x = block(x, f"layer{number}", dilation)
        outputs.append(x)
    x = conv1d(torch.cat(outputs)[None], state["conv.weight"], state["conv.bias"])[0].clamp(min=0)
    attention = conv1d(torch.tanh(conv1d(x[None], state["pooling.linear1.weight"], state["pooling.linear1.bias"])),
                       state["pooling.linear2.weight"], state["pooling.linear2.bias"])[0].softmax(1)  # fmt: skip
    mean = (attention * x).sum(1)
    deviation = ((attention * x**2).sum(1) - mean**2).clamp(min=1e-9).sqrt()
    return state["linear.weight"] @ norm(torch.cat([mean, deviation]), "bn") + state["linear.bias"]


def test_level_and_offset_say_nothing(file: Path, wave: FloatArray) -> None:
    encoder = WavLmLarge(str(file.parent))  # a folder with it
    plain = encoder.embed(wave)
    for other in (wave * np.float32(0.5), wave + np.float32(0.05)):
        assert plain @ encoder.embed(other) == pytest.approx(1, abs=1e-4)
    for nothing in (np.zeros(16000, np.float32), np.ones(300, np.float32)):
        with pytest.raises(NoSpeechError):
            encoder.embed(nothing)


def without(state: dict[str, Any]) -> None:
    del state["feature_extract.model.encoder.layers.1.self_attn.grep_a"]


def renamed(state: dict[str, Any]) -> None:
    state["layer9.conv.weight"] = state.pop("layer1.conv.weight")


def reshaped(state: dict[str, Any]) -> None:
    state["linear.weight"] = state["linear.weight"][:192]


def rotten(state: dict[str, Any]) -> None:
    state["bn.weight"][0] = float("nan")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without, r"missing keys feature_extract\.model\.encoder\.layers\.1\.self_attn\.grep_a"),
        (renamed, r"missing keys layer1\.conv\.weight; unexpected keys layer9\.conv\.weight"),
        (reshaped, r"other shapes linear\.weight: \(192, 3072\) for \(256, 3072\)"),
        (rotten, r"NaN or Inf in bn\.weight"),
    ],
)
def test_another_model_is_refused_by_the_key_that_differs(file: Path, change: Callable[[dict[str, Any]], None], words: str) -> None:
    held = torch.load(file, weights_only=True)
    change(held["model"])
    torch.save(held, file)
    with pytest.raises(CheckpointError, match=words):
        WavLmLarge(str(file))


def test_what_is_no_file_of_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wavlm_large_finetune.pth"
    path.write_bytes(b"<html>")
    with pytest.raises(CheckpointError, match="not a file of weights"):
        WavLmLarge(str(path))
    torch.save({"state_dict": {}}, path)
    with pytest.raises(CheckpointError, match="should hold 'model', it holds state_dict"):
        WavLmLarge(str(path))
    with pytest.raises(MissingDependency, match=r"get wavlm_large_finetune\.pth from .*UniSpeech"):
        WavLmLarge(str(tmp_path / "none"))
    assert "needs a 'checkpoint'" in str(missing("speaker", {"family": "wavlm_large"}))


def test_the_published_file_has_these_names() -> None:
    """It holds 711 tensors: ``feature_weight``, 488 of WavLM-large, 221 of the head, and the training's projection."""
    from harness.judges.ecapa_head import EcapaHead

    with torch.device("meta"):
        own = load_torchaudio().models.wavlm_large().state_dict()
        head = EcapaHead(25, 1024).state_dict()
    names = {name for parts in fairseq_names(own, "", "2.1").values() for name in parts}
    assert len(names) + len({"mask_emb"}) == 488
    for name in ("feature_extractor.conv_layers.6.2.1.bias", "encoder.pos_conv.0.weight_g", "encoder.layers.23.self_attn.q_proj.bias",
                 "encoder.layers.0.self_attn.relative_attention_bias.weight", "encoder.layers.5.fc2.weight", "post_extract_proj.weight"):  # fmt: skip
        assert name in names
    assert own["encoder.transformer.layers.0.attention.rel_attn_embed.weight"].shape == (320, 16)
    assert len(head) == 1 + 221
    assert {"layer2.Res2Conv1dReluBn.bns.6.running_var", "layer4.SE_Connect.linear2.bias", "layer3.Conv1dReluBn2.conv.weight"} <= set(
        map(head_name, head)
    )
