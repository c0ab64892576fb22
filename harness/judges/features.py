"""Models whose inner representation of speech is compared, frame by frame: of words and sounds, or of emotion."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np

from harness.api import FloatArray, JudgeInfo
from harness.errors import CheckpointError
from harness.judges.checkpoints import FolderJudge, Loading, package, pretrained
from harness.judges.recognisers import funasr_model
from harness.judges.weights import WEIGHTS, PinnedJudge, require


class WhisperEncoder(PinnedJudge):
    """The last layer of Whisper base's encoder: 512 numbers each 20 ms. Its weights install with the recogniser's.

    Args:
        checkpoint: a folder with the weights; "" takes them wherever they lie (`harness.judges.weights`).

    Raises:
        MissingDependency: faster-whisper or the weights are not here.
        CheckpointError: the weights are not the published ones.
    """

    pinned = "whisper-base"
    needs, lacking = ("faster_whisper",), "the Whisper encoder needs faster-whisper: pip install faster-whisper"
    window_s, frame_s = 30.0, 0.02

    def __init__(self, checkpoint: str = "") -> None:
        self.require(checkpoint)
        weights = WEIGHTS[self.pinned]
        files = require(weights, checkpoint).read()
        make = importlib.import_module("faster_whisper").WhisperModel  # untyped
        self._model = make(weights.name, device="cpu", compute_type="float32", cpu_threads=1, local_files_only=True, files=files)
        versions = package("faster-whisper", "ctranslate2")
        self.info = JudgeInfo("whisper", f"{weights.name} encoder float32 windows of 30 s", weights.digest, versions)

    def frames(self, samples: FloatArray) -> FloatArray:
        """``[T, 512]``, one each 20 ms that has begun, of mono ``samples [N]`` at 16 kHz; longer audio in windows of 30 s."""
        size, found = int(self.window_s * self.info.sample_rate), []
        for start in range(0, len(samples), size):
            window = np.zeros(size, np.float32)
            part = samples[start : start + size]
            window[: len(part)] = part
            mel = self._model.feature_extractor(window)[:, : int(self.window_s * 100)]
            encoded = np.asarray(self._model.encode(mel), dtype=np.float32)[0]
            found.append(encoded[: math.ceil(len(part) / (self.frame_s * self.info.sample_rate))])
        return np.concatenate(found) if found else np.zeros((0, 512), np.float32)


class SelfSupervised(FolderJudge):
    """A layer of WavLM, HuBERT or wav2vec 2.0 by transformers.

    Args:
        checkpoint: folder or hub id.
        layer: of its transformer, from 1; 0 is what enters the first. SpeechBERTScore's authors recommend 14 of WavLM large.
        device: "cpu", "cuda:0", ...

    Raises:
        MissingDependency: transformers or the checkpoint is not here.
        CheckpointError: weights do not fit the model, or it has no such layer.
    """

    needs, lacking = ("transformers",), "self-supervised features need transformers: pip install 'speech-systems-harness[hf]'"
    files = (("config.json",), ("preprocessor_config.json",), ("model.safetensors", "pytorch_model.bin"))
    published = "microsoft/wavlm-large"

    def __init__(self, checkpoint: str = published, layer: int = 14, device: str = "cpu") -> None:
        found = self.located(checkpoint)
        from transformers import AutoConfig, HubertModel, Wav2Vec2Model, WavLMModel

        kind = AutoConfig.from_pretrained(found.folder, local_files_only=True).model_type
        classes = {"wavlm": WavLMModel, "hubert": HubertModel, "wav2vec2": Wav2Vec2Model}
        if kind not in classes:
            raise CheckpointError(f"{found.folder} holds a '{kind}', wanted one of {', '.join(classes)}")
        safe = (found.folder / "model.safetensors").is_file()
        weights = "model.safetensors" if safe else "pytorch_model.bin"
        loading = Loading(found.folder / name for name in ("config.json", "preprocessor_config.json", weights))
        self._model = pretrained(classes[kind], found.folder, device, safetensors=safe)
        if not 0 <= layer <= self._model.config.num_hidden_layers:
            raise CheckpointError(f"{found.folder} has {self._model.config.num_hidden_layers} layers, asked for layer {layer}")
        self._prepare: Any = importlib.import_module("transformers").AutoFeatureExtractor.from_pretrained(
            found.folder, local_files_only=True
        )
        self._layer, self._device = layer, device
        self.info = JudgeInfo(kind, f"{found.label} layer {layer} float32", loading.digest(), package("transformers", "torch"))

    def frames(self, samples: FloatArray) -> FloatArray:
        """``[T, D]``, one each 20 ms, of mono ``samples [N]`` at 16 kHz; none of less than one frame (25 ms)."""
        import torch

        if len(samples) < 400:
            return np.zeros((0, self._model.config.hidden_size), np.float32)
        inputs = self._prepare(np.asarray(samples, dtype=np.float32), sampling_rate=16000, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            layers = self._model(**inputs, output_hidden_states=True).hidden_states
        return np.asarray(layers[self._layer][0].cpu(), dtype=np.float32)


class Emotion2Vec(FolderJudge):
    """emotion2vec (Ma et al. 2023) and emotion2vec+ through FunASR: frames whose mean says how something was spoken.

    Args:
        checkpoint: folder, or an id of ModelScope or Hugging Face that is looked up in the local caches.
        device: "cpu", "cuda:0", ...

    Raises:
        MissingDependency: FunASR or the checkpoint is not here.
        CheckpointError: weights missing, mis-shaped or not finite.
    """

    needs, lacking = ("funasr",), "FunASR is not installed: pip install funasr"
    files = (("config.yaml",), ("model.pt",))
    published = "iic/emotion2vec_plus_base"
    how = "download it on a machine with a network (modelscope download --model {id}) and give the folder as 'checkpoint'"
    aliases = {published: (published, "emotion2vec/emotion2vec_plus_base")}  # noqa: RUF012  (read only)

    def __init__(self, checkpoint: str = published, device: str = "cpu") -> None:
        found = self.located(checkpoint)
        names = ("config.yaml", "model.pt", *(name for name in ("tokens.txt", "configuration.json") if (found.folder / name).is_file()))
        loading = Loading(found.folder / name for name in names)
        self._model = funasr_model(found, device)
        self.info = JudgeInfo("emotion2vec", found.label, loading.digest(), package("funasr", "torch"))

    def frames(self, samples: FloatArray) -> FloatArray:
        """``[T, D]``, one each 20 ms, of mono ``samples [N]`` at 16 kHz; none of less than one frame (25 ms)."""
        if len(samples) < 400:
            return np.zeros((0, 0), np.float32)
        (result,) = self._model.generate(input=np.asarray(samples, dtype=np.float32), granularity="frame", extract_embedding=True)
        return np.asarray(result["feats"], dtype=np.float32)
