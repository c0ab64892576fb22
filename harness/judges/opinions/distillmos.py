"""DistillMOS: opinion of a small network distilled from one on XLS-R, without a reference (Stahl and Gamper 2025; weights in its wheel)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from harness.api import FloatArray, JudgeInfo
from harness.judges.checkpoints import check_weights, package
from harness.judges.weights import WEIGHTS, PinnedJudge, require
from harness.torchaudio import ensure_torchaudio


class DistillMos(PinnedJudge):
    """DistillMOS as its package computes it: 7.68-s windows at most a second apart, averaged; a shorter clip is filled with silence.

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
        from distillmos import ConvTransformerSQAModel

        weights = WEIGHTS[self.pinned]
        (file,) = weights.files
        state = torch.load(io.BytesIO(require(weights, checkpoint).read()[file.name]), map_location="cpu", weights_only=True)["model"]
        network = ConvTransformerSQAModel(load_weights=False)
        check_weights(network.state_dict(), state, Path(file.name))
        network.load_state_dict(state)
        self._network, self._device = network.to(device).eval(), device
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
            batch = torch.from_numpy(centred)[None].to(self._device)
            return {"overall": float(self._network(batch))}
