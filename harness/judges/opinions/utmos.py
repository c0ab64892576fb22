"""UTMOS (Saeki et al. 2022), the "strong learner" of the VoiceMOS challenge 2022, from the file that SpeechMOS published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.api import FloatArray, JudgeInfo
from harness.judges.checkpoint_files import FileJudge, read_state
from harness.judges.checkpoints import Loading, package
from harness.judges.fairseq import fairseq_names, load_published
from harness.torchaudio import load_torchaudio


class Utmos(FileJudge):
    """UTMOS22 strong: wav2vec 2.0 base, one domain and one listener, a bidirectional LSTM, a score a frame, their mean times 2 plus 3.

    The first convolution is followed by a norm over time in each channel: neither level nor an offset says anything.

    Args:
        checkpoint: the file, or a folder with it.
        device: "cpu", "cuda:0", ...

    Raises:
        MissingDependency: torchaudio or the file is not here.
        CheckpointError: the file is another model's.
    """

    needs, lacking = ("torchaudio",), "UTMOS needs torchaudio: pip install 'torchaudio==2.11.*'"
    files, where = ("utmos22_strong_step7459_v1.pt",), "the releases of tarepan/SpeechMOS (v1.0.0)"
    scores = ("overall",)

    def __init__(self, checkpoint: str = "", device: str = "cpu") -> None:
        path = self.located(checkpoint)
        loading = Loading([path])
        self._network, self._device = load(path).to(device), device
        self.info = JudgeInfo("utmos", path.name, loading.digest(), package("torchaudio", "torch"))

    def predict(self, samples: FloatArray) -> Mapping[str, float]:
        """The score, about 1 to 5, of mono ``samples [N]`` at 16 kHz.

        Raises:
            ValueError: fewer than 400 samples, which the convolutions reach over, or some not finite.
        """
        import torch

        if samples.size < 400 or not np.isfinite(samples).all():
            raise ValueError(f"UTMOS wants finite samples, at least 400; got {samples.size}")
        with torch.inference_mode():
            wave = torch.from_numpy(np.array(samples, dtype=np.float32))[None].to(self._device)
            features, _ = self._network["wav2vec2"](wave)
            return {"overall": float(self._network["head"](features))}


def upstream() -> Any:
    """Wav2vec 2.0 base of torchaudio, untrained."""
    return load_torchaudio().models.wav2vec2_base()


def load(path: Path) -> Any:
    """The two networks, ``wav2vec2`` and ``head``, with the weights of a file.

    Raises:
        CheckpointError: the file is another model's.
    """
    import torch

    from harness.judges.opinions.networks import UtmosHead

    with torch.device("meta"):
        wav2vec2 = upstream()
        network = torch.nn.ModuleDict({"wav2vec2": wav2vec2, "head": UtmosHead(wav2vec2.encoder.transformer.pos_conv_embed.embed_dim)})
    names = {f"wav2vec2.{key}": value for key, value in fairseq_names(wav2vec2.state_dict(), "wav2vec2.", "2").items()}
    names.update({f"head.{key}": (key,) for key in network["head"].state_dict()})
    load_published(network, names, read_state(path), path, ("wav2vec2.mask_emb",))
    return network.eval()
