"""The laws of a metric."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from harness.api import Audio, Better, Evidence, Item, Metric, MetricInfo, Need, NotScorable, PooledMetric, Sample, Side
from harness.testing.laws import ContractReport, Laws, expect, expect_kind, noisy, signal, silence, speechlike

Probe = Callable[[], Sample]
"""Makes one sample anew, so that nothing memoised in it can hide a difference."""


def check_metric(
    metric: Metric,
    probes: Sequence[Probe] | None = None,
    factory: Callable[[], Metric] | None = None,
    sides: tuple[Audio, Audio] | None = None,
) -> ContractReport:
    """Check every law of a metric.

    Args:
        metric: to check.
        probes: functions that each build a scorable sample; needed for metrics of codes, text, prompts or timing. By default a
            speech-like reference against itself, with noise, and with more noise.
        factory: makes an equal metric, whose signature and values must agree.
        sides: reference and a good output of it for the laws of direction and of faulty outputs; by default speech-like.

    Raises:
        BrokenLaw: a law is broken.
        ValueError: the metric needs more than the default probes have and none were given.
    """
    laws = Laws(getattr(metric.info, "name", "") or type(metric).__name__)
    with laws.law("declaration"):
        expect(isinstance(metric, Metric), "a metric has info and measure")
        _declaration(metric)
    info = metric.info
    reference, good = sides if sides is not None else (speechlike(2.5, seed=3), speechlike(2.5, seed=3))
    audio_only = info.needs <= {Need.OUTPUT, Need.REFERENCE}
    if probes is None:
        if not audio_only:
            raise ValueError(f"{info.name} needs {sorted(map(str, info.needs))}: give check_metric probes that have them")
        probes = [_pair(reference, output) for output in (good, noisy(good, 20), noisy(good, 10, seed=1))]
    with laws.law("samples untouched"):
        evidence = [_untouched(metric, probe()) for probe in probes]
    with laws.law("determinism"):
        _deterministic(metric, probes, evidence)
    with laws.law("evidence"):
        for found in evidence:
            _evidence(found, info)
    if factory is None:
        laws.skip("equal instance", "no factory was given")
    else:
        with laws.law("equal instance"):
            other = factory()
            expect(other.info.signature() == info.signature(), f"signatures {info.signature()} and {other.info.signature()}")
            values = [other.measure(probe()).value for probe in probes]
            expect(values == [found.value for found in evidence], "another instance measures other values")
    _faults(laws, metric, reference, good, audio_only)
    _direction(laws, metric, reference, good, audio_only)
    if isinstance(metric, PooledMetric):
        with laws.law("pool"):
            _pool(metric, evidence)
    else:
        laws.skip("pool", "the corpus figure is a weighted mean")
    return laws.report()


def _pair(reference: Audio, output: Audio) -> Probe:
    item = Item(id="probe", dataset="testing", language="en")
    return lambda: Sample(
        item,
        output=signal(Audio(output.samples.copy(), output.sample_rate)),
        reference=signal(Audio(reference.samples.copy(), reference.sample_rate)),
    )


def _declaration(metric: Metric) -> None:
    info = expect_kind(metric.info, MetricInfo, "info")
    expect(re.fullmatch(r"[a-z][a-z0-9_]*", info.name), f"name {info.name!r} should be lower case letters, digits and underscores")
    expect(info.version, "version is empty")
    expect(info.description.strip() and "\n" not in info.description, f"description should be one line, got {info.description!r}")
    expect(isinstance(info.better, Better), f"better should be a Better, got {info.better!r}")
    expect(
        isinstance(info.needs, frozenset) and all(isinstance(n, Need) for n in info.needs),
        f"needs should be a frozenset of Need: {info.needs!r}",
    )
    expect(info.sample_rate is None or info.sample_rate > 0, f"sample_rate is {info.sample_rate}")
    low, high = info.bounds
    expect(low < high, f"bounds {info.bounds} are not an interval")
    expect(info.worst is None or low <= info.worst <= high, f"worst {info.worst} is outside the declared bounds {low} to {high}")
    json.dumps(dict(info.params), allow_nan=False)
    expect(metric.info.signature() == info.signature(), f"the signature changed from {info.signature()} to {metric.info.signature()}")
    if isinstance(metric, PooledMetric):
        expect(
            info.aggregation not in ("mean", "weighted mean"),
            f"a metric with its own pool cannot call its aggregation '{info.aggregation}'",
        )


def _untouched(metric: Metric, sample: Sample) -> Evidence:
    before = _digests(sample)
    found = metric.measure(sample)
    expect(_digests(sample) == before, "measure changed a waveform it was shown")
    return found


def _deterministic(metric: Metric, probes: Sequence[Probe], first: Sequence[Evidence]) -> None:
    for i, probe in reversed(list(enumerate(probes))):
        again = metric.measure(probe())
        expect(
            again == first[i], f"probe {i} measured again gave {again.value!r} instead of {first[i].value!r} (or other counts or details)"
        )


def _evidence(found: Evidence, info: MetricInfo) -> None:
    expect_kind(found, Evidence, "what measure returns")
    low, high = info.bounds
    expect(low <= found.value <= high, f"value {found.value!r} is outside the declared bounds {low} to {high}")
    for key, count in found.counts.items():
        expect(isinstance(key, str) and math.isfinite(count), f"count {key!r} is {count!r}")
    json.dumps(dict(found.detail), allow_nan=False)


def _digests(sample: Sample) -> tuple[str, ...]:
    return tuple(s.audio.digest() for s in (sample.output, sample.reference, sample.prompt, sample.prompt_resynthesis) if s is not None)


def _faults(laws: Laws, metric: Metric, reference: Audio, good: Audio, audio_only: bool) -> None:
    """What a broken system puts out must be refused or measured, never crash and never become a made-up number."""
    # Codes, timings and lengths are read without looking at the waveform: their metrics fix no rate, or need no output.
    if not audio_only or Need.OUTPUT not in metric.info.needs | ({Need.OUTPUT} if metric.info.sample_rate else set()):
        for law in ("NaN output", "faulty output"):
            laws.skip(law, "the metric does not compare audio, or needs more than audio")
        return
    with laws.law("NaN output"):
        for bad in (np.nan, np.inf):
            samples = good.samples.copy()
            samples[0, samples.shape[1] // 2] = bad
            refusal = _refusal(metric, reference, Audio(samples, good.sample_rate))
            expect(refusal, f"an output with one {bad} sample was scored")
            expect(refusal and refusal.side is Side.OUTPUT, f"an output with one {bad} sample was blamed on the reference")
    with laws.law("faulty output"):
        rate, count = good.sample_rate, good.num_samples
        faulty: Mapping[str, Audio] = {
            "silent": silence(count, rate),
            "empty": silence(0, rate),
            "0.05 s": Audio(good.samples[:, : rate // 20].copy(), rate),
            "DC only": Audio(np.full((1, count), 0.1, dtype=np.float32), rate),
            "half as long": Audio(good.samples[:, : count // 2].copy(), rate),
        }
        for what, output in faulty.items():
            refusal = _refusal(metric, reference, output, f"a {what} output")
            expect(refusal is None or refusal.side is Side.OUTPUT, f"a {what} output was blamed on the reference: {refusal}")


def _refusal(metric: Metric, reference: Audio, output: Audio, what: str = "the output") -> NotScorable | None:
    try:
        found = metric.measure(_pair(reference, output)())
    except NotScorable as refusal:
        expect(isinstance(refusal.side, Side) and refusal.reason, "NotScorable needs a side and a reason")
        return refusal
    low, high = metric.info.bounds
    expect(low <= found.value <= high, f"{what} was given {found.value!r}, outside the declared bounds {low} to {high}")
    return None


def _direction(laws: Laws, metric: Metric, reference: Audio, good: Audio, audio_only: bool) -> None:
    info = metric.info
    if info.better is Better.NEITHER or not audio_only or Need.REFERENCE not in info.needs:
        laws.skip("direction", "no direction is declared, or the metric needs other things than output and reference")
        return
    with laws.law("direction"):
        ladder = [("the reference itself", good), *((f"{snr} dB SNR", noisy(good, snr)) for snr in (25, 12, 0))]
        steps = []
        for what, output in ladder:
            try:
                steps.append((what, metric.measure(_pair(reference, output)()).value))
            except NotScorable:
                expect(what != "the reference itself", "the reference against itself is not scorable")
        told = ", ".join(f"{value:.4g} ({what})" for what, value in steps)
        expect(len(steps) >= 3, f"only {len(steps)} of 4 degrees of noise were scorable: {told}")
        sign = 1.0 if info.better is Better.HIGHER else -1.0
        goodness = [sign * value for _, value in steps]
        expect(goodness[0] > goodness[-1], f"better is '{info.better}', but more noise gave {told}")
        # A twentieth of the whole fall is left for unevenness of real metrics on the way down.
        slack = 0.05 * (goodness[0] - goodness[-1])
        for earlier, later in pairwise(goodness):
            expect(later <= earlier + slack, f"better is '{info.better}', but the values do not follow the noise: {told}")


def _pool(metric: PooledMetric, evidence: Sequence[Evidence]) -> None:
    n = len(evidence)
    ones = np.ones((1, n))
    plain = metric.pool(evidence, ones)
    expect(np.shape(plain) == (1,) and np.isfinite(plain).all(), f"a row of ones should give one finite figure, got {plain!r}")
    low, high = metric.info.bounds
    expect(low <= plain[0] <= high, f"the corpus figure {plain[0]!r} is outside the declared bounds {low} to {high}")
    twice = [*evidence, *evidence[:1]]
    counted = metric.pool(evidence, np.array([[2.0] + [1.0] * (n - 1)]))
    repeated = metric.pool(twice, np.ones((1, n + 1)))
    expect(np.allclose(counted, repeated, rtol=1e-9), f"an item counted twice gives {counted[0]!r}, the item present twice {repeated[0]!r}")
    rows = np.vstack([ones[0], [2.0] + [1.0] * (n - 1), [0.0] * (n - 1) + [1.0]])
    together = metric.pool(evidence, rows)
    alone = np.array([metric.pool(evidence, row[None])[0] for row in rows])
    expect(np.shape(together) == (3,), f"three resamples should give three figures, got shape {np.shape(together)}")
    expect(np.allclose(together, alone, rtol=1e-9), f"resamples together give {together.tolist()}, one by one {alone.tolist()}")
    last = metric.pool(evidence[-1:], np.ones((1, 1)))
    expect(np.allclose(together[2], last[0], rtol=1e-9), f"counting only the last item gives {together[2]!r}, pooling it alone {last[0]!r}")
