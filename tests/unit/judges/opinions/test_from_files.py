"""Predictors whose weights are a file that the user gives: files of the published names, made here with random weights."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from harness.api import FloatArray, MosPredictor
from harness.errors import CheckpointError, MissingDependency
from harness.judges import NoSpeechError, missing
from harness.judges.checkpoints import installed
from harness.judges.opinions.nisqa import Nisqa
from harness.judges.opinions.scoreq import Scoreq
from harness.judges.opinions.squim import SquimObjective, SquimSubjective
from harness.judges.opinions.utmos import Utmos
from harness.judges.opinions.utmosv2 import UtmosV2
from harness.metrics.judged import PredictedMos
from harness.torchaudio import ensure_torchaudio, load_torchaudio
from tests.stubs.checkpoint_folders import SMALL_TORCHAUDIO, SMALL_TRANSFORMERS, fairseq_state, onnx_of_wave, shaken

pytestmark = pytest.mark.usefixtures("offline")

ensure_torchaudio()
torch = pytest.importorskip("torch")


def voice(seconds: float = 1.0, rate: int = 16000) -> FloatArray:
    t = np.arange(int(seconds * rate)) / rate
    tone = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 20))
    return (0.1 * tone + 0.01 * np.random.default_rng(0).standard_normal(len(t))).astype(np.float32)


def check(predictor: Any, name: str, rate: int = 16000) -> None:
    """Deterministic, input untouched, its headline names the metric, bad input refused."""
    assert isinstance(predictor, MosPredictor) and predictor.info.sample_rate == rate and len(predictor.info.digest) == 32
    samples = voice(rate=rate)
    before = samples.copy()
    scores = predictor.predict(samples)
    assert tuple(scores) == predictor.scores and all(np.isfinite(v) for v in scores.values())
    assert predictor.predict(samples) == scores and np.array_equal(samples, before)
    assert PredictedMos(predictor).info.name == name
    for bad in (np.zeros(0, np.float32), np.full(rate, np.nan, np.float32)):
        with pytest.raises(ValueError, match="finite samples"):
            predictor.predict(bad)


def altered(path: Path, entry: str = "", drop: str = "", add: str = "") -> None:
    held = torch.load(path, weights_only=True)
    state = held[entry] if entry else held
    if drop:
        del state[drop]
    if add:
        state[add] = torch.zeros(1)
    torch.save(held, path)


# --- UTMOS


def small_wav2vec2() -> Any:
    return load_torchaudio().models.wav2vec2_model(
        extractor_mode="group_norm", encoder_num_layers=2, encoder_layer_norm_first=False, **SMALL_TORCHAUDIO
    )


def transformers_wav2vec2() -> Any:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    torch.manual_seed(0)
    config = Wav2Vec2Config(num_hidden_layers=2, feat_extract_norm="group", do_stable_layer_norm=False, **SMALL_TRANSFORMERS)
    return shaken(Wav2Vec2Model(config))


@pytest.fixture
def utmos_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Utmos, "speech_network", staticmethod(small_wav2vec2))
    state = fairseq_state(transformers_wav2vec2(), "wav2vec2.", "2")
    lstm = torch.nn.LSTM(32 + 256, 512, batch_first=True, bidirectional=True)
    projection = torch.nn.Sequential(torch.nn.Linear(1024, 2048), torch.nn.ReLU(), torch.nn.Linear(2048, 1))
    state |= {f"blstm.{k}": v for k, v in lstm.state_dict().items()} | {f"projection.{k}": v for k, v in projection.state_dict().items()}
    state |= {"domain_emb": torch.randn(1, 128), "judge_emb": torch.randn(1, 128)}
    path = tmp_path / "utmos22_strong_step7459_v1.pt"
    torch.save(state, path)
    return path


def test_utmos(utmos_file: Path) -> None:
    predictor = Utmos(str(utmos_file))
    check(predictor, "utmos")
    samples, state = voice(), torch.load(utmos_file, weights_only=True)
    with torch.inference_mode():
        features = transformers_wav2vec2()(torch.from_numpy(samples)[None]).last_hidden_state[0]
        x = torch.cat([features, state["domain_emb"].expand(len(features), -1), state["judge_emb"].expand(len(features), -1)], 1)
        lstm = torch.nn.LSTM(32 + 256, 512, batch_first=True, bidirectional=True)
        lstm.load_state_dict({k.removeprefix("blstm."): v for k, v in state.items() if k.startswith("blstm.")})
        y = lstm(x[None])[0][0] @ state["projection.0.weight"].T + state["projection.0.bias"]
        frames = y.clamp(min=0) @ state["projection.2.weight"].T + state["projection.2.bias"]
    assert predictor.predict(samples)["overall"] == pytest.approx(2 * frames.mean().item() + 3, abs=1e-4)
    for same in (samples * np.float32(0.5), samples + np.float32(0.02)):
        assert predictor.predict(same) == pytest.approx(predictor.predict(samples), abs=1e-3)


def test_utmos_loads_strictly(utmos_file: Path) -> None:
    altered(utmos_file, drop="wav2vec2.encoder.layers.1.fc2.weight", add="wav2vec2.encoder.layers.2.fc2.weight")
    with pytest.raises(
        CheckpointError, match=r"missing keys wav2vec2\.encoder\.layers\.1\.fc2\.weight; unexpected keys wav2vec2\..*2\.fc2"
    ):
        Utmos(str(utmos_file.parent))


# --- SCOREQ


def test_scoreq(tmp_path: Path) -> None:
    path = tmp_path / "adapt_nr_telephone.onnx"
    path.write_bytes(onnx_of_wave("mean"))
    predictor = Scoreq(str(path))
    check(predictor, "scoreq")
    samples = voice() + np.float32(1)
    assert predictor.predict(samples)["overall"] == pytest.approx(samples.sum() / 16000, rel=1e-5)
    assert predictor.predict(samples[:15900])["overall"] == pytest.approx(samples[:15900].sum() / 16000, rel=1e-5)  # filled with zeros


def test_scoreq_refuses_other_models(tmp_path: Path) -> None:
    path = tmp_path / "adapt_nr_synthetic.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(CheckpointError, match="is not an ONNX model"):
        Scoreq(str(path))
    path.write_bytes(onnx_of_wave("same"))
    with pytest.raises(CheckpointError, match="gives 16000 numbers, not one score"):
        Scoreq(str(path))


# --- SQUIM


def test_squim(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = load_torchaudio().models.squim_objective_base().eval()
    path = tmp_path / "squim_objective_dns2020.pth"
    torch.save(network.state_dict(), path)
    predictor = SquimObjective(str(path))
    check(predictor, "squim_pesq")
    samples = voice()
    with torch.inference_mode():
        expected = network(torch.from_numpy(samples - samples.mean())[None])[1].item()
    assert predictor.predict(samples)["pesq"] == pytest.approx(expected, abs=1e-5)
    for same in (samples * np.float32(0.5), samples + np.float32(0.02)):
        assert predictor.predict(same) == pytest.approx(predictor.predict(samples), abs=1e-3)
    altered(path, add="encoder.other")
    with pytest.raises(CheckpointError, match=r"unexpected keys encoder\.other"):
        SquimObjective(str(path))


def test_squim_mos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import soundfile
    from torchaudio.models.squim.subjective import Predictor
    from torchaudio.models.squim.subjective import SquimSubjective as Network

    def small() -> Any:
        return Network(small_wav2vec2(), torch.nn.Linear(32, 8), Predictor(16, 5))

    monkeypatch.setattr(load_torchaudio().models, "squim_subjective_base", small)
    torch.manual_seed(0)
    network = small().eval()
    path, clean = tmp_path / "squim_subjective_bvcc_daps.pth", tmp_path / "clean.wav"
    older = {k.replace("parametrizations.weight.original0", "weight_g").replace("parametrizations.weight.original1", "weight_v"): v
             for k, v in network.state_dict().items()}  # fmt: skip
    torch.save(older, path)
    assert "needs 'reference'" in str(missing("mos", {"family": "squim_mos", "checkpoint": str(path)}))
    soundfile.write(clean, voice(0.7)[::-1], 16000)
    predictor = SquimSubjective(str(path), str(clean))
    check(predictor, "squim_mos")
    soundfile.write(clean, voice(0.5), 16000)
    assert SquimSubjective(str(path), str(clean)).info.digest != predictor.info.digest


# --- NISQA


@pytest.mark.skipif(not installed("torchmetrics"), reason="torchmetrics, which has NISQA's network, is not installed")
def test_nisqa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchmetrics.functional.audio.nisqa as library

    args = {
        "cnn_pool_1": [24, 7], "cnn_pool_2": [12, 5], "cnn_pool_3": [6, 3], "cnn_dropout": 0.2, "cnn_kernel_size": [3, 3],
        "cnn_c_out_1": 16, "cnn_c_out_2": 32, "cnn_c_out_3": 64, "td_sa_d_model": 64, "td_sa_nhead": 1, "td_sa_h": 64,
        "td_sa_num_layers": 2, "td_sa_dropout": 0.1, "pool_att_h": 128, "pool_att_dropout": 0.1, "ms_hop_length": 0.01,
        "ms_win_length": 0.02, "ms_n_fft": 4096, "ms_n_mels": 48, "ms_fmax": 20000, "ms_seg_length": 15, "ms_seg_hop_length": 4,
        "ms_max_segments": 1300,
    }  # fmt: skip
    torch.manual_seed(0)
    path = tmp_path / "nisqa.tar"
    torch.save({"args": args, "model_state_dict": library._NISQADIM(args).state_dict()}, path)
    predictor = Nisqa(str(path))
    check(predictor, "nisqa_overall", 48000)
    monkeypatch.setattr(library, "NISQA_DIR", str(tmp_path))  # the library's own loading, from the same file
    library._load_nisqa_model.cache_clear()
    samples = voice(rate=48000)
    expected = library.non_intrusive_speech_quality_assessment(torch.from_numpy(samples - samples.mean()), 48000)
    assert list(predictor.predict(samples).values()) == pytest.approx(expected.tolist(), abs=1e-4)
    with pytest.raises(NoSpeechError, match="too short"):
        predictor.predict(samples[:4800])
    altered(path, "model_state_dict", drop="cnn.model.conv3.weight")
    with pytest.raises(CheckpointError, match=r"missing keys cnn\.model\.conv3\.weight"):
        Nisqa(str(path))


# --- UTMOSv2


def test_utmosv2_draws_from_one_seed_and_leaves_numpy_s_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is not a dependency: a stand-in with its two calls, which draws from numpy as it does."""
    path, asked = tmp_path / "fold0_s42_best_model.pth", {}

    class Model:
        def predict(self, data: Any, sr: int, device: str, num_repetitions: int, remove_silent_section: bool, verbose: bool) -> Any:
            return np.array([np.mean([np.random.random() for _ in range(num_repetitions)]) + data.shape[1] / sr])

    def create_model(**given: Any) -> Model:
        from huggingface_hub import constants, hf_hub_download

        asked.update(given)
        assert constants.HF_HUB_OFFLINE  # whatever it builds on comes from the local cache
        if given["device"] == "elsewhere":
            hf_hub_download("someone/network-below", "model.safetensors", cache_dir=tmp_path)
        return Model()

    package = ModuleType("utmosv2")
    package.create_model = create_model  # type: ignore[attr-defined]
    package.__spec__ = sys.__spec__
    monkeypatch.setitem(sys.modules, "utmosv2", package)
    with pytest.raises(MissingDependency, match=r"get fold0_s42_best_model\.pth from sarulab"):
        UtmosV2(str(path))
    path.write_bytes(b"weights")
    with pytest.raises(MissingDependency, match="networks that are not in the hub's local cache"):
        UtmosV2(str(path), device="elsewhere")
    predictor = UtmosV2(str(path), repetitions=2)
    assert asked == {"pretrained": True, "config": "fusion_stage3", "checkpoint_path": path, "device": "cpu"}
    before = np.random.get_state()[1].copy()
    check(predictor, "utmosv2")
    assert np.array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("family", ["utmos", "utmosv2", "scoreq", "nisqa", "squim", "squim_mos"])
def test_what_is_missing_is_told_with_where_to_get_it(family: str) -> None:
    reason = str(missing("mos", {"family": family, "checkpoint": "/nowhere"}))
    assert "pip install" in reason or ("no file '/nowhere'" in reason and "give its path as 'checkpoint'" in reason)
