"""Resemblyzer: the speaker encoder that works right after pip install (GE2E LSTM, weights in the wheel)."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.api import BackendInfo, FloatArray
from harness.errors import MissingDependency
from harness.judges import NoSpeechError
from harness.judges.checkpoints import Loading, check_weights, installed, package


class Resemblyzer:
    """256-dimensional GE2E embeddings.

    As in the package's documented use, the audio is first raised to -30 dBFS if it is quieter and long pauses are cut by WebRTC's
    voice activity detector: that is part of this encoder, not of the metric.

    Raises:
        MissingDependency: resemblyzer is not installed.
        CheckpointError: the packaged weights do not fit (the package itself loads them leniently).
    """

    def __init__(self, device: str = "cpu") -> None:
        if reason := self.missing(device):
            raise MissingDependency(reason)
        import torch

        with (
            warnings.catch_warnings()
        ):  # its dependency webrtcvad tells every user that pkg_resources will go: our pin of setuptools is the answer
            warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
            from resemblyzer import VoiceEncoder

        weights = _weights()
        loading = Loading([weights])
        self._encoder = VoiceEncoder(device, verbose=False, weights_fpath=weights)
        state = torch.load(weights, map_location="cpu", weights_only=True)["model_state"]
        # The file also holds the two scalars of the training loss.
        check_weights({k: v.cpu() for k, v in self._encoder.state_dict().items()}, state, weights, allow_unexpected=True)
        self.info = BackendInfo("resemblyzer", weights.name, loading.digest(), package("resemblyzer", "torch", "librosa", "webrtcvad"))

    @classmethod
    def missing(cls, device: str = "cpu") -> str | None:
        """None if it can be built, else what to install."""
        return None if installed("resemblyzer", "webrtcvad", "librosa") else "Resemblyzer is not installed: pip install resemblyzer"

    def embed(self, samples: FloatArray) -> npt.NDArray[np.float64]:
        """Unit-length ``[256]`` of mono ``samples [N]`` at 16 kHz.

        Raises:
            NoSpeechError: the voice activity detector leaves nothing.
        """
        from resemblyzer import preprocess_wav

        if not np.any(samples):
            raise NoSpeechError("the audio is digital silence")
        speech = preprocess_wav(np.asarray(samples, dtype=np.float32))
        if speech.size == 0:
            raise NoSpeechError("Resemblyzer's voice activity detector found no speech")
        vector = np.asarray(self._encoder.embed_utterance(speech), dtype=np.float64)
        return vector / np.linalg.norm(vector)


def _weights() -> Path:
    spec = importlib.util.find_spec("resemblyzer")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).with_name("pretrained.pt")
