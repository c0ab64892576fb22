"""UTMOS (Saeki et al. 2022), the "strong learner" of the VoiceMOS challenge 2022, from the file that SpeechMOS published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.api import FloatArray
from harness.judges.fairseq import HeadedJudge, Layout
from harness.torchaudio import load_torchaudio


class Utmos(HeadedJudge):
    """UTMOS22 strong: wav2vec 2.0 base, one domain and one listener, a bidirectional LSTM, a score a frame, their mean times 2 plus 3.

    The first convolution is followed by a norm over time in each channel: neither level nor an offset says anything.
    """

    lacking = "UTMOS needs torchaudio: pip install 'torchaudio==2.11.*'"
    files, where = ("utmos22_strong_step7459_v1.pt",), "the releases of tarepan/SpeechMOS (v1.0.0)"
    scores = ("overall",)
    name, layout = "utmos", Layout("wav2vec2.", "2", unused=("wav2vec2.mask_emb",))

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
            features, _ = self._speech(wave)
            return {"overall": float(self._head(features))}

    @staticmethod
    def speech_network() -> Any:
        """Wav2vec 2.0 base."""
        return load_torchaudio().models.wav2vec2_base()

    @staticmethod
    def head(speech: Any) -> Any:
        """The LSTM over its features."""
        from harness.judges.opinions.networks import UtmosHead

        return UtmosHead(speech.encoder.transformer.pos_conv_embed.embed_dim)
