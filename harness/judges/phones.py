"""Phones: heard in audio by a recogniser, and what a text should sound like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.api import FloatArray, JudgeInfo
from harness.judges.checkpoints import Judge, Loading, package, packaged


class PhoneRecogniser(Judge):
    """The phone recogniser (CTC) and grapheme-to-phone model of the hama package, whose wheel holds both.

    They belong together: the recogniser was trained on what the other says of a text, peculiarities included ("i" is /i/), so its phones
    are compared with that and with no dictionary's.

    Raises:
        MissingDependency: hama is not installed.
    """

    needs, lacking = ("hama",), "the phone recogniser needs hama: pip install 'speech-systems-harness[phones]'"

    def __init__(self) -> None:
        self.require()
        loading = Loading(packaged("hama", "assets") / name for name in ("asr_waveform.hama", "encoder.hama", "decoder_step.hama"))
        from hama import ASRModel, G2PModel

        self._heard, self._spelled = ASRModel(), G2PModel()
        self.info = JudgeInfo("hama", "asr_waveform greedy", loading.digest(), package("hama"), languages=("en",))

    def transcribe(self, samples: FloatArray, language: str) -> str:
        """Phones of mono ``samples [N]`` at 16 kHz, divided by spaces; "" when none was heard."""
        return " ".join(self._heard.transcribe_waveform(np.asarray(samples, dtype=np.float32), 16000).phonemes)

    def phones(self, words: Sequence[str]) -> str:
        """Phones of a text in IPA, divided by spaces.

        Args:
            words: lower-case letters and apostrophes each; other signs are read in other languages.
        """
        aligned = self._spelled.predict(" ".join(words)).alignments
        return " ".join(part.phoneme for part in aligned if part.phoneme.strip())
