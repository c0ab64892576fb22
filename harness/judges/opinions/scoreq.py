"""SCOREQ (Ragano et al. 2024), without a reference, from the ONNX files that its authors published."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harness.api import FloatArray, JudgeInfo
from harness.errors import CheckpointError
from harness.judges.checkpoint_files import FileJudge
from harness.judges.checkpoints import Loading, onnx_session, package

_MULTIPLE = 320  # stride of the convolutions of wav2vec 2.0


class Scoreq(FileJudge):
    """SCOREQ as its package computes it: the waveform, filled with zeros to a multiple of 320 samples, to one score.

    ``adapt_nr_telephone`` was fitted to natural, degraded speech, ``adapt_nr_synthetic`` to synthetic speech: two scales, told apart by
    the file in the signature. The first convolution is followed by a norm over time in each channel, so that neither level nor an offset
    says anything but through the zeros at the end.

    Args:
        checkpoint: the file, or a folder with one.

    Raises:
        MissingDependency: onnxruntime or the file is not here.
        CheckpointError: the file is not such a model: the ``fixed_nmr`` files, say, compare with a reference and give no score.
    """

    needs, lacking = ("onnxruntime",), "SCOREQ needs onnxruntime: pip install onnxruntime"
    files, where = ("adapt_nr_telephone.onnx", "adapt_nr_synthetic.onnx"), "Zenodo (record 15739280)"
    scores = ("overall",)

    def __init__(self, checkpoint: str = "") -> None:
        path = self.located(checkpoint)
        loading = Loading([path])
        try:
            self._session = onnx_session(path, log_severity_level=3)
        except Exception as error:  # onnxruntime raises classes of its own, without a common public base
            raise CheckpointError(f"{path} is not an ONNX model: {error}") from error
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 2:
            raise CheckpointError(f"{path} should take one input [B, N], it takes {[(i.name, i.shape) for i in inputs]}")
        self._input = inputs[0].name
        if (given := self._run(np.zeros(16000, np.float32)).size) != 1:
            raise CheckpointError(f"{path} gives {given} numbers, not one score; the models without a reference are {self.files}")
        self.info = JudgeInfo("scoreq", path.name, loading.digest(), package("onnxruntime"))

    def predict(self, samples: FloatArray) -> Mapping[str, float]:
        """The score, about 1 to 5, of mono ``samples [N]`` at 16 kHz.

        Raises:
            ValueError: no samples, or some not finite.
        """
        if samples.size == 0 or not np.isfinite(samples).all():
            raise ValueError(f"SCOREQ wants finite samples, at least one; got {samples.size}")
        return {"overall": float(self._run(samples).reshape(-1)[0])}

    def _run(self, samples: FloatArray) -> FloatArray:
        filled = np.pad(np.asarray(samples, dtype=np.float32), (0, -len(samples) % _MULTIPLE))
        output: FloatArray = np.asarray(self._session.run(None, {self._input: filled[None]})[0])
        return output
