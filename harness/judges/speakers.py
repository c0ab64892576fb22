"""Speaker encoders: Resemblyzer, which installs with the package, SpeechBrain's ECAPA-TDNN, WavLM x-vectors and WeSpeaker's ONNX models."""

from __future__ import annotations

import importlib
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.api import FloatArray, JudgeInfo
from harness.data.documents import YAML_BYTES, check_yaml, read_text
from harness.errors import CheckpointError
from harness.judges import NoSpeechError
from harness.judges.checkpoints import FolderJudge, Judge, Loading, check_weights, onnx_session, package, packaged, pretrained
from harness.torchaudio import ensure_torchaudio

_ALLOWED_TAGS = re.compile(
    r"!(ref|tuple|copy|(new|name):speechbrain\."
    r"(lobes\.(features|models)\.[\w.]+|processing\.features\.\w+|nnet\.[\w.]+|dataio\.encoder\.\w+|utils\.parameter_transfer\.Pretrainer))"
)


class Resemblyzer(Judge):
    """256-dimensional GE2E embeddings: the speaker encoder that works right after pip install (weights in the wheel).

    As in the package's documented use, the audio is first raised to -30 dBFS if it is quieter and long pauses are cut by WebRTC's
    voice activity detector: that is part of this encoder, not of the metric. Louder audio keeps its level, which moves the embedding
    (1 - cos .04 at +6 dB, .02 at -6 dB). An offset that nobody hears would move it more (.08, up to .26, for .02 of full scale): the mean
    is taken away first.

    Raises:
        MissingDependency: resemblyzer is not installed.
        CheckpointError: the packaged weights do not fit (the package itself loads them leniently).
    """

    needs, lacking = ("resemblyzer", "webrtcvad", "librosa"), "Resemblyzer is not installed: pip install resemblyzer"

    def __init__(self, device: str = "cpu") -> None:
        self.require()
        import torch

        # Its dependency webrtcvad tells every user that pkg_resources will go: our pin of setuptools is the answer.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
            from resemblyzer import VoiceEncoder

        weights = packaged("resemblyzer", "pretrained.pt")
        loading = Loading([weights])
        self._encoder = VoiceEncoder(device, verbose=False, weights_fpath=weights)
        state = torch.load(weights, map_location="cpu", weights_only=True)["model_state"]
        # The file also holds the two scalars of the training loss.
        check_weights({k: v.cpu() for k, v in self._encoder.state_dict().items()}, state, weights, allow_unexpected=True)
        self.info = JudgeInfo(
            "resemblyzer", f"{weights.name}, mean removed", loading.digest(), package("resemblyzer", "torch", "librosa", "webrtcvad")
        )

    def embed(self, samples: FloatArray) -> npt.NDArray[np.float64]:
        """Unit-length ``[256]`` of mono ``samples [N]`` at 16 kHz.

        Raises:
            NoSpeechError: the voice activity detector leaves nothing.
        """
        from resemblyzer import preprocess_wav

        if not np.any(samples):
            raise NoSpeechError("the audio is digital silence")
        speech = preprocess_wav(np.asarray(samples, dtype=np.float32) - np.float32(samples.mean(dtype=np.float64)))
        if speech.size == 0:
            raise NoSpeechError("Resemblyzer's voice activity detector found no speech")
        vector = np.asarray(self._encoder.embed_utterance(speech), dtype=np.float64)
        return unit(vector)


class Ecapa(FolderJudge):
    """SpeechBrain's ECAPA-TDNN, or any folder of its layout: `EncoderClassifier.encode_batch`.

    Nothing is changed before it: log mel bands lose a gain with their mean over time, and an offset stays in the lowest of them.

    A SpeechBrain ``hyperparams.yaml`` is a program: its tags construct any Python object. Folders whose tags go beyond SpeechBrain's
    own layers and loaders, or that bring a ``custom.py``, are refused before anything is built.

    Args:
        checkpoint: folder or hub id.
        device: "cpu", "cuda:0", ...

    Raises:
        MissingDependency: speechbrain or the checkpoint is not here.
        CheckpointError: weights do not fit (SpeechBrain only warns), or the folder wants to run code.
    """

    needs, lacking = ("speechbrain", "hyperpyyaml"), "SpeechBrain is not installed: pip install speechbrain"
    files = (("hyperparams.yaml",), ("embedding_model.ckpt",))
    also = (*FolderJudge.also, "*.ckpt")
    published = "speechbrain/spkrec-ecapa-voxceleb"

    def __init__(self, checkpoint: str = published, device: str = "cpu") -> None:
        found = self.located(checkpoint)
        _refuse_code(found.folder)
        loading = Loading(found.folder / name for (name,) in self.files)
        self._model = _load(found.folder, device)
        self._device = device
        self.info = JudgeInfo("ecapa", found.label, loading.digest(), package("speechbrain", "torch"))

    def embed(self, samples: FloatArray) -> npt.NDArray[np.float64]:
        """Unit-length ``[D]`` of mono ``samples [N]`` at 16 kHz."""
        import torch

        with torch.inference_mode():
            batch = torch.from_numpy(np.array(samples, dtype=np.float32))[None].to(self._device)
            vector = self._model.encode_batch(batch, normalize=False).reshape(-1).double().cpu().numpy()
        return unit(vector)


class WavLm(FolderJudge):
    """WavLM x-vectors through transformers: `WavLMForXVector` embeddings.

    Where its preprocessor_config.json says do_normalize, the waveform is brought to mean 0 and variance 1 and neither level nor an offset
    says anything; where it does not, both count.

    Args:
        checkpoint: folder or hub id.
        device: "cpu", "cuda:0", ...

    Raises:
        MissingDependency: transformers or the checkpoint is not here.
        CheckpointError: any key missing, unexpected or of another shape. A plain WavLM without the x-vector head loads leniently into
            random projections, whose cosines look plausible and mean nothing.
    """

    needs, lacking = ("transformers",), "the WavLM judge needs transformers: pip install 'speech-systems-harness[hf]'"
    files = (("config.json",), ("preprocessor_config.json",), ("model.safetensors", "pytorch_model.bin"))
    published = "microsoft/wavlm-base-plus-sv"

    def __init__(self, checkpoint: str = published, device: str = "cpu") -> None:
        found = self.located(checkpoint)
        ensure_torchaudio()
        from transformers import AutoFeatureExtractor, WavLMForXVector

        safe = (found.folder / "model.safetensors").is_file()  # the published checkpoints are pickles
        weights = "model.safetensors" if safe else "pytorch_model.bin"
        loading = Loading(found.folder / name for name in ("config.json", "preprocessor_config.json", weights))
        self._model = pretrained(WavLMForXVector, found.folder, device, safe)
        extractor: Any = AutoFeatureExtractor
        self._features = extractor.from_pretrained(found.folder, local_files_only=True)
        self._device = device
        self.info = JudgeInfo("wavlm", found.label, loading.digest(), package("transformers", "torch"))

    def embed(self, samples: FloatArray) -> npt.NDArray[np.float64]:
        """Unit-length ``[D]`` of mono ``samples [N]`` at 16 kHz."""
        import torch

        inputs = self._features(np.asarray(samples), sampling_rate=16000, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            vector = self._model(**inputs).embeddings[0].double().cpu().numpy()
        return unit(vector)


class WeSpeaker(Judge):
    """A WeSpeaker encoder exported to ONNX (ResNet34 and others), with the features of WeSpeaker's own ONNX script.

    16-bit scaled waveform, 25 ms Hamming frames every 10 ms, 80 log mel bins without dither or energy, mean over time subtracted: an
    offset falls away with each frame's mean, a gain with the mean over time;
    input ``feats [1, T, 80]``, output ``embs [1, D]``.

    Args:
        checkpoint: an ``.onnx`` file, or a folder with exactly one.

    Raises:
        MissingDependency: a package or the file is not here.
        CheckpointError: the file is not a model of that interface.
    """

    needs = ("onnxruntime", "kaldi_native_fbank")
    lacking = "the WeSpeaker judge needs onnxruntime and kaldi-native-fbank: pip install onnxruntime kaldi-native-fbank"

    @classmethod
    def missing(cls, checkpoint: str = "", *arguments: Any, **settings: Any) -> str | None:
        """As `Judge.missing`; the file too may be missing."""
        how = "download an ONNX model from WeSpeaker's list of pretrained models (docs/pretrained.md of wenet-e2e/wespeaker) and give its path"
        if reason := super().missing():
            return reason
        if not checkpoint:
            return f"the WeSpeaker judge needs 'checkpoint', an ONNX file: {how}"
        return None if _find(checkpoint) else f"no single .onnx file at '{checkpoint}'; {how}"

    def __init__(self, checkpoint: str = "") -> None:
        self.require(checkpoint)
        path = _find(checkpoint)
        assert path is not None
        loading = Loading([path])
        try:
            self._session = onnx_session(path, log_severity_level=3)
        except Exception as error:  # onnxruntime raises classes of its own, without a common public base
            raise CheckpointError(f"{path} is not an ONNX model: {error}") from error
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 3 or inputs[0].shape[2] != 80:
            raise CheckpointError(f"{path} should take one input [1, T, 80], it takes {[(i.name, i.shape) for i in inputs]}")
        self._input, self._output = inputs[0].name, self._session.get_outputs()[0].name
        self.info = JudgeInfo("wespeaker", path.name, loading.digest(), package("onnxruntime", "kaldi-native-fbank"))

    def embed(self, samples: FloatArray) -> npt.NDArray[np.float64]:
        """Unit-length ``[D]`` of mono ``samples [N]`` at 16 kHz.

        Raises:
            NoSpeechError: shorter than one 25-ms frame.
        """
        features = fbank(samples)
        if features.shape[0] == 0:
            raise NoSpeechError(f"{len(samples)} samples are less than one 25-ms frame")
        centred = features - features.mean(axis=0, keepdims=True)
        (output,) = self._session.run([self._output], {self._input: centred[None].astype(np.float32)})
        vector = np.asarray(output, dtype=np.float64).reshape(-1)
        return unit(vector)


def _refuse_code(folder: Path) -> None:
    import yaml

    if (folder / "custom.py").exists():
        raise CheckpointError(f"{folder} brings a custom.py, which loading would run; remove it if the model works without")
    text = read_text(folder / "hyperparams.yaml", YAML_BYTES)
    check_yaml(text, str(folder / "hyperparams.yaml"))
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        tag = getattr(event, "tag", None)
        if tag and not tag.startswith("tag:yaml.org,2002:") and not _ALLOWED_TAGS.fullmatch(tag):
            raise CheckpointError(f"{folder}/hyperparams.yaml: the tag {tag} could run code and is refused")


def _load(folder: Path, device: str) -> Any:
    ensure_torchaudio()
    import torch
    from speechbrain.inference.classifiers import EncoderClassifier

    hyperparams = (folder / "hyperparams.yaml").read_text(encoding="utf-8")
    overrides = {"pretrained_path": str(folder)} if re.search(r"^pretrained_path:", hyperparams, re.MULTILINE) else {}
    model = EncoderClassifier.from_hparams(source=str(folder), savedir=None, overrides=overrides, run_opts={"device": device})
    path = folder / "embedding_model.ckpt"
    state = torch.load(path, map_location="cpu", weights_only=True)
    check_weights({k: v.cpu() for k, v in model.mods["embedding_model"].state_dict().items()}, state, path)
    return model.eval()


def fbank(samples: FloatArray, window: str = "hamming", full_scale: float = 32768.0) -> FloatArray:
    """Kaldi's log mel filterbank ``[T, 80]`` of mono ``samples [N]`` at 16 kHz, without dither.

    Args:
        samples: within +-1.
        window: "hamming" or "povey".
        full_scale: what a sample of 1 becomes first; it decides which levels lie below the floor of the logarithm.
    """
    knf = importlib.import_module("kaldi_native_fbank")  # untyped extension module
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = 16000
    options.frame_opts.dither = 0.0
    options.frame_opts.window_type = window
    options.mel_opts.num_bins = 80
    options.use_energy = False
    online = knf.OnlineFbank(options)
    online.accept_waveform(16000, (np.asarray(samples, dtype=np.float32) * full_scale).tolist())
    online.input_finished()
    frames = [online.get_frame(t) for t in range(online.num_frames_ready)]
    return np.stack(frames).astype(np.float32) if frames else np.zeros((0, 80), np.float32)


def _find(checkpoint: str) -> Path | None:
    path = Path(checkpoint).expanduser()
    if path.is_file():
        return path
    models = sorted(path.glob("*.onnx")) if path.is_dir() else []
    return models[0] if len(models) == 1 else None


def unit(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """``vector [D]`` at length 1."""
    scaled: npt.NDArray[np.float64] = vector / np.linalg.norm(vector)
    return scaled
