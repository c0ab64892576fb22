"""What models make of speech inside: SpeechBERTScore, emotion similarity, Frechet distance."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from harness.api import Evidence, FeatureExtractor, Item, JudgeInfo, NotScorable, PooledMetric, Sample
from harness.metrics.judged import EmotionSimilarity, FrechetDistance, SpeechBertScore, frechet_distance, precision_recall
from harness.testing.laws import signal, silence, speechlike
from harness.testing.metric import check_metric


class Spectra:
    """Frames of log power in 16 bands: enough of a model to be compared with."""

    info = JudgeInfo("spectra", "16 bands", "0" * 16, "numpy==1")

    def __init__(self):
        self.calls = 0

    def frames(self, samples):
        self.calls += 1
        windows = np.lib.stride_tricks.sliding_window_view(samples, 512)[::320]
        power = np.abs(np.fft.rfft(windows * np.hanning(512), axis=1))[:, 1:257] ** 2
        return np.log(power.reshape(len(power), 16, -1).mean(axis=2) + 1e-6).astype(np.float32)


def sample(output, reference=None):
    return Sample(Item(id="a", dataset="test"), output=signal(output), reference=None if reference is None else signal(reference))


@pytest.mark.parametrize("make", [SpeechBertScore, EmotionSimilarity, FrechetDistance])
def test_the_laws_of_metrics_hold(make):
    check_metric(make(Spectra()), factory=lambda: make(Spectra()))


def test_precision_and_recall_are_those_of_the_public_definition():
    rng = np.random.default_rng(0)
    output, reference = rng.normal(size=(7, 5)), rng.normal(size=(11, 5))
    best = np.array([[a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for b in reference] for a in output])
    assert precision_recall(output, reference) == pytest.approx((best.max(axis=1).mean(), best.max(axis=0).mean()), abs=1e-12)


def test_a_part_of_the_recording_has_all_the_precision_and_less_recall():
    whole = speechlike(3.0, sample_rate=16000, seed=1)
    part = type(whole)(whole.samples[:, :16000], 16000)
    found = SpeechBertScore(Spectra()).measure(sample(part, whole))
    assert found.value == pytest.approx(1.0, abs=1e-6) and found.counts["recall"] < 0.999
    assert found.counts["f1"] == pytest.approx(2 * found.value * found.counts["recall"] / (found.value + found.counts["recall"]))


def test_frames_are_made_once_however_many_metrics_ask():
    spectra, pair = Spectra(), sample(speechlike(1.0, seed=1), speechlike(1.0, seed=2))
    assert isinstance(spectra, FeatureExtractor)
    for metric in (SpeechBertScore(spectra), FrechetDistance(spectra), EmotionSimilarity(spectra)):
        metric.measure(pair)
    assert spectra.calls == 2


@pytest.mark.parametrize("n", [6, 40])
def test_frechet_distance_is_that_of_the_published_formula(n):
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(n, 8)), rng.normal(size=(n, 8)) @ np.diag(np.linspace(0.5, 2, 8)) + 0.3
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    # A square root of a singular product is known to about 1e-7 of its trace.
    assert frechet_distance(x, y) == pytest.approx(expected, abs=1e-5)
    twice = np.arange(n) % 2 + 1.0
    assert frechet_distance(x, y, twice) == pytest.approx(
        frechet_distance(np.repeat(x, twice.astype(int), 0), np.repeat(y, twice.astype(int), 0))
    )
    assert frechet_distance(x, x) == pytest.approx(0.0, abs=1e-9)


def test_the_corpus_figure_leaves_items_out():
    metric = FrechetDistance(Spectra())
    evidence = [metric.measure(sample(speechlike(1.0, seed=s), speechlike(1.0, seed=s + 10))) for s in range(4)]
    pooled = FrechetDistance().pool(evidence, np.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0]], float))
    assert (
        isinstance(metric, PooledMetric)
        and pooled[0] > 0
        and pooled[1] != pooled[0]
        and pooled[2] == pytest.approx(evidence[0].value, rel=1e-6)
    )
    assert FrechetDistance().pool(evidence[:3], np.ones((1, 3)))[0] == pytest.approx(pooled[1])


def test_silence_is_nobodys_voice():
    for metric in (SpeechBertScore(Spectra()), EmotionSimilarity(Spectra()), FrechetDistance(Spectra())):
        with pytest.raises(NotScorable, match="silent"):
            metric.measure(sample(silence(16000, 16000), speechlike(1.0)))


def test_phone_errors_are_counted_against_the_phones_of_the_text():
    from harness.metrics.text import Per

    class Phones:
        info = JudgeInfo("stub", "stub", "0" * 16, "none==1", languages=("en",))

        def phones(self, words):
            return " ".join(letter for word in words for letter in word)

        def transcribe(self, samples, language):
            return "h e l o"

    heard = Per(Phones()).measure(Sample(Item(id="a", dataset="t", text="Hello!", language="en"), output=signal(speechlike(1.0))))
    assert heard.value == pytest.approx(1 / 5) and heard.detail["phones"] == "h e l l o" and isinstance(heard, Evidence)
