"""WavLM x-vectors through transformers (microsoft/wavlm-base-plus-sv and its kind)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from harness.api import BackendInfo, FloatArray
from harness.errors import MissingDependency
from harness.judges.checkpoints import Loading, absence, check_loading, installed, package, require
from harness.torchaudio import ensure_torchaudio

# The published checkpoints are pickles; transformers reads those with weights_only=True, so that no code in them runs.
_FILES = (("config.json",), ("preprocessor_config.json",), ("model.safetensors", "pytorch_model.bin"))
_HOW = "get it with 'hf download {id}' or give a folder as 'checkpoint'"


class WavLm:
    """`WavLMForXVector` embeddings.

    Args:
        checkpoint: folder or hub id; ids are looked up in the local Hugging Face cache, never downloaded.
        device: "cpu", "cuda:0", ...

    Raises:
        MissingDependency: transformers or the checkpoint is not here.
        CheckpointError: any key missing, unexpected or of another shape. A plain WavLM without the x-vector head loads leniently into
            random projections, whose cosines look plausible and mean nothing.
    """

    def __init__(self, checkpoint: str = "microsoft/wavlm-base-plus-sv", device: str = "cpu") -> None:
        if reason := self.missing(checkpoint, device):
            raise MissingDependency(reason)
        found = require(checkpoint, _FILES, _HOW.format(id=checkpoint))
        ensure_torchaudio()
        import torch
        from transformers import AutoFeatureExtractor, WavLMForXVector

        safe = (found.folder / "model.safetensors").is_file()
        weights = "model.safetensors" if safe else "pytorch_model.bin"
        loading = Loading(found.folder / name for name in ("config.json", "preprocessor_config.json", weights))
        pair: Any = WavLMForXVector.from_pretrained(
            found.folder, dtype=torch.float32, use_safetensors=safe, local_files_only=True, output_loading_info=True
        )
        model, info = pair
        check_loading(info, found.folder)
        self._model = model.to(device).eval()
        extractor: Any = AutoFeatureExtractor
        self._features = extractor.from_pretrained(found.folder, local_files_only=True)
        self._device = device
        self.info = BackendInfo("wavlm", found.label, loading.digest(), package("transformers", "torch"))

    @classmethod
    def missing(cls, checkpoint: str = "microsoft/wavlm-base-plus-sv", device: str = "cpu") -> str | None:
        """None if it can be built, else one sentence: package or checkpoint, and how to get it."""
        if not installed("transformers"):
            return "the WavLM backend needs transformers: pip install 'speech-systems-harness[hf]'"
        return absence(checkpoint, _FILES, _HOW.format(id=checkpoint))

    def embed(self, samples: FloatArray) -> npt.NDArray[np.float64]:
        """Unit-length ``[D]`` of mono ``samples [N]`` at 16 kHz."""
        import torch

        inputs = self._features(np.asarray(samples), sampling_rate=16000, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            vector = self._model(**inputs).embeddings[0].double().cpu().numpy()
        unit: npt.NDArray[np.float64] = vector / np.linalg.norm(vector)
        return unit
