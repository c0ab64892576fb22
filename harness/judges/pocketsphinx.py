"""What PocketSphinx's packaged US English model (weights in the wheel) is used for: to recognise, to probe and to align."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.api import FloatArray, JudgeInfo
from harness.errors import MissingDependency
from harness.judges.checkpoints import Judge, Loading, package
from harness.judges.normalisers import spoken_words

DITHER_LSB = 10.0
DITHER = f"dither {DITHER_LSB:g} LSB"
"""Noise added to every utterance, -70 dBFS, always the same.

The acoustic model never saw digital silence, which synthetic speech has between its words and no codec's output keeps: without
dither the probe missed 35 % of the words of clean espeak-ng speech (with it 8 %), and over the embedded set 7 % of the clean words
against 2 % behind Opus at 16 kbps. Human speech (11 items, open vocabulary) is unmoved: .67 without, .66 with.
"""

FRAMES_PER_S = 100
"""Of the acoustic model: boundaries are multiples of 10 ms."""
BEAM, WORD_BEAM = 1e-80, 1e-60
"""Wider than the decoder's own (1e-48, 7e-29), at which one of 90 clean recordings lost its path; the time hardly differs, since a known
text leaves little to search."""


class _Sphinx(Judge):
    needs, lacking = ("pocketsphinx",), "PocketSphinx is not installed: pip install pocketsphinx"

    def _identify(self, family: str, model: str, loading: Loading) -> None:
        self.info = JudgeInfo(family, model, loading.digest(), package("pocketsphinx"), languages=("en",))


class PocketSphinx(_Sphinx):
    """Open-vocabulary English with the packaged trigram model.

    In noise every hypothesis looks equally good and the default search keeps all of them, which makes it some six times slower. The
    two limits below bound the search per frame; on clean speech they change next to nothing.

    Args:
        max_active_hmms: phone models kept per 10 ms frame.
        max_words_per_frame: words that may end in one frame.

    Raises:
        MissingDependency: pocketsphinx is not installed.
    """

    def __init__(self, max_active_hmms: int = 3000, max_words_per_frame: int = 20) -> None:
        self.require()
        folder = model_folder()
        loading = Loading([*acoustic_files(), folder / "en-us.lm.bin"])
        self._decoder = decoder(folder / "en-us.lm.bin", folder / "cmudict-en-us.dict", max_active_hmms, max_words_per_frame)
        self._identify(
            "pocketsphinx", f"en-us open vocabulary, {max_active_hmms} HMMs, {max_words_per_frame} words a frame, {DITHER}", loading
        )

    def transcribe(self, samples: FloatArray, language: str) -> str:
        """Lower-case words without punctuation of mono ``samples [N]`` at 16 kHz; beyond +-1 they are clipped, as 16-bit PCM is.

        Raises:
            ValueError: another language than English, or NaN in the samples.
        """
        return decode(self._decoder, samples, language)


class ClosedVocabulary(_Sphinx):
    """PocketSphinx with a trigram model of a corpus's own reference texts.

    What it hears is biased towards those texts, so its error share is far below a WER; but it needs no download, follows distortion
    closely (clean synthetic speech near 0, low-rate codecs a few per cent, 20 dB noise 2-3 %), and runs at a few hundredths of real
    time. Sentences with a word that the pronouncing dictionary lacks cannot be recognised: they are left out of the language model,
    counted in `left_out`, and whoever scores them can ask `out_of_vocabulary`.

    Args:
        texts: the reference texts; order and repetitions do not matter.

    Raises:
        MissingDependency: pocketsphinx is not installed, or no text is wholly within its dictionary.
    """

    def __init__(self, texts: Sequence[str], max_active_hmms: int = 3000, max_words_per_frame: int = 20) -> None:
        self.require()
        self._dictionary = _dictionary()
        sentences = sorted({spoken_words(text) for text in texts} - {""})
        known = [sentence for sentence in sentences if not self.out_of_vocabulary(sentence)]
        self.left_out = len(sentences) - len(known)
        if not known:
            raise MissingDependency(
                f"the intelligibility probe needs English reference texts whose words are all in its dictionary; of {len(sentences)} "
                "distinct texts there is none"
            )
        model = _trigrams(known)
        loading = Loading(acoustic_files(), extra=model)
        with tempfile.TemporaryDirectory() as folder:  # the decoder reads the files once, while it is made
            path, words = Path(folder) / "closed.arpa", Path(folder) / "closed.dict"
            path.write_text(model, encoding="utf-8")
            spoken = sorted({word for sentence in known for word in sentence.split()})
            words.write_text("".join(line for word in spoken for line in self._dictionary[word]), encoding="utf-8")
            self._decoder = decoder(path, words, max_active_hmms, max_words_per_frame)
        self._identify(
            "closed_vocabulary",
            f"en-us closed trigram of {len(known)} texts ({self.left_out} left out), {DITHER}, "
            f"{max_active_hmms} HMMs, {max_words_per_frame} words a frame",
            loading,
        )

    def out_of_vocabulary(self, text: str) -> tuple[str, ...]:
        """The words of ``text`` that the pronouncing dictionary lacks, in order."""
        return tuple(word for word in spoken_words(text).split() if word not in self._dictionary)

    def transcribe(self, samples: FloatArray, language: str) -> str:
        """Words of mono ``samples [N]`` at 16 kHz, all from the corpus's vocabulary.

        Raises:
            ValueError: another language than English, or NaN in the samples.
        """
        return decode(self._decoder, samples, language)


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


class PhoneAligner(_Sphinx):
    """Viterbi alignment of a recording with the pronunciations of its text: words in a first pass, their phones in a second.

    The packaged dictionary has no stress and knows 39 phones; of several pronunciations of a word the likeliest is taken.

    Raises:
        MissingDependency: pocketsphinx is not installed.
    """

    def __init__(self) -> None:
        self.require()
        from pocketsphinx import Decoder

        folder = model_folder()
        loading = Loading(acoustic_files())
        dictionary = folder / "cmudict-en-us.dict"
        # Without a language model; the passes that would look for better words than the given ones are off.
        self._decoder = Decoder(
            hmm=str(folder / "en-us"), dict=str(dictionary), lm=None, fwdflat=False, bestpath=False,
            beam=BEAM, pbeam=BEAM, wbeam=WORD_BEAM, cmn="batch", dither=False, loglevel="FATAL",
        )  # fmt: skip
        self._identify("phone_alignment", f"PocketSphinx en-us forced alignment, beams {BEAM:g} and {WORD_BEAM:g}, {DITHER}", loading)

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
        pcm = _pcm(samples)
        if pcm is None:
            return ()
        self._decoder.set_align_text(words)
        _search(self._decoder, pcm)
        if self._decoder.hyp() is None:
            return ()
        try:
            self._decoder.set_alignment()
        except RuntimeError:  # the first pass ended within a word: its last words did not fit
            return ()
        _search(self._decoder, pcm)
        found = self._decoder.get_alignment()
        return tuple(
            PhoneSegment(str(p.name), p.start / FRAMES_PER_S, (p.start + p.duration) / FRAMES_PER_S)
            for p in (found.phones() if found else ())
        )


def model_folder() -> Path:
    """Where the wheel keeps its US English model."""
    from pocketsphinx import get_model_path

    return Path(get_model_path()) / "en-us"


def acoustic_files() -> list[Path]:
    """Acoustic model and pronouncing dictionary."""
    folder = model_folder()
    return [*(p for p in (folder / "en-us").iterdir() if p.is_file()), folder / "cmudict-en-us.dict"]


def decoder(language_model: Path, dictionary: Path, max_active_hmms: int, max_words_per_frame: int) -> Any:
    """A PocketSphinx decoder (about .3 s to make, so one is kept) over the packaged acoustic model."""
    from pocketsphinx import Decoder

    return Decoder(
        hmm=str(model_folder() / "en-us"), dict=str(dictionary), lm=str(language_model),
        maxhmmpf=max_active_hmms, maxwpf=max_words_per_frame, cmn="batch", dither=False, loglevel="FATAL",
    )  # fmt: skip


def decode(decoder: Any, samples: FloatArray, language: str) -> str:
    """The best hypothesis for mono ``samples [N]`` at 16 kHz, independent of what was decoded before."""
    if language != "en":
        raise ValueError(f"PocketSphinx's packaged model knows English ('en') only, asked for '{language}'")
    pcm = _pcm(samples)
    if pcm is None:
        return ""  # in digital silence the open search "hears" a filler word
    _search(decoder, pcm)
    best = decoder.hyp()
    return str(best.hypstr) if best is not None else ""


def _pcm(samples: FloatArray) -> bytes | None:
    """Dithered 16-bit samples, clipped; None for digital silence, of which an empty buffer, that the binding refuses, is one.

    Raises:
        ValueError: NaN or Inf among them.
    """
    if not np.isfinite(samples).all():
        raise ValueError("samples are not finite")
    scaled = samples.astype(np.float64) * 32768
    if not np.round(scaled).any():
        return None
    dithered = scaled + np.random.default_rng(0).normal(0.0, DITHER_LSB, scaled.size)
    return np.clip(np.round(dithered), -32768, 32767).astype("<i2").tobytes()


def _search(decoder: Any, pcm: bytes) -> None:
    # Without a fresh front end the result depends on the utterance before, whatever the normalisation settings.
    decoder.reinit_feat()
    decoder.start_utt()
    decoder.process_raw(pcm, no_search=False, full_utt=True)
    decoder.end_utt()


def _dictionary() -> dict[str, list[str]]:
    """Lines of the pronouncing dictionary by word; "word(2)" is another pronunciation of "word"."""
    pronunciations: dict[str, list[str]] = {}
    with (model_folder() / "cmudict-en-us.dict").open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                pronunciations.setdefault(line.split(maxsplit=1)[0].partition("(")[0], []).append(line)
    return pronunciations


def _trigrams(sentences: Sequence[str]) -> str:
    """A back-off trigram model in ARPA format."""
    from pocketsphinx.lm import ArpaBoLM

    model = ArpaBoLM(text="\n".join(sentences), add_start=True)
    model.compute()
    out = io.StringIO()
    model.write(out)
    return out.getvalue()
