"""UTMOSv2 (Baba et al. 2024) through its own package: a fusion of a speech model and image networks over spectrograms."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harness.api import FloatArray, JudgeInfo
from harness.errors import MissingDependency
from harness.judges.checkpoint_files import FileJudge
from harness.judges.checkpoints import Loading, package
from harness.torchaudio import ensure_torchaudio


class UtmosV2(FileJudge):
    """UTMOSv2, configuration ``fusion_stage3``: it looks at windows at random places, drawn from one seed here, and averages over draws.

    Its package builds the networks below it (facebook/wav2vec2-base, an EfficientNetV2 of timm) from the hub's local cache, and would
    download what is not there: while it is built the hub's library is told that there is no network.

    Args:
        checkpoint: the file of one fold, or a folder with fold 0.
        repetitions: draws to average over.
        device: "cpu", "cuda:0", ...

    Raises:
        MissingDependency: utmosv2, the file or a network below it is not here.
    """

    needs = ("utmosv2",)
    lacking = "UTMOSv2 is not installed: pip install git+https://github.com/sarulab-speech/UTMOSv2.git (timm and transformers come with it)"
    files, where = ("fold0_s42_best_model.pth",), "sarulab-speech/UTMOSv2 on Hugging Face (models/fusion_stage3)"
    scores = ("overall",)

    def __init__(self, checkpoint: str = "", repetitions: int = 5, device: str = "cpu") -> None:
        path = self.located(checkpoint)
        ensure_torchaudio()
        import utmosv2
        from huggingface_hub import constants
        from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

        loading = Loading([path])
        before = constants.HF_HUB_OFFLINE
        constants.HF_HUB_OFFLINE = True
        try:
            self._model = utmosv2.create_model(pretrained=True, config="fusion_stage3", checkpoint_path=path, device=device)
        except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
            raise MissingDependency(f"UTMOSv2 builds on networks that are not in the hub's local cache: {error}") from error
        finally:
            constants.HF_HUB_OFFLINE = before
        self._repetitions, self._device = repetitions, device
        model = f"{path.name} fusion_stage3, {repetitions} draws from seed 0, silence removed"
        self.info = JudgeInfo("utmosv2", model, loading.digest(), package("utmosv2", "timm", "transformers", "torch"))

    def predict(self, samples: FloatArray) -> Mapping[str, float]:
        """The score, about 1 to 5, of mono ``samples [N]`` at 16 kHz.

        Raises:
            ValueError: no samples, or some not finite.
        """
        if samples.size == 0 or not np.isfinite(samples).all():
            raise ValueError(f"UTMOSv2 wants finite samples, at least one; got {samples.size}")
        before = np.random.get_state()
        np.random.seed(0)  # the package draws from numpy's global generator
        try:
            given = self._model.predict(
                data=np.array(samples, dtype=np.float32)[None], sr=16000, device=self._device, num_repetitions=self._repetitions,
                remove_silent_section=True, verbose=False,
            )  # fmt: skip
        finally:
            np.random.set_state(before)
        return {"overall": float(np.asarray(given).reshape(-1)[0])}
