"""Self-supervised features, 50 frames a second: HuBERT from local files (paper), or our own speech encoder (small).

The paper's is the Chinese HuBERT-large (TencentGameMate/chinese-hubert-large), last layer, 1024 numbers.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from systems.checkpoints import digest, exported, load, untrained
from systems.socodec.config import FEATURE_HOP
from systems.speech_encoder.model import SpeechEncoder, SpeechEncoderConfig

if TYPE_CHECKING:
    from typing import Self


class SpeechFeatures(nn.Module):
    """Audio at 16 kHz to features, 50 a second, taken as they are: the network stays in evaluation mode and has no gradients.

    Args:
        network: audio ``[B, N]`` to features ``[B, N // 320, D]``.
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

    def check_fit(self, dim: int, trained_on: str) -> None:
        """That a codec may hear these features.

        Args:
            dim: that the codec was made for.
            trained_on: digest of the weights it was trained on, "" where its file does not say.

        Raises:
            ValueError: it may not.
        """
        if self.dim != dim:
            raise ValueError(f"the features have {self.dim} numbers, this codec was made for {dim}")
        if trained_on and trained_on != self.digest:
            raise ValueError(f"this codec was trained on the features of other weights ({trained_on}) than those given ({self.digest})")

    def train(self, mode: bool = True) -> Self:
        """Keeps evaluation mode, whatever is asked."""
        return super().train(False)


def speech_features(path: Path) -> SpeechFeatures:
    """What hears, with trained weights.

    Args:
        path: a safetensors file of `systems.speech_encoder`; or a HuBERT, a folder that transformers saved (config.json beside the weights)
            or a file that torchaudio's ``HUBERT_*`` bundles load (a state, ``.pth`` or ``.pt``; read with ``weights_only``).

    Raises:
        FileNotFoundError: it is not there.
        ValueError: other weights, or some are missing.
        RuntimeError: transformers is not installed, or cannot be imported.
    """
    if path.suffix == ".safetensors":
        loaded = load(path, "speech_encoder", SpeechEncoder, SpeechEncoderConfig)
        return SpeechFeatures(loaded.model, loaded.model.dim, loaded.digest)
    if path.is_file():
        hubert = _torchaudio_hubert(path)
    elif (path / "config.json").is_file():
        hubert = _transformers_hubert(path)
    else:
        raise FileNotFoundError(f"no HuBERT at {path}: neither a folder with a config.json (transformers) nor a file (torchaudio's state)")
    return SpeechFeatures(hubert, hubert.dim, digest(exported(hubert)))


def random_features(size: str, dim: int, seed: int) -> SpeechFeatures:
    """An untrained encoder of a size (HuBERT-large, or our own) with ``dim`` features, for timing.

    Raises:
        RuntimeError: transformers is not installed, or cannot be imported.
    """

    def build() -> nn.Module:
        if size != "paper":
            return SpeechEncoder(SpeechEncoderConfig(dim=dim))
        hf = _transformers()
        shape = hf.HubertConfig(
            hidden_size=dim, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096, feat_extract_norm="layer",
            conv_bias=True, do_stable_layer_norm=True,
        )  # fmt: skip
        return Hubert(_Transformers(hf.HubertModel(shape)), dim, normalise=True)

    made = untrained(build, seed)
    return SpeechFeatures(made.model, dim, made.digest)


_TAIL = 3200  # samples of silence behind the end, so that the last frame has its whole field of view
_FIRST_WINDOW = 400  # samples that HuBERT's convolutions need for one frame


class Hubert(nn.Module):
    """A HuBERT with its input prepared as the released SoCodec does.

    Silence of 200 ms is put behind the end, the whole is brought to zero mean and unit variance (where the model was trained so), and
    the frames in that silence are neither attended to nor returned. The release computes in half precision, this in full.

    Args:
        network: samples ``[B, N]`` and the number of samples in front that may be attended to, to features ``[B, T, D]``.
        normalise: the model wants zero mean and unit variance.
    """

    def __init__(self, network: nn.Module, dim: int, normalise: bool) -> None:
        super().__init__()
        self.network, self.dim, self.normalise = network, dim, normalise

    def forward(self, audio: Tensor) -> Tensor:
        """Features ``[B, N // 320, D]`` of ``audio [B, N]``; a last partial frame is left out."""
        count = audio.shape[1] // FEATURE_HOP
        padded = functional.pad(audio[:, : count * FEATURE_HOP].float(), (0, _TAIL))
        if self.normalise:
            padded = functional.layer_norm(padded, padded.shape[1:])
        if not count:
            return padded.new_zeros(padded.shape[0], 0, self.dim)
        # Samples of which the first `count` frames are made.
        features: Tensor = self.network(padded, (count - 1) * FEATURE_HOP + _FIRST_WINDOW)
        return features[:, :count]


class _Transformers(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, samples: Tensor, heard: int) -> Tensor:
        mask = torch.zeros_like(samples, dtype=torch.int64)
        mask[:, :heard] = 1
        features: Tensor = self.model(samples, attention_mask=mask).last_hidden_state
        return features


class _Torchaudio(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, samples: Tensor, heard: int) -> Tensor:
        features: Tensor = self.model(samples, torch.full(samples.shape[:1], heard, device=samples.device))[0]
        return features


def _transformers_hubert(folder: Path) -> Hubert:
    hf = _transformers()
    shape = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if shape.get("model_type") != "hubert":
        raise ValueError(f"{folder} holds a model of type {shape.get('model_type')!r}, not hubert")
    try:
        model, told = hf.HubertModel.from_pretrained(folder, local_files_only=True, output_loading_info=True, dtype=torch.float32)
    except OSError as error:  # the folder is there, its weights are not, or are no weights
        raise ValueError(f"{folder} holds no usable HuBERT: {error}") from error
    _all_there(folder, sorted(told["missing_keys"]) + sorted(str(key) for key in told.get("mismatched_keys", ())))
    return Hubert(_Transformers(model), int(model.config.hidden_size), _wants_normalised(folder, shape))


def _wants_normalised(folder: Path, shape: dict[str, Any]) -> bool:
    """As the folder's preprocessor says; without one, by the kind of convolutions, with which the training's input went."""
    preprocessor = folder / "preprocessor_config.json"
    if preprocessor.is_file():
        told = json.loads(preprocessor.read_text(encoding="utf-8"))
        if "do_normalize" in told:
            return bool(told["do_normalize"])
    return bool(shape.get("feat_extract_norm") == "layer")


def _torchaudio_hubert(file: Path) -> Hubert:
    """The shape is read off the tensors; heads are 64 wide but for the X-large model's 16 of 80."""
    import torchaudio

    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{file} is no state of tensors that torch reads without running code: {error}") from error
    state = state.get("state_dict", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping) or "encoder.feature_projection.projection.weight" not in state:
        raise ValueError(
            f"{file} is no HuBERT of torchaudio (no encoder.feature_projection.projection.weight); fairseq's files are converted by "
            "torchaudio.models.wav2vec2.utils.import_fairseq_model, or take the folder for transformers"
        )
    tensors = {str(name): tensor for name, tensor in state.items() if not str(name).startswith("aux.")}  # a recogniser's output layer
    dim = tensors["encoder.feature_projection.projection.weight"].shape[0]
    layers = 1 + max(int(found[1]) for name in tensors if (found := re.match(r"encoder\.transformer\.layers\.(\d+)\.", name)))
    position = next(
        tensor for name, tensor in tensors.items() if "pos_conv_embed.conv" in name and tensor.shape[:1] == (dim,) and tensor.ndim == 3
    )
    convolutions = [
        (tensor.shape[0], tensor.shape[2], 5 if number == 0 else 2)
        for number in range(7)
        if (tensor := tensors.get(f"feature_extractor.conv_layers.{number}.conv.weight")) is not None
    ]
    layered = "feature_extractor.conv_layers.1.layer_norm.weight" in tensors
    with torch.random.fork_rng(devices=[]):
        model = torchaudio.models.wav2vec2_model(
            extractor_mode="layer_norm" if layered else "group_norm",
            extractor_conv_layer_config=convolutions,
            extractor_conv_bias="feature_extractor.conv_layers.0.conv.bias" in tensors,
            encoder_embed_dim=dim,
            encoder_projection_dropout=0.0,
            encoder_pos_conv_kernel=position.shape[2],
            encoder_pos_conv_groups=dim // position.shape[1],
            encoder_num_layers=layers,
            encoder_num_heads=16 if dim == 1280 else max(1, dim // 64),
            encoder_attention_dropout=0.0,
            encoder_ff_interm_features=tensors["encoder.transformer.layers.0.feed_forward.intermediate_dense.weight"].shape[0],
            encoder_ff_interm_dropout=0.0,
            encoder_dropout=0.0,
            encoder_layer_norm_first=layered,
            encoder_layer_drop=0.0,
            aux_num_out=None,
        )
    try:
        told = model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{file} is a HuBERT of another shape than torchaudio's: {error}") from error
    _all_there(file, list(told.missing_keys))
    return Hubert(_Torchaudio(model), dim, normalise=layered)


def _all_there(source: Path, absent: list[str]) -> None:
    """Raises ValueError where weights are absent: a library would go on with random numbers in their place."""
    if absent:
        raise ValueError(f"{source} lacks weights of its HuBERT: {', '.join(absent[:5])}{' and more' if len(absent) > 5 else ''}")


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
