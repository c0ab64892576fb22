"""DNSMOS P.835 and P.808: predicted opinion of noise-suppressed speech, without a reference (ONNX models in the speechmos wheel)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.api import FloatArray, JudgeInfo
from harness.judges.checkpoint_files import onnx_weights
from harness.judges.checkpoints import Judge, Loading, onnx_session, package, packaged

RATE = 16000


class DnsMos(Judge):
    """DNSMOS as the speechmos package computes it (Reddy et al. 2022): 9.01-s windows every second, averaged.

    Audio shorter than a window is repeated until it fills one, by the package. Samples beyond +-1 are refused, never rescaled; the
    metric decides what to do with them. The level counts (-.1 at +6 dB, -.05 at -6 dB, -.4 at -20 dB) and is left as it is. An offset that
    nobody hears would count too (-.16, up to -.5, for .02 of full scale): the mean is taken away first
    (on five recordings of LibriSpeech, with means up to .0003, that moves the score by .003 at most).

    What the windows share is computed once (`harness.judges.opinions.p835`), and P.808, a network of its own, when its score is asked
    for. Scores are the package's within 5e-6.

    Args:
        keep_offset: leave the mean in, as the published program does.

    Raises:
        MissingDependency: speechmos is not installed.
        CheckpointError: its P.835 network is another than that of speechmos 0.0.1.1.
    """

    needs = ("speechmos", "onnxruntime", "librosa", "requests")
    lacking = "DNSMOS needs speechmos with onnxruntime, librosa and requests: pip install speechmos onnxruntime librosa requests"
    scores = ("overall", "signal", "background", "p808")

    def __init__(self, keep_offset: bool = False) -> None:
        self.require()
        from speechmos.dnsmos import DNSMOS, INPUT_LENGTH

        from harness.judges.opinions.p835 import SharedWindows

        files = [packaged("speechmos", "dnsmos_models") / name for name in ("sig_bak_ovr.onnx", "model_v8.onnx")]
        loading = Loading(files)
        self._p835 = SharedWindows(onnx_weights(files[0]), files[0])
        # The package's own sessions take every core and spin on them; parallelism here is by process.
        self._p808 = onnx_session(files[1])
        # Without them, for its features and the polynomials that bring P.835 to the scale of listeners.
        self._package = DNSMOS.__new__(DNSMOS)
        self._window_s: float = INPUT_LENGTH
        self._keep_offset = keep_offset
        model = "P.835 sig_bak_ovr, P.808 model_v8" + ("" if keep_offset else ", mean removed")
        self.info = JudgeInfo("dnsmos", model, loading.digest(), package("speechmos", "onnxruntime", "librosa"))

    def predict(self, samples: FloatArray) -> Mapping[str, float]:
        """Overall, signal and background quality (P.835) and the P.808 score, on the MOS scale, of mono ``samples [N]`` at 16 kHz.

        A network runs when the first of its scores is asked for.

        Raises:
            ValueError: no samples (the package would never return), or some beyond +-1 or not finite.
        """
        if samples.size == 0 or not np.isfinite(samples).all() or np.abs(samples).max() > 1:
            raise ValueError(f"DNSMOS wants finite samples within +-1, at least one; got {samples.size}")
        offset = 0.0 if self._keep_offset else samples.mean(dtype=np.float64)
        return _Scores(self, np.clip(np.asarray(samples, dtype=np.float32) - np.float32(offset), -1, 1))

    def windows(self, samples: FloatArray) -> tuple[FloatArray, list[int]]:
        """The samples, repeated if they fill no window, and the seconds at which the package's windows begin in them."""
        least = int(self._window_s * RATE)
        while len(samples) < least:
            samples = np.append(samples, samples)
        last = int(np.floor(len(samples) / RATE) - self._window_s)
        # The package cuts by such products, and passes over a window that their rounding leaves short.
        return samples, [at for at in range(last + 1) if min(len(samples), int((at + self._window_s) * RATE)) - at * RATE >= least]

    def p835(self, samples: FloatArray) -> dict[str, float]:
        """Of samples without their mean."""
        raw = self._p835(*self.windows(samples))
        signal, background, overall = self._package.get_polyfit_val(*raw.T, False)
        return {"overall": float(np.mean(overall)), "signal": float(np.mean(signal)), "background": float(np.mean(background))}

    def p808(self, samples: FloatArray) -> float:
        """Of samples without their mean."""
        samples, windows = self.windows(samples)
        least = int(self._window_s * RATE)

        def rated(second: int) -> npt.NDArray[np.float32]:
            window = samples[second * RATE :][: least - 160]
            features = np.asarray(self._package.audio_melspec(audio=window), dtype=np.float32)[None]
            score: npt.NDArray[np.float32] = self._p808.run(None, {"input_1": features})[0][0][0]
            return score

        return float(np.mean([rated(second) for second in windows]))


class _Scores(Mapping[str, float]):
    """All scores of an audio, each computed with the first of its network."""

    def __init__(self, judge: DnsMos, samples: FloatArray) -> None:
        self._judge, self._samples = judge, samples

    @cached_property
    def _p835(self) -> dict[str, float]:
        return self._judge.p835(self._samples)

    @cached_property
    def _p808(self) -> float:
        return self._judge.p808(self._samples)

    def __getitem__(self, name: str) -> float:
        return self._p808 if name == "p808" else self._p835[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._judge.scores)

    def __len__(self) -> int:
        return len(self._judge.scores)

    def __contains__(self, name: Any) -> bool:
        return name in self._judge.scores
