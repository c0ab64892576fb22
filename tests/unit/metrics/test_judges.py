"""Speaker similarity and predicted MOS, with scripted judges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from harness.api import Audio, FloatArray, Item, JudgeInfo, Metric, NotApplicable, NotScorable, Sample, Side, Signal
from harness.errors import UnknownName
from harness.judges import NoSpeechError
from harness.metrics.judged import PredictedMos, ResynthesisSimilarity, SpeakerSimilarity, StoppedByItself


class Tilt:
    """Embeds audio as the direction of (mean, rms); refuses what has no positive sample."""

    info = JudgeInfo("tilt", "m", "d" * 16, "p==1")

    def __init__(self) -> None:
        self.calls = 0

    def embed(self, samples: FloatArray) -> npt.NDArray[np.float64]:
        self.calls += 1
        if samples.max() <= 0:
            raise NoSpeechError("nothing positive")
        vector = np.array([samples.mean(), np.sqrt((samples**2).mean())], dtype=np.float64)
        unit: npt.NDArray[np.float64] = vector / np.linalg.norm(vector)
        return unit


class Loudness:
    info = JudgeInfo("loudness", "m", "d" * 16, "p==1")
    scores = ("overall", "peak")

    def __init__(self) -> None:
        self.calls = 0

    def predict(self, samples: FloatArray) -> Mapping[str, float]:
        self.calls += 1
        return {"overall": 1 + float(np.abs(samples).mean()), "peak": 1 + float(np.abs(samples).max())}


def signal(samples: npt.ArrayLike) -> Signal:
    return Signal(Audio.mono(samples, 16000), lambda x, a, b: x)


def sample(output: npt.ArrayLike, reference: npt.ArrayLike | None = None, prompt: npt.ArrayLike | None = None) -> Sample:
    return Sample(
        Item("i", "d"), signal(output), None if reference is None else signal(reference), None if prompt is None else signal(prompt)
    )


DC, WAVE = np.full(16000, 0.5), 0.5 * np.sin(np.arange(16000) * 0.1)


def test_cosine_against_reference_and_prompt() -> None:
    encoder = Tilt()
    expected = np.cos(np.pi / 4)  # (1, 1)/sqrt 2 against (0, 1)
    assert SpeakerSimilarity(encoder).measure(sample(DC, DC, WAVE)).value == pytest.approx(1)
    assert SpeakerSimilarity(encoder, "prompt").measure(sample(DC, DC, WAVE)).value == pytest.approx(expected, abs=0.01)
    assert SpeakerSimilarity(encoder).info.name == SpeakerSimilarity(encoder, "prompt").info.name == "sim_tilt_o"
    assert SpeakerSimilarity(encoder).info.signature() != SpeakerSimilarity(encoder, "prompt").info.signature()
    assert isinstance(SpeakerSimilarity(encoder), Metric)


def test_the_reference_is_embedded_once_for_all_systems() -> None:
    encoder = Tilt()
    reference = signal(WAVE)
    for output in (DC, WAVE[::-1].copy()):
        SpeakerSimilarity(encoder).measure(Sample(Item("i", "d"), signal(output), reference))
    assert encoder.calls == 3


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (np.zeros(16000), "silent"),
        (np.full(16000, 1e-5), "silent"),
        (np.full(4000, 0.5), "needs 0.5 s"),
        (np.zeros(0), "0 samples"),
        (np.where(np.arange(16000) == 7, np.nan, 0.5), "NaN"),
        (np.full(16000, -0.5), "nothing positive"),
    ],
)
def test_blame(bad: npt.NDArray[np.float64], reason: str) -> None:
    metric = SpeakerSimilarity(Tilt())
    for pair, side in ((sample(DC, bad), Side.REFERENCE), (sample(bad, DC), Side.OUTPUT)):
        with pytest.raises(NotScorable, match=reason) as caught:
            metric.measure(pair)
        assert caught.value.side is side
    with pytest.raises(NotScorable) as caught:  # both bad: no system is to blame
        metric.measure(sample(bad, bad))
    assert caught.value.side is Side.REFERENCE


def test_without_an_original_it_does_not_apply() -> None:
    with pytest.raises(NotApplicable, match="no reference"):
        SpeakerSimilarity(Tilt()).measure(sample(DC, None, DC))
    with pytest.raises(NotApplicable, match="no prompt"):
        SpeakerSimilarity(Tilt(), "prompt").measure(sample(DC, DC))
    with pytest.raises(ValueError, match="against"):
        SpeakerSimilarity(Tilt(), "resynthesis")  # type: ignore[arg-type]


def test_similarity_to_the_resynthesised_prompt() -> None:
    metric = ResynthesisSimilarity(Tilt())
    heard = replace(sample(DC, None, WAVE), prompt_resynthesis=signal(DC))
    assert metric.measure(heard).value == pytest.approx(1)
    assert metric.info.name == "sim_tilt_r" and isinstance(metric, Metric)
    assert metric.info.signature() != SpeakerSimilarity(Tilt(), "prompt").info.signature()
    with pytest.raises(NotApplicable, match="no codec"):
        metric.measure(sample(DC, DC, DC))
    with pytest.raises(NotScorable, match="silent") as caught:
        metric.measure(replace(heard, prompt_resynthesis=signal(np.zeros(16000))))
    assert caught.value.side is Side.OUTPUT  # the codec is the system's


def test_how_it_stopped() -> None:
    metric = StoppedByItself()
    ended, cut = (metric.measure(replace(sample(DC), stop_reason=reason)) for reason in ("end", "length"))
    assert (ended.value, ended.counts, ended.detail) == (100.0, {"stop_end": 1.0}, {})
    assert (cut.value, cut.counts, cut.detail) == (0.0, {"stop_length": 1.0}, {"stop_reason": "length"})
    with pytest.raises(NotApplicable, match="no stop reason"):
        metric.measure(sample(DC))


def test_scores_of_a_predictor_share_one_inference() -> None:
    predictor = Loudness()
    output = sample(DC)
    assert PredictedMos(predictor).measure(output).value == pytest.approx(1.5)
    assert PredictedMos(predictor, "peak").measure(output).value == pytest.approx(1.5)
    assert predictor.calls == 1
    assert PredictedMos(predictor, "peak").info.name == "loudness_peak"
    assert PredictedMos(predictor).info.signature() != PredictedMos(predictor, "peak").info.signature()
    assert isinstance(PredictedMos(predictor), Metric)


def test_the_headline_is_the_first_score_and_a_single_one_takes_the_predictor_s_name() -> None:
    class Single(Loudness):
        scores = ("overall",)  # type: ignore[assignment]

    class PeakFirst(Loudness):
        scores = ("peak", "overall")

    assert PredictedMos(Single()).info.name == "loudness"
    assert PredictedMos(PeakFirst()).info.name == "loudness_peak"
    assert PredictedMos(Loudness(), "overall").info.signature() == PredictedMos(Loudness()).info.signature()


def test_loud_output_is_clipped_counted_and_flagged_never_rescaled() -> None:
    loud = np.where(np.arange(16000) < 100, 3.0, 0.5)
    evidence = PredictedMos(Loudness(), "peak").measure(sample(loud))
    assert evidence.value == 2.0
    assert evidence.counts["clipped_samples"] == 100
    assert evidence.detail == {"clipped": True}
    assert PredictedMos(Loudness(), "peak").measure(sample(DC)).detail == {}


@pytest.mark.parametrize("bad", [np.zeros(16000), np.zeros(0), np.full(100, 0.5), np.full(16000, np.nan)])
def test_unscorable_output(bad: npt.NDArray[np.float64]) -> None:
    with pytest.raises(NotScorable) as caught:
        PredictedMos(Loudness()).measure(sample(bad))
    assert caught.value.side is Side.OUTPUT


def test_unknown_score() -> None:
    with pytest.raises(UnknownName, match="overall, peak"):
        PredictedMos(Loudness(), "p808")
