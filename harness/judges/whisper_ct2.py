"""Whisper in the sizes whose published weights are named here (`harness.judges.weights`), by CTranslate2: what ``asr=embedded`` hears with."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.api import FloatArray, JudgeInfo
from harness.errors import UnknownName
from harness.judges.checkpoints import Judge, package
from harness.judges.weights import WEIGHTS, Weights, absence, require

RATE = 16000
WINDOW_S = 30
"""Of the model: longer audio is heard window by window, all of it."""
LEAST_S, MARGIN_S = 20, 5
"""Seconds encoded of shorter audio: its length and the margin, and no less than the first. The model pads to 30 s, which makes 2 s cost as
much as 30; with less than a second of padding it repeats itself."""
LEAST_TOKENS, TOKENS_PER_S = 24, 12
"""Bound of what is heard in a window: a second of fast speech has about 6 tokens of English or 10 of Mandarin. A loop ends there."""
LEADS: Mapping[str, str] = {"zh": "以下是普通话的句子。"}
"""What the model is told to have heard before, by language: without it, it writes Mandarin in traditional characters."""


class WhisperCt2(Judge):
    """Whisper through `faster_whisper.WhisperModel.transcribe`, from weights of one published digest wherever they lie.

    Beam search, with the temperature fallback (which samples) off; every window is heard without what was heard before.

    Args:
        weights: name in `WEIGHTS`.
        checkpoint: a folder with them; "" looks in installed packages and the hubs' local caches.
        device: "cpu" or "cuda".

    Raises:
        UnknownName: no such weights, or not Whisper's.
        MissingDependency: the package or the weights are not here.
        CheckpointError: files with other digests than the published ones; none of them was loaded.
    """

    needs, lacking = ("faster_whisper",), "the Whisper judge needs faster-whisper: pip install faster-whisper"

    def __init__(self, weights: str = "whisper-base", checkpoint: str = "", device: str = "cpu") -> None:
        self.require(weights, checkpoint)
        published = _published(weights)
        files = require(published, checkpoint).read()
        kind = importlib.import_module("faster_whisper").WhisperModel  # without type information
        # One thread: what is heard does not depend on their number, and the scoring processes share the cores already.
        self._model: Any = kind(weights, device=device, compute_type="int8", cpu_threads=1, files=files)
        self._frames = 0
        self._model.encode = lambda features: kind.encode(self._model, features[..., : self._frames])
        self.info = JudgeInfo(
            "whisper_ct2", f"{weights} int8 {RULE}", published.digest, package("faster-whisper", "ctranslate2"),
            languages=() if self._model.model.is_multilingual else ("en",),
        )  # fmt: skip

    @classmethod
    def missing(cls, weights: str = "whisper-base", checkpoint: str = "", device: str = "cpu") -> str | None:
        """As `Judge.missing`; the weights too may be missing.

        Raises:
            UnknownName: no such weights.
        """
        return super().missing() or absence(_published(weights), checkpoint)

    @classmethod
    def downloads(cls, weights: str = "whisper-base", checkpoint: str = "", device: str = "cpu") -> tuple[Any, ...]:
        """As `Judge.downloads`; nothing where a folder is given."""
        return () if checkpoint else (_published(weights),)

    def transcribe(self, samples: FloatArray, language: str) -> str:
        """Transcript of mono ``samples [N]`` at 16 kHz, as Whisper writes: with case, punctuation and digits; "" of digital silence.

        Raises:
            ValueError: a language that the model does not know.
        """
        if self.info.languages and language not in self.info.languages:
            raise ValueError(f"this Whisper understands {self.info.languages}, asked for '{language}'")
        if not np.any(samples):
            return ""  # the model always hears something
        seconds = len(samples) / RATE
        encoded = window_s(seconds)
        self._frames = round(100 * encoded)
        segments, _ = self._model.transcribe(
            np.asarray(samples, dtype=np.float32),
            language=language,
            beam_size=5,
            temperature=0.0,
            condition_on_previous_text=False,
            hotwords=LEADS.get(language),
            without_timestamps=seconds <= WINDOW_S,  # with them a window begins where the last whole phrase ended
            max_new_tokens=LEAST_TOKENS + math.ceil(TOKENS_PER_S * min(seconds, WINDOW_S)),
        )
        return " ".join(segment.text.strip() for segment in segments)


def window_s(seconds: float) -> float:
    """How much is encoded of so much audio, in seconds, the rest of it silence; whole frames of 20 ms."""
    return min(WINDOW_S, max(LEAST_S, math.ceil(50 * (seconds + MARGIN_S)) / 50))


RULE = (
    f"beam 5, window max({LEAST_S}, length + {MARGIN_S}) to {WINDOW_S} s, then windows of {WINDOW_S} s from the last phrase's end, "
    f"at most {LEAST_TOKENS} + {TOKENS_PER_S} tokens a second, silence skipped, zh after '{LEADS['zh']}'"
)
"""How it listens, for the signature."""


def _published(name: str) -> Weights:
    known = [weights for weights in WEIGHTS if weights.startswith("whisper-")]
    if name not in known:
        raise UnknownName("Whisper weights", name, known)
    return WEIGHTS[name]
