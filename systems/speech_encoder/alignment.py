"""Phone labels of frames by forced alignment: PocketSphinx with its packaged US English model and CMUdict."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from systems.text.tokens import PHONES as _SPOKEN

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

PHONES = ("SIL", *_SPOKEN)
"""Silence and the 39 phones of CMUdict without stress; the place of a phone is its label."""

UNKNOWN = -100
"""Label of a frame whose phone is not known; what torch's cross-entropy leaves out by itself."""

SAMPLE_RATE = 16000
_FRAMES_PER_S = 100  # of the aligner


class PhoneAligner:
    """Labels of English utterances, made once each and kept: a pure function of sound and text, at .02 of real time.

    Args:
        hop: samples per frame at 16 kHz, a multiple of the aligner's 160.

    Raises:
        ValueError: another hop.
    """

    def __init__(self, hop: int = 320) -> None:
        self._step, rest = divmod(hop * _FRAMES_PER_S, SAMPLE_RATE)
        if rest or not self._step:
            raise ValueError(f"the aligner has a frame every 160 samples; a hop of {hop} is no multiple of that")
        self._decoder: Any = None
        self._known: dict[str, npt.NDArray[np.int64] | None] = {}

    def label(self, audio: Tensor, lengths: Tensor, texts: Sequence[str]) -> Tensor:
        """Labels int64 ``[B, N // hop]`` of padded utterances, on the CPU: places in `PHONES`, or UNKNOWN.

        Args:
            audio: float32 ``[B, N]`` at 16 kHz, on any device.
            lengths: int64 ``[B]``, valid samples.
            texts: what is said; a row with "" stays UNKNOWN, as does one with a word that is not in the dictionary, or whose sound and
                text do not fit together.
        """
        pcm = (audio.detach().float().cpu().numpy() * 32768.0).round().clip(-32768, 32767).astype("<i2")
        labels = torch.full((audio.shape[0], audio.shape[1] // (self._step * SAMPLE_RATE // _FRAMES_PER_S)), UNKNOWN)
        for row, (length, text) in enumerate(zip(lengths.tolist(), texts, strict=True)):
            found = self._remembered(pcm[row, :length], text) if text else None
            if found is not None:
                count = min(len(found), labels.shape[1])
                labels[row, :count] = torch.from_numpy(found[:count])
        return labels

    def _remembered(self, pcm: npt.NDArray[np.int16], text: str) -> npt.NDArray[np.int64] | None:
        key = hashlib.blake2b(pcm.tobytes() + text.encode(), digest_size=16).hexdigest()
        if key not in self._known:
            self._known[key] = self._aligned(pcm, text)
        return self._known[key]

    def _aligned(self, pcm: npt.NDArray[np.int16], text: str) -> npt.NDArray[np.int64] | None:
        words = "".join(c if c.isalpha() or c == "'" else " " for c in text.lower()).split()
        decoder = self._ready()
        if not words or not pcm.any() or any(decoder.lookup_word(word) is None for word in words):
            return None
        try:
            decoder.set_align_text(" ".join(words))
            self._heard(pcm)
            decoder.set_alignment()  # the words are placed; a second pass places their phones
            self._heard(pcm)
            phones = [(phone.name, phone.start, phone.duration) for phone in decoder.get_alignment().phones()]
        except RuntimeError:  # no path through the text ends with the sound
            self._decoder = None  # what a failed search leaves behind is not specified
            return None
        fine = np.zeros(max(start + duration for _, start, duration in phones), dtype=np.int64)
        for name, start, duration in phones:
            # Noises (+NSN+, +SPN+) are no speech either.
            fine[start : start + duration] = PHONES.index(name) if name in PHONES else 0
        # The aligner's frame i is centred 10 i + 12.8 ms, so that of those in a frame of ours the first lies nearest its middle (at 20 ms).
        return fine[:: self._step]

    def _heard(self, pcm: npt.NDArray[np.int16]) -> None:
        self._decoder.reinit_feat()  # otherwise the result depends on the utterance before
        self._decoder.start_utt()
        self._decoder.process_raw(pcm.tobytes(), no_search=False, full_utt=True)
        self._decoder.end_utt()

    def _ready(self) -> Any:
        if self._decoder is None:
            from pathlib import Path

            from pocketsphinx import Decoder, get_model_path

            folder = Path(get_model_path()) / "en-us"
            # Rescoring the lattice (bestpath) can move the last word's end, after which the second pass finds no way: of 574 read
            # sentences 164 were lost to it, 2 are without.
            self._decoder = Decoder(
                hmm=str(folder / "en-us"), dict=str(folder / "cmudict-en-us.dict"), lm=None, bestpath=False, cmn="batch", dither=False,
                loglevel="FATAL",
            )  # fmt: skip
        return self._decoder
