"""Self-supervised features, 50 frames a second: HuBERT from a local folder (paper), or our own speech encoder (small).

The paper's is the Chinese HuBERT-large (TencentGameMate/chinese-hubert-large), last layer, 1024 numbers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from systems.checkpoints import digest, stored_tensors
from systems.socodec.config import FEATURE_HOP

if TYPE_CHECKING:
    from typing import Self

_BUNDLED = Path(__file__).resolve().parents[1] / "weights" / "speech_encoder_small.safetensors"
_TAIL = 3200  # samples of silence behind the end, so that the last frame has its whole field of view
_FIRST_WINDOW = 400  # samples that HuBERT's convolutions need for one frame


class SpeechFeatures(nn.Module):
    """Audio at 16 kHz to features, 50 a second, taken as they are: the network stays in evaluation mode and has no gradients.

    Args:
        network: audio ``[B, N]`` to features ``[B, N // 320, D]``.
        dim: D.
        digest: content hash of its weights.
    """

    def __init__(self, network: nn.Module, dim: int, digest: str) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.dim, self.digest = dim, digest

    def forward(self, audio: Tensor) -> Tensor:
        """Features ``[B, N // 320, D]`` of ``audio [B, N]`` at 16 kHz."""
        features: Tensor = self.network(audio)
        return features

    def train(self, mode: bool = True) -> Self:
        """Keeps evaluation mode, whatever is asked."""
        return super().train(False)


class Hubert(nn.Module):
    """transformers' HubertModel with its input prepared as the released SoCodec does.

    Silence of 200 ms is put behind the end, the whole is brought to zero mean and unit variance (where the model was trained so), and
    the frames in that silence are neither attended to nor returned. The release computes in half precision, this in full.

    Args:
        model: a HubertModel.
        normalise: the model wants zero mean and unit variance.
    """

    def __init__(self, model: nn.Module, normalise: bool) -> None:
        super().__init__()
        self.model, self.normalise = model, normalise

    def forward(self, audio: Tensor) -> Tensor:
        """Features ``[B, N // 320, D]`` of ``audio [B, N]``; a last partial frame is left out."""
        count = audio.shape[1] // FEATURE_HOP
        padded = functional.pad(audio[:, : count * FEATURE_HOP].float(), (0, _TAIL))
        if self.normalise:
            padded = functional.layer_norm(padded, padded.shape[1:])
        if not count:
            return padded.new_zeros(padded.shape[0], 0, int(self.model.config.hidden_size))  # type: ignore[union-attr, arg-type]
        heard = torch.zeros_like(padded, dtype=torch.int64)
        heard[:, : (count - 1) * FEATURE_HOP + _FIRST_WINDOW] = 1  # samples of which the first `count` frames are made
        features: Tensor = self.model(padded, attention_mask=heard).last_hidden_state
        return features[:, :count]


def speech_features(size: str, path: str | Path | None = None) -> SpeechFeatures:
    """What hears for a size, with trained weights.

    Args:
        size: "paper" or "small".
        path: a HuBERT folder as transformers saves it (paper), or a file of `systems.speech_encoder` (small; the bundled one by default).

    Raises:
        FileNotFoundError: it is not there.
        ValueError: no path, or weights that do not fit.
        RuntimeError: transformers is not installed, or cannot be imported.
    """
    if size == "paper":
        if path is None:
            raise ValueError("SoCodec of the paper's size hears through HuBERT: give ssl=FOLDER of TencentGameMate/chinese-hubert-large")
        return _hubert(Path(path))
    from systems.speech_encoder.checkpoint import load

    loaded = load(path or _BUNDLED)
    return SpeechFeatures(loaded.model, loaded.model.dim, loaded.digest)


def random_features(size: str, dim: int, seed: int) -> SpeechFeatures:
    """An untrained encoder of a size (HuBERT-large, or our own with ``dim`` features), for timing.

    Raises:
        RuntimeError: transformers is not installed, or cannot be imported.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module
        if size == "paper":
            hf = _transformers()
            shape = hf.HubertConfig(
                hidden_size=dim, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096, feat_extract_norm="layer",
                conv_bias=True, do_stable_layer_norm=True,
            )  # fmt: skip
            network = Hubert(hf.HubertModel(shape), normalise=True)
        else:
            from systems.speech_encoder.config import SpeechEncoderConfig
            from systems.speech_encoder.model import SpeechEncoder

            network = SpeechEncoder(SpeechEncoderConfig(dim=dim))
    return SpeechFeatures(network, dim, digest(stored_tensors(network, torch.float32)))


def _hubert(folder: Path) -> SpeechFeatures:
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"no HuBERT folder at {folder}: it has no config.json")
    hf = _transformers()
    shape = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if shape.get("model_type") != "hubert":
        raise ValueError(f"{folder} holds a model of type {shape.get('model_type')!r}, not hubert")
    try:
        model, told = hf.HubertModel.from_pretrained(folder, local_files_only=True, output_loading_info=True, dtype=torch.float32)
    except OSError as error:  # the folder is there, its weights are not, or are no weights
        raise ValueError(f"{folder} holds no usable HuBERT: {error}") from error
    absent = sorted(told["missing_keys"]) + sorted(str(key) for key in told.get("mismatched_keys", ()))
    if absent:  # transformers would go on with random numbers in their place
        raise ValueError(f"{folder} lacks weights of its HuBERT: {', '.join(absent[:5])}{' and more' if len(absent) > 5 else ''}")
    network = Hubert(model, _wants_normalised(folder, shape))
    return SpeechFeatures(network, int(model.config.hidden_size), digest(stored_tensors(network, torch.float32)))


def _wants_normalised(folder: Path, shape: dict[str, Any]) -> bool:
    """As the folder's preprocessor says; without one, by the kind of convolutions, with which the training's input went."""
    preprocessor = folder / "preprocessor_config.json"
    if preprocessor.is_file():
        told = json.loads(preprocessor.read_text(encoding="utf-8"))
        if "do_normalize" in told:
            return bool(told["do_normalize"])
    return bool(shape.get("feat_extract_norm") == "layer")


def _transformers() -> Any:
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise RuntimeError("HuBERT needs the package transformers: pip install 'speech-systems-harness[hf]'") from error

    try:
        transformers.HubertModel  # noqa: B018 - imported now: it brings torchaudio along, whose compiled part may not fit
    except OSError as error:
        raise RuntimeError(
            f"transformers cannot import torchaudio here ({error}); its compiled part was built for another torch: install the matching one"
        ) from error
    return transformers
