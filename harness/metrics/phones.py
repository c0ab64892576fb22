"""How much of the spoken phones one codebook's tokens tell: a linear probe over forced alignments, in closed form.

The phones come from the reference recording and its text, the tokens from the codec; no audio of the codec is heard. Of a prefix of b
codebooks the probe sees codebook b alone, so that a sweep over b shows where the text is carried. Tokens are compared as bare
categories: the probe knows no codebook vectors, and with few recordings for a large codebook it learns little. Figures are comparable
between codebooks, and between systems, on the same recordings; they grow with the amount of speech.

*The probe.* Every example is judged by what others teach: naive Bayes over categories, one group of examples left out at a time. The class y of
an example with the categories x_1 .. x_O is the one of greatest

    log (n_y + 1) - O log (n_y + V) + sum over o of log (n_o(x_o, y) + 1)

where the counts n are those of all other groups and V is the number of categories: multinomial naive Bayes with Laplace's smoothing
(Manning, Raghavan and Schuetze 2008, section 13.2), which is a linear classifier of the one-hot categories. Its closed form is what
lets it be fitted anew for every group and every resample: counts are taken away and put back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from harness.api import (
    Codes,
    Evidence,
    FloatArray,
    JudgeInfo,
    MetricInfo,
    Need,
    NotApplicable,
    NotScorable,
    Sample,
    Scalar,
    Side,
    language_code,
)
from harness.judges.normalisers import spoken_words
from harness.judges.pocketsphinx import PhoneSegment
from harness.metrics.alignment import compiled, judged
from harness.metrics.declaration import declared, identity
from harness.metrics.tokens import codes_of, last_codebook, packed, token_dtype, unpacked

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

PHONES = (
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY", "JH", "K",
    "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH",
)  # fmt: skip
"""The 39 phones of American English in ARPAbet, without stress. Everything else an aligner names is not speech."""
NO_SPEECH = 255
"""Label of a frame without a phone."""
WINDOW_S = 0.04
"""Tokens up to this far from a frame's own are shown to the probe as well: two to either side at 50 Hz, one at 25 Hz, none below."""
REFIT_FRAMES, REFIT_ROWS = 1 << 22, 32
"""Frames that the probe is fitted on in one call, over all resamples (under a second), and the least number of resamples."""
ALONE = 100.0 / len(PHONES)
"""What a probe with nobody to learn from gets by guessing, in per cent."""
TIE = 1e-9
"""Scores this close are equal; an example whose class shares the first place with others counts as a guess among them."""


@runtime_checkable
class Aligner(Protocol):
    """Knows which phone of a text is spoken when."""

    @property
    def info(self) -> JudgeInfo: ...
    def out_of_vocabulary(self, text: str) -> tuple[str, ...]:
        """Words of ``text`` that it cannot pronounce."""
        ...

    def align(self, samples: FloatArray, text: str) -> tuple[PhoneSegment, ...]:
        """Phones in order; none where the text does not fit the recording."""
        ...


def frame_labels(segments: Sequence[PhoneSegment], num_frames: int, frame_rate_hz: float) -> npt.NDArray[np.uint8]:
    """The phone at the centre of each frame, as its place in `PHONES`: ``[T]``, `NO_SPEECH` where there is none.

    Frame t is the stretch from ``t / frame_rate_hz`` to ``(t + 1) / frame_rate_hz``.
    """
    number = {phone: i for i, phone in enumerate(PHONES)}
    centres = (np.arange(num_frames) + 0.5) / frame_rate_hz
    labels = np.full(num_frames, NO_SPEECH, dtype=np.uint8)
    for segment in segments:
        first, last = np.searchsorted(centres, (segment.start_s, segment.end_s))
        labels[first:last] = number.get(segment.phone, NO_SPEECH)
    return labels


@dataclass(frozen=True, eq=False)
class _Utterance:
    """Unpacked evidence of one item: tokens and labels ``[T]``, and whose they are."""

    tokens: Int64Array
    labels: npt.NDArray[np.uint8]
    codebook_size: int
    frame_rate_hz: float
    speaker: str
    item: str


class _PhoneProbe:
    """What both figures share: evidence of an item, which needs an aligner, and the probe over a corpus."""

    name: str
    half_window_s: float | None
    """To either side of a frame; None shows the probe no tokens at all."""

    def __init__(self, aligner: Aligner | None = None) -> None:
        self._aligner = aligner

    @property
    def info(self) -> MetricInfo:
        window = {} if self.half_window_s is None else {"probe": "naive Bayes, Laplace smoothing", "window_s": self.half_window_s}
        # Better.NEITHER: text in codebook 1 is what a semantic codebook is for, text in the others is not.
        return declared(
            self.name, Need.REFERENCE, Need.TEXT, Need.CODES, unit="%", bounds=(0.0, 100.0), params={**window, **self._params()},
            aggregation="leave one speaker out",
        )  # fmt: skip

    def _params(self) -> dict[str, Scalar]:
        if self._aligner is None:
            return {}
        return {"aligner": identity(self._aligner.info)}

    def measure(self, sample: Sample) -> Evidence:
        """The item's tokens and phones. An item alone has nobody to learn from: its own value is that of a guess, the corpus's is `pool`.

        Raises:
            NotApplicable: another language than the aligner's, a word it cannot pronounce, no tokens, or tokens that are not of this
                recording (synthesis).
            NotScorable: text without words, a recording that the text does not fit, or no tokens.
        """
        codes = last_codebook(codes_of(sample))
        labels = self._labels(sample, codes)
        if codes.num_frames == 0:
            raise NotScorable(Side.OUTPUT, "no tokens")
        detail = sample.output.derive(
            ("packed phones", codes.digest(), self._params().get("aligner")), lambda: _pack(codes, labels, sample)
        )
        return Evidence(ALONE, counts={"speech_frames": float(np.count_nonzero(labels != NO_SPEECH))}, detail=detail)

    def _labels(self, sample: Sample, codes: Codes) -> npt.NDArray[np.uint8]:
        aligner = self._aligner
        if aligner is None:
            raise ValueError(f"{type(self).__name__}() without an aligner pools what was measured; to measure give it one")
        text, language, reference = sample.item.text, language_code(sample.item.language), sample.require_reference()
        if language not in aligner.info.languages:
            raise NotApplicable(f"the aligner knows {', '.join(aligner.info.languages)}, the item's language is '{language}'")
        if not spoken_words(text):
            raise NotScorable(Side.REFERENCE, f"the reference text {text!r} has no word")
        if unknown := aligner.out_of_vocabulary(text):
            raise NotApplicable(f"the aligner's dictionary lacks {', '.join(unknown)}")
        samples = judged(reference, aligner.info.sample_rate, Side.REFERENCE)
        apart_s = abs(codes.num_samples / codes.spec.sample_rate - reference.audio.duration_s)
        if apart_s > 1 / codes.spec.frame_rate_hz:
            raise NotApplicable(f"the tokens are not of the recording: they are {apart_s:.2f} s longer or shorter")
        segments = reference.derive(("phones", self._params().get("aligner"), text), lambda: aligner.align(samples, text))
        if not segments:
            raise NotScorable(Side.REFERENCE, "the text cannot be aligned with the recording")
        return frame_labels(segments, codes.num_frames, codes.spec.frame_rate_hz)

    def pool(self, evidence: Sequence[Evidence], resamples: Float64Array) -> Float64Array:
        """The share of speech frames told right, each by a probe fitted on the other speakers' frames of the same resample.

        With one speaker alone (or none known) the other recordings take the place of the other speakers.

        Args:
            resamples: ``[R, n]``. The probe is fitted under each, which takes time: beyond `REFIT_FRAMES` in all, the last resamples
                get no figure and an interval rests on fewer of them.

        Returns:
            ``[R]`` in per cent, NaN for a resample without speech or beyond the limit.

        Raises:
            ValueError: no item, evidence of other metrics, or items of different codebooks.
        """
        weights = np.asarray(resamples, dtype=np.float64)
        if weights.ndim != 2 or weights.shape[1] != len(evidence):
            raise ValueError(f"resamples must be [R, {len(evidence)}], got {weights.shape}")
        utterances = [_unpack(e) for e in evidence]
        examples = self._examples(utterances)
        rows = min(weights.shape[0], max(REFIT_ROWS, REFIT_FRAMES // max(1, examples.classes.size)))
        speech = np.bincount(examples.items, minlength=len(utterances))
        figure = np.full(weights.shape[0], math.nan)
        total = weights[:rows] @ speech
        np.divide(100.0 * hits(examples, weights[:rows]), total, out=figure[:rows], where=total > 0)
        return figure

    def _examples(self, utterances: Sequence[_Utterance]) -> Examples:
        if not utterances:
            raise ValueError("the phone probe needs at least one item")
        first = utterances[0]
        if any((u.codebook_size, u.frame_rate_hz) != (first.codebook_size, first.frame_rate_hz) for u in utterances):
            raise ValueError(
                "items of different codebooks cannot be pooled: " + ", ".join(sorted({str(u.codebook_size) for u in utterances}))
            )
        several = len({u.speaker for u in utterances} - {""}) > 1
        names = [f"speaker {u.speaker}" if several and u.speaker else f"item {u.item}" for u in utterances]
        speech = [u.labels != NO_SPEECH for u in utterances]
        return Examples(
            categories=np.concatenate([_windows(u, self.half_window_s)[s] for u, s in zip(utterances, speech, strict=True)]),
            classes=np.concatenate([u.labels[s] for u, s in zip(utterances, speech, strict=True)]).astype(np.int64),
            items=np.repeat(np.arange(len(utterances)), [int(s.sum()) for s in speech]),
            groups=np.unique(names, return_inverse=True)[1].astype(np.int64),
            num_categories=first.codebook_size + 1,  # and the outside of a recording
            num_classes=len(PHONES),
        )


class PhoneAccuracy(_PhoneProbe):
    """How many speech frames' phones a linear probe tells from the tokens of the last codebook around them."""

    name, half_window_s = "phone_accuracy", WINDOW_S


class PhoneChance(_PhoneProbe):
    """What `PhoneAccuracy` would be without tokens: every frame is told to be the other speakers' commonest phone."""

    name, half_window_s = "phone_chance", None


def _windows(utterance: _Utterance, half_window_s: float | None) -> Int64Array:
    """Each frame's tokens from the earliest to the latest of its window, ``[T, O]``; outside the recording the token V."""
    if half_window_s is None:
        return np.zeros((utterance.tokens.size, 0), dtype=np.int64)
    half = math.floor(half_window_s * utterance.frame_rate_hz + 1e-6)
    padded = np.pad(utterance.tokens, half, constant_values=utterance.codebook_size)
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)


def _pack(codes: Codes, labels: npt.NDArray[np.uint8], sample: Sample) -> dict[str, Scalar]:
    size = codes.spec.codebook_sizes[0]
    return {
        "tokens": packed(codes.indices[0], token_dtype(size)),
        "labels": packed(labels, "u1"),
        "codebook_size": size,
        "frame_rate_hz": codes.spec.frame_rate_hz,
        "speaker": sample.item.speaker,
        "item": sample.item.id,
    }


def _unpack(evidence: Evidence) -> _Utterance:
    detail: dict[str, Any] = dict(evidence.detail)
    try:
        size = int(detail["codebook_size"])
        return _Utterance(
            tokens=unpacked(detail["tokens"], token_dtype(size)).astype(np.int64),
            labels=unpacked(detail["labels"], "u1"),
            codebook_size=size,
            frame_rate_hz=float(detail["frame_rate_hz"]),
            speaker=str(detail["speaker"]),
            item=str(detail["item"]),
        )
    except KeyError as error:
        raise ValueError(f"evidence without packed phones: no {error} among {sorted(detail)}") from error


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled examples of n items."""

    categories: Int64Array  # int ``[F, O]``, O categories of each of F examples, from 0 to ``num_categories - 1``; O may be 0 (prior alone)
    classes: Int64Array  # int ``[F]``, from 0 to ``num_classes - 1``
    items: Int64Array  # int ``[F]``, whose weight an example has, ascending
    groups: Int64Array  # int ``[n]``, the group of each item
    num_categories: int  # V
    num_classes: int  # Y


def hits(examples: Examples, weights: Float64Array) -> Float64Array:
    """Weighted number ``[R]`` of examples told right, each by a probe fitted on the weighted examples of all other groups.

    A probe with nobody to learn from guesses: each of its examples counts ``1 / Y``.

    Args:
        weights: ``[R, n]``, how often each item counts in each of R resamples; the probe is fitted under each.
    """
    # Few of a large codebook's entries occur: the tables hold those alone.
    entries, categories = np.unique(examples.categories, return_inverse=True)
    order = np.argsort(examples.groups[examples.items], kind="stable")
    groups = examples.groups[examples.items][order]
    starts = np.flatnonzero(np.diff(groups, prepend=-1, append=-1))
    counted: Float64Array = compiled(leave_one_out)(
        np.ascontiguousarray(categories.reshape(examples.categories.shape)[order]),
        np.ascontiguousarray(examples.classes[order]),
        np.ascontiguousarray(examples.items[order]),
        starts if groups.size else np.zeros(1, np.int64),
        np.ascontiguousarray(weights, dtype=np.float64),
        (entries.size, examples.num_categories, examples.num_classes),
    )
    return counted


def leave_one_out(
    categories: Int64Array,
    classes: Int64Array,
    items: Int64Array,
    starts: Int64Array,
    weights: Float64Array,
    sizes: tuple[int, int, int],
) -> Float64Array:
    """The loop behind `hits`, over examples sorted by group.

    Args:
        categories: ``[F, O]``, numbered among the entries that occur.
        classes, items: ``[F]``.
        starts: ``[G + 1]``, where each group begins and the last one ends.
        weights: ``[R, n]``.
        sizes: entries that occur, V, Y.
    """
    used, num_categories, num_classes = sizes
    num_examples, offsets = categories.shape
    found = np.zeros(weights.shape[0])
    counts = np.zeros((offsets, used, num_classes))
    gains = np.zeros((offsets, used, num_classes))  # log (count + 1), so that what never occurs together needs no visit
    totals = np.zeros(num_classes)
    base = np.zeros(num_classes)
    scores = np.zeros(num_classes)
    for r in range(weights.shape[0]):
        counts[:], gains[:], totals[:] = 0.0, 0.0, 0.0
        for f in range(num_examples):
            weight = weights[r, items[f]]
            totals[classes[f]] += weight
            for o in range(offsets):
                counts[o, categories[f, o], classes[f]] += weight
        for f in range(num_examples):
            for o in range(offsets):
                gains[o, categories[f, o], classes[f]] = np.log(counts[o, categories[f, o], classes[f]] + 1.0)
        for g in range(starts.size - 1):
            for sign in (-1.0, 1.0):  # without the group; then, once it is scored, with it again
                for f in range(starts[g], starts[g + 1]):
                    weight = sign * weights[r, items[f]]
                    if weight == 0.0:
                        continue
                    totals[classes[f]] += weight
                    for o in range(offsets):
                        counts[o, categories[f, o], classes[f]] += weight
                for f in range(starts[g], starts[g + 1]):
                    if weights[r, items[f]] == 0.0:
                        continue
                    for o in range(offsets):
                        gains[o, categories[f, o], classes[f]] = np.log(counts[o, categories[f, o], classes[f]] + 1.0)
                if sign > 0:
                    continue
                for y in range(num_classes):
                    base[y] = np.log(totals[y] + 1.0) - offsets * np.log(totals[y] + num_categories)
                for f in range(starts[g], starts[g + 1]):
                    weight = weights[r, items[f]]
                    if weight == 0.0:
                        continue
                    scores[:] = base
                    for o in range(offsets):
                        scores += gains[o, categories[f, o]]
                    first = scores.max() - TIE
                    if scores[classes[f]] >= first:
                        found[r] += weight / (scores >= first).sum()
    return found
