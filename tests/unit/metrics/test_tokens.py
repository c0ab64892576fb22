"""Bit rates, codebook figures and real-time factors against slow counting."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from harness.api import (
    Audio,
    Bitstream,
    CodecSpec,
    Codes,
    Encoded,
    Evidence,
    FloatArray,
    Item,
    Metric,
    NotApplicable,
    NotScorable,
    PooledMetric,
    Sample,
    Side,
    Signal,
    Timing,
)
from harness.metrics import tokens
from harness.metrics.speed import rtf, rtf_decode, rtf_encode
from harness.metrics.tokens import (
    CodebookPerplexity,
    CodebookUse,
    EmittedBps,
    EntropyBps,
    LastCodebookEntropy,
    NominalBps,
    SideBps,
    TokenConsistency,
    TokenConsistencyShift,
    usage,
)
from harness.testing import check_metric

SPEC = CodecSpec(sample_rate=16000, hop_length=320, codebook_sizes=(1024, 256, 3), prefix_decodable=True)
POOLED = (EntropyBps, CodebookUse, CodebookPerplexity)


def same_rate(samples: FloatArray, source_hz: int, target_hz: int) -> FloatArray:
    raise AssertionError("no audio is resampled to count bits")


def sample(encoded: Encoded | None, rate: int = 16000, num_samples: int = 16000, timing: Timing | None = None) -> Sample:
    audio = Signal(Audio.mono(np.zeros(num_samples), rate), same_rate)
    return Sample(Item("item", "test"), audio, audio, encoded=encoded, timing=timing)


def codes(seed: int, frames: int, spec: CodecSpec = SPEC, spread: float = 0.3) -> Codes:
    rng = np.random.default_rng(seed)
    rows = [np.minimum(v - 1, (rng.exponential(spread * v, frames)).astype(int)) for v in spec.codebook_sizes]
    return Codes(np.stack(rows), spec, frames * spec.hop_length)


def plug_in(histogram: Mapping[int, float]) -> float:
    total = sum(histogram.values())
    return sum(-c / total * math.log2(c / total) for c in histogram.values() if c)


def slow_entropy(histogram: Mapping[int, int]) -> float:
    """Chao, Wang and Jost 2013 term by term: sums of 1 / k in the place of digamma, the series of the unseen part summed up."""
    n = sum(histogram.values())
    known = sum(x / n * float((1 / np.arange(x, n)).sum()) for x in histogram.values())
    once, twice = (sum(1 for x in histogram.values() if x == times) for times in (1, 2))
    unseen = 0.0
    if once and n > 1:
        a = 2 * twice / ((n - 1) * once + 2 * twice) if twice else 2 / ((n - 1) * (once - 1) + 2)
        j = np.arange(math.ceil(40 / a))
        unseen = once / n * float(((1 - a) ** (j + 1.0) / (n + j)).sum()) if a < 1 else 0.0
    return (known + unseen) / math.log(2)


def slow_figures(corpus: Sequence[Codes], weights: Sequence[float]) -> tuple[list[float], list[float]]:
    """Entropy in bits and share used of each codebook, token by token."""
    entropy, use = [], []
    for k, size in enumerate(corpus[0].spec.codebook_sizes):
        histogram: Counter[int] = Counter()
        once_each: Counter[int] = Counter()
        for item, weight in zip(corpus, weights, strict=True):
            for token in item.indices[k]:
                histogram[int(token)] += weight  # type: ignore[assignment]
                once_each[int(token)] += int(weight > 0)
        once_each = +once_each
        estimate = slow_entropy(once_each) + plug_in(histogram) - plug_in(once_each)
        entropy.append(min(math.log2(size), max(0.0, estimate)))
        use.append(sum(1 for c in histogram.values() if c) / size)
    return entropy, use


@pytest.mark.parametrize("make", [NominalBps, EmittedBps, SideBps, *POOLED, rtf, rtf_encode, rtf_decode])
def test_declarations(make: Callable[[], Metric]) -> None:
    metric = make()
    assert isinstance(metric, Metric)
    assert metric.info.signature() == make().info.signature()
    assert isinstance(metric, PooledMetric) is (metric.info.aggregation == "pooled histogram")


@pytest.mark.parametrize("kind", [NominalBps, EmittedBps, SideBps, *POOLED])
def test_contract(kind: Callable[[], Metric]) -> None:
    report = check_metric(kind(), probes=[lambda i=i: sample(codes(i, 900 + i)) for i in range(4)], factory=kind)
    assert {"declaration", "determinism", "evidence", "equal instance"} <= set(report.checked)
    assert ("pool" in report.checked) is (kind in POOLED)


def test_bit_rates_are_counted() -> None:
    made = codes(0, 50)
    bits = math.log2(1024) + math.log2(256) + math.log2(3)
    assert NominalBps().measure(sample(made)).value == pytest.approx(50 * bits)
    emitted = EmittedBps().measure(sample(made))
    assert (emitted.value, emitted.weight) == (pytest.approx(50 * bits), 1.0)
    padded = Codes(made.indices, SPEC, 50 * 320 - 160)  # the last frame is half padding
    assert EmittedBps().measure(sample(padded)).value == pytest.approx(50 * bits / (15840 / 16000))
    with_side = Codes(made.indices, SPEC, made.num_samples, {"utterance": np.zeros(64, np.float32)})
    assert SideBps().measure(sample(with_side)).value == 64 * 32
    assert EmittedBps().measure(sample(with_side)).value == emitted.value
    assert EmittedBps().measure(sample(made.first(1))).value == pytest.approx(500)


def test_pooled_rate_is_a_ratio_of_sums() -> None:
    short, long = Codes(codes(0, 2).indices, SPEC, 330), codes(1, 100)
    found = [EmittedBps().measure(sample(c)) for c in (short, long)]
    pooled = sum(e.value * e.weight for e in found) / sum(e.weight for e in found)
    assert pooled == pytest.approx((short.emitted_bits + long.emitted_bits) / ((330 + 32000) / 16000))


def test_packets_have_a_rate_and_no_codebooks() -> None:
    packets = Bitstream((b"abc", b"defgh"), 24000, 24000)
    assert EmittedBps().measure(sample(packets, rate=48000)).value == pytest.approx(64 / 1.0)
    assert SideBps().measure(sample(packets)).value == 0
    for metric in (NominalBps(), *(m() for m in POOLED)):
        with pytest.raises(NotApplicable, match="packets"):
            metric.measure(sample(packets))


def test_nothing_emitted() -> None:
    for metric in (NominalBps(), EmittedBps(), SideBps(), *(m() for m in POOLED)):
        with pytest.raises(NotApplicable):
            metric.measure(sample(None))
        nothing = Codes(np.zeros((3, 0)), SPEC, 0)
        with pytest.raises(NotScorable) as caught:
            metric.measure(sample(nothing))
        assert caught.value.side is Side.OUTPUT
        with pytest.raises(NotScorable) as caught:
            metric.measure(sample(nothing, num_samples=0))
        assert caught.value.side is Side.REFERENCE


def test_codebook_figures_equal_slow_counting() -> None:
    corpus = [codes(i, frames) for i, frames in enumerate((400, 7, 1200, 1, 630))]
    rng = np.random.default_rng(0)
    resamples = rng.multinomial(5, [0.2] * 5, size=9).astype(float)
    resamples[:2] = 1
    resamples[1, 2] = 0  # a cluster left out
    resamples[2] *= 0.7
    for kind in POOLED:
        metric = kind()
        evidence = [metric.measure(sample(c)) for c in corpus]
        got = metric.pool(evidence, resamples)
        assert got.shape == (9,)
        for value, weights in zip(got, resamples, strict=True):
            assert value == pytest.approx(expected(metric, *slow_figures(corpus, weights.tolist())), rel=1e-7)
        for item, own in zip(corpus, evidence, strict=True):
            assert own.value == pytest.approx(expected(metric, *slow_figures([item], [1.0])), rel=1e-7)


def expected(metric: Metric, entropy: Sequence[float], use: Sequence[float]) -> float:
    match metric.info.name:
        case "entropy_bps":
            return sum(entropy) * 50
        case "codebook_use":
            return sum(use) / len(use)
        case _:
            return sum(2**h for h in entropy) / len(entropy)


def test_pooling_in_small_pieces_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = [EntropyBps().measure(sample(codes(i, 600))) for i in range(4)]
    resamples = np.random.default_rng(0).multinomial(4, [0.25] * 4, size=50).astype(float)
    whole = EntropyBps().pool(evidence, resamples)
    monkeypatch.setattr(tokens, "POOL_CELLS", 100)
    assert EntropyBps().pool(evidence, resamples) == pytest.approx(whole, rel=1e-12)


def test_an_empty_resample_has_no_figure() -> None:
    evidence = [CodebookUse().measure(sample(codes(0, 30)))]
    assert np.isnan(CodebookUse().pool(evidence, np.array([[0.0], [1.0]]))).tolist() == [True, False]


def test_ideal_and_collapsed_codebooks() -> None:
    spec = CodecSpec(16000, 320, (8, 8))
    made = Codes(np.stack([np.arange(64) % 8, np.zeros(64)]), spec, 64 * 320)
    found, _ = usage([CodebookUse().measure(sample(made))], np.ones((1, 1)))
    assert found.use.tolist() == [[1.0, 0.125]]
    assert found.entropy_bits.tolist() == [[3.0, 0.0]]
    assert found.tokens.tolist() == [[64, 64]]
    assert CodebookPerplexity().measure(sample(made)).value == 4.5
    assert EntropyBps().measure(sample(made)).value == 150


CASE_B5 = {
    "before": "201 bit/s at 2 items, 292 at 16; the interval ends at its value",
    "after": "the same within 2 % of 1,000 and 8,000 tokens",
}


@pytest.mark.cases("B5", **CASE_B5)
@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_entropy_hardly_depends_on_the_number_of_tokens(exponent: float) -> None:
    """1,000 tokens against what they were drawn from; the histogram alone is .6 to .9 bits short."""
    spec = CodecSpec(16000, 320, (1024,))
    share = np.arange(1, 1025.0) ** -exponent
    share /= share.sum()
    true = float(-(share * np.log2(share)).sum())
    rng = np.random.default_rng(1)
    found = []
    for frames in (1000, 8000):
        items = [Codes(rng.choice(1024, frames // 10, p=share)[None], spec, frames // 10 * 320) for _ in range(10)]
        evidence = [EntropyBps().measure(sample(c)) for c in items]
        found.append(EntropyBps().pool(evidence, np.ones((1, 10)))[0] / 50)
        assert CodebookPerplexity().pool(evidence, np.ones((1, 10)))[0] == pytest.approx(2 ** found[-1])
    assert found == pytest.approx([true, true], rel=0.025)
    assert found[0] == pytest.approx(found[1], rel=0.025)


@pytest.mark.cases(
    "B5", before="a figure from any number of tokens", after="too few tokens: no figure, with the share of emissions they cover"
)
def test_too_few_tokens_have_no_figure() -> None:
    spec = CodecSpec(16000, 320, (2, 16384))
    rng = np.random.default_rng(0)
    made = [Codes(np.stack([rng.integers(0, 2, 100), rng.integers(0, 16384, 100)]), spec, 32000) for _ in range(4)]
    for metric in (EntropyBps(), CodebookPerplexity(), LastCodebookEntropy()):
        evidence = [metric.measure(sample(c)) for c in made]
        assert evidence[0].counts["coverage"] < 0.1
        with pytest.raises(
            ValueError, match=r"too few tokens: 400 of a codebook of 16,384 entries .* cover an estimated \d+% .* 50% are needed"
        ):
            metric.pool(evidence, np.ones((1, 4)))
    assert CodebookUse().pool([CodebookUse().measure(sample(c)) for c in made], np.ones((1, 4)))[0] > 0.4


@pytest.mark.cases("B5", before="every resample below the value", after="leaving items out and drawing them anew move the figure both ways")
def test_a_resample_is_not_biased_by_its_repetitions() -> None:
    spec = CodecSpec(16000, 320, (4096,))
    rng = np.random.default_rng(2)
    items = [Codes((rng.exponential(400, 400).astype(int) % 4096)[None], spec, 128000) for _ in range(20)]
    evidence = [EntropyBps().measure(sample(c)) for c in items]
    figures = EntropyBps().pool(evidence, np.vstack([np.ones((1, 20)), 1 - np.eye(20)])) / 50
    assert 4 < (figures[1:] > figures[0]).sum() < 16
    drawn = EntropyBps().pool(evidence, rng.multinomial(20, [0.05] * 20, size=200).astype(float)) / 50
    assert abs(np.median(drawn) - figures[0]) < 0.1  # the histograms alone are .3 lower


def test_codes_survive_the_evidence() -> None:
    for sizes in ((1024, 2), (65536,), (65537, 4)):
        spec = CodecSpec(16000, 320, sizes)
        made = codes(3, 77, spec)
        kept = json.loads(json.dumps(dict(CodebookUse().measure(sample(made)).detail)))
        found, item = usage([Evidence(0.0, detail=kept)], np.ones((1, 1)))
        assert item.sizes == sizes
        entropy, use = slow_figures([made], [1.0])
        assert found.entropy_bits[0] == pytest.approx(entropy)
        assert found.use[0] == pytest.approx(use)


def test_different_codebooks_are_never_pooled() -> None:
    one = CodebookUse().measure(sample(codes(0, 20)))
    two = CodebookUse().measure(sample(codes(0, 20).first(2)))
    with pytest.raises(ValueError, match="different codebooks"):
        CodebookUse().pool([one, two], np.ones((1, 2)))
    with pytest.raises(ValueError, match="without packed codes"):
        CodebookUse().pool([Evidence(1.0)], np.ones((1, 1)))
    with pytest.raises(ValueError, match="resamples"):
        CodebookUse().pool([one], np.ones((1, 2)))
    with pytest.raises(ValueError, match="at least one"):
        usage([], np.ones((1, 0)))


def test_consistency_is_counted_token_by_token() -> None:
    first = codes(0, 40)
    other = first.indices.copy()
    other[1, :10] = (other[1, :10] + 1) % 256
    other[2] = (other[2] + 1) % 3
    again = replace(first, indices=other[:, :38])  # two frames fewer
    asked = replace(sample(first), encoded_again={"output": again, "shifted": first})
    found = TokenConsistency().measure(asked)
    assert found.value == pytest.approx((38 + 28 + 0) / (3 * 38)) and found.weight == 3 * 38
    assert [found.counts[f"same_codebook_{k:02}"] for k in (1, 2, 3)] == pytest.approx([1, 28 / 38, 0])
    assert TokenConsistencyShift().measure(asked).value == 1.0
    with pytest.raises(NotScorable, match="no tokens"):
        TokenConsistency().measure(replace(asked, encoded_again={"output": replace(first, indices=other[:, :0])}))


def test_real_time_factor_is_a_ratio_of_sums() -> None:
    timings = [Timing(1.0, 10.0, 0.4, 0.5, 2, "cpu", "float32"), Timing(1.0, 1.0, 0.2, 0.7, 2, "cpu", "float32")]
    for metric, total in ((rtf(), 2.0), (rtf_encode(), 0.6), (rtf_decode(), 1.2)):
        found = [metric.measure(sample(None, timing=t)) for t in timings]
        assert sum(e.value * e.weight for e in found) / sum(e.weight for e in found) == pytest.approx(total / 11)
        assert metric.info.aggregation == "weighted mean"
    evidence = rtf().measure(sample(None, timing=timings[0]))
    assert evidence.value == pytest.approx(0.1)  # faster than real time is below one
    assert evidence.counts == {"total_s": 1.0, "encode_s": 0.4, "decode_s": 0.5, "audio_s": 10.0}
    assert evidence.detail == {"device": "cpu", "threads": 2, "precision": "float32", "batch": 1}


def test_missing_times_are_not_numbers() -> None:
    with pytest.raises(NotApplicable):
        rtf().measure(sample(None))
    with pytest.raises(NotApplicable, match="apart"):
        rtf_decode().measure(sample(None, timing=Timing(1.0, 2.0)))
    with pytest.raises(NotScorable):
        rtf().measure(sample(None, timing=Timing(1.0, 0.0)))
