"""The phone probe on made-up alignments, against naive Bayes written out, and the aligner on the embedded speech."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
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
    JudgeInfo,
    NotApplicable,
    NotScorable,
    PooledMetric,
    Sample,
    Side,
    Signal,
)
from harness.data.audio import read_audio
from harness.data.manifests import DatasetConfig, load_dataset
from harness.judges.pocketsphinx import PhoneAligner, PhoneSegment
from harness.metrics import phones
from harness.metrics.phones import NO_SPEECH, PHONES, Aligner, Examples, PhoneAccuracy, PhoneChance, frame_labels, hits, leave_one_out
from harness.testing import check_metric
from reports.statistics.intervals import Range
from reports.statistics.jackknife import estimate

FRAME_S = 0.02


class Script:
    """An aligner whose texts say the phones, one frame each; "sil" is silence, "long" a text that fits no recording."""

    info = JudgeInfo("script", "m", "d" * 16, "p==1", languages=("en",))

    def __init__(self) -> None:
        self.calls = 0

    def out_of_vocabulary(self, text: str) -> tuple[str, ...]:
        return tuple(w for w in text.split() if w.upper() not in (*PHONES, "SIL", "LONG"))

    def align(self, samples: FloatArray, text: str) -> tuple[PhoneSegment, ...]:
        self.calls += 1
        words = [] if "long" in text else text.upper().split()
        return tuple(PhoneSegment(p, i * FRAME_S, (i + 1) * FRAME_S) for i, p in enumerate(words))


def text_of(labels: npt.NDArray[np.int64]) -> str:
    return " ".join("sil" if y == NO_SPEECH else PHONES[y].lower() for y in labels)


def sample(tokens: npt.ArrayLike, text: str, speaker: str = "", name: str = "i", size: int = 64, language: str = "en") -> Sample:
    indices = np.atleast_2d(np.asarray(tokens, dtype=np.int64))
    num_samples = 320 * indices.shape[1]
    codes = Codes(indices, CodecSpec(16000, 320, (size,) * len(indices), prefix_decodable=True), num_samples)
    return with_codes(codes, text, speaker, name, language)


def with_codes(codes: Encoded | None, text: str, speaker: str = "", name: str = "i", language: str = "en", seconds: float = 0.0) -> Sample:
    count = round(seconds * 16000) or (codes.num_samples if codes is not None else 320)
    audio = Signal(Audio.mono(0.1 * np.ones(count), 16000), lambda x, a, b: x)
    return Sample(Item(name, "d", text=text, language=language, speaker=speaker), audio, audio, encoded=codes)


def corpus(seed: int, tell: float, speakers: int = 4, items: int = 3, frames: int = 60, size: int = 64) -> list[Sample]:
    """Recordings whose token is the phone's own number with probability ``tell``, else any."""
    rng = np.random.default_rng(seed)
    found = []
    for s in range(speakers):
        for i in range(items):
            labels = rng.integers(0, 12, frames)
            labels[rng.random(frames) < 0.2] = NO_SPEECH
            honest = np.where(labels == NO_SPEECH, 63, labels)
            tokens = np.where(rng.random(frames) < tell, honest, rng.integers(0, size, frames))
            found.append(sample(tokens, text_of(labels), f"s{s}", f"s{s}-{i}", size))
    return found


def pooled(metric: PooledMetric, samples: Sequence[Sample], weights: npt.ArrayLike | None = None) -> npt.NDArray[np.float64]:
    evidence = [metric.measure(s) for s in samples]
    return metric.pool(evidence, np.ones((1, len(samples))) if weights is None else np.asarray(weights, dtype=float))


def slow_accuracy(samples: Sequence[Sample], weights: Sequence[float], half: int | None, by: str = "speaker") -> float:
    """Naive Bayes frame by frame, everything counted again for each group left out."""
    frames = []
    for s, weight in zip(samples, weights, strict=True):
        assert isinstance(s.encoded, Codes)
        size = s.encoded.spec.codebook_sizes[-1]
        tokens, said = s.encoded.indices[-1].tolist(), s.item.text.upper().split()
        for t, phone in enumerate(said):
            if phone != "SIL":
                around = range(0) if half is None else range(t - half, t + half + 1)
                window = [tokens[u] if 0 <= u < len(tokens) else size for u in around]
                frames.append((s.item.speaker if by == "speaker" else s.item.id, weight, phone, window))
    right = 0.0
    for group, weight, phone, window in frames:
        others = [f for f in frames if f[0] != group]
        scores = {}
        for candidate in PHONES:
            mine = [f for f in others if f[2] == candidate]
            n = sum(f[1] for f in mine)
            score = math.log(n + 1)
            for o, token in enumerate(window):
                score += math.log((sum(f[1] for f in mine if f[3][o] == token) + 1) / (n + size + 1))
            scores[candidate] = score
        first = [p for p, score in scores.items() if score > max(scores.values()) - 1e-9]
        right += weight * (phone in first) / len(first)
    return 100 * right / sum(f[1] for f in frames)


def test_tokens_that_are_the_phones_tell_them_all_and_random_ones_nothing() -> None:
    assert pooled(PhoneAccuracy(Script()), corpus(0, 1.0, frames=300))[0] == 100
    silent = corpus(1, 0.0, items=6, frames=100)
    told, chance = pooled(PhoneAccuracy(Script()), silent)[0], pooled(PhoneChance(Script()), silent)[0]
    assert 100 / 12 * 0.5 < chance < 100 / 12 * 1.5
    assert abs(told - chance) < 3
    between = pooled(PhoneAccuracy(Script()), corpus(2, 0.6))[0]
    assert chance + 20 < between < 100


@pytest.mark.parametrize("weights", [[1, 1, 1, 1, 1, 1], [2, 0, 1, 3, 0, 1], [0, 0, 1, 1, 0, 0], [0.5, 1.5, 1, 0, 2, 0.25]])
def test_it_is_naive_bayes(weights: list[float]) -> None:
    samples = corpus(3, 0.4, speakers=3, items=2, frames=12)
    assert pooled(PhoneAccuracy(Script()), samples, [weights])[0] == pytest.approx(slow_accuracy(samples, weights, half=2))
    assert pooled(PhoneChance(Script()), samples, [weights])[0] == pytest.approx(slow_accuracy(samples, weights, half=None))


def test_what_runs_compiled_is_what_is_written() -> None:
    rng = np.random.default_rng(0)
    items = np.repeat(np.arange(4), 5)
    examples = Examples(rng.integers(0, 3, (20, 2)), rng.integers(0, 4, 20), items, np.arange(4), 3, 4)
    weights = rng.integers(0, 3, (5, 4)).astype(float)
    written = leave_one_out(examples.categories, examples.classes, items, np.arange(0, 21, 5), weights, (3, 3, 4))
    assert hits(examples, weights) == pytest.approx(written)


def test_one_speakers_own_recordings_teach_nothing() -> None:
    """Each speaker has a code of their own: known from their other recordings, unknown from everybody else's."""
    rng = np.random.default_rng(0)
    samples = []
    for s in range(3):
        private = rng.permutation(12) + 16 * s
        for i in range(4):
            labels = rng.integers(0, 12, 300)
            samples.append(sample(private[labels], text_of(labels), f"s{s}", f"{s}-{i}"))
    assert pooled(PhoneAccuracy(Script()), samples)[0] < 20
    anonymous = [with_codes(s.encoded, s.item.text, "", s.item.id) for s in samples]  # then any other recording teaches
    assert pooled(PhoneAccuracy(Script()), anonymous)[0] > 90
    # One speaker only: leaving them out would leave nobody, so each recording is judged by the others.
    one = [with_codes(s.encoded, s.item.text, "s0", s.item.id) for s in samples[:4]]
    assert pooled(PhoneAccuracy(Script()), one)[0] > 90
    few = [with_codes(s.encoded, s.item.text, "s0", s.item.id) for s in corpus(8, 0.5, speakers=1, items=3, frames=20)]
    assert pooled(PhoneAccuracy(Script()), few)[0] == pytest.approx(slow_accuracy(few, [1] * 3, 2, by="item"))


def test_seeds_of_one_recording_do_not_teach_each_other() -> None:
    first = sample(np.arange(12), text_of(np.arange(12)), "", "same")
    assert pooled(PhoneAccuracy(Script()), [first, first])[0] == pytest.approx(100 / 39)


def test_neighbouring_tokens_count_within_40_ms() -> None:
    """The phone is told by the token two frames earlier; three frames are too far at 50 Hz."""
    rng = np.random.default_rng(0)
    for distance, low, high in ((2, 80, 101), (3, 0, 30)):
        samples = []
        for s in range(4):
            labels = rng.integers(0, 12, 300)
            samples.append(sample(np.roll(labels, -distance), text_of(labels), f"s{s}", f"{s}"))
        assert low < pooled(PhoneAccuracy(Script()), samples)[0] < high


def test_the_last_codebook_is_probed() -> None:
    samples = corpus(0, 1.0, frames=300)
    rng = np.random.default_rng(0)
    stacked = []
    for s in samples:
        assert isinstance(s.encoded, Codes)
        telling = s.encoded.indices[0]
        stacked.append(sample([telling, rng.integers(0, 64, telling.size)], s.item.text, s.item.speaker, s.item.id))
    assert pooled(PhoneAccuracy(Script()), stacked)[0] < 25
    prefixes = [with_codes(s.encoded.first(1), s.item.text, s.item.speaker, s.item.id) for s in stacked if isinstance(s.encoded, Codes)]
    assert pooled(PhoneAccuracy(Script()), prefixes)[0] == 100


@pytest.mark.parametrize("kind", [PhoneAccuracy, PhoneChance])
def test_contract(kind: type[PhoneAccuracy] | type[PhoneChance]) -> None:
    probes = [lambda i=i: corpus(5, 0.5, speakers=3, items=1, frames=30)[i] for i in range(3)]
    report = check_metric(kind(Script()), probes=probes, factory=lambda: kind(Script()))
    assert {"declaration", "determinism", "evidence", "equal instance", "pool"} <= set(report.checked)
    assert "script" in str(kind(Script()).info.params["aligner"])


def test_interval_by_speaker_holds_the_figure() -> None:
    samples = corpus(6, 0.4)
    metric = PhoneAccuracy(Script())
    evidence = [Evidence(e.value, detail=json.loads(json.dumps(dict(e.detail)))) for e in map(metric.measure, samples)]
    pooling = PhoneAccuracy()  # what a report builds: no aligner is needed any more
    found = estimate(
        [(1.0, lambda w: pooling.pool(evidence, w))], [s.item.speaker for s in samples], 200, within=Range((0, 100))
    ).interval()
    assert found.low is not None and found.high is not None
    assert found.low < found.value < found.high
    assert (found.n, found.clusters, found.value) == (12, 4, pytest.approx(slow_accuracy(samples, [1] * 12, 2)))
    with pytest.raises(ValueError, match="without an aligner"):
        pooling.measure(samples[0])


def test_beyond_the_limit_resamples_have_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = corpus(7, 0.5, speakers=3, items=1)
    weights = np.random.default_rng(0).multinomial(3, [1 / 3] * 3, size=80).astype(float)
    whole = pooled(PhoneAccuracy(Script()), samples, weights)
    monkeypatch.setattr(phones, "REFIT_FRAMES", 50 * 150)
    limited = pooled(PhoneAccuracy(Script()), samples, weights)
    kept = np.isfinite(limited)
    assert 32 <= kept.sum() < 80 and kept[: kept.sum()].all()
    assert limited[kept].tolist() == whole[kept].tolist()
    assert np.isnan(pooled(PhoneAccuracy(Script()), samples, [[0, 0, 0]])).all()


def test_frames_take_the_phone_at_their_centre() -> None:
    segments = (
        PhoneSegment("SIL", 0.0, 0.03),
        PhoneSegment("AA", 0.03, 0.07),
        PhoneSegment("ZH", 0.07, 0.1),
        PhoneSegment("+NSN+", 0.1, 0.2),
    )
    none = NO_SPEECH
    assert frame_labels(segments, 7, 50).tolist() == [none, 0, 0, 38, 38, none, none]
    assert frame_labels(segments, 3, 25).tolist() == [none, 0, none]  # the last centre, .1 s, is where "+NSN+" begins
    assert frame_labels((), 2, 50).tolist() == [none, none]


def test_what_cannot_be_measured() -> None:
    aligner = Script()
    metric = PhoneAccuracy(aligner)
    codes = Codes(np.zeros((1, 10)), CodecSpec(16000, 320, (4,)), 3200)
    text = "aa " * 10
    for bad, reason in (
        (with_codes(codes, text, language="zh"), "knows en"),
        (with_codes(codes, "aa makan"), "lacks makan"),
        (with_codes(Bitstream((b"x",), 3200, 16000), text), "packets"),
        (with_codes(None, text), "neither tokens"),
        (with_codes(codes, text, seconds=0.4), "not of the recording"),
    ):
        with pytest.raises(NotApplicable, match=reason):
            metric.measure(bad)
    for unscorable, side, reason in (
        (with_codes(codes, "..."), Side.REFERENCE, "no word"),
        (with_codes(codes, "long"), Side.REFERENCE, "cannot be aligned"),
        (with_codes(Codes(np.zeros((1, 0)), codes.spec, 10), text, seconds=0.001), Side.OUTPUT, "no tokens"),
    ):
        with pytest.raises(NotScorable, match=reason) as caught:
            metric.measure(unscorable)
        assert caught.value.side is side
    with pytest.raises(ValueError, match="different codebooks"):
        metric.pool([metric.measure(sample([1, 2], "aa b", size=s)) for s in (4, 8)], np.ones((1, 2)))
    with pytest.raises(ValueError, match="without packed phones"):
        metric.pool([Evidence(1.0)], np.ones((1, 1)))
    with pytest.raises(ValueError, match="at least one"):
        metric.pool([], np.ones((1, 0)))
    with pytest.raises(ValueError, match="resamples"):
        metric.pool([metric.measure(sample([1], "aa"))], np.ones((1, 2)))


def test_a_recording_is_aligned_once_for_all_systems_and_codebooks() -> None:
    aligner = Script()
    for text, alignments in (("aa b", 1), ("long", 1)):
        aligner.calls = 0
        reference = sample([0, 1], text).reference
        for tokens in ([0, 1], [2, 3], [4, 5]):
            one = sample(tokens, text)
            shared = Sample(one.item, one.output, reference, encoded=one.encoded)
            for metric in (PhoneAccuracy(aligner), PhoneChance(aligner)):
                try:
                    metric.measure(shared)
                except NotScorable:
                    assert text == "long"
        assert aligner.calls == alignments


@pytest.fixture(scope="module")
def aligner() -> PhoneAligner:
    pytest.importorskip("pocketsphinx")
    return PhoneAligner()


def test_alignment_of_clean_speech(aligner: PhoneAligner) -> None:
    assert isinstance(aligner, Aligner)
    items = load_dataset(DatasetConfig(name="embedded", kind="embedded", language="en")).items
    chosen = [i for i in items if i.id in ("flite-slt-01", "flite-kal16-04", "espeak-en-gb-scotland-02")]
    assert len(chosen) == 3
    speech = {i.id: read_audio(i.path).samples[0] for i in chosen if i.path}
    first = {i.id: aligner.align(speech[i.id], i.text) for i in chosen}
    for item in chosen:
        found = first[item.id]
        spoken = [s.phone for s in found if s.phone in PHONES]
        assert len(spoken) > 20 and set(spoken) | {"SIL"} >= {s.phone for s in found}
        assert all(a.end_s == b.start_s and a.start_s < a.end_s for a, b in pairwise(found))
        assert found[0].start_s == 0 and found[-1].end_s == pytest.approx(speech[item.id].size / 16000, abs=0.05)
    # "Heavy clouds": and the vowel of the first word is loud, the silence before it is not.
    opening = [s for s in first["flite-slt-01"] if s.phone in PHONES][:4]
    assert [s.phone for s in opening] == ["HH", "EH", "V", "IY"]
    level = np.abs(speech["flite-slt-01"])
    assert level[: int(opening[0].start_s * 16000) - 800].max() < 0.1 * level[int(opening[1].start_s * 16000) :][:800].max()
    order = [*chosen, *chosen]
    random.Random(0).shuffle(order)
    assert all(aligner.align(speech[i.id], i.text) == first[i.id] for i in order)


def test_alignment_of_what_does_not_fit(aligner: PhoneAligner) -> None:
    noise = (0.1 * np.random.default_rng(0).standard_normal(16000)).astype(np.float32)
    for samples in (np.zeros(0), np.zeros(16000), noise[:50], noise[:1600]):
        assert aligner.align(samples.astype(np.float32), "heavy clouds drifted over the harbor") == ()
    assert aligner.out_of_vocabulary("Zau, the MAKAN 50!") == ("zau", "makan", "50")
    with pytest.raises(ValueError, match="lacks makan"):
        aligner.align(noise, "the makan")
    with pytest.raises(ValueError, match="no word"):
        aligner.align(noise, "...")
    with pytest.raises(ValueError, match="finite"):
        aligner.align(np.full(16000, np.nan, np.float32), "hello")
    assert len(aligner.info.digest) == 32
