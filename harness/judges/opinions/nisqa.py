"""NISQA 2 (Mittag et al. 2021) from the file that its authors published, through the network in torchmetrics."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.api import FloatArray, JudgeInfo
from harness.errors import CheckpointError
from harness.judges import NoSpeechError
from harness.judges.checkpoint_files import FileJudge, read_entry
from harness.judges.checkpoints import Loading, check_weights, package
from harness.torchaudio import ensure_torchaudio

RATE = 48000


class Nisqa(FileJudge):
    """NISQA 2 at 48 kHz, as torchmetrics computes it: overall opinion and four dimensions of it, all on the MOS scale.

    The published program takes a file at its own rate, so that one file at 16 and at 48 kHz are two inputs to it; here everything is
    48 kHz. Level is one of its dimensions and is left as it is; the mean, which nobody hears, is removed.

    Args:
        checkpoint: the file, or a folder with it.

    Raises:
        MissingDependency: torchmetrics, librosa, requests or the file is not here.
        CheckpointError: the file is another model's.
    """

    needs = ("torchmetrics", "librosa", "requests")
    lacking = "NISQA needs torchmetrics, librosa and requests: pip install torchmetrics librosa requests"
    files, where = ("nisqa.tar",), "the folder 'weights' of gabrielmittag/NISQA"
    scores = ("overall", "noisiness", "discontinuity", "coloration", "loudness")

    def __init__(self, checkpoint: str = "") -> None:
        path = self.located(checkpoint)
        ensure_torchaudio()
        import torchmetrics.functional.audio.nisqa as library

        loading = Loading([path])
        held = read_entry(path, "args", "model_state_dict")
        try:
            network: Any = library._NISQADIM(held["args"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path}: its 'args' describe no network of NISQA with four dimensions: {error!r}") from error
        check_weights(network.state_dict(), held["model_state_dict"], path)
        network.load_state_dict(held["model_state_dict"])
        self._library, self._network, self._args = library, network.eval(), held["args"]
        self.info = JudgeInfo("nisqa", f"{path.name}, mean removed", loading.digest(), package("torchmetrics", "torch", "librosa"), RATE)

    def predict(self, samples: FloatArray) -> Mapping[str, float]:
        """The scores, about 1 to 5, of mono ``samples [N]`` at 48 kHz.

        Raises:
            NoSpeechError: shorter or longer than the network takes (about .15 s and 52 s).
            ValueError: no samples, or some not finite.
        """
        import torch

        if samples.size == 0 or not np.isfinite(samples).all():
            raise ValueError(f"NISQA wants finite samples, at least one; got {samples.size}")
        centred = np.asarray(samples, dtype=np.float32) - np.float32(samples.mean(dtype=np.float64))
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.filterwarnings("ignore", message="Empty filters detected")
            spectrum = self._library._get_librosa_melspec(centred[None], RATE, self._args)
            try:
                windows, count = self._library._segment_specs(torch.from_numpy(spectrum), self._args)
            except RuntimeError as error:
                raise NoSpeechError(f"{samples.size / RATE:.3g} s: {str(error)[:1].lower()}{str(error)[1:]}") from error
            given = self._network(windows, count.expand(1))[0]
        return {name: float(value) for name, value in zip(self.scores, given, strict=True)}
