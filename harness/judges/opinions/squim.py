"""SQUIM (Kumar et al. 2023), from the files that torchaudio published, through torchaudio's networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.api import FloatArray, JudgeInfo
from harness.data.audio import read_audio
from harness.judges.checkpoint_files import FileJudge, read_state
from harness.judges.checkpoints import Loading, check_weights, package
from harness.torchaudio import load_torchaudio

_NEEDS, _LACKING = ("torchaudio",), "SQUIM needs torchaudio: pip install 'torchaudio==2.11.*'"
_WHERE = "download.pytorch.org/torchaudio/models"


class SquimObjective(FileJudge):
    """Wide-band PESQ as a network guesses it without the reference: an estimate of `pesq_wb`, never to be mixed with it.

    The network divides by the root mean square itself, so that the level says nothing; the mean, which nobody hears and which would take
    from that level, is removed first. It guesses STOI and SI-SDR too, which are no opinions and are not given.

    Args:
        checkpoint: the file, or a folder with it.
        device: "cpu", "cuda:0", ...

    Raises:
        MissingDependency: torchaudio or the file is not here.
        CheckpointError: the file is another model's.
    """

    needs, lacking = _NEEDS, _LACKING
    files, where = ("squim_objective_dns2020.pth",), _WHERE
    scores = ("pesq",)

    def __init__(self, checkpoint: str = "", device: str = "cpu") -> None:
        path = self.located(checkpoint)
        loading = Loading([path])
        self._network, self._device = _loaded(load_torchaudio().models.squim_objective_base(), path).to(device), device
        self.info = JudgeInfo("squim", f"{path.name}, mean removed", loading.digest(), package("torchaudio", "torch"))

    def predict(self, samples: FloatArray) -> Mapping[str, float]:
        """The estimate, on the scale of MOS-LQO, of mono ``samples [N]`` at 16 kHz.

        Raises:
            ValueError: no samples, or some not finite.
        """
        import torch

        with torch.inference_mode():
            _, pesq, _ = self._network(_wave(samples).to(self._device))
            return {"pesq": float(pesq)}


class SquimSubjective(FileJudge):
    """MOS after NORESQA-MOS: how much worse than a clean recording of anything the output sounds, taken from 5.

    Which recording it is compared with changes the number: its bytes are in the digest. It is repeated or cut to the output's length.

    Args:
        checkpoint: the file, or a folder with it.
        reference: path of a clean recording of speech, the same for a whole table.
        device: "cpu", "cuda:0", ...

    Raises:
        MissingDependency: torchaudio, the file or the recording is not here.
        CheckpointError: the file is another model's.
    """

    needs, lacking = _NEEDS, _LACKING
    files, where = ("squim_subjective_bvcc_daps.pth",), _WHERE
    scores = ("overall",)

    @classmethod
    def missing(cls, checkpoint: str = "", reference: str = "", *arguments: Any, **settings: Any) -> str | None:
        """As `FileJudge.missing`; the recording too may be missing."""
        if reason := super().missing(checkpoint):
            return reason
        wanted = "SQUIM's opinion needs 'reference', the path of a clean recording of speech (of any words)"
        return None if reference and Path(reference).expanduser().is_file() else f"no file '{reference}': {wanted}" if reference else wanted

    def __init__(self, checkpoint: str = "", reference: str = "", device: str = "cpu") -> None:
        import torch

        path = self.located(checkpoint, reference)
        recording = Path(reference).expanduser()
        loading = Loading([path, recording])
        audio = read_audio(recording)
        clean = load_torchaudio().functional.resample(
            torch.from_numpy(audio.samples.mean(axis=0, dtype=np.float32)), audio.sample_rate, 16000
        )
        self._network, self._device = _loaded(load_torchaudio().models.squim_subjective_base(), path).to(device), device
        self._clean = _wave(clean.numpy()).to(device)
        self.info = JudgeInfo("squim_mos", f"{path.name} against {recording.name}", loading.digest(), package("torchaudio", "torch"))

    def predict(self, samples: FloatArray) -> Mapping[str, float]:
        """The score, 1 to 5, of mono ``samples [N]`` at 16 kHz.

        Raises:
            ValueError: no samples, or some not finite.
        """
        import torch

        with torch.inference_mode():
            return {"overall": float(self._network(_wave(samples).to(self._device), self._clean))}


def _loaded(network: Any, path: Path) -> Any:
    own, state = network.state_dict(), dict(read_state(path))
    for parametrised in [key for key in own if key.endswith(("original0", "original1"))]:  # files from before torch 2 have the older names
        older = parametrised.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        )
        if older in state:
            state[parametrised] = state.pop(older)
    check_weights(own, state, path)
    network.load_state_dict(state)
    return network.eval()


def _wave(samples: FloatArray) -> Any:
    import torch

    if samples.size == 0 or not np.isfinite(samples).all():
        raise ValueError(f"SQUIM wants finite samples, at least one; got {samples.size}")
    return torch.from_numpy(np.asarray(samples, dtype=np.float32) - np.float32(samples.mean(dtype=np.float64)))[None]
