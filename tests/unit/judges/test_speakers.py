"""WavLM, SpeechBrain and WeSpeaker, through the real library calls on tiny checkpoints made here, with random weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.api import FloatArray, SpeakerEncoder
from harness.errors import CheckpointError
from harness.judges import NoSpeechError
from harness.judges.speakers import Ecapa, WavLm, WeSpeaker, fbank
from harness.torchaudio import ensure_torchaudio, load_torchaudio
from tests.stubs.checkpoint_folders import copy, damage, field, without_first

pytestmark = pytest.mark.usefixtures("offline")


def voiced(seconds: float = 1.0, pitch_hz: float = 120.0) -> FloatArray:
    t = np.arange(int(seconds * 16000)) / 16000
    return (0.1 * sum(np.sin(2 * np.pi * pitch_hz * k * t) / k for k in range(1, 20))).astype(np.float32)


# --- WavLM


@pytest.fixture(scope="module")
def tiny_wavlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ensure_torchaudio()
    import torch
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMForXVector

    folder = tmp_path_factory.mktemp("wavlm")
    torch.manual_seed(0)
    config = WavLMConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=(16, 16), conv_stride=(5, 4),
        conv_kernel=(10, 8), num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, tdnn_dim=(16, 16, 24),
        tdnn_kernel=(5, 3, 1), tdnn_dilation=(1, 2, 1),
        xvector_output_dim=12, num_buckets=32,
    )  # fmt: skip
    WavLMForXVector(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(folder)
    return folder


def test_wavlm(tiny_wavlm: Path) -> None:
    check_encoder(WavLm(str(tiny_wavlm)), 12)


def test_wavlm_loads_strictly(tiny_wavlm: Path, tmp_path: Path) -> None:
    def headless(state: dict[str, Any]) -> None:
        for key in [k for k in state if not k.startswith("wavlm.")]:
            del state[key]

    def extra(state: dict[str, Any]) -> None:
        state["wavlm.not.there"] = next(iter(state.values())).clone()

    for name, change, message in (("headless", headless, "missing keys"), ("extra", extra, "unexpected keys")):
        folder = copy(tiny_wavlm, tmp_path / name)
        damage(folder / "model.safetensors", change)
        with pytest.raises(CheckpointError, match=message):
            WavLm(str(folder))


# --- SpeechBrain

HYPERPARAMS = """
pretrained_path: somewhere/else
n_mels: 20
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: !ref <n_mels>
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: !ref <n_mels>
    channels: [16, 16, 16, 16, 48]
    kernel_sizes: [5, 3, 3, 3, 1]
    dilations: [1, 2, 3, 4, 1]
    attention_channels: 8
    lin_neurons: 12
classifier: !new:speechbrain.lobes.models.ECAPA_TDNN.Classifier
    input_size: 12
    out_neurons: 3
modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    embedding_model: !ref <embedding_model>
    classifier: !ref <classifier>
label_encoder: !new:speechbrain.dataio.encoder.CategoricalEncoder
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
        classifier: !ref <classifier>
        label_encoder: !ref <label_encoder>
    paths:
        embedding_model: !ref <pretrained_path>/embedding_model.ckpt
        classifier: !ref <pretrained_path>/classifier.ckpt
        label_encoder: !ref <pretrained_path>/label_encoder.txt
"""


@pytest.fixture(scope="module")
def tiny_ecapa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ensure_torchaudio()
    import torch
    from hyperpyyaml import load_hyperpyyaml

    folder = tmp_path_factory.mktemp("ecapa")
    (folder / "hyperparams.yaml").write_text(HYPERPARAMS, encoding="utf-8")
    torch.manual_seed(0)
    objects = load_hyperpyyaml(HYPERPARAMS)
    for name in ("embedding_model", "classifier"):
        torch.save(objects[name].state_dict(), folder / f"{name}.ckpt")
    objects["label_encoder"].update_from_iterable(["a", "b", "c"])
    objects["label_encoder"].save(folder / "label_encoder.txt")
    return folder


def test_ecapa(tiny_ecapa: Path) -> None:
    check_encoder(Ecapa(str(tiny_ecapa)), 12)


def test_ecapa_loads_strictly(tiny_ecapa: Path, tmp_path: Path) -> None:
    folder = copy(tiny_ecapa, tmp_path / "short")
    damage(folder / "embedding_model.ckpt", without_first)
    with pytest.raises(CheckpointError, match="missing keys"):
        Ecapa(str(folder))


@pytest.mark.parametrize(
    "line",
    ["x: !apply:os.system ['touch CANARY']", "x: !new:subprocess.Popen [['touch', 'CANARY']]", "x: !name:os.system", "x: !module:os"],
)
def test_ecapa_runs_no_code_of_the_folder(tiny_ecapa: Path, tmp_path: Path, line: str) -> None:
    folder = copy(tiny_ecapa, tmp_path / "hostile")
    canary = tmp_path / "canary"
    text = HYPERPARAMS + line.replace("CANARY", str(canary)) + "\n"
    (folder / "hyperparams.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match="could run code"):
        Ecapa(str(folder))
    assert not canary.exists()


def test_ecapa_refuses_custom_py(tiny_ecapa: Path, tmp_path: Path) -> None:
    folder = copy(tiny_ecapa, tmp_path / "custom")
    (folder / "custom.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"custom\.py"):
        Ecapa(str(folder))


# --- WeSpeaker


def onnx_encoder(weights: FloatArray, bands: int = 80) -> bytes:
    """An encoder: feats [1, T, bands] -> MatMul -> Relu -> mean over T -> embs [1, D], written by hand as onnx is no dependency."""

    def value_info(name: str, dims: tuple[int | str, ...]) -> bytes:
        shape = b"".join(field(1, field(1, d) if isinstance(d, int) else field(2, d)) for d in dims)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))

    def node(kind: str, inputs: tuple[str, ...], output: str, attributes: bytes = b"") -> bytes:
        return field(1, b"".join(field(1, i) for i in inputs) + field(2, output) + field(4, kind) + attributes)

    axes = field(5, field(1, "axes") + field(8, 1) + field(20, 7))
    keepdims = field(5, field(1, "keepdims") + field(3, 0) + field(20, 2))
    tensor = b"".join(field(1, d) for d in weights.shape) + field(2, 1) + field(8, "w") + field(9, weights.astype("<f4").tobytes())
    graph = (
        node("MatMul", ("feats", "w"), "h") + node("Relu", ("h",), "r") + node("ReduceMean", ("r",), "embs", axes + keepdims)
        + field(2, "encoder") + field(5, tensor) + field(11, value_info("feats", (1, "T", bands)))
        + field(12, value_info("embs", (1, weights.shape[1])))
    )  # fmt: skip
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13))


@pytest.fixture
def tiny_wespeaker(tmp_path: Path) -> Path:
    path = tmp_path / "encoder" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(onnx_encoder(np.random.default_rng(0).standard_normal((80, 12)).astype(np.float32)))
    return path


def test_wespeaker(tiny_wespeaker: Path) -> None:
    judge = WeSpeaker(str(tiny_wespeaker))
    check_encoder(judge, 12)
    weights = np.random.default_rng(0).standard_normal((80, 12)).astype(np.float32)
    samples = voiced()
    features = fbank(samples)
    expected = np.maximum((features - features.mean(axis=0)) @ weights, 0).mean(axis=0)
    assert judge.embed(samples) @ (expected / np.linalg.norm(expected)) == pytest.approx(1, abs=1e-5)
    assert WeSpeaker(str(tiny_wespeaker.parent)).info == judge.info  # a folder with one file
    with pytest.raises(NoSpeechError, match="25-ms frame"):
        judge.embed(samples[:399])


def test_wespeaker_features_are_kaldi_s() -> None:
    import torch

    kaldi = load_torchaudio().compliance.kaldi
    samples = voiced(0.5) + 0.01 * np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    reference = kaldi.fbank(torch.from_numpy(samples)[None] * 32768, num_mel_bins=80, window_type="hamming", dither=0.0).numpy()
    ours = fbank(samples)
    assert ours.shape == reference.shape == (48, 80)
    assert np.abs(ours - reference).max() < 1e-2


def test_wespeaker_refuses_other_models(tmp_path: Path, tiny_wespeaker: Path) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(onnx_encoder(np.ones((40, 3), np.float32), bands=40))
    with pytest.raises(CheckpointError, match=r"should take one input \[1, T, 80\]"):
        WeSpeaker(str(other))
    other.write_bytes(b"not a model")
    with pytest.raises(CheckpointError, match="is not an ONNX model"):
        WeSpeaker(str(other))
    shutil.copy(tiny_wespeaker, tiny_wespeaker.with_name("second.onnx"))
    assert "no single .onnx file" in str(WeSpeaker.missing(str(tiny_wespeaker.parent)))


def check_encoder(encoder: Any, dimension: int) -> None:
    """Unit length, deterministic, input untouched, different voices differ."""
    assert isinstance(encoder, SpeakerEncoder)
    low, high = voiced(pitch_hz=100), voiced(pitch_hz=260)
    before = low.copy()
    one, two = encoder.embed(low), encoder.embed(high)
    assert one.shape == (dimension,) and one.dtype == np.float64
    assert np.linalg.norm(one) == pytest.approx(1)
    assert np.array_equal(encoder.embed(low), one)
    assert np.array_equal(low, before)
    assert not np.allclose(one, two)
    assert len(encoder.info.digest) == 32
