"""Intelligibility: word and character error rates of a recogniser's transcripts, and a probe with a closed vocabulary.

Values are shares of the reference's units (0.12 is 12 %) and may exceed 1: a looping output inserts without end. The pooled figure is
the macro mean; corpus rate, median and share above one half come from the same stored counts, in the reports.
An output in which nothing is heard scores 1 (everything deleted); an empty reference text cannot be scored at all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from harness.api import Better, Evidence, MetricInfo, Need, NotApplicable, NotScorable, Recogniser, Sample, Side, Signal, language_code
from harness.api.libraries import library
from harness.judges.normalisers import Normaliser, normaliser
from harness.judges.presets import AsrProtocol, Unit, unspaced
from harness.metrics.alignment import judged
from harness.metrics.declaration import declared, identity

_FRAME_S = 0.025
"""Recognisers analyse 25-ms frames; in less nothing can be heard, and several fail on it."""


class Edits(NamedTuple):
    """A minimal alignment of a hypothesis with its reference, as counts of units."""

    hits: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def reference_length(self) -> int:
        return self.hits + self.substitutions + self.deletions

    @property
    def rate(self) -> float:
        """Errors by units of the reference, which must not be empty; may exceed 1."""
        return (self.substitutions + self.deletions + self.insertions) / self.reference_length

    def as_counts(self) -> dict[str, float]:
        return {name: float(count) for name, count in self._asdict().items()}


def align(reference: str, hypothesis: str, unit: Unit, language: str) -> Edits:
    """Levenshtein alignment (jiwer) of normalised texts; the reference must not be empty, the hypothesis may be."""
    import jiwer

    joint = "" if unit is Unit.CHARACTER and unspaced(language, reference) else " "
    reference, hypothesis = joint.join(reference.split()), joint.join(hypothesis.split())
    process = jiwer.process_words if unit is Unit.WORD else jiwer.process_characters
    result = process(reference, hypothesis)
    return Edits(result.hits, result.substitutions, result.deletions, result.insertions)


@runtime_checkable
class ClosedRecogniser(Recogniser, Protocol):
    """A recogniser of a known set of sentences."""

    def out_of_vocabulary(self, text: str) -> tuple[str, ...]:
        """Words of ``text`` that it can never hear."""
        ...


def transcript(signal: Signal, recogniser: Recogniser, language: str, side: Side) -> str:
    """The raw transcript of a signal, decoded once however many metrics ask.

    Raises:
        NotScorable: no samples, or NaN among them; blamed on ``side``.
    """
    info = recogniser.info
    samples = judged(signal, info.sample_rate, side)

    def decode() -> str:
        return recogniser.transcribe(samples, language) if samples.size >= _FRAME_S * info.sample_rate else ""

    return signal.derive(("transcript", info.family, info.model, info.digest, language), decode)


class _OfProtocol:
    """What the error rates of a protocol share."""

    name: str
    needs: tuple[Need, ...] = (Need.OUTPUT, Need.TEXT)
    units: frozenset[Unit] = frozenset(Unit)

    def __init__(self, asr: AsrProtocol) -> None:
        self._asr = asr
        self.info = _info(self.name, asr.params(self.units), *self.needs)

    def measure(self, sample: Sample) -> Evidence:
        """The utterance's rate, with its edit counts and transcripts.

        Raises:
            NotApplicable: no recogniser for the language, none that counts what is counted here, or no reference.
            NotScorable: an empty text, nothing heard in the reference, or a side without samples or with NaN.
        """
        language = language_code(sample.item.language)
        return self._rate(sample, self._asr.recogniser(language), self._asr.normalisers[language], language)

    def _rate(self, sample: Sample, recogniser: Recogniser, normalise: Normaliser, language: str) -> Evidence:
        raise NotImplementedError


class Wer(_OfProtocol):
    """Word error rate against the item's text, for languages whose protocol counts words.

    Mandarin is counted in characters by every protocol here (some call it WER nevertheless): there this metric does not apply, see `Cer`.
    """

    name, units = "wer", frozenset({Unit.WORD})

    def _rate(self, sample: Sample, recogniser: Recogniser, normalise: Normaliser, language: str) -> Evidence:
        if self._asr.preset.unit(language, sample.item.text) is not Unit.WORD:
            raise NotApplicable(f"'{language}' is scored per character: see cer")
        return _against_text(sample, recogniser, normalise, Unit.WORD, language)


class Cer(_OfProtocol):
    """Character error rate against the item's text, for every language with a recogniser.

    In languages written with spaces a single space between words is a character; in Mandarin and its like spaces are removed first.
    """

    name = "cer"

    def _rate(self, sample: Sample, recogniser: Recogniser, normalise: Normaliser, language: str) -> Evidence:
        return _against_text(sample, recogniser, normalise, Unit.CHARACTER, language)


class DWer(_OfProtocol):
    """Differential error rate: against the recogniser's transcript of the reference recording, in the protocol's unit.

    Needs no text, and leaves out the errors the recogniser makes on the original as well.
    """

    name, needs = "dwer", (Need.OUTPUT, Need.REFERENCE)

    def _rate(self, sample: Sample, recogniser: Recogniser, normalise: Normaliser, language: str) -> Evidence:
        heard = transcript(sample.require_reference(), recogniser, language, Side.REFERENCE)
        hypothesis = transcript(sample.output, recogniser, language, Side.OUTPUT)
        unit = self._asr.preset.unit(language, heard)
        return _compare(heard, hypothesis, normalise, unit, language, "the recogniser heard nothing in the reference")


class IntelligibilityProbe:
    """Share of wrong words from a recogniser that knows only the corpus's own sentences. Not a word error rate, and never called one.

    The probe is `harness.judges.pocketsphinx.ClosedVocabulary` built from the texts of the dataset.
    """

    def __init__(self, probe: ClosedRecogniser) -> None:
        self._probe = probe
        self._normaliser = normaliser("spoken-words")
        info = probe.info
        told = {"asr": identity(info), "normaliser": self._normaliser.id}
        self.info = _info("intelligibility_probe", told, Need.OUTPUT, Need.TEXT)

    def measure(self, sample: Sample) -> Evidence:
        """The utterance's share, with its edit counts and transcripts.

        Raises:
            NotApplicable: not a language of the probe, or a text with words it cannot hear (equally so for every system).
            NotScorable: empty text, or an output without samples or with NaN.
        """
        language = language_code(sample.item.language)
        if language not in self._probe.info.languages:
            raise NotApplicable(f"the probe knows {', '.join(self._probe.info.languages)}, the item's language is '{language}'")
        if unknown := self._probe.out_of_vocabulary(sample.item.text):
            raise NotApplicable(f"the probe's dictionary lacks {', '.join(unknown)}")
        return _against_text(sample, self._probe, self._normaliser, Unit.WORD, language)


class PhonesOfText(Recogniser, Protocol):
    """A recogniser of phones that also says what phones a text has."""

    def phones(self, words: Sequence[str]) -> str:
        """Phones divided by spaces."""
        ...


class Per:
    """Phone error rate: phones heard in the output against those a grapheme-to-phone model gives for the text (English).

    No vocabulary and hardly any language model stand between sound and figure, so it counts what a word recogniser's guesses hide, and
    its value on good recordings is far from 0: read it beside the ground-truth row. The phones are those of
    `harness.judges.phones.PhoneRecogniser`.
    """

    def __init__(self, phones: PhonesOfText) -> None:
        self._phones = phones
        self._normaliser = normaliser("spoken-words")
        info = phones.info
        told = {"phones": identity(info), "normaliser": self._normaliser.id}
        self.info = _info("per", told, Need.OUTPUT, Need.TEXT)

    def measure(self, sample: Sample) -> Evidence:
        """The utterance's rate, with its edit counts, both sequences of phones and the text.

        Raises:
            NotApplicable: not a language of the recogniser, or a text with other signs than letters.
            NotScorable: empty text, or an output without samples or with NaN.
        """
        language = language_code(sample.item.language)
        if language not in self._phones.info.languages:
            raise NotApplicable(f"the phone recogniser knows {', '.join(self._phones.info.languages)}, the item's language is '{language}'")
        words = self._normaliser(sample.item.text).split()
        if not words:
            raise NotScorable(Side.REFERENCE, f"the reference text {sample.item.text!r} is empty")
        if other := sorted({word for word in words if not re.fullmatch("[a-z']+", word)}):
            raise NotApplicable(f"phones are known of letters only, the text has {', '.join(other)}")
        expected = self._phones.phones(words)
        if not expected:
            raise NotScorable(Side.REFERENCE, f"the text {sample.item.text!r} has no phones")
        heard = transcript(sample.output, self._phones, language, Side.OUTPUT)
        edits = align(expected, heard, Unit.WORD, language)
        return Evidence(edits.rate, counts=edits.as_counts(), detail={"reference": sample.item.text, "phones": expected, "heard": heard})


def wer(reference: str, transcript: str, normaliser_id: str = "basic", language: str = "en") -> float:
    """Word error rate of a transcript: wrong, missing and added words by the words of the reference; may exceed 1.

    Args:
        reference: what was said.
        transcript: what was heard; "" for nothing, which makes 1.
        normaliser_id: applied to both first (`harness.judges.normalisers`).
        language: ISO 639-1 code; languages written without spaces have no words to count, see `cer`.

    Raises:
        NotApplicable: the language is counted in characters.
        NotScorable: no word is left of the reference.
        UnknownName: no such normaliser.
        MissingDependency: a package of the normaliser is not installed.

    >>> wer("The boats came home late.", "the boat came home")
    0.4
    """
    if unspaced(language, reference):
        raise NotApplicable(f"'{language}' is scored per character: see cer")
    return _compare(reference, transcript, normaliser(normaliser_id), Unit.WORD, language, "the reference text is empty").value


def cer(reference: str, transcript: str, normaliser_id: str = "basic", language: str = "en") -> float:
    """Character error rate of a transcript, as `wer`; the single spaces between words count, but in languages written without.

    Raises:
        NotScorable, UnknownName, MissingDependency: as `wer`.

    >>> cer("今天下雨。", "今天下雪", language="zh")
    0.25
    """
    return _compare(reference, transcript, normaliser(normaliser_id), Unit.CHARACTER, language, "the reference text is empty").value


def _info(name: str, params: dict[str, str], *needs: Need) -> MetricInfo:
    about = {"version": "2", "better": Better.LOWER, "sample_rate": 16000, "bounds": (0.0, math.inf), "worst": 1.0, "counted": True}
    return declared(name, *needs, params={"edits": library("jiwer"), **params}, **about)


def _against_text(sample: Sample, recogniser: Recogniser, normalise: Normaliser, unit: Unit, language: str) -> Evidence:
    text = sample.item.text
    if not normalise(text):  # before any decoding, and whatever the output is
        raise NotScorable(Side.REFERENCE, f"the reference text {text!r} is empty" + (" once normalised" if text else ""))
    hypothesis = transcript(sample.output, recogniser, language, Side.OUTPUT)
    return _compare(text, hypothesis, normalise, unit, language, "the reference text is empty")


def _compare(reference: str, hypothesis: str, normalise: Normaliser, unit: Unit, language: str, if_empty: str) -> Evidence:
    expected, heard = normalise(reference), normalise(hypothesis)
    if not expected:
        raise NotScorable(Side.REFERENCE, if_empty)
    edits = align(expected, heard, unit, language)
    return Evidence(
        value=edits.rate,
        counts=edits.as_counts(),
        detail={
            "reference": reference,
            "transcript": hypothesis,
            "reference_normalised": expected,
            "transcript_normalised": heard,
            "unit": unit.value,
        },
    )
