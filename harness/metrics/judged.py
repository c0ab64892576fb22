"""What a model says of the output: whether voice and manner are kept, how good it sounds; and of itself, whether it came to its end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.api import (
    Better,
    Evidence,
    FeatureExtractor,
    JudgeInfo,
    MetricInfo,
    MosPredictor,
    Need,
    NotApplicable,
    NotScorable,
    Sample,
    Scalar,
    Side,
    Signal,
    SpeakerEncoder,
)
from harness.errors import UnknownName
from harness.judges import NoSpeechError
from harness.metrics.alignment import audible
from harness.metrics.declaration import declared, identity
from harness.metrics.shared import judged_once
from harness.metrics.tokens import packed, unpacked

SHORTEST_S = 0.5
"""Below this a speaker embedding says more about the sounds that happen to be in it than about the voice, and an opinion nothing."""

Float64Array = npt.NDArray[np.float64]


class SpeakerSimilarity:
    """Cosine of speaker embeddings, output against an *original* recording (SIM-o, never the codec's resynthesis of it).

    Two encoders are two scales: the same pair is .33 or .77 by model. The name says which, the signature which weights.

    Args:
        against: "reference", the item's own recording (resynthesis), or "prompt", the voice to be followed (zero-shot synthesis).
    """

    def __init__(self, encoder: SpeakerEncoder, against: Literal["reference", "prompt"] = "reference") -> None:
        if against not in ("reference", "prompt"):
            raise ValueError(f"against should be 'reference' or 'prompt', got {against!r}")
        need = Need.REFERENCE if against == "reference" else Need.PROMPT
        self._declare(encoder, "o", need, against, f"the original {against}")

    def _declare(self, encoder: SpeakerEncoder, letter: str, need: Need, against: str, words: str) -> None:
        self._encoder, self._against, info = encoder, against, encoder.info
        about = f"cosine of {info.family} speaker embeddings, output against {words}"
        self.info = _cosine(f"sim_{info.family}_{letter}", need, info, about, encoder=identity(info), against=against)

    def _voice(self, sample: Sample) -> tuple[Signal, Side]:
        """What the output is compared with, and whose fault it is where that cannot be judged: of an original no system's."""
        return _original(sample, self._against), Side.REFERENCE

    def measure(self, sample: Sample) -> Evidence:
        """The cosine, in -1..1.

        Raises:
            NotApplicable: there is no such voice to compare with.
            NotScorable: a side silent, shorter than .5 s, not finite, or without speech for the encoder.
        """
        first = _embedding(self._encoder, *self._voice(sample))
        second = _embedding(self._encoder, sample.output, Side.OUTPUT)
        return Evidence(float(np.clip(first @ second, -1.0, 1.0)))


class ResynthesisSimilarity(SpeakerSimilarity):
    """Cosine of speaker embeddings, speech against the system's own codec's *resynthesis* of the prompt (SIM-r).

    What the codec loses of a voice is taken out of the comparison: it tells how well the model over the codes follows, and says less
    than SIM-o about what a listener hears. Two systems with different codecs are compared with different recordings.
    """

    def __init__(self, encoder: SpeakerEncoder) -> None:
        self._declare(encoder, "r", Need.PROMPT_RESYNTHESIS, "prompt resynthesis", "the prompt as the system's codec resynthesises it")

    def _voice(self, sample: Sample) -> tuple[Signal, Side]:
        if sample.prompt_resynthesis is None:
            raise NotApplicable("the system has no codec to resynthesise the prompt with")
        return sample.prompt_resynthesis, Side.OUTPUT  # which is the system's own


def _embedding(encoder: SpeakerEncoder, signal: Signal, side: Side) -> npt.NDArray[np.float64]:
    info = encoder.info
    samples = audible(signal, info.sample_rate, side, SHORTEST_S)
    try:
        return judged_once(encoder, signal, ("speaker", info.family, info.model, info.digest), lambda: encoder.embed(samples))
    except NoSpeechError as error:
        raise NotScorable(side, str(error)) from error


class PredictedMos:
    """One score of one predictor, from the output alone; several scores of a predictor share one inference.

    Predictors want samples within +-1. Louder ones are clipped, as they would be on the way to any listener, counted and flagged;
    the level is never normalised.

    Predictors are as many scales: the name says whose score it is ("dnsmos_overall", "dnsmos_signal"), the predictor's name alone where
    it has an overall score only ("distillmos").

    Args:
        score: one of the predictor's ("overall", "signal", "background", "p808" of DNSMOS); "" is its headline, the first it declares,
            or "overall" where it declares none.

    Raises:
        UnknownName: the predictor declares its scores and this is not one.
    """

    def __init__(self, predictor: MosPredictor, score: str = "") -> None:
        known: tuple[str, ...] = getattr(predictor, "scores", ())
        score = score or (known or ("overall",))[0]
        if known and score not in known:
            raise UnknownName(f"score of {predictor.info.family}", score, known)
        self._predictor, self._score = predictor, score
        info = predictor.info
        self.info = MetricInfo(
            name=info.family if known == ("overall",) else f"{info.family}_{score}",
            version="1",
            unit="MOS",
            better=Better.HIGHER,
            needs=frozenset({Need.OUTPUT}),
            sample_rate=info.sample_rate,
            bounds=(0.0, 5.0),  # the predictors regress: DNSMOS gives .89 for the signal of a click train
            description=f"{score} quality as predicted by {info.family} ({info.model}), without a reference",
            params={"predictor": identity(info), "score": score},
            worst=1.0,  # "bad" on the scale that listeners are given
        )

    def measure(self, sample: Sample) -> Evidence:
        """The score, about 1 to 5, with the number of samples clipped.

        Raises:
            NotScorable: the output is silent, shorter than .5 s or not finite.
        """
        info = self._predictor.info
        samples = audible(sample.output, info.sample_rate, Side.OUTPUT, SHORTEST_S)
        clipped = int((np.abs(samples) > 1).sum())
        key = ("mos", info.family, info.model, info.digest)
        try:
            scores = sample.output.derive(key, lambda: _kept(self._predictor.predict(np.clip(samples, -1.0, 1.0))))
        except NoSpeechError as error:
            raise NotScorable(Side.OUTPUT, str(error)) from error
        if self._score not in scores:
            raise UnknownName(f"score of {info.family}", self._score, scores)
        return Evidence(scores[self._score], counts={"clipped_samples": float(clipped)}, detail={"clipped": True} if clipped else {})


def _kept(scores: Mapping[str, float]) -> Mapping[str, float]:
    """A copy of a predictor's dict; another mapping computes what it is asked for (`harness.judges.opinions.dnsmos`) and is left whole."""
    return dict(scores) if isinstance(scores, dict) else scores


class StoppedByItself:
    """Share of outputs that the model ended itself. The others are runaways cut at the limit ("length"), or stopped by a word of the system's own.

    A runaway is still an output: it is heard and scored, and shows in the error rates as insertions.
    """

    @property
    def info(self) -> MetricInfo:
        about = {"unit": "%", "better": Better.HIGHER, "bounds": (0.0, 100.0), "worst": 0.0, "counted": True}
        return declared("stopped_by_itself", Need.STOP_REASON, **about)

    def measure(self, sample: Sample) -> Evidence:
        """100 or 0, counted by reason; a reason other than the end is kept.

        Raises:
            NotApplicable: nothing was synthesised, so nothing stopped.
        """
        reason = sample.stop_reason
        if not reason:
            raise NotApplicable("the system gives no stop reason")
        ended = reason == "end"  # as `harness.api.Speech` calls it
        return Evidence(100.0 if ended else 0.0, counts={f"stop_{reason}": 1.0}, detail={} if ended else {"stop_reason": reason})


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
        info = features.info
        about = f"SpeechBERTScore precision over frames of {info.family}, output against recording"
        self.info = _cosine(f"speech_bert_score_{info.family}", Need.REFERENCE, info, about, features=identity(info))

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
        need, info = Need.REFERENCE if against == "reference" else Need.PROMPT, emotion.info
        about = f"cosine of {info.family} embeddings of whole utterances, output against the original {against}"
        self.info = _cosine("emotion_sim", need, info, about, emotion=identity(info), against=against)

    def measure(self, sample: Sample) -> Evidence:
        """The cosine, in -1..1.

        Raises:
            NotApplicable: there is no such recording to compare with.
            NotScorable: a side silent, shorter than .5 s or not finite.
        """
        original = _original(sample, self._against)
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
        self.info = declared(
            "frechet_distance",
            Need.OUTPUT,
            Need.REFERENCE,
            better=Better.LOWER,
            sample_rate=info.sample_rate if info is not None else 16000,
            bounds=(0.0, math.inf),
            description="Frechet distance between outputs and recordings, utterance means of the frames of the features= model",
            params={"features": identity(info), "of": "utterance means"} if info is not None else {},
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


def _cosine(name: str, need: Need, info: JudgeInfo, description: str, **params: Scalar) -> MetricInfo:
    """The declaration of a cosine of what a model makes of the output and of what ``need`` brings."""
    return MetricInfo(
        name=name, version="1", unit="", better=Better.HIGHER, needs=frozenset({Need.OUTPUT, need}), sample_rate=info.sample_rate,
        bounds=(-1.0, 1.0), description=description, params=params, worst=0.0,
    )  # fmt: skip


def _original(sample: Sample, against: str) -> Signal:
    original = sample.reference if against == "reference" else sample.prompt
    if original is None:
        raise NotApplicable(f"the item has no {against} recording")
    return original


def _frames(features: FeatureExtractor, signal: Signal, side: Side) -> npt.NDArray[np.float32]:
    """Frames of a signal, made once however many metrics ask."""
    info = features.info
    samples = audible(signal, info.sample_rate, side, SHORTEST_S)
    found = signal.derive(("features", info.family, info.model, info.digest), lambda: features.frames(samples))
    if not len(found):
        raise NotScorable(side, "no frame of features")
    return found
