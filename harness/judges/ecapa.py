"""SpeechBrain's ECAPA-TDNN (speechbrain/spkrec-ecapa-voxceleb) or any speaker encoder folder of that layout."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.api import BackendInfo, FloatArray
from harness.data.documents import YAML_BYTES, check_yaml, read_text
from harness.errors import CheckpointError, MissingDependency
from harness.judges.checkpoints import Loading, absence, check_weights, installed, package, require
from harness.torchaudio import ensure_torchaudio

_FILES = (("hyperparams.yaml",), ("embedding_model.ckpt",))
_HOW = "get it with 'hf download {id}' or give a folder as 'checkpoint'"
_ALLOWED_TAGS = re.compile(
    r"!(ref|tuple|copy|(new|name):speechbrain\."
    r"(lobes\.(features|models)\.[\w.]+|processing\.features\.\w+|nnet\.[\w.]+|dataio\.encoder\.\w+|utils\.parameter_transfer\.Pretrainer))"
)


class Ecapa:
    """`EncoderClassifier.encode_batch` of a local folder.

    A SpeechBrain ``hyperparams.yaml`` is a program: its tags construct any Python object. Folders whose tags go beyond SpeechBrain's
    own layers and loaders, or that bring a ``custom.py``, are refused before anything is built.

    Args:
        checkpoint: folder or hub id; ids are looked up in the local Hugging Face cache, never downloaded.
        device: "cpu", "cuda:0", ...

    Raises:
        MissingDependency: speechbrain or the checkpoint is not here.
        CheckpointError: weights do not fit (SpeechBrain only warns), or the folder wants to run code.
    """

    def __init__(self, checkpoint: str = "speechbrain/spkrec-ecapa-voxceleb", device: str = "cpu") -> None:
        if reason := self.missing(checkpoint, device):
            raise MissingDependency(reason)
        found = require(checkpoint, _FILES, _HOW.format(id=checkpoint))
        _refuse_code(found.folder)
        loading = Loading(found.folder / name for (name,) in _FILES)
        self._model = _load(found.folder, device)
        self._device = device
        self.info = BackendInfo("ecapa", found.label, loading.digest(), package("speechbrain", "torch"))

    @classmethod
    def missing(cls, checkpoint: str = "speechbrain/spkrec-ecapa-voxceleb", device: str = "cpu") -> str | None:
        """None if it can be built, else one sentence: package or checkpoint, and how to get it."""
        if not installed("speechbrain", "hyperpyyaml"):
            return "SpeechBrain is not installed: pip install speechbrain"
        return absence(checkpoint, _FILES, _HOW.format(id=checkpoint))

    def embed(self, samples: FloatArray) -> npt.NDArray[np.float64]:
        """Unit-length ``[D]`` of mono ``samples [N]`` at 16 kHz."""
        import torch

        with torch.inference_mode():
            batch = torch.from_numpy(np.array(samples, dtype=np.float32))[None].to(self._device)
            vector = self._model.encode_batch(batch, normalize=False).reshape(-1).double().cpu().numpy()
        unit: npt.NDArray[np.float64] = vector / np.linalg.norm(vector)
        return unit


def _refuse_code(folder: Path) -> None:
    import yaml

    if (folder / "custom.py").exists():
        raise CheckpointError(f"{folder} brings a custom.py, which loading would run; remove it if the model works without")
    text = read_text(folder / "hyperparams.yaml", YAML_BYTES)
    check_yaml(text, str(folder / "hyperparams.yaml"))
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        tag = getattr(event, "tag", None)
        if tag and not tag.startswith("tag:yaml.org,2002:") and not _ALLOWED_TAGS.fullmatch(tag):
            raise CheckpointError(f"{folder}/hyperparams.yaml: the tag {tag} could run code and is refused")


def _load(folder: Path, device: str) -> Any:
    ensure_torchaudio()
    import torch
    from speechbrain.inference.classifiers import EncoderClassifier

    hyperparams = (folder / "hyperparams.yaml").read_text(encoding="utf-8")
    overrides = {"pretrained_path": str(folder)} if re.search(r"^pretrained_path:", hyperparams, re.MULTILINE) else {}
    model = EncoderClassifier.from_hparams(source=str(folder), savedir=None, overrides=overrides, run_opts={"device": device})
    path = folder / "embedding_model.ckpt"
    state = torch.load(path, map_location="cpu", weights_only=True)
    check_weights({k: v.cpu() for k, v in model.mods["embedding_model"].state_dict().items()}, state, path)
    return model.eval()
