"""DNSMOS P.835 and P.808: predicted opinion of noise-suppressed speech, without a reference (ONNX models in the speechmos wheel)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harness.api import FloatArray, JudgeInfo
from harness.judges.checkpoints import Judge, Loading, onnx_session, package, packaged


class DnsMos(Judge):
    """DNSMOS as the speechmos package computes it (Reddy et al. 2022): 9.01-s windows every second, averaged.

    Audio shorter than a window is repeated until it fills one, by the package. Samples beyond +-1 are refused, never rescaled; the
    metric decides what to do with them. The level counts (-.1 at +6 dB, -.05 at -6 dB, -.4 at -20 dB) and is left as it is. An offset that
    nobody hears would count too (-.16, up to -.5, for .02 of full scale): the mean is taken away first
    (on five recordings of LibriSpeech, with means up to .0003, that moves the score by .003 at most).

    Args:
        keep_offset: leave the mean in, as the published program does.

    Raises:
        MissingDependency: speechmos is not installed.
    """

    needs = ("speechmos", "onnxruntime", "librosa", "requests")
    lacking = "DNSMOS needs speechmos with onnxruntime, librosa and requests: pip install speechmos onnxruntime librosa requests"
    scores = ("overall", "signal", "background", "p808")

    def __init__(self, keep_offset: bool = False) -> None:
        self.require()
        from speechmos.dnsmos import DNSMOS

        files = [packaged("speechmos", "dnsmos_models") / name for name in ("sig_bak_ovr.onnx", "model_v8.onnx")]
        loading = Loading(files)
        self._model = DNSMOS(*map(str, files))
        # The package's own sessions take every core and spin on them; parallelism here is by process.
        self._model.onnx_sess, self._model.p808_onnx_sess = map(onnx_session, files)
        self._keep_offset = keep_offset
        model = "P.835 sig_bak_ovr, P.808 model_v8" + ("" if keep_offset else ", mean removed")
        self.info = JudgeInfo("dnsmos", model, loading.digest(), package("speechmos", "onnxruntime", "librosa"))

    def predict(self, samples: FloatArray) -> Mapping[str, float]:
        """Overall, signal and background quality (P.835) and the P.808 score, on the MOS scale, of mono ``samples [N]`` at 16 kHz.

        Raises:
            ValueError: no samples (the package would never return), or some beyond +-1 or not finite.
        """
        if samples.size == 0 or not np.isfinite(samples).all() or np.abs(samples).max() > 1:
            raise ValueError(f"DNSMOS wants finite samples within +-1, at least one; got {samples.size}")
        offset = 0.0 if self._keep_offset else samples.mean(dtype=np.float64)
        result = self._model(np.clip(np.asarray(samples, dtype=np.float32) - np.float32(offset), -1, 1), 16000, False)
        return {
            "overall": float(result["ovrl_mos"]),
            "signal": float(result["sig_mos"]),
            "background": float(result["bak_mos"]),
            "p808": float(result["p808_mos"]),
        }
