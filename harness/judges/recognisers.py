"""Recognisers whose weights are a checkpoint: Whisper, HuBERT and Qwen3-ASR by transformers, Whisper by CTranslate2, Paraformer by FunASR."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from harness.api import FloatArray, JudgeInfo
from harness.judges.checkpoints import Checkpoint, FolderJudge, Loading, check_weights, package, pretrained
from harness.torchaudio import ensure_torchaudio

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_QWEN_TOKENS, _QWEN_TOKENS_PER_S = 64, 25
"""Bound of Qwen3-ASR's answer, far beyond what anybody says in a second: a loop ends there."""


class Whisper(FolderJudge):
    """A Whisper checkpoint in the Hugging Face layout.

    Args:
        checkpoint: folder or hub id.
        device: "cpu", "cuda:0", ...

    Raises:
        MissingDependency: transformers or the checkpoint is not here.
        CheckpointError: weights do not fit the model.
    """

    needs, lacking = ("transformers",), "the Whisper judge needs transformers: pip install 'speech-systems-harness[hf]'"
    files = (("config.json",), ("preprocessor_config.json", "processor_config.json"), ("tokenizer.json", "vocab.json"), _WEIGHTS)
    published = "openai/whisper-large-v3"

    def __init__(self, checkpoint: str = published, device: str = "cpu") -> None:
        found = self.located(checkpoint)
        ensure_torchaudio()
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        loading = Loading(path for pattern in ("*.safetensors", "*.json") for path in found.folder.glob(pattern))
        self._model = pretrained(WhisperForConditionalGeneration, found.folder, device)
        self._processor: Any = WhisperProcessor.from_pretrained(found.folder, local_files_only=True)
        self._device = device
        self.info = JudgeInfo("whisper", f"{found.label} greedy float32 first 30 s", loading.digest(), package("transformers", "torch"))

    def transcribe(self, samples: FloatArray, language: str) -> str:
        """Transcript of the first 30 s of mono ``samples [N]`` at 16 kHz, the language given to the model, without timestamps."""
        import torch

        features = self._processor(np.asarray(samples), sampling_rate=16000, return_tensors="pt").input_features
        with torch.inference_mode():
            tokens = self._model.generate(
                features.to(self._device), language=language, task="transcribe", num_beams=1, do_sample=False, return_timestamps=False
            )
        return str(self._processor.batch_decode(tokens, skip_special_tokens=True)[0]).strip()


class FasterWhisper(FolderJudge):
    """A CTranslate2 Whisper folder, with beam 5 the English recogniser of the F5-TTS protocol.

    Args:
        checkpoint: folder or hub id.
        beam_size: hypotheses kept by the search.
        device: "cpu" or "cuda".

    Raises:
        MissingDependency: the package or the checkpoint is not here.
    """

    needs, lacking = ("faster_whisper",), "the faster_whisper judge needs its package: pip install faster-whisper"
    files = (("model.bin",), ("config.json",), ("tokenizer.json",))
    published = "Systran/faster-whisper-large-v3"
    how = "get it with 'hf download {id}' or give a CTranslate2 folder as 'checkpoint'"

    def __init__(self, checkpoint: str = published, beam_size: int = 5, device: str = "cpu") -> None:
        found = self.located(checkpoint)
        loading = Loading(path for path in found.folder.iterdir() if path.is_file() and path.suffix in (".bin", ".json"))
        model = importlib.import_module("faster_whisper").WhisperModel  # optional, so type checkers cannot be told of it
        self._model = model(str(found.folder), device=device, compute_type="float32", local_files_only=True)
        self._beam_size = beam_size
        self.info = JudgeInfo(
            "faster_whisper", f"{found.label} beam {beam_size} float32", loading.digest(), package("faster-whisper", "ctranslate2")
        )

    def transcribe(self, samples: FloatArray, language: str) -> str:
        """Transcript of mono ``samples [N]`` at 16 kHz, segments joined by spaces."""
        segments, _ = self._model.transcribe(np.asarray(samples, dtype=np.float32), beam_size=self._beam_size, language=language)
        return " ".join(segment.text.strip() for segment in segments)


class FunAsr(FolderJudge):
    """A Paraformer folder, the Mandarin recogniser of the published protocols, through FunASR's own loading calls.

    Args:
        checkpoint: folder, or "paraformer-zh", looked up in the local ModelScope and Hugging Face caches. Never downloaded: FunASR given
            a name without a network tries for half a minute and then fails with an unrelated message.
        language: ISO 639-1 code of what the model understands.
        device: "cpu", "cuda:0", ...

    Raises:
        MissingDependency: FunASR or the checkpoint is not here.
        CheckpointError: weights missing, mis-shaped or not finite (FunASR itself only prints a warning).
    """

    needs, lacking = ("funasr",), "FunASR is not installed: pip install funasr"
    files = (("config.yaml",), ("model.pt",), ("tokens.json", "tokens.txt"))
    also = (*FolderJudge.also, "am.mvn", "seg_dict")
    published = "paraformer-zh"
    how = "download it on a machine with a network (modelscope download --model {id}) and give the folder as 'checkpoint'"
    aliases: ClassVar[Mapping[str, Sequence[str]]] = {
        "paraformer-zh": ("iic/speech_seaco_paraformer_large_asr_nat-zh-cn-16k-common-vocab8404-pytorch", "funasr/paraformer-zh"),
        "paraformer": ("iic/speech_paraformer-large_asr_nat-zh-cn-16k-common-vocab8404-pytorch",),
    }

    def __init__(self, checkpoint: str = published, language: str = "zh", device: str = "cpu") -> None:
        found = self.located(checkpoint)
        # Further files shape the transcript where they are there.
        optional = ("tokens.json", "tokens.txt", "am.mvn", "seg_dict", "configuration.json")
        names = ("config.yaml", "model.pt", *(name for name in optional if (found.folder / name).is_file()))
        loading = Loading(found.folder / name for name in names)
        self._model = funasr_model(found, device)
        self.info = JudgeInfo("funasr", found.label, loading.digest(), package("funasr", "torch", "torchaudio"), languages=(language,))

    def transcribe(self, samples: FloatArray, language: str) -> str:
        """Transcript of mono ``samples [N]`` at 16 kHz as FunASR returns it; "" when it returns nothing.

        Raises:
            ValueError: not the model's language.
        """
        if language not in self.info.languages:
            raise ValueError(f"this FunASR model understands {self.info.languages}, asked for '{language}'")
        results = self._model.generate(input=np.asarray(samples, dtype=np.float32))
        return str(results[0].get("text", "")) if results else ""


def funasr_model(found: Checkpoint, device: str) -> Any:
    """FunASR's model of a folder, without a download and without code of the folder's own.

    Raises:
        CheckpointError: weights missing, mis-shaped or not finite (FunASR itself only prints a warning).
    """
    import torch

    ensure_torchaudio()
    with contextlib.redirect_stdout(sys.stderr):  # FunASR greets on stdout, where a table or JSON may be going
        from funasr import AutoModel

        model = AutoModel(
            model=str(found.folder),
            device=device,
            ncpu=torch.get_num_threads(),  # it sets torch's global thread count: leave that as it is
            frontend_conf={"dither": 0.0},  # the default adds random noise to the features
            trust_remote_code=False,  # whatever the folder's own config says
            disable_update=True,
            disable_pbar=True,
            disable_log=True,
            log_level="ERROR",
        )
    path = found.folder / "model.pt"
    state = torch.load(path, map_location="cpu", weights_only=True)
    for wrapper in ("state_dict", "model_state_dict", "model"):
        state = state.get(wrapper, state)
    state = {key.removeprefix("module."): value for key, value in state.items()}
    check_weights(model.model.state_dict(), state, path, allow_unexpected=True)
    return model


class HubertCtc(FolderJudge):
    """HuBERT with a CTC head over letters, of LibriSpeech: the likeliest letter of each frame, no language model. English.

    Args:
        checkpoint: folder or hub id.
        device: "cpu", "cuda:0", ...

    Raises:
        MissingDependency: transformers or the checkpoint is not here.
        CheckpointError: weights do not fit the model (a HuBERT without the CTC head loads leniently, and then spells noise).
    """

    needs, lacking = ("transformers",), "the HuBERT judge needs transformers: pip install 'speech-systems-harness[hf]'"
    files = (("config.json",), ("preprocessor_config.json",), ("vocab.json",), ("model.safetensors", "pytorch_model.bin"))
    published = "facebook/hubert-large-ls960-ft"

    def __init__(self, checkpoint: str = published, device: str = "cpu") -> None:
        found = self.located(checkpoint)
        ensure_torchaudio()
        from transformers import HubertForCTC, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor

        safe = (found.folder / "model.safetensors").is_file()  # the published checkpoint is a pickle
        weights = found.folder / ("model.safetensors" if safe else "pytorch_model.bin")
        loading = Loading([weights, *found.folder.glob("*.json")])
        self._model = pretrained(HubertForCTC, found.folder, device, safe)
        extractor, tokenizer = Wav2Vec2FeatureExtractor, Wav2Vec2CTCTokenizer
        self._features: Any = extractor.from_pretrained(found.folder, local_files_only=True)
        self._tokenizer: Any = tokenizer.from_pretrained(found.folder, local_files_only=True)
        self._device = device
        self.info = JudgeInfo(
            "hubert_ctc", f"{found.label} greedy float32", loading.digest(), package("transformers", "torch"), languages=("en",)
        )

    def transcribe(self, samples: FloatArray, language: str) -> str:
        """Transcript of mono ``samples [N]`` at 16 kHz, in the letters of the checkpoint's vocabulary (upper case in the published one).

        Raises:
            ValueError: not English.
        """
        if language not in self.info.languages:
            raise ValueError(f"this HuBERT understands {self.info.languages}, asked for '{language}'")
        import torch

        inputs = self._features(np.asarray(samples), sampling_rate=16000, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            letters = self._model(**inputs).logits[0].argmax(dim=-1).cpu()
        return str(self._tokenizer.decode(letters)).strip()


class Qwen3Asr(FolderJudge):
    """Qwen3-ASR in transformers' own layout (the repositories ending in "-hf"), greedy, the language given to the model.

    Args:
        checkpoint: folder or hub id.
        device: "cpu", "cuda:0", ...

    Raises:
        MissingDependency: transformers or the checkpoint is not here.
        CheckpointError: weights do not fit the model, as those in the layout of the package qwen-asr do not.
    """

    needs, lacking = ("transformers",), "the Qwen3-ASR judge needs transformers: pip install 'speech-systems-harness[hf]'"
    files = (("config.json",), ("preprocessor_config.json", "processor_config.json"), ("tokenizer.json", "vocab.json"), _WEIGHTS)
    published = "Qwen/Qwen3-ASR-1.7B-hf"

    def __init__(self, checkpoint: str = published, device: str = "cpu") -> None:
        found = self.located(checkpoint)
        ensure_torchaudio()
        from transformers import Qwen3ASRForConditionalGeneration, Qwen3ASRProcessor

        loading = Loading(path for pattern in ("*.safetensors", "*.json", "*.jinja") for path in found.folder.glob(pattern))
        self._model = pretrained(Qwen3ASRForConditionalGeneration, found.folder, device)
        self._processor: Any = Qwen3ASRProcessor.from_pretrained(found.folder, local_files_only=True)
        self._device = device
        self.info = JudgeInfo("qwen3_asr", f"{found.label} greedy float32", loading.digest(), package("transformers", "torch"))

    def transcribe(self, samples: FloatArray, language: str) -> str:
        """Transcript of mono ``samples [N]`` at 16 kHz.

        Raises:
            ValueError: a language the model was not made for.
        """
        import torch

        inputs = self._processor.apply_transcription_request(np.asarray(samples), language=language).to(self._device)
        most = _QWEN_TOKENS + _QWEN_TOKENS_PER_S * len(samples) // 16000
        with torch.inference_mode():
            tokens = self._model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=most)
        heard = tokens[0, inputs["input_ids"].shape[1] :]
        return str(self._processor.decode(heard, return_format="transcription_only")).strip()
