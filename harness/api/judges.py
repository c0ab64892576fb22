"""The models that judge: recognisers, speaker encoders, MOS predictors. Metrics see these protocols only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from harness.api.audio import FloatArray


@dataclass(frozen=True)
class BackendInfo:
    """Identity of a judge; all of it goes into the signature of every number it makes.

    Args:
        family: name in the registry ("pocketsphinx", "funasr", ...).
        model: folder name, hub id or packaged model's name, with its revision.
        digest: content hash of the weights (16 or more hex digits).
        package: "name==version" of the libraries that make its numbers.
        sample_rate: of the audio it takes, in Hz.
        languages: ISO 639-1 codes it understands; empty for any.
    """

    family: str
    model: str
    digest: str
    package: str
    sample_rate: int = 16000
    languages: tuple[str, ...] = ()


@runtime_checkable
class Recogniser(Protocol):
    """Speech to text, deterministic."""

    @property
    def info(self) -> BackendInfo: ...
    def transcribe(self, samples: FloatArray, language: str) -> str:
        """Raw transcript of mono ``samples [N]`` at ``info.sample_rate``; "" when nothing was heard."""
        ...


@runtime_checkable
class SpeakerEncoder(Protocol):
    """A voice as a vector."""

    @property
    def info(self) -> BackendInfo: ...
    def embed(self, samples: FloatArray) -> npt.NDArray[np.float64]:
        """Unit-length ``[D]`` embedding of mono ``samples [N]`` at ``info.sample_rate``."""
        ...


@runtime_checkable
class MosPredictor(Protocol):
    """Predicted opinion scores from the output alone."""

    @property
    def info(self) -> BackendInfo: ...
    def predict(self, samples: FloatArray) -> Mapping[str, float]:
        """Scores by name (e.g. overall, signal, background) of mono ``samples [N]`` at ``info.sample_rate``."""
        ...
