"""Forced alignment: which phone of a known text is spoken when, by PocketSphinx's packaged English model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.api import BackendInfo, FloatArray
from harness.errors import MissingDependency
from harness.judges.checkpoints import Loading, installed, package
from harness.judges.normalisers import spoken_words
from harness.judges.pocketsphinx import DITHER, DITHER_LSB, acoustic_files, model_folder

FRAMES_PER_S = 100
"""Of the acoustic model: boundaries are multiples of 10 ms."""
BEAM, WORD_BEAM = 1e-80, 1e-60
"""Wider than the decoder's own (1e-48, 7e-29), at which one of 90 clean recordings lost its path; the time hardly differs, since a known
text leaves little to search."""


@dataclass(frozen=True)
class PhoneSegment:
    """A stretch of one phone.

    Args:
        phone: ARPAbet without stress ("AA" to "ZH"), or a filler of the model ("SIL", "+NSN+" ...).
        start_s, end_s: in seconds from the start of the recording.
    """

    phone: str
    start_s: float
    end_s: float


class PhoneAligner:
    """Viterbi alignment of a recording with the pronunciations of its text: words in a first pass, their phones in a second.

    The packaged dictionary has no stress and knows 39 phones; of several pronunciations of a word the likeliest is taken.

    Raises:
        MissingDependency: pocketsphinx is not installed.
    """

    def __init__(self) -> None:
        if reason := self.missing():
            raise MissingDependency(reason)
        from pocketsphinx import Decoder

        folder = model_folder()
        loading = Loading(acoustic_files())
        dictionary = folder / "cmudict-en-us.dict"
        # Without a language model; the passes that would look for better words than the given ones are off.
        self._decoder = Decoder(
            hmm=str(folder / "en-us"), dict=str(dictionary), lm=None, fwdflat=False, bestpath=False,
            beam=BEAM, pbeam=BEAM, wbeam=WORD_BEAM, cmn="batch", dither=False, loglevel="FATAL",
        )  # fmt: skip
        self.info = BackendInfo(
            family="phone_alignment",
            model=f"PocketSphinx en-us forced alignment, beams {BEAM:g} and {WORD_BEAM:g}, {DITHER}",
            digest=loading.digest(),
            package=package("pocketsphinx"),
            languages=("en",),
        )

    @classmethod
    def missing(cls) -> str | None:
        """None if it can be built, else what to install."""
        return None if installed("pocketsphinx") else "PocketSphinx is not installed: pip install pocketsphinx"

    def out_of_vocabulary(self, text: str) -> tuple[str, ...]:
        """The words of ``text`` that the pronouncing dictionary lacks, in order."""
        return tuple(word for word in spoken_words(text).split() if self._decoder.lookup_word(word) is None)

    def align(self, samples: FloatArray, text: str) -> tuple[PhoneSegment, ...]:
        """The phones of ``text`` in mono ``samples [N]`` at 16 kHz, in order and without gaps, silences among them.

        Returns:
            Nothing where no path through the text fits the recording (much too short for it, or silent).

        Raises:
            ValueError: no word in the text, a word that the dictionary lacks, or NaN in the samples.
        """
        words = spoken_words(text)
        if not words:
            raise ValueError(f"nothing to align: the text {text!r} has no word")
        if unknown := self.out_of_vocabulary(text):
            raise ValueError(f"the pronouncing dictionary lacks {', '.join(unknown)}; ask out_of_vocabulary() first")
        if not np.isfinite(samples).all():
            raise ValueError("samples are not finite")
        scaled = samples.astype(np.float64) * 32768
        if not np.round(scaled).any():
            return ()  # digital silence; the binding also refuses an empty buffer
        dithered = scaled + np.random.default_rng(0).normal(0.0, DITHER_LSB, scaled.size)
        pcm = np.clip(np.round(dithered), -32768, 32767).astype("<i2").tobytes()
        self._decoder.set_align_text(words)
        self._search(pcm)
        if self._decoder.hyp() is None:
            return ()
        try:
            self._decoder.set_alignment()
        except RuntimeError:  # the first pass ended within a word: its last words did not fit
            return ()
        self._search(pcm)
        found = self._decoder.get_alignment()
        return tuple(
            PhoneSegment(str(p.name), p.start / FRAMES_PER_S, (p.start + p.duration) / FRAMES_PER_S)
            for p in (found.phones() if found else ())
        )

    def _search(self, pcm: bytes) -> None:
        # A fresh front end, or the result depends on the utterance before.
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, no_search=False, full_utt=True)
        self._decoder.end_utt()
