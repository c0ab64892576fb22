"""hibari-tts, a small neural voice of American English whose weights are inside its package (M. Williams, 2026; distilled from Kokoro-82M)."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from harness.api import Audio, MissingOutput, Speech, SystemInfo, Utterance, Weights, language_code
from harness.api.libraries import versions

PACKAGE = "hibari"


class HibariVoice:
    """Text by the voice "heart", at 24 kHz. It follows no prompt; the seed moves the noise in its fricatives and breath, nothing else.

    The package's other voices are downloaded when they are first asked for, so they are not offered.

    Args:
        speed: .5 to 2; 1 is the voice's own pace.

    Raises:
        ValueError: an impossible speed.
        ImportError: the package is not installed.
    """

    def __init__(self, speed: float = 1.0) -> None:
        if not 0.5 <= speed <= 2.0:
            raise ValueError(f"speed is .5 to 2, got {speed}")
        if reason := self.missing():
            raise ImportError(reason)
        self._voice, self._speed = importlib.import_module(PACKAGE).Hibari(), float(speed)
        self.sample_rate = int(self._voice.sample_rate)
        self.info = SystemInfo(
            family="hibari",
            version="1",
            description="hibari, one neural voice of American English; no voice cloning, the prompt is ignored",
            weights=Weights.TRAINED,
            weights_digest=hashlib.blake2b(Path(self._voice.model_path).read_bytes(), digest_size=16).hexdigest(),
            training_data="speech of Kokoro-82M, voice af_heart",
            precision="int8",
            tools=versions("hibari-tts", "onnxruntime", "numpy", "scipy"),
        )

    @classmethod
    def missing(cls, speed: float = 1.0) -> str | None:
        """Why it cannot be built here, or None."""
        return None if importlib.util.find_spec(PACKAGE) else "hibari is not installed: pip install 'speech-systems-harness[hibari]'"

    def synthesize(self, utterance: Utterance, seed: int) -> Speech:
        """The text at the voice's own pace.

        Raises:
            MissingOutput: another language than English.
        """
        chunks = [audio.samples[0] for audio in self.stream(utterance, seed)]
        return Speech(Audio.mono(np.concatenate(chunks) if chunks else np.zeros(0, np.float32), self.sample_rate))

    def stream(self, utterance: Utterance, seed: int) -> Iterator[Audio]:
        """A chunk a sentence.

        Raises:
            MissingOutput: as `synthesize`.
        """
        if language_code(utterance.language) != "en":
            raise MissingOutput(f"hibari speaks English only, asked for '{utterance.language}'")
        # Between brackets and slashes it reads phonemes instead of words: [word](/wˈɜɹd/).
        for samples in self._voice.stream(utterance.text.replace("](", "] ("), speed=self._speed, seed=seed):
            yield Audio.mono(np.asarray(samples, dtype=np.float32), self.sample_rate)
