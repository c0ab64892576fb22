"""The checks of synthesizers, metrics, suites and recorded outputs: sound ones pass, and each law has a broken example that it catches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from harness.api import (
    Audio,
    Better,
    CodecSpec,
    Curve,
    Evidence,
    MetricInfo,
    MissingOutput,
    Need,
    NotScorable,
    Sample,
    Settings,
    Side,
    Speech,
    SuiteInfo,
    SystemInfo,
    Task,
    Utterance,
)
from harness.testing import BrokenLaw, check_metric, check_recorded, check_suite, check_synthesizer

# --- synthesizers -------------------------------------------------------------------------------------------------------------------------


class SoundSynthesizer:
    """Noise shaped by the request and the seed, in three chunks."""

    info = SystemInfo(family="babble", version="1")
    sample_rate = 8000

    def synthesize(self, utterance: Utterance, seed: int) -> Speech:
        rng = np.random.default_rng([seed, *utterance.text.encode()])
        return Speech(Audio.mono(rng.normal(0, 0.1, 100 * len(utterance.text)), self.sample_rate))

    def stream(self, utterance: Utterance, seed: int) -> Iterator[Audio]:
        samples = self.synthesize(utterance, seed).audio.samples
        for part in np.array_split(samples, 3, axis=1):
            yield Audio(part, self.sample_rate)


class SilentAboutStopping(SoundSynthesizer):
    def synthesize(self, utterance: Utterance, seed: int) -> Speech:
        return replace(super().synthesize(utterance, seed), stop_reason=None)  # type: ignore[arg-type]


class SaysNothing(SoundSynthesizer):
    def synthesize(self, utterance: Utterance, seed: int) -> Speech:
        return Speech(Audio.mono([], 8000))


class ScalesThePrompt(SoundSynthesizer):
    def synthesize(self, utterance: Utterance, seed: int) -> Speech:
        if utterance.prompt is not None:
            utterance.prompt.samples[:] *= 0.5
        return super().synthesize(utterance, seed)


class IgnoresTheSeed(SoundSynthesizer):
    rng = np.random.default_rng(0)

    def synthesize(self, utterance: Utterance, seed: int) -> Speech:
        return Speech(Audio.mono(self.rng.normal(0, 0.1, 500), 8000))


class BornDifferent(SoundSynthesizer):
    born = 0

    def __init__(self) -> None:
        type(self).born += 1
        self.number = self.born

    def synthesize(self, utterance: Utterance, seed: int) -> Speech:
        return super().synthesize(utterance, seed + self.number)


class StreamsLess(SoundSynthesizer):
    def stream(self, utterance: Utterance, seed: int) -> Iterator[Audio]:
        return iter(list(super().stream(utterance, seed))[:-1])


class StreamsOtherSpeech(SoundSynthesizer):
    def stream(self, utterance: Utterance, seed: int) -> Iterator[Audio]:
        yield self.synthesize(utterance, seed + 1).audio


class SpeaksThroughCodec(SoundSynthesizer):
    """Its codec drops every other sample."""

    def resynthesize(self, prompt: Audio) -> Audio:
        wanted = round(prompt.duration_s * self.sample_rate)
        at = np.linspace(0, prompt.num_samples - 1, wanted).astype(int)
        return Audio(prompt.samples[:, at], self.sample_rate)


class ResynthesizesHalf(SpeaksThroughCodec):
    def resynthesize(self, prompt: Audio) -> Audio:
        return super().resynthesize(Audio(prompt.samples[:, : prompt.num_samples // 2], prompt.sample_rate))


class ResynthesizesAtTheWrongRate(SpeaksThroughCodec):
    def resynthesize(self, prompt: Audio) -> Audio:
        return prompt


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (ResynthesizesHalf, "resynthesis"),
        (ResynthesizesAtTheWrongRate, "resynthesis"),
        (SilentAboutStopping, "speech"),
        (SaysNothing, "speech"),
        (ScalesThePrompt, "prompt untouched"),
        (IgnoresTheSeed, "determinism"),
        (BornDifferent, "fresh instance"),
        (StreamsLess, "stream"),
        (StreamsOtherSpeech, "stream"),
    ],
)
def test_a_broken_synthesizer_is_caught(broken: Callable[[], SoundSynthesizer], law: str) -> None:
    with pytest.raises(BrokenLaw) as caught:
        check_synthesizer(broken(), factory=broken)
    assert caught.value.law == law, str(caught.value)


def test_a_sound_synthesizer_passes() -> None:
    assert check_synthesizer(SoundSynthesizer(), factory=SoundSynthesizer).skipped == ()
    assert "resynthesis" in check_synthesizer(SpeaksThroughCodec(), factory=SpeaksThroughCodec).checked


# --- metrics ------------------------------------------------------------------------------------------------------------------------------


class SoundMetric:
    """Share of the reference's energy that the output gets wrong."""

    info = MetricInfo(
        name="error_share", version="1", unit="", better=Better.LOWER, needs=frozenset({Need.OUTPUT, Need.REFERENCE}), sample_rate=16000,
        bounds=(0.0, float("inf")), description="squared error over the reference's energy",
    )  # fmt: skip

    def measure(self, sample: Sample) -> Evidence:
        output, reference = sample.output.at(16000), sample.require_reference().at(16000)
        if output.size != reference.size:
            raise NotScorable(Side.OUTPUT, f"{output.size} samples for {reference.size}")
        if not np.isfinite(output).all():
            raise NotScorable(Side.OUTPUT, "NaN or Inf")
        return Evidence(self.value(output, reference))

    def value(self, output: npt.NDArray[Any], reference: npt.NDArray[Any]) -> float:
        return float(np.sum((output - reference) ** 2) / np.sum(reference**2))


class CapitalName(SoundMetric):
    info = replace(SoundMetric.info, name="Error")


class ShiftingSignature(SoundMetric):
    calls = 0

    @property
    def info(self) -> MetricInfo:  # type: ignore[override]
        self.calls += 1
        return replace(SoundMetric.info, params={"calls": self.calls})


class TooGood(SoundMetric):
    info = replace(SoundMetric.info, bounds=(0.0, 0.05))


class FailsAsZero(SoundMetric):
    def measure(self, sample: Sample) -> Evidence:
        try:
            return super().measure(sample)
        except NotScorable:
            return Evidence(0.0)


class BlamesTheReference(SoundMetric):
    def measure(self, sample: Sample) -> Evidence:
        try:
            return super().measure(sample)
        except NotScorable as refusal:
            raise NotScorable(Side.REFERENCE, refusal.reason) from None


class CrashesOnShort(SoundMetric):
    def measure(self, sample: Sample) -> Evidence:
        output = sample.output.at(16000)
        if np.isfinite(output).all():
            return Evidence(self.value(output, sample.require_reference().at(16000)))
        raise NotScorable(Side.OUTPUT, "NaN or Inf")


class RandomValue(SoundMetric):
    rng = np.random.default_rng(0)

    def measure(self, sample: Sample) -> Evidence:
        return Evidence(super().measure(sample).value + float(self.rng.random()))


class RemovesTheMean(SoundMetric):
    def measure(self, sample: Sample) -> Evidence:
        found = super().measure(sample)
        sample.output.audio.samples[:] -= 0.01
        return found


class WrongDirection(SoundMetric):
    info = replace(SoundMetric.info, better=Better.HIGHER)


class NotFollowing(SoundMetric):
    """Best in the middle: a bug of sign below some level."""

    def value(self, output: npt.NDArray[Any], reference: npt.NDArray[Any]) -> float:
        share = super().value(output, reference)
        return 2.0 if 0 < share < 0.01 else share + 3.0 if share > 0.5 else share


class InstancesDiffer(SoundMetric):
    born = 0

    def __init__(self) -> None:
        type(self).born += 1
        self.number = self.born

    def value(self, output: npt.NDArray[Any], reference: npt.NDArray[Any]) -> float:
        return super().value(output, reference) * self.number + self.number


class SoundPool(SoundMetric):
    """Root of the mean: not a weighted mean of roots."""

    info = replace(SoundMetric.info, aggregation="root of the mean")

    def pool(self, evidence: Sequence[Evidence], resamples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        values = np.array([e.value for e in evidence])
        pooled: npt.NDArray[np.float64] = np.sqrt(resamples @ values / resamples.sum(axis=1))
        return pooled


class PoolIgnoresCounts(SoundPool):
    def pool(self, evidence: Sequence[Evidence], resamples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return super().pool(evidence, (resamples > 0).astype(float))


class PoolMixesRows(SoundPool):
    def pool(self, evidence: Sequence[Evidence], resamples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.full(len(resamples), super().pool(evidence, resamples.sum(axis=0, keepdims=True))[0])


class PoolCalledMean(SoundPool):
    info = SoundMetric.info


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (CapitalName, "declaration"),
        (ShiftingSignature, "declaration"),
        (PoolCalledMean, "declaration"),
        (TooGood, "evidence"),
        (RandomValue, "determinism"),
        (RemovesTheMean, "samples untouched"),
        (InstancesDiffer, "equal instance"),
        (FailsAsZero, "NaN output"),
        (BlamesTheReference, "NaN output"),
        (CrashesOnShort, "faulty output"),
        (WrongDirection, "direction"),
        (NotFollowing, "direction"),
        (PoolIgnoresCounts, "pool"),
        (PoolMixesRows, "pool"),
    ],
)
def test_a_broken_metric_is_caught(broken: Callable[[], SoundMetric], law: str) -> None:
    with pytest.raises(BrokenLaw) as caught:
        check_metric(broken(), factory=broken)
    assert caught.value.law == law, str(caught.value)


@pytest.mark.parametrize("kind", [SoundMetric, SoundPool])
def test_a_sound_metric_passes(kind: Callable[[], SoundMetric]) -> None:
    report = check_metric(kind(), factory=kind)
    assert {"NaN output", "faulty output", "direction"} <= set(report.checked)


def test_a_metric_of_text_needs_probes() -> None:
    class NeedsText(SoundMetric):
        info = replace(SoundMetric.info, needs=frozenset({Need.OUTPUT, Need.TEXT}))

    with pytest.raises(ValueError, match="give check_metric probes"):
        check_metric(NeedsText())


# --- suites -------------------------------------------------------------------------------------------------------------------------------


class SoundSuite:
    """Every prefix of every codec that decodes them."""

    info = SuiteInfo(
        name="prefixes", title="Prefixes", task=Task.RESYNTHESIS, systems=("passthrough",),
        metrics=("stoi", "emitted_bps"), headline=("stoi",),
        curves=(Curve("Prefixes", x="settings.codebooks", y=("stoi",)),),
    )  # fmt: skip

    def variants(self, spec: CodecSpec | None) -> Sequence[Settings]:
        if spec is None or not spec.prefix_decodable:
            return [{}]
        return [{"codebooks": b} for b in range(1, spec.num_codebooks + 1)]


def _suite(info: Mapping[str, Any] | None = None, variants: Callable[[CodecSpec | None], Sequence[Settings]] | None = None) -> SoundSuite:
    suite = SoundSuite()
    suite.info = replace(SoundSuite.info, **(info or {}))
    if variants is not None:
        suite.variants = variants  # type: ignore[method-assign]
    return suite


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (_suite({"name": "My Suite"}), "declaration"),
        (_suite({"metrics": ("stoi", "stoi")}), "declaration"),
        (_suite({"systems": ("noise", "noise")}), "declaration"),
        (_suite({"title": "two\nlines"}), "declaration"),
        (_suite({"calibration": ("oracle",)}), "declaration"),
        (_suite({"headline": ("pesq_wb",)}), "headline"),
        (_suite({"headline": ()}), "headline"),
        (_suite({"curves": (Curve("?", x="emitted_bps", y=("wer",)),)}), "curves"),
        (_suite({"curves": (Curve("?", x="settings.depth", y=("stoi",)),)}), "curves"),
        (_suite(variants=lambda spec: []), "variants"),
        (_suite(variants=lambda spec: [{}, {}]), "variants"),
        (_suite(variants=lambda spec: [{"codebooks": 99}]), "variants"),
        (_suite(variants=lambda spec: [{"codebooks": 1}]), "variants"),
        (_suite(variants=lambda spec: [{"temperature": float("nan")}]), "variants"),
        (_suite(variants=lambda spec, seen=[]: seen.append(1) or [{"n": len(seen)}]), "variants"),  # type: ignore[misc]
    ],
)
def test_a_broken_suite_is_caught(broken: SoundSuite, law: str) -> None:
    with pytest.raises(BrokenLaw) as caught:
        check_suite(broken)
    assert caught.value.law == law, str(caught.value)


def test_a_sound_suite_passes() -> None:
    assert check_suite(SoundSuite()).checked == ("declaration", "headline", "variants", "curves")


# --- recorded outputs ---------------------------------------------------------------------------------------------------------------------


class SoundRecorded:
    info = SystemInfo(family="recorded", version="1")

    def recall(self, item_id: str) -> Audio:
        if item_id not in ("a", "b"):
            raise MissingOutput(item_id)
        return Audio.mono(np.full(10, ord(item_id) / 200), 16000)


class GivesSilence(SoundRecorded):
    def recall(self, item_id: str) -> Audio:
        return super().recall(item_id) if item_id in ("a", "b") else Audio.mono(np.zeros(10), 16000)


class LeaksKeyError(SoundRecorded):
    def recall(self, item_id: str) -> Audio:
        if "\x00" in item_id:
            raise ValueError("embedded null byte")
        return super().recall(item_id)


class RecallsAnother(SoundRecorded):
    calls = 0

    def recall(self, item_id: str) -> Audio:
        self.calls += 1
        return super().recall("ab"[self.calls % 2] if item_id in ("a", "b") else item_id)


@pytest.mark.parametrize(
    ("broken", "law"), [(GivesSilence, "missing output"), (LeaksKeyError, "hostile ids"), (RecallsAnother, "determinism")]
)
def test_a_broken_recorded_system_is_caught(broken: Callable[[], SoundRecorded], law: str) -> None:
    with pytest.raises(BrokenLaw) as caught:
        check_recorded(broken(), ["a", "b", "a"])
    assert caught.value.law == law, str(caught.value)


def test_a_sound_recorded_system_passes() -> None:
    assert "hostile ids" in check_recorded(SoundRecorded(), ["a", "b"]).checked
