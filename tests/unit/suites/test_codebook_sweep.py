"""The sweep over numbers of codebooks: what it asks of whom, and what it tells of the last codebook."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.api import Audio, CodecSpec, Codes, Item, Sample, Signal
from harness.metrics.entropy import first_order_entropy
from harness.metrics.tokens import CodebookUse, EntropyBps, LastCodebookEntropy, LastCodebookUse
from harness.settings.config import compose
from harness.settings.registry import METRICS, resolve
from harness.testing import check_metric, check_suite
from reports.run import figures
from reports.run.summarise import summarise
from reports.statistics.intervals import IntervalSettings
from suites.codebook_sweep import CodebookSweepSuite
from tests.stubs.fake_runs import FakeRun


def spec(codebooks: int, prefix: bool = True) -> CodecSpec:
    return CodecSpec(16000, 320, (64,) * codebooks, prefix_decodable=prefix)


def counts_of(suite: CodebookSweepSuite, codec: CodecSpec | None) -> list[Any]:
    return [v.get("codebooks") for v in suite.variants(codec)]


@pytest.mark.parametrize("counts", [None, "all", [1, 2, 4], [100]])
def test_laws(counts: Any) -> None:
    check_suite(CodebookSweepSuite(counts), [None, spec(1), spec(8), spec(9, prefix=False), CodecSpec(16000, 320)])


def test_numbers_of_codebooks() -> None:
    assert counts_of(CodebookSweepSuite(), spec(16)) == [1, 2, 4, 8, 16]
    assert counts_of(CodebookSweepSuite(), spec(12)) == [1, 2, 4, 8, 12]
    assert counts_of(CodebookSweepSuite("all"), spec(5)) == [1, 2, 3, 4, 5]
    assert counts_of(CodebookSweepSuite([8, 1, 1, 20]), spec(16)) == [1, 8]
    for other in (None, spec(4, prefix=False), CodecSpec(16000, 320)):  # one point of comparison
        assert list(CodebookSweepSuite().variants(other)) == [{}]


@pytest.mark.parametrize("counts", ["some", [], [0], [1.5], [True]])
def test_counts_that_are_none_are_refused(counts: Any) -> None:
    with pytest.raises(ValueError, match=r"suite\.counts="):
        CodebookSweepSuite(counts)


def test_everything_it_names_is_registered_and_configurable() -> None:
    info = CodebookSweepSuite().info
    assert set(info.metrics) <= set(METRICS)
    assert compose(["suite=codebook_sweep"])["suite"] == {"name": "codebook_sweep", "counts": None}
    section = compose(["suite=codebook_sweep", "suite.counts=[1,3]"])["suite"]
    assert counts_of(resolve("suites", section.pop("name"))(**section), spec(4)) == [1, 3]


def sample(codes: Codes) -> Sample:
    audio = Signal(Audio.mono(np.zeros(codes.num_samples), 16000), lambda x, a, b: x)
    return Sample(Item("i", "d"), audio, audio, encoded=codes)


def random_codes(seed: int, frames: int) -> Codes:
    sizes = (64, 16, 8)
    rng = np.random.default_rng(seed)
    rows = [np.minimum(v - 1, rng.exponential(v / 3, frames).astype(int)) for v in sizes]
    return Codes(np.stack(rows), CodecSpec(16000, 320, sizes, prefix_decodable=True), 320 * frames)


@pytest.mark.parametrize("kind", [LastCodebookUse, LastCodebookEntropy])
def test_last_codebook_metrics_keep_the_laws(kind: Any) -> None:
    report = check_metric(kind(), probes=[lambda i=i: sample(random_codes(i, 30 + i)) for i in range(3)], factory=kind)
    assert {"determinism", "evidence", "pool"} <= set(report.checked)


def test_a_prefix_tells_its_last_codebook_alone() -> None:
    corpus = [random_codes(i, 40 + 7 * i) for i in range(4)]
    ones = np.ones((1, 4))
    for b in (1, 2, 3):
        pooled = {
            kind: kind().pool([kind().measure(sample(c.first(b))) for c in corpus], ones)[0]
            for kind in (LastCodebookUse, LastCodebookEntropy)
        }
        histogram = np.bincount(np.concatenate([c.indices[b - 1] for c in corpus]))
        assert pooled[LastCodebookUse] == pytest.approx(np.count_nonzero(histogram) / corpus[0].spec.codebook_sizes[b - 1])
        assert pooled[LastCodebookEntropy] == pytest.approx(first_order_entropy(histogram[:, None])[0])
    # Over all prefixes the last codebooks add up to the figures of the whole.
    entropies = [LastCodebookEntropy().measure(sample(corpus[0].first(b))).value for b in (1, 2, 3)]
    assert sum(entropies) * 50 == pytest.approx(EntropyBps().measure(sample(corpus[0])).value)
    uses = [LastCodebookUse().measure(sample(corpus[0].first(b))).value for b in (1, 2, 3)]
    assert np.mean(uses) == pytest.approx(CodebookUse().measure(sample(corpus[0])).value)


def test_each_swept_system_is_a_curve_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sizes of one codec swept together: joined by their common stem their points would zigzag."""
    fake = FakeRun(tmp_path, {f"i{i}": "x" for i in range(3)})
    fake.systems = {name: {"family": "rvq", "size": "small"} for name in ("rvq4", "rvq8")}
    fake.curves = [{"title": "sweep", "x": "settings.codebooks", "y": ["stoi"], "log_x": False}]
    for system, most, base in (("rvq4", 4, 0.5), ("rvq8", 8, 0.6)):
        for b in range(1, most + 1):
            for i in range(3):
                fake.add(system, "stoi", f"i{i}", base + 0.01 * b, settings=f'{{"codebooks":{b}}}')
    drawn: list[list[float]] = []
    from matplotlib.axes import Axes

    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda self, *a, **k: (drawn.append(list(a[0])), plot(self, *a, **k))[1])
    (drawing,) = figures.draw_all(summarise(fake.run(), IntervalSettings(resamples=50)))
    curves = [[1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7, 8]]
    assert [x for x in drawn if len(x) > 1] == [*curves, *curves]  # once side by side, once stacked for phones
    assert len(re.findall(r"rvq[48]", drawing.svg)) >= 2
