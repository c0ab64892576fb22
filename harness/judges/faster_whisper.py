"""faster-whisper (CTranslate2) with beam 5, the English recogniser of the F5-TTS protocol."""

from __future__ import annotations

import importlib

import numpy as np

from harness.api import BackendInfo, FloatArray
from harness.errors import MissingDependency
from harness.judges.checkpoints import Loading, absence, installed, package, require

_FILES = (("model.bin",), ("config.json",), ("tokenizer.json",))
_HOW = "get it with 'hf download {id}' or give a CTranslate2 folder as 'checkpoint'"


class FasterWhisper:
    """A CTranslate2 Whisper folder.

    Args:
        checkpoint: folder or hub id; ids are looked up in the local Hugging Face cache, never downloaded.
        beam_size: hypotheses kept by the search.
        device: "cpu" or "cuda".

    Raises:
        MissingDependency: the package or the checkpoint is not here.
    """

    def __init__(self, checkpoint: str = "Systran/faster-whisper-large-v3", beam_size: int = 5, device: str = "cpu") -> None:
        if reason := self.missing(checkpoint, beam_size, device):
            raise MissingDependency(reason)
        found = require(checkpoint, _FILES, _HOW.format(id=checkpoint))
        loading = Loading(path for path in found.folder.iterdir() if path.is_file() and path.suffix in (".bin", ".json"))
        model = importlib.import_module("faster_whisper").WhisperModel  # optional, so type checkers cannot be told of it
        self._model = model(str(found.folder), device=device, compute_type="float32", local_files_only=True)
        self._beam_size = beam_size
        self.info = BackendInfo(
            family="faster_whisper",
            model=f"{found.label} beam {beam_size} float32",
            digest=loading.digest(),
            package=package("faster-whisper", "ctranslate2"),
        )

    @classmethod
    def missing(cls, checkpoint: str = "Systran/faster-whisper-large-v3", beam_size: int = 5, device: str = "cpu") -> str | None:
        """None if it can be built, else one sentence: package or checkpoint, and how to get it."""
        if not installed("faster_whisper"):
            return "the faster_whisper backend needs its package: pip install faster-whisper"
        return absence(checkpoint, _FILES, _HOW.format(id=checkpoint))

    def transcribe(self, samples: FloatArray, language: str) -> str:
        """Transcript of mono ``samples [N]`` at 16 kHz, segments joined by spaces."""
        segments, _ = self._model.transcribe(np.asarray(samples, dtype=np.float32), beam_size=self._beam_size, language=language)
        return " ".join(segment.text.strip() for segment in segments)
