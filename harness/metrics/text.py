"""Intelligibility: word and character error rates of a recogniser's transcripts, and a probe with a closed vocabulary.

Values are shares of the reference's units (0.12 is 12 %) and may exceed 1: a looping output inserts without end. The pooled figure is
the macro mean; corpus rate, median and share above one half come from the same stored counts (`harness.metrics.edits.error_rates`).
An output in which nothing is heard scores 1 (everything deleted); an empty reference text cannot be scored at all.
"""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

from harness.api import Better, Evidence, MetricInfo, Need, NotApplicable, NotScorable, Recogniser, Sample, Side, Signal, language_code
from harness.api.libraries import library
from harness.judges.input import judged
from harness.judges.normalisers import Normaliser, normaliser
from harness.judges.presets import AsrProtocol
from harness.metrics.edits import Unit, align

_FRAME_S = 0.025
"""Recognisers analyse 25-ms frames; in less nothing can be heard, and several fail on it."""


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


class Wer:
    """Word error rate against the item's text, for languages whose protocol counts words.

    Mandarin is counted in characters by every protocol here (some call it WER nevertheless): there this metric does not apply, see `Cer`.
    """

    def __init__(self, asr: AsrProtocol) -> None:
        self._asr = asr
        self.info = _info(
            "wer", "word error rate of the recogniser's transcript against the text", frozenset({Need.OUTPUT, Need.TEXT}),
            asr.params(frozenset({Unit.WORD})),
        )  # fmt: skip

    def measure(self, sample: Sample) -> Evidence:
        """The utterance's rate, with its edit counts and transcripts.

        Raises:
            NotApplicable: no recogniser for the language, or one counted in characters.
            NotScorable: empty text, or an output without samples or with NaN.
        """
        language = language_code(sample.item.language)
        recogniser = self._asr.recogniser(language)
        if self._asr.preset.unit(language, sample.item.text) is not Unit.WORD:
            raise NotApplicable(f"'{language}' is scored per character: see cer")
        return _against_text(sample, recogniser, self._asr.normalisers[language], Unit.WORD, language)


class Cer:
    """Character error rate against the item's text, for every language with a recogniser.

    In languages written with spaces a single space between words is a character; in Mandarin and its like spaces are removed first.
    """

    def __init__(self, asr: AsrProtocol) -> None:
        self._asr = asr
        self.info = _info(
            "cer", "character error rate of the recogniser's transcript against the text", frozenset({Need.OUTPUT, Need.TEXT}),
            asr.params(frozenset(Unit)),
        )  # fmt: skip

    def measure(self, sample: Sample) -> Evidence:
        """The utterance's rate, with its edit counts and transcripts.

        Raises:
            NotApplicable: no recogniser for the language.
            NotScorable: empty text, or an output without samples or with NaN.
        """
        language = language_code(sample.item.language)
        recogniser = self._asr.recogniser(language)
        return _against_text(sample, recogniser, self._asr.normalisers[language], Unit.CHARACTER, language)


class DWer:
    """Differential error rate: against the recogniser's transcript of the reference recording, in the protocol's unit.

    Needs no text, and leaves out the errors the recogniser makes on the original as well.
    """

    def __init__(self, asr: AsrProtocol) -> None:
        self._asr = asr
        self.info = _info(
            "dwer", "error rate against the recogniser's own transcript of the reference audio", frozenset({Need.OUTPUT, Need.REFERENCE}),
            asr.params(frozenset(Unit)),
        )  # fmt: skip

    def measure(self, sample: Sample) -> Evidence:
        """The utterance's rate, with its edit counts and both transcripts.

        Raises:
            NotApplicable: no recogniser for the language, or no reference.
            NotScorable: nothing is heard in the reference, or a side without samples or with NaN.
        """
        language = language_code(sample.item.language)
        recogniser = self._asr.recogniser(language)
        heard = transcript(sample.require_reference(), recogniser, language, Side.REFERENCE)
        hypothesis = transcript(sample.output, recogniser, language, Side.OUTPUT)
        unit = self._asr.preset.unit(language, heard)
        return _compare(heard, hypothesis, self._asr.normalisers[language], unit, language, "the recogniser heard nothing in the reference")


class IntelligibilityProbe:
    """Share of wrong words from a recogniser that knows only the corpus's own sentences. Not a word error rate, and never called one.

    Args:
        probe: `harness.judges.closed_vocabulary.ClosedVocabulary` built from the texts of the dataset.
    """

    def __init__(self, probe: ClosedRecogniser) -> None:
        self._probe = probe
        self._normaliser = normaliser("spoken-words")
        info = probe.info
        self.info = _info(
            "intelligibility_probe",
            "share of wrong words from a recogniser restricted to the corpus's own sentences (a probe, not a WER)",
            frozenset({Need.OUTPUT, Need.TEXT}),
            {"asr": f"{info.family} {info.model} {info.digest} {info.package}", "normaliser": self._normaliser.id},
        )

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


def _info(name: str, description: str, needs: frozenset[Need], params: dict[str, str]) -> MetricInfo:
    return MetricInfo(
        name=name, version="2", unit="", better=Better.LOWER, needs=needs, sample_rate=16000, bounds=(0.0, math.inf),
        description=description, params={"edits": library("jiwer"), **params}, worst=1.0, counted=True,
    )  # fmt: skip


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
