"""Predicted mean opinion scores. Each predictor is a scale of its own and is named in the metric."""

from __future__ import annotations

import numpy as np

from harness.api import Better, Evidence, MetricInfo, MosPredictor, Need, NotScorable, Sample, Side
from harness.errors import UnknownName
from harness.judges.input import NoSpeechError, audible

SHORTEST_S = 0.5


class PredictedMos:
    """One score of one predictor, from the output alone; several scores of a predictor share one inference.

    Predictors want samples within +-1. Louder ones are clipped, as they would be on the way to any listener, counted and flagged;
    the level is never normalised.

    Args:
        predictor: of opinion scores.
        score: one of the predictor's ("overall", "signal", "background", "p808" of DNSMOS).

    Raises:
        UnknownName: the predictor declares its scores and this is not one.
    """

    def __init__(self, predictor: MosPredictor, score: str = "overall") -> None:
        known: tuple[str, ...] = getattr(predictor, "scores", ())
        if known and score not in known:
            raise UnknownName(f"score of {predictor.info.family}", score, known)
        self._predictor, self._score = predictor, score
        info = predictor.info
        self.info = MetricInfo(
            name=f"{info.family}_{score}",
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
