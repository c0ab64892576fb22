"""FunASR's Paraformer, the Mandarin recogniser of the published protocols."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import numpy as np

from harness.api import BackendInfo, FloatArray
from harness.errors import MissingDependency
from harness.judges.checkpoints import Checkpoint, Loading, absence, check_weights, installed, package, require
from harness.torchaudio import ensure_torchaudio

_FILES = (("config.yaml",), ("model.pt",), ("tokens.json", "tokens.txt"))
_PUBLISHED = {
    "paraformer-zh": ("iic/speech_seaco_paraformer_large_asr_nat-zh-cn-16k-common-vocab8404-pytorch", "funasr/paraformer-zh"),
    "paraformer": ("iic/speech_paraformer-large_asr_nat-zh-cn-16k-common-vocab8404-pytorch",),
}
_HOW = "download it on a machine with a network (modelscope download --model {id}) and give the folder as 'checkpoint'"


class FunAsr:
    """A Paraformer folder through FunASR's own loading calls.

    Args:
        checkpoint: folder, or "paraformer-zh", looked up in the local ModelScope and Hugging Face caches. Never downloaded: FunASR given
            a name without a network tries for half a minute and then fails with an unrelated message.
        language: ISO 639-1 code of what the model understands.
        device: "cpu", "cuda:0", ...

    Raises:
        MissingDependency: FunASR or the checkpoint is not here.
        CheckpointError: weights missing, mis-shaped or not finite (FunASR itself only prints a warning).
    """

    def __init__(self, checkpoint: str = "paraformer-zh", language: str = "zh", device: str = "cpu") -> None:
        if reason := self.missing(checkpoint, language, device):
            raise MissingDependency(reason)
        found = require(checkpoint, _FILES, _HOW.format(id=_published(checkpoint)[0]), _published(checkpoint))
        loading = Loading(found.folder / name for name in ("config.yaml", "model.pt", *_optional(found)))
        self._model = _load(found, device)
        self.info = BackendInfo(
            family="funasr",
            model=found.label,
            digest=loading.digest(),
            package=package("funasr", "torch", "torchaudio"),
            languages=(language,),
        )

    @classmethod
    def missing(cls, checkpoint: str = "paraformer-zh", language: str = "zh", device: str = "cpu") -> str | None:
        """None if it can be built, else one sentence: package or folder, and how to get it."""
        if not installed("funasr"):
            return "FunASR is not installed: pip install funasr"
        return absence(checkpoint, _FILES, _HOW.format(id=_published(checkpoint)[0]), _published(checkpoint))

    def transcribe(self, samples: FloatArray, language: str) -> str:
        """Transcript of mono ``samples [N]`` at 16 kHz as FunASR returns it; "" when it returns nothing.

        Raises:
            ValueError: not the model's language.
        """
        if language not in self.info.languages:
            raise ValueError(f"this FunASR model understands {self.info.languages}, asked for '{language}'")
        results = self._model.generate(input=np.asarray(samples, dtype=np.float32))
        return str(results[0].get("text", "")) if results else ""


def _published(checkpoint: str) -> tuple[str, ...]:
    return _PUBLISHED.get(checkpoint, (checkpoint,))


def _optional(found: Checkpoint) -> list[str]:
    """Further files that shape the transcript."""
    return [name for name in ("tokens.json", "tokens.txt", "am.mvn", "seg_dict", "configuration.json") if (found.folder / name).is_file()]


def _load(found: Checkpoint, device: str) -> Any:
    import torch

    ensure_torchaudio()
    with contextlib.redirect_stdout(sys.stderr):  # FunASR greets on stdout, where a table or JSON may be going
        from funasr import AutoModel

        model = AutoModel(
            model=str(found.folder),
            device=device,
            ncpu=torch.get_num_threads(),  # it sets torch's global thread count: leave that as it is
            frontend_conf={"dither": 0.0},  # the default adds random noise to the features
            trust_remote_code=False,  # whatever the folder's own config says
            disable_update=True,
            disable_pbar=True,
            disable_log=True,
            log_level="ERROR",
        )
    path = found.folder / "model.pt"
    state = torch.load(path, map_location="cpu", weights_only=True)
    for wrapper in ("state_dict", "model_state_dict", "model"):
        state = state.get(wrapper, state)
    state = {key.removeprefix("module."): value for key, value in state.items()}
    check_weights(model.model.state_dict(), state, path, allow_unexpected=True)
    return model
