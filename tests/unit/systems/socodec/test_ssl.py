"""The features SoCodec codes: HuBERT prepared as in the release, our own encoder, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness.torchaudio import ensure_torchaudio
from systems.checkpoints import exported
from systems.socodec.ssl import random_features, speech_features
from systems.speech_encoder.model import SpeechEncoder, SpeechEncoderConfig


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    ensure_torchaudio()
    transformers = pytest.importorskip("transformers")
    shape = transformers.HubertConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, conv_dim=(8,) * 7, conv_bias=True,
        feat_extract_norm="layer", do_stable_layer_norm=True, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("hubert")
    transformers.HubertModel(shape).save_pretrained(path)
    return path


def _copied(folder: Path, to: Path) -> Path:
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def test_hubert_hears_the_audio_normalised_with_silence_behind_it_and_attends_to_what_it_returns(folder):
    features = speech_features(folder)
    assert features.dim == 24
    audio = 0.1 * torch.randn(2, 12 * 320, generator=torch.Generator().manual_seed(0)) + 0.05
    heard = features(audio)
    assert heard.shape == (2, 12, 24)
    import transformers

    model = transformers.HubertModel.from_pretrained(folder, local_files_only=True).eval()
    for row in range(2):
        padded = torch.cat([audio[row], torch.zeros(3200)])
        padded = (padded - padded.mean()) / (padded.var(correction=0) + 1e-5).sqrt()
        with torch.no_grad():
            frames = model.feature_projection(model.feature_extractor(padded[None]).transpose(1, 2))
            assert frames.shape[1] == 12 + 9
            frames = torch.cat([frames[:, :12], torch.zeros(1, 9, 24)], dim=1)  # what the last nine hold is not to be known
            mask = (torch.arange(21) < 12)[None]
            wanted = model.encoder(frames, attention_mask=mask).last_hidden_state[0, :12]
        torch.testing.assert_close(heard[row], wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(features(audio[row : row + 1])[0], heard[row], rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def state(folder, tmp_path_factory) -> Path:
    """The same weights as torchaudio keeps them: its own conversion, saved as its bundles are. Heads are 64 wide there."""
    import torchaudio
    import transformers

    torch.manual_seed(1)
    shape = transformers.HubertConfig.from_pretrained(folder, hidden_size=128, intermediate_size=48)
    path = tmp_path_factory.mktemp("wide")
    transformers.HubertModel(shape).save_pretrained(path)
    wide = transformers.HubertModel.from_pretrained(path)
    torch.save(torchaudio.models.wav2vec2.utils.import_huggingface_model(wide).state_dict(), path / "hubert.pth")
    return path / "hubert.pth"


def test_a_torchaudio_state_hears_what_the_transformers_folder_does(state):
    audio = 0.1 * torch.randn(2, 10 * 320 + 7, generator=torch.Generator().manual_seed(0)) + 0.05
    wanted, heard = speech_features(state.parent), speech_features(state)
    assert heard.dim == wanted.dim == 128
    torch.testing.assert_close(heard(audio), wanted(audio), rtol=1e-3, atol=1e-4)
    assert float(wanted(audio).std()) > 0.1 and heard(audio[:, :100]).shape == (2, 0, 128)


def test_a_torchaudio_state_that_lacks_something_or_is_none_is_refused(state, tmp_path):
    tensors = torch.load(state, weights_only=True)
    left = {name: tensor for name, tensor in tensors.items() if "layers.1.attention.k_proj" not in name}
    torch.save(left, tmp_path / "lacking.pth")
    with pytest.raises(ValueError, match=r"lacks weights .*layers\.1\.attention\.k_proj"):
        speech_features(tmp_path / "lacking.pth")
    torch.save({"some": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="no HuBERT of torchaudio"):
        speech_features(tmp_path / "other.pth")
    torch.save({"code": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="without running code"):
        speech_features(tmp_path / "evil.pth")
    (tmp_path / "text.pth").write_text("not tensors")
    with pytest.raises(ValueError, match="without running code"):
        speech_features(tmp_path / "text.pth")


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('this ran')",))


@pytest.mark.parametrize("samples", [0, 319, 320, 640, 1000])
def test_hubert_gives_a_frame_for_every_whole_20_ms(folder, samples):
    heard = speech_features(folder)(torch.zeros(1, samples))
    assert heard.shape == (1, samples // 320, 24) and bool(torch.isfinite(heard).all())


def test_the_folder_says_whether_the_input_is_normalised(folder, tmp_path):
    audio = torch.randn(1, 3200) * 0.01
    plain = _copied(folder, tmp_path / "plain")
    (plain / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    assert not torch.allclose(speech_features(plain)(audio), speech_features(folder)(audio), atol=1e-3)
    torch.testing.assert_close(speech_features(folder)(3.0 * audio), speech_features(folder)(audio), rtol=1e-2, atol=1e-2)


def test_features_stay_as_they_are_in_training(folder):
    features = speech_features(folder)
    features.train()
    assert not any(module.training for module in features.modules())
    assert not any(p.requires_grad for p in features.parameters())
    assert features.digest == speech_features(folder).digest


def test_folders_that_do_not_fit_are_refused(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"with a config\.json"):
        speech_features(tmp_path)
    other = _copied(folder, tmp_path / "other")
    (other / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="of type 'bert', not hubert"):
        speech_features(other)
    bare = _copied(folder, tmp_path / "bare")
    (bare / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="no usable HuBERT"):
        speech_features(bare)
    poor = _copied(folder, tmp_path / "poor")
    import transformers

    tensors = transformers.HubertModel.from_pretrained(folder).state_dict()
    save_file({name: t.contiguous() for name, t in tensors.items() if name != "encoder.layer_norm.weight"}, poor / "model.safetensors")
    with pytest.raises(ValueError, match=r"lacks weights of its HuBERT: encoder\.layer_norm\.weight"):
        speech_features(poor)


def test_without_transformers_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(RuntimeError, match=r"pip install 'speech-systems-harness\[hf\]'"):
        speech_features(folder)


def test_the_small_size_hears_through_our_own_encoder(tmp_path):
    shape = SpeechEncoderConfig(width=8, hidden=8, depth=1, dim=6)
    torch.manual_seed(0)
    model = SpeechEncoder(shape).eval()
    path = tmp_path / "e.safetensors"
    save_file(exported(model, torch.float32), path, {"family": "speech_encoder", "config": json.dumps(shape.to_dict())})
    features, audio = speech_features(path), torch.randn(1, 1000)
    assert (features.dim, features(audio).shape) == (6, (1, 3, 6))
    with torch.no_grad():
        torch.testing.assert_close(features(audio), model(audio))
    with pytest.raises(FileNotFoundError, match="absent"):
        speech_features(tmp_path / "absent")


def test_random_features_are_those_of_their_seed():
    audio = torch.randn(1, 640)
    first, same, other = (random_features("small", 6, seed) for seed in (0, 0, 1))
    assert torch.equal(first(audio), same(audio)) and first.digest == same.digest
    assert not torch.equal(first(audio), other(audio)) and first.digest != other.digest
