"""WeSpeaker encoders exported to ONNX (ResNet34 and others): 80 mel bins in, one embedding out."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.api import BackendInfo, FloatArray
from harness.errors import CheckpointError, MissingDependency
from harness.judges import NoSpeechError
from harness.judges.checkpoints import Loading, installed, package

_HOW = "download an ONNX model from WeSpeaker's list of pretrained models (docs/pretrained.md of wenet-e2e/wespeaker) and give its path"


class WeSpeaker:
    """A WeSpeaker ONNX file, with the features of WeSpeaker's own ONNX script.

    16-bit scaled waveform, 25 ms Hamming frames every 10 ms, 80 log mel bins without dither or energy, mean over time subtracted;
    input ``feats [1, T, 80]``, output ``embs [1, D]``.

    Args:
        checkpoint: an ``.onnx`` file, or a folder with exactly one.

    Raises:
        MissingDependency: a package or the file is not here.
        CheckpointError: the file is not a model of that interface.
    """

    def __init__(self, checkpoint: str = "") -> None:
        if reason := self.missing(checkpoint):
            raise MissingDependency(reason)
        import onnxruntime

        path = _find(checkpoint)
        assert path is not None
        loading = Loading([path])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises classes of its own, without a common public base
            raise CheckpointError(f"{path} is not an ONNX model: {error}") from error
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 3 or inputs[0].shape[2] != 80:
            raise CheckpointError(f"{path} should take one input [1, T, 80], it takes {[(i.name, i.shape) for i in inputs]}")
        self._input, self._output = inputs[0].name, self._session.get_outputs()[0].name
        self.info = BackendInfo("wespeaker", path.name, loading.digest(), package("onnxruntime", "kaldi-native-fbank"))

    @classmethod
    def missing(cls, checkpoint: str = "") -> str | None:
        """None if it can be built, else one sentence: package or file, and how to get it."""
        if not installed("onnxruntime", "kaldi_native_fbank"):
            return "the WeSpeaker backend needs onnxruntime and kaldi-native-fbank: pip install onnxruntime kaldi-native-fbank"
        if not checkpoint:
            return f"the WeSpeaker backend needs 'checkpoint', an ONNX file: {_HOW}"
        return None if _find(checkpoint) else f"no single .onnx file at '{checkpoint}'; {_HOW}"

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
        return vector / np.linalg.norm(vector)


def fbank(samples: FloatArray) -> FloatArray:
    """Kaldi's log mel filterbank ``[T, 80]`` of mono ``samples [N]`` at 16 kHz, full scale +-1."""
    knf = importlib.import_module("kaldi_native_fbank")  # untyped extension module
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = 16000
    options.frame_opts.dither = 0.0
    options.frame_opts.window_type = "hamming"
    options.mel_opts.num_bins = 80
    options.use_energy = False
    online = knf.OnlineFbank(options)
    online.accept_waveform(16000, (np.asarray(samples, dtype=np.float32) * 32768).tolist())
    online.input_finished()
    frames = [online.get_frame(t) for t in range(online.num_frames_ready)]
    return np.stack(frames).astype(np.float32) if frames else np.zeros((0, 80), np.float32)


def _find(checkpoint: str) -> Path | None:
    path = Path(checkpoint).expanduser()
    if path.is_file():
        return path
    models = sorted(path.glob("*.onnx")) if path.is_dir() else []
    return models[0] if len(models) == 1 else None
