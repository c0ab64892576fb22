"""What a model says of the output: whether it is still the same voice, how good it sounds; and of itself, whether it came to its end."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.api import Better, Evidence, MetricInfo, MosPredictor, Need, NotApplicable, NotScorable, Sample, Side, Signal, SpeakerEncoder
from harness.errors import UnknownName
from harness.judges import NoSpeechError
from harness.metrics.alignment import audible
from harness.metrics.declaration import declared

SHORTEST_S = 0.5
"""Below this a speaker embedding says more about the sounds that happen to be in it than about the voice, and an opinion nothing."""

ENDED = "end"
"""The stop reason of a model that ended itself (`harness.api.Speech`)."""


class SpeakerSimilarity:
    """Cosine of speaker embeddings, output against an *original* recording (SIM-o, never the codec's resynthesis of it).

    Two encoders are two scales: the same pair is .33 or .77 by model. The name says which, the signature which weights.

    Args:
        encoder: of voices.
        against: "reference", the item's own recording (resynthesis), or "prompt", the voice to be followed (zero-shot synthesis).
    """

    def __init__(self, encoder: SpeakerEncoder, against: Literal["reference", "prompt"] = "reference") -> None:
        if against not in ("reference", "prompt"):
            raise ValueError(f"against should be 'reference' or 'prompt', got {against!r}")
        need = Need.REFERENCE if against == "reference" else Need.PROMPT
        self._declare(encoder, "o", need, against, f"the original {against}")

    def _declare(self, encoder: SpeakerEncoder, letter: str, need: Need, against: str, words: str) -> None:
        self._encoder, self._against, info = encoder, against, encoder.info
        self.info = MetricInfo(
            name=f"sim_{info.family}_{letter}",
            version="1",
            unit="",
            better=Better.HIGHER,
            needs=frozenset({Need.OUTPUT, need}),
            sample_rate=info.sample_rate,
            bounds=(-1.0, 1.0),
            description=f"cosine of {info.family} speaker embeddings, output against {words}",
            params={"encoder": f"{info.family} {info.model} {info.digest} {info.package}", "against": against},
            worst=0.0,
        )

    def _voice(self, sample: Sample) -> tuple[Signal, Side]:
        """What the output is compared with, and whose fault it is where that cannot be judged: of an original no system's."""
        original = sample.reference if self._against == "reference" else sample.prompt
        if original is None:
            raise NotApplicable(f"the item has no {self._against} recording")
        return original, Side.REFERENCE

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

    Args:
        encoder: of voices.
    """

    def __init__(self, encoder: SpeakerEncoder) -> None:
        words = "the prompt as the system's codec resynthesises it"
        self._declare(encoder, "r", Need.PROMPT_RESYNTHESIS, "prompt resynthesis", words)

    def _voice(self, sample: Sample) -> tuple[Signal, Side]:
        if sample.prompt_resynthesis is None:
            raise NotApplicable("the system has no codec to resynthesise the prompt with")
        return sample.prompt_resynthesis, Side.OUTPUT  # which is the system's own


def _embedding(encoder: SpeakerEncoder, signal: Signal, side: Side) -> npt.NDArray[np.float64]:
    info = encoder.info
    samples = audible(signal, info.sample_rate, side, SHORTEST_S)
    try:
        return signal.derive(("speaker", info.family, info.model, info.digest), lambda: encoder.embed(samples))
    except NoSpeechError as error:
        raise NotScorable(side, str(error)) from error


class PredictedMos:
    """One score of one predictor, from the output alone; several scores of a predictor share one inference.

    Predictors want samples within +-1. Louder ones are clipped, as they would be on the way to any listener, counted and flagged;
    the level is never normalised.

    Predictors are as many scales: the name says whose score it is ("dnsmos_overall", "dnsmos_signal"), the predictor's name alone where
    it has an overall score only ("distillmos").

    Args:
        predictor: of opinion scores.
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
            params={"predictor": f"{info.family} {info.model} {info.digest} {info.package}", "score": score},
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
            scores = sample.output.derive(key, lambda: dict(self._predictor.predict(np.clip(samples, -1.0, 1.0))))
        except NoSpeechError as error:
            raise NotScorable(Side.OUTPUT, str(error)) from error
        if self._score not in scores:
            raise UnknownName(f"score of {info.family}", self._score, scores)
        return Evidence(scores[self._score], counts={"clipped_samples": float(clipped)}, detail={"clipped": True} if clipped else {})


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
        ended = reason == ENDED
        return Evidence(100.0 if ended else 0.0, counts={f"stop_{reason}": 1.0}, detail={} if ended else {"stop_reason": reason})
