"""DNSMOS P.835 and P.808: predicted opinion of noise-suppressed speech, without a reference (ONNX models in the speechmos wheel)."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from harness.api import BackendInfo, FloatArray
from harness.errors import MissingDependency
from harness.judges.checkpoints import Loading, installed, package


class DnsMos:
    """DNSMOS as the speechmos package computes it (Reddy et al. 2022): 9.01-s windows every second, averaged.

    Audio shorter than a window is repeated until it fills one, by the package. Samples beyond +-1 are refused, never rescaled; the
    metric decides what to do with them.

    Raises:
        MissingDependency: speechmos is not installed.
    """

    scores = ("overall", "signal", "background", "p808")

    def __init__(self) -> None:
        if reason := self.missing():
            raise MissingDependency(reason)
        import onnxruntime
        from speechmos.dnsmos import DNSMOS

        folder = _folder()
        files = [folder / "sig_bak_ovr.onnx", folder / "model_v8.onnx"]
        loading = Loading(files)
        # The package's own sessions take every core and spin on them; parallelism here is by process.
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._model = DNSMOS(*map(str, files))
        self._model.onnx_sess, self._model.p808_onnx_sess = (
            onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"]) for file in files
        )
        self.info = BackendInfo(
            "dnsmos", "P.835 sig_bak_ovr, P.808 model_v8", loading.digest(), package("speechmos", "onnxruntime", "librosa")
        )

    @classmethod
    def missing(cls) -> str | None:
        """None if it can be built, else what to install."""
        if installed("speechmos", "onnxruntime", "librosa", "requests"):
            return None
        return "DNSMOS needs speechmos with onnxruntime, librosa and requests: pip install speechmos onnxruntime librosa requests"

    def predict(self, samples: FloatArray) -> Mapping[str, float]:
        """Overall, signal and background quality (P.835) and the P.808 score, on the MOS scale, of mono ``samples [N]`` at 16 kHz.

        Raises:
            ValueError: no samples (the package would never return), or some beyond +-1 or not finite.
        """
        if samples.size == 0 or not np.isfinite(samples).all() or np.abs(samples).max() > 1:
            raise ValueError(f"DNSMOS wants finite samples within +-1, at least one; got {samples.size}")
        result = self._model(np.asarray(samples, dtype=np.float32), 16000, False)
        return {
            "overall": float(result["ovrl_mos"]),
            "signal": float(result["sig_mos"]),
            "background": float(result["bak_mos"]),
            "p808": float(result["p808_mos"]),
        }


def _folder() -> Path:
    spec = importlib.util.find_spec("speechmos")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "dnsmos_models"
