"""DistillMOS: opinion of a small network distilled from one on XLS-R, without a reference (Stahl and Gamper 2025; weights in its wheel)."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.api import FloatArray, JudgeInfo
from harness.judges.checkpoints import check_weights, package
from harness.judges.weights import WEIGHTS, PinnedJudge, require
from harness.torchaudio import ensure_torchaudio

if TYPE_CHECKING:
    from torch import Tensor

HOP = 160
REACH = 6
"""Frames to either side of its own two that a column of the last convolution comes from."""
EDGE_COLUMNS = 3
"""Columns at the end of a window that come from the zeros beyond it."""
SILENT_FRAMES = 32
"""Enough that the column in the middle comes from no edge."""


class DistillMos(PinnedJudge):
    """DistillMOS as its package computes it: 7.68-s windows at most a second apart, averaged; a shorter clip is filled with silence.

    What the convolutions make of that silence is known beforehand and is put in its place, and windows are taken one by one with the
    channels last, which a processor's cache prefers. Scores are the package's within 2e-6.

    The package divides every window by its largest sample, so that the level says nothing. An offset that nobody hears would say much
    (+.2 where it is 3 % of the peak): the mean is taken away first. The network gives 1 to 5.

    Args:
        checkpoint: a folder with the published file; "" takes the one inside the package.
        device: "cpu", "cuda:0", ...

    Raises:
        MissingDependency: distillmos or its weights are not here.
        CheckpointError: the file is not the published one, or does not fit the package's network.
    """

    pinned = "distillmos"
    needs = ("distillmos", "xls_r_sqa", "torchaudio")
    lacking = "DistillMOS is not installed: pip install distillmos==0.9.1"
    scores = ("overall",)

    def __init__(self, checkpoint: str = "", device: str = "cpu") -> None:
        self.require(checkpoint)
        ensure_torchaudio()
        import torch
        from distillmos import ConvTransformerSQAModel, sqa

        weights = WEIGHTS[self.pinned]
        (file,) = weights.files
        state = torch.load(io.BytesIO(require(weights, checkpoint).read()[file.name]), map_location="cpu", weights_only=True)["model"]
        network = ConvTransformerSQAModel(load_weights=False)
        check_weights(network.state_dict(), state, Path(file.name))
        network.load_state_dict(state)
        network = network.to(device).eval()
        self._convolutions, self._rest = network.cnn, network.transformer_pool_attn
        self._convolutions.cnn.to(memory_format=torch.channels_last)
        for layer in self._convolutions.cnn:
            if isinstance(layer, torch.nn.LeakyReLU):
                layer.inplace = True
        self._window, self._most_hop = sqa.SEQ_LEN, sqa.MAX_HOP_LEN
        with torch.inference_mode():
            silent = self._convolutions(torch.zeros(1, HOP * SILENT_FRAMES, device=device))
        self._silence, self._end = silent[:, :, SILENT_FRAMES // 4, None], silent[:, :, -EDGE_COLUMNS:]
        self._device = device
        self.info = JudgeInfo("distillmos", f"{file.name}, mean removed", weights.digest, package("distillmos", "xls-r-sqa", "torch"))

    def predict(self, samples: FloatArray) -> Mapping[str, float]:
        """The score, 1 to 5, of mono ``samples [N]`` at 16 kHz.

        Raises:
            ValueError: no samples, or some not finite.
        """
        import torch

        if samples.size == 0 or not np.isfinite(samples).all():
            raise ValueError(f"DistillMOS wants finite samples, at least one; got {samples.size}")
        with torch.inference_mode():
            centred = np.asarray(samples, dtype=np.float32) - np.float32(samples.mean(dtype=np.float64))
            audio = torch.from_numpy(centred)[None].to(self._device)
            beyond = max(0, len(samples) - self._window)
            places = np.linspace(0, 1, math.ceil(beyond / self._most_hop) + 1)
            shares = [self._rest(self._columns(audio[:, int(place * beyond) :][:, : self._window]).permute(0, 2, 1)) for place in places]
            return {"overall": float(1 + 4 * torch.cat(shares).mean())}

    def _columns(self, audio: Tensor) -> Tensor:
        """What the convolutions make of a window ``[1, N]``, silence behind it where it is short: ``[1, D, 384]``."""
        import torch
        from torch.nn.functional import pad

        audio = audio / (audio.abs().max() + 1e-8)
        sounding = -(-(audio.shape[1] + HOP // 2) // HOP)  # frames of 20 ms that reach into the clip
        heard = (sounding + REACH + 1) // 2
        frames, columns = 2 * heard + REACH, self._window // HOP // 2
        if frames >= 2 * columns:
            found: Tensor = self._convolutions(pad(audio, (0, self._window - audio.shape[1])))
            return found
        found = self._convolutions(pad(audio, (0, HOP * frames - audio.shape[1])))[:, :, :heard]
        return torch.cat([found, self._silence.expand(-1, -1, columns - heard - EDGE_COLUMNS), self._end], dim=2)
