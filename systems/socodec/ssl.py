"""Self-supervised features, 50 frames a second: HuBERT from local files (paper), or our own speech encoder (small).

The paper's is the Chinese HuBERT-large (TencentGameMate/chinese-hubert-large), last layer, 1024 numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from systems.checkpoints import digest, exported, load, untrained

if TYPE_CHECKING:
    from typing import Self


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
        path: a safetensors file of `systems.speech_encoder`; or a HuBERT, a folder as transformers saves it or a torchaudio state (see
            `systems.socodec.hubert`).

    Raises:
        FileNotFoundError: it is not there.
        ValueError: weights that do not fit.
        RuntimeError: transformers is not installed, or cannot be imported.
    """
    if path.suffix != ".safetensors":
        from systems.socodec.hubert import local_hubert

        hubert = local_hubert(path)
        return SpeechFeatures(hubert, hubert.dim, digest(exported(hubert)))
    from systems.speech_encoder.model import SpeechEncoder, SpeechEncoderConfig

    loaded = load(path, "speech_encoder", SpeechEncoder, SpeechEncoderConfig)
    return SpeechFeatures(loaded.model, loaded.model.dim, loaded.digest)


def random_features(size: str, dim: int, seed: int) -> SpeechFeatures:
    """An untrained encoder of a size (HuBERT-large, or our own with ``dim`` features), for timing.

    Raises:
        RuntimeError: transformers is not installed, or cannot be imported.
    """
    from systems.socodec.hubert import random_hubert
    from systems.speech_encoder.model import SpeechEncoder, SpeechEncoderConfig

    def build() -> nn.Module:
        return random_hubert(dim) if size == "paper" else SpeechEncoder(SpeechEncoderConfig(dim=dim))

    made = untrained(build, seed)
    return SpeechFeatures(made.model, dim, made.digest)
