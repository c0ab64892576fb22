"""Comparison of what a model makes of two signals inside: frame by frame, as whole utterances, and as whole corpora."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.api import Better, Evidence, FeatureExtractor, MetricInfo, Need, NotApplicable, NotScorable, Sample, Side, Signal
from harness.metrics.alignment import audible
from harness.metrics.judged import SHORTEST_S
from harness.metrics.tokens import packed, unpacked

Float64Array = npt.NDArray[np.float64]


class SpeechBertScore:
    """SpeechBERTScore (Saeki et al. 2024): how well each frame of the output is found somewhere in the recording.

    Precision: the cosine of each of the output's frames with the nearest of the recording's, averaged; recall and F1 are kept beside it.
    Order and durations do not matter, so speech that says the same at another pace scores high, and so does part of it: what is left
    out only recall shows. Another layer or model is another scale.

    Args:
        features: frames of a self-supervised model; the authors' choice is ``features=wavlm_large`` (layer 14).
    """

    def __init__(self, features: FeatureExtractor) -> None:
        self._features = features
        self.info = MetricInfo(
            name=f"speech_bert_score_{features.info.family}",
            version="1",
            unit="",
            better=Better.HIGHER,
            needs=frozenset({Need.OUTPUT, Need.REFERENCE}),
            sample_rate=features.info.sample_rate,
            bounds=(-1.0, 1.0),
            description=f"SpeechBERTScore precision over frames of {features.info.family}, output against recording",
            params={"features": _identity(features)},
            worst=0.0,
        )

    def measure(self, sample: Sample) -> Evidence:
        """The precision, with recall and F1 as counts.

        Raises:
            NotScorable: a side silent, shorter than .5 s or not finite.
        """
        reference = _frames(self._features, sample.require_reference(), Side.REFERENCE)
        precision, recall = precision_recall(_frames(self._features, sample.output, Side.OUTPUT), reference)
        f1 = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
        return Evidence(precision, counts={"recall": recall, "f1": f1})


def precision_recall(output: npt.NDArray[np.floating], reference: npt.NDArray[np.floating]) -> tuple[float, float]:
    """Of frames ``[T, D]`` and ``[U, D]``: the mean over the output's of the cosine with the nearest reference, and the other way round."""
    first, second = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (output, reference))
    cosines = first.astype(np.float64) @ second.astype(np.float64).T
    return float(np.clip(cosines.max(axis=1).mean(), -1, 1)), float(np.clip(cosines.max(axis=0).mean(), -1, 1))


class EmotionSimilarity:
    """Cosine of what an emotion model makes of two utterances, its frames averaged: whether it is spoken in the same manner.

    Args:
        emotion: frames of emotion2vec.
        against: "reference", the item's own recording (resynthesis), or "prompt", the voice to be followed (zero-shot synthesis).
    """

    def __init__(self, emotion: FeatureExtractor, against: Literal["reference", "prompt"] = "reference") -> None:
        self._emotion, self._against = emotion, against
        self.info = MetricInfo(
            name="emotion_sim",
            version="1",
            unit="",
            better=Better.HIGHER,
            needs=frozenset({Need.OUTPUT, Need.REFERENCE if against == "reference" else Need.PROMPT}),
            sample_rate=emotion.info.sample_rate,
            bounds=(-1.0, 1.0),
            description=f"cosine of {emotion.info.family} embeddings of whole utterances, output against the original {against}",
            params={"emotion": _identity(emotion), "against": against},
            worst=0.0,
        )

    def measure(self, sample: Sample) -> Evidence:
        """The cosine, in -1..1.

        Raises:
            NotApplicable: there is no such recording to compare with.
            NotScorable: a side silent, shorter than .5 s or not finite.
        """
        original = sample.reference if self._against == "reference" else sample.prompt
        if original is None:
            raise NotApplicable(f"the item has no {self._against} recording")
        first, second = (
            _frames(self._emotion, signal, side).mean(axis=0, dtype=np.float64)
            for signal, side in ((original, Side.REFERENCE), (sample.output, Side.OUTPUT))
        )
        return Evidence(float(np.clip(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)), -1.0, 1.0)))


class FrechetDistance:
    """Frechet distance between the outputs and the recordings of a corpus, each utterance the mean of its frames.

    Two Gaussians are compared: squared distance of the means plus ``tr(A + B - 2 (A B)^(1/2))`` of the covariances (n - 1 below).
    It says whether the outputs as a whole are spread like recordings, and nothing of any one of them. With n utterances it is too large by
    something like 1/n, so figures over different numbers of utterances are not compared; over few, a system's rank is its own taste.

    An item's record holds its two vectors, and as its value their squared distance. The interval comes from leaving out one speaker at a
    time (jackknife), as that of every figure that is no mean.

    Args:
        features: frames of a model; None only pools what was measured.
    """

    def __init__(self, features: FeatureExtractor | None = None) -> None:
        self._features = features
        info = features.info if features is not None else None
        self.info = MetricInfo(
            name="frechet_distance",
            version="1",
            unit="",
            better=Better.LOWER,
            needs=frozenset({Need.OUTPUT, Need.REFERENCE}),
            sample_rate=info.sample_rate if info is not None else 16000,
            bounds=(0.0, math.inf),
            description="Frechet distance between outputs and recordings, utterance means of the frames of the features= model",
            params={"features": _identity(features), "of": "utterance means"} if features is not None else {},
            aggregation="pooled Gaussians",
        )

    def measure(self, sample: Sample) -> Evidence:
        """The item's squared distance, with both its vectors; the corpus's figure is `pool`.

        Raises:
            NotScorable: a side silent, shorter than .5 s or not finite.
        """
        if self._features is None:
            raise TypeError("a FrechetDistance without features can only pool")
        sides = ((sample.output, Side.OUTPUT), (sample.require_reference(), Side.REFERENCE))
        output, reference = (_frames(self._features, signal, side).mean(axis=0, dtype=np.float64) for signal, side in sides)
        detail = {"output": packed(output, "<f4"), "reference": packed(reference, "<f4")}
        return Evidence(float(np.square(output - reference).sum()), counts={"dimensions": float(output.size)}, detail=detail)

    def pool(self, evidence: Sequence[Evidence], resamples: Float64Array) -> Float64Array:
        """The distance over the items of each resample ``[R, n]``: ``[R]``.

        Raises:
            ValueError: vectors of different models.
        """
        output, reference = (np.stack([unpacked(str(e.detail[side]), "<f4") for e in evidence]) for side in ("output", "reference"))
        return np.array([frechet_distance(output, reference, weights) for weights in resamples])


def frechet_distance(
    output: npt.NDArray[np.floating], reference: npt.NDArray[np.floating], weights: npt.NDArray[np.floating] | None = None
) -> float:
    """Frechet distance of the Gaussians of two sets of vectors ``[n, D]`` and ``[n, D]``; how often each counts is ``weights [n]``.

    One vector has no covariance: its distance is that of the means. NaN of none.

    >>> import numpy as np
    >>> x = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    >>> round(frechet_distance(x + [3.0, 4.0], x), 9)
    25.0
    """
    w = np.ones(len(output)) if weights is None else np.asarray(weights, np.float64)
    total = w.sum()
    if total <= 0:
        return math.nan
    x, y = (np.asarray(side, np.float64) for side in (output, reference))
    means = [(w @ side) / total for side in (x, y)]
    # The covariances are A = X'X and B = Y'Y of these: the trace of (A B)^(1/2) is the sum of the singular values of X Y', whose size is
    # that of the smaller of n and D.
    x, y = (np.sqrt(w / max(total - 1, 1))[:, None] * (side - mean) for side, mean in zip((x, y), means, strict=True))
    if len(x) > x.shape[1]:
        x, y = (np.asarray(np.linalg.qr(side, mode="r")) for side in (x, y))
    shared = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    distance = np.square(means[0] - means[1]).sum() + np.square(x).sum() + np.square(y).sum() - 2 * shared
    return float(max(distance, 0.0))


def _identity(features: FeatureExtractor) -> str:
    info = features.info
    return f"{info.family} {info.model} {info.digest} {info.package}"


def _frames(features: FeatureExtractor, signal: Signal, side: Side) -> npt.NDArray[np.float32]:
    """Frames of a signal, made once however many metrics ask."""
    info = features.info
    samples = audible(signal, info.sample_rate, side, SHORTEST_S)
    found = signal.derive(("features", info.family, info.model, info.digest), lambda: features.frames(samples))
    if not len(found):
        raise NotScorable(side, "no frame of features")
    return found
