"""SpeechTokenizer (Zhang et al., "SpeechTokenizer: Unified Speech Tokenizer for Speech Language Models", 2023) through its own package."""

from __future__ import annotations

import importlib
import json
import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from harness.api import CodecSpec
from systems.published.neural import Found, NeuralCodec, Release, scatter_codebooks

if TYPE_CHECKING:
    import torch

_CONFIG, _WEIGHTS = "config.json", "SpeechTokenizer.pt"
_TRAINER = "speechtokenizer.trainer"
# The shape of the published model, for random weights.
_SHAPE: dict[str, Any] = {
    "n_filters": 64, "strides": [8, 5, 4, 2], "dimension": 1024, "semantic_dimension": 768, "bidirectional": True, "dilation_base": 2,
    "residual_kernel_size": 3, "n_residual_layers": 1, "lstm_layers": 2, "activation": "ELU", "sample_rate": 16000, "n_q": 8,
    "codebook_size": 1024,
}  # fmt: skip


@dataclass(eq=False, repr=False)
class SpeechTokenizer(NeuralCodec):
    """SpeechTokenizer with the first ``num_codebooks`` of its 8 codebooks of 1024, at 50 Hz and 16 kHz; the first is semantic.

    Not causal: its encoder's LSTM runs both ways.

    Args:
        num_codebooks: 1..8.
        checkpoint: a folder has config.json and SpeechTokenizer.pt.
    """

    family = "speechtokenizer"
    release = Release(
        "SpeechTokenizer",
        "fnlp/SpeechTokenizer",
        "Apache-2.0",
        "LibriSpeech",
        ("speechtokenizer", "pip install 'speech-systems-harness[speechtokenizer]'"),
        ((_CONFIG,), (_WEIGHTS,)),
        "speechtokenizer_hubert_avg",
    )
    starts = {"cluster_size": 0.0}  # noqa: RUF012 - read only
    whole_frames = False

    num_codebooks: int | None = 8

    @classmethod
    def network(cls) -> Any:
        """The package's model.

        The package imports its trainer as well, and with it beartype and tensorboard, which its wheel does not declare. While the model
        is imported an empty module stands in for the trainer; it is taken away again.

        Raises:
            ImportError: the package or something that its model needs is not installed.
        """
        if "speechtokenizer" in sys.modules:
            return sys.modules["speechtokenizer"].SpeechTokenizer
        stand_in: Any = ModuleType(_TRAINER)
        stand_in.SpeechTokenizerTrainer = None
        sys.modules[_TRAINER] = stand_in
        try:
            return importlib.import_module("speechtokenizer").SpeechTokenizer
        finally:
            del sys.modules[_TRAINER]

    def _spec(self) -> CodecSpec:
        model = self._model
        sizes = (model.quantizer.bins,) * self._books(self.num_codebooks, model.n_q)
        return CodecSpec(int(model.sample_rate), int(model.downsample_rate), sizes, prefix_decodable=True)

    def _built(self) -> tuple[Any, Mapping[str, Any]]:
        model = self.network()(_SHAPE)
        scatter_codebooks(model)
        return model, {}

    def _loaded(self, found: Found) -> tuple[Any, Mapping[str, Any]]:
        import torch

        config = json.loads((found.folder / _CONFIG).read_text(encoding="utf-8"))
        weights = found.folder / _WEIGHTS
        try:
            # The package leaves it to torch's default whether a pickle may run code. Here it may not, whatever the environment says.
            torch.load(weights, map_location="cpu", weights_only=True)
            return self.network().load_from_checkpoint(str(found.folder / _CONFIG), str(weights)), config
        except (RuntimeError, pickle.UnpicklingError) as error:
            raise ValueError(f"the weights of {found.label} do not fit their configuration or are unreadable: {error}") from error

    def _indices(self, samples: torch.Tensor) -> torch.Tensor:
        codes: torch.Tensor = self._model.encode(samples, n_q=self.spec.num_codebooks)
        return codes[:, 0]

    def _samples(self, indices: torch.Tensor) -> torch.Tensor:
        audio: torch.Tensor = self._model.decode(indices.transpose(0, 1))
        return audio[0, 0]
