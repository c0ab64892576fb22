"""Whisper through transformers: greedy, float32, the first 30 seconds."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.api import BackendInfo, FloatArray
from harness.errors import MissingDependency
from harness.judges.checkpoints import Loading, absence, check_loading, installed, package, require
from harness.torchaudio import ensure_torchaudio

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_FILES = (("config.json",), ("preprocessor_config.json", "processor_config.json"), ("tokenizer.json", "vocab.json"), _WEIGHTS)
_HOW = "get it with 'hf download {id}' or give a folder as 'checkpoint'"


class Whisper:
    """A Whisper checkpoint in the Hugging Face layout.

    Args:
        checkpoint: folder or hub id; ids are looked up in the local Hugging Face cache, never downloaded.
        device: "cpu", "cuda:0", ...

    Raises:
        MissingDependency: transformers or the checkpoint is not here.
        CheckpointError: weights do not fit the model.
    """

    def __init__(self, checkpoint: str = "openai/whisper-large-v3", device: str = "cpu") -> None:
        if reason := self.missing(checkpoint, device):
            raise MissingDependency(reason)
        found = require(checkpoint, _FILES, _HOW.format(id=checkpoint))
        ensure_torchaudio()
        import torch
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        loading = Loading(path for pattern in ("*.safetensors", "*.json") for path in found.folder.glob(pattern))
        pair: Any = WhisperForConditionalGeneration.from_pretrained(
            found.folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
        model, info = pair
        check_loading(info, found.folder)
        self._model = model.to(device).eval()
        self._processor: Any = WhisperProcessor.from_pretrained(found.folder, local_files_only=True)
        self._device = device
        self.info = BackendInfo(
            family="whisper",
            model=f"{found.label} greedy float32 first 30 s",
            digest=loading.digest(),
            package=package("transformers", "torch"),
            sample_rate=16000,
        )

    @classmethod
    def missing(cls, checkpoint: str = "openai/whisper-large-v3", device: str = "cpu") -> str | None:
        """None if it can be built, else one sentence: package or checkpoint, and how to get it."""
        if not installed("transformers"):
            return "the Whisper backend needs transformers: pip install 'speech-systems-harness[hf]'"
        return absence(checkpoint, _FILES, _HOW.format(id=checkpoint))

    def transcribe(self, samples: FloatArray, language: str) -> str:
        """Transcript of the first 30 s of mono ``samples [N]`` at 16 kHz, the language given to the model, without timestamps."""
        import torch

        features = self._processor(np.asarray(samples), sampling_rate=16000, return_tensors="pt").input_features
        with torch.inference_mode():
            tokens = self._model.generate(
                features.to(self._device), language=language, task="transcribe", num_beams=1, do_sample=False, return_timestamps=False
            )
        return str(self._processor.batch_decode(tokens, skip_special_tokens=True)[0]).strip()
