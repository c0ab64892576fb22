"""The speed suite: fakes whose true figures are known, what is refused, and a run from the command line."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from harness import load
from harness.api import (
    UNOBSERVED,
    Audio,
    CodecSpec,
    Codes,
    Item,
    NotApplicable,
    NotScorable,
    ObservedSynthesizer,
    Sample,
    Signal,
    Speech,
    SystemInfo,
    Task,
    Timing,
    TimingPlan,
    Utterance,
    Work,
)
from harness.data.audio import resample
from harness.metrics import speed
from harness.settings.registry import METRICS, config_names
from harness.testing import check_metric, check_suite
from harness.timing import clock as clocks
from harness.timing import load as streaming
from harness.timing import systems as timed_systems
from harness.timing.clock import Instruments
from harness.timing.machine import Neighbours
from harness.timing.systems import MachineRates, TimingContext, lengthened, time_codec, time_synthesizer, time_under_load
from suites.speed import SpeedSuite

RATE, HOP = 16000, 320
SPEC = CodecSpec(RATE, HOP, (16, 16))
SECOND = Audio.mono(0.1 * np.sin(np.arange(RATE) + 0.5), RATE)
SILENT = Audio.mono(np.zeros(RATE // 2), RATE)


class _Time:
    def __init__(self):
        self.at = 0.0

    def __call__(self):
        return self.at


class _Quiet(Neighbours):
    cores = 0.0

    def __init__(self):
        pass

    def look(self):
        return self.cores


class _Busy(_Quiet):
    cores = 0.7


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only while a fake sleeps, wherever the harness looks at a clock; and a machine of known rates."""
    found = _Time()
    monkeypatch.setattr(clocks.StageClock.__init__, "__defaults__", (found,))
    monkeypatch.setattr(streaming.listen, "__defaults__", (found,))
    monkeypatch.setattr(timed_systems, "machine_rates", lambda device, threads: MachineRates(1000.0, {"float32": 1e6}))
    return found


def _context(clock, plan=None, neighbours=_Quiet, **more):
    tools = Instruments(neighbours=neighbours, now=clock)
    return TimingContext(plan or TimingPlan(seconds=1.0, budget_s=60.0), 1, instruments=tools, **more)


class _Codec:
    """Encodes in 50 ms and decodes in 20."""

    info, spec = SystemInfo("fake", "1"), SPEC

    def __init__(self, clock):
        self._clock = clock

    def encode(self, audio):
        self._clock.at += 0.05
        return Codes(np.zeros((2, -(-audio.num_samples // HOP)), dtype=int), SPEC, audio.num_samples)

    def decode(self, codes):
        self._clock.at += 0.02
        return Audio.mono(np.full(codes.num_samples, 0.1), RATE)


class _Batched(_Codec):
    def encode_batch(self, audios):
        return [self.encode(audio) for audio in audios]

    def decode_batch(self, encoded):
        return [self.decode(codes) for codes in encoded]


class _Voice:
    """Known times: prompt 10 ms, prefill 40, a step 10 ms for each 40 ms of speech, codec 5; streams in chunks of 200 ms."""

    info, sample_rate = SystemInfo("fake_voice", "1"), RATE

    def __init__(self, clock, first=None):
        self._clock, self._first = clock, first

    def num_tokens(self, utterance):
        return len(utterance.text.split()) + 2

    def synthesize(self, utterance, seed):
        return self.synthesize_observed([utterance], 1.0, UNOBSERVED)[0]

    def stream(self, utterance, seed):
        return self.stream_observed(utterance, 1.0, UNOBSERVED)

    def synthesize_observed(self, utterances, seconds, observer):
        if self.num_tokens(utterances[0]) > 500:
            raise ValueError("the text has more than 500 tokens")
        frames = round(seconds / 0.04)
        for name, spent in (("prompt", 0.01), ("prefill", 0.04), ("lm", 0.01 * frames), ("codec", 0.005)):
            with observer.stage(name):
                self._clock.at += spent
        observer.work("lm", Work(weight_bytes=100.0, flops=10.0))
        observer.memory("kv_cache", 2**20)
        codes = Codes(np.zeros((2, frames), dtype=int), replace(SPEC, hop_length=640), frames * 640)
        return [Speech(Audio.mono(np.full(round(seconds * RATE), 0.1), RATE), codes) for _ in utterances]

    def stream_observed(self, utterance, seconds, observer):
        if self._first is not None:
            yield self._first
        self._clock.at += 0.05
        observer.event("token")
        for chunk in range(round(seconds / 0.2)):
            self._clock.at += 0.05
            if not chunk:
                observer.event("frame")
            yield Audio.mono(np.full(RATE // 5, 0.1), RATE)


UTTERANCE = Utterance("one two three", "en")


def _sample(prediction):
    return Sample(Item("i", "d"), Signal(prediction.audio, resample), encoded=prediction.encoded, timing=prediction.timing)


def _value(name, prediction):
    module, attribute = METRICS[name][0].split(":")
    assert module == "harness.metrics.speed"
    return getattr(speed, attribute)().measure(_sample(prediction)).value


def test_laws():
    for suite in (SpeedSuite(), SpeedSuite(batches=(1, 4), prompt_tokens=(128, 512))):
        check_suite(suite)
        assert suite.info.task is Task.TIMING and set(suite.info.metrics) <= set(METRICS)
    assert "speed" in config_names("suite")
    suite = SpeedSuite(batches=(1, 4), prompt_tokens=(0, 128))
    assert list(suite.variants(SPEC)) == [{}, {"batch": 4}]
    assert list(suite.variants(None)) == [{}, {"batch": 4}, {"prompt_tokens": 128}, {"batch": 4, "prompt_tokens": 128}]
    with pytest.raises(ValueError, match=r"suite\.batches=\(0,\): a list of different whole numbers"):
        SpeedSuite(batches=(0,))


@pytest.mark.parametrize("name", [name for name, (target, _) in METRICS.items() if target.startswith("harness.metrics.speed:")])
def test_laws_of_the_metrics(name):
    attribute = METRICS[name][0].partition(":")[2]
    make = getattr(speed, attribute)
    assert make().info.name == name
    probes = [partial(_timed_sample, seconds, 2 if name == "rtf_batched" else 1) for seconds in (1.0, 2.0, 3.0)]
    assert {"declaration", "determinism", "evidence"} <= set(check_metric(make(), probes=probes, factory=make).checked)


def _timed_sample(seconds, batch):
    """With every figure that there may be."""
    made = [make() for make in vars(speed).values() if isinstance(make, partial)]
    names = [metric.figure for metric in made if isinstance(metric, speed.TimingFigure)]
    timing = Timing(0.3 * seconds, seconds, 0.2 * seconds, 0.1 * seconds, batch=batch, figures=dict.fromkeys(names, 0.1 * seconds))
    return Sample(Item("i", "d"), Signal(SECOND, resample), timing=timing)


def test_a_codec_of_known_speed(clock):
    found = time_codec(_Codec(clock), SECOND, _context(clock))
    assert _value("rtf", found) == pytest.approx(0.07, rel=0.05)
    assert _value("rtf_encode", found) == pytest.approx(0.05, rel=0.05) and _value("rtf_decode", found) == pytest.approx(0.02, rel=0.05)
    assert found.timing.figures["encode.first_s"] == pytest.approx(0.05) and found.timing.figures["encode.clean"] >= 7
    assert found.encoded.num_frames == 50 and found.audio.num_samples == RATE


def test_a_batch_of_utterances(clock):
    found = time_codec(_Batched(clock), SECOND, _context(clock, batch=3))
    assert _value("rtf_batched", found) == pytest.approx(0.07) and found.timing.audio_s == 3.0
    with pytest.raises(NotApplicable, match="rtf_batched"):
        _value("rtf", found)
    alone = time_codec(_Codec(clock), SECOND, _context(clock, batch=3))
    with pytest.raises(NotApplicable, match="one utterance at a time"):
        _value("rtf_batched", alone)


def test_a_synthesizer_of_known_speed(clock):
    voice = _Voice(clock)
    assert isinstance(voice, ObservedSynthesizer)
    found = time_synthesizer(voice, UTTERANCE, _context(clock))
    assert _value("rtf", found) == pytest.approx(0.01 + 0.04 + 0.25 + 0.005)
    assert (_value("rtf_prefill", found), _value("rtf_lm", found)) == (pytest.approx(0.04), pytest.approx(0.25))
    assert _value("rtf_codec", found) == pytest.approx(0.005)
    assert (_value("ttft_token_ms", found), _value("ttf_frame_ms", found)) == (pytest.approx(50), pytest.approx(100))
    assert (_value("ttfc_ms", found), _value("ttfa_ms", found)) == (pytest.approx(100), pytest.approx(100))
    assert _value("underrun_0_ms", found) == 0.0
    assert _value("codebook_tokens_per_s", found) == pytest.approx(2 * 25 / 0.29)
    assert _value("floor_rtf", found) == pytest.approx(0.1) and _value("floor_share_lm", found) == pytest.approx(0.1 / 0.25)
    assert _value("kv_cache_mib", found) == 1.0 and _value("host_peak_mib", found) > 1.0
    with pytest.raises(NotApplicable, match=r"stage.vocoder_s"):
        _value("rtf_vocoder", found)


def test_a_silent_first_chunk_gains_nothing(clock):
    honest = time_synthesizer(_Voice(clock), UTTERANCE, _context(clock))
    gamed = time_synthesizer(_Voice(clock, first=SILENT), UTTERANCE, _context(clock))
    with pytest.raises(NotScorable, match=r"first chunk \(0\.5 s\) is silent"):
        _value("ttfc_ms", gamed)
    assert _value("ttfa_ms", gamed) > _value("ttfa_ms", honest)


def test_a_busy_machine_gives_a_reason_and_no_number(clock):
    """F33, as a table sees it."""
    for found in (time_codec(_Codec(clock), SECOND, _context(clock, neighbours=_Busy)),
                  time_synthesizer(_Voice(clock), UTTERANCE, _context(clock, neighbours=_Busy))):  # fmt: skip
        with pytest.raises(NotScorable, match=r"0\.70 of .* cores"):
            _value("rtf", found)
        with pytest.raises(NotApplicable, match=r"0\.70 of"):
            _value("ttfa_ms", found)
        assert found.timing.total_s == 0.0


def test_texts_of_a_wanted_length(clock):
    voice = _Voice(clock)
    found = lengthened(UTTERANCE, 64, voice.num_tokens)
    assert voice.num_tokens(found) == 64 and found.text.startswith("one two three one two")
    assert lengthened(UTTERANCE, 3, voice.num_tokens).text == "one"
    with pytest.raises(ValueError, match="not one word"):
        lengthened(UTTERANCE, 2, voice.num_tokens)
    timing = time_synthesizer(voice, UTTERANCE, _context(clock, prompt_tokens=128)).timing
    assert timing.figures["prompt_tokens"] == 128
    assert "more than 500 tokens" in time_synthesizer(voice, UTTERANCE, _context(clock, prompt_tokens=2048)).timing.refusal


@pytest.mark.parametrize("load", [{"concurrent": 3}, {"arrivals_hz": 500.0, "concurrent": 2}])
def test_a_load(clock, load):
    class Patient(_Voice):
        """Requests run side by side, each a thread: no virtual clock may be shared."""

        def stream_observed(self, utterance, seconds, observer):
            yield Audio.mono(np.full(RATE // 5, 0.1), RATE)

    plan = TimingPlan(seconds=1.0, requests=20)
    found = time_under_load(Patient(clock), UTTERANCE, _context(clock, plan, **load))
    assert found.timing.figures["load.requests"] == 20 and found.timing.audio_s == pytest.approx(20 * 0.2)
    assert 0 <= _value("load_ttfa_p50_ms", found) <= _value("load_ttfa_p95_ms", found) <= _value("load_latency_p95_ms", found)
    assert _value("load_audio_per_s", found) > 0 and found.audio.num_samples == RATE // 5
    with pytest.raises(NotApplicable, match="p99"):
        _value("load_ttfa_p99_ms", found)
    busy = time_under_load(Patient(clock), UTTERANCE, _context(clock, plan, neighbours=_Busy, **load))
    assert "0.70 of" in busy.timing.refusal
    suite = SpeedSuite(concurrent=(3,), arrivals_hz=(2.0,))
    assert list(suite.variants(None)) == [{}, {"concurrent": 3}, {"arrivals_hz": 2.0, "concurrent": 3}] and list(suite.variants(SPEC)) == [
        {}
    ]


def test_a_load_whose_requests_fail_is_no_number(clock):
    class Failing(_Voice):
        asked = 0

        def stream_observed(self, utterance, seconds, observer):
            self.asked += 1
            if self.asked == 5:
                raise RuntimeError("out of memory")
            yield Audio.mono(np.full(RATE // 5, 0.1), RATE)

    found = time_under_load(Failing(clock), UTTERANCE, _context(clock, concurrent=2))
    assert "1 of 20 requests failed" in found.timing.refusal and "out of memory" in found.timing.refusal


def test_old_timings_are_read_as_before():
    assert Timing(1.0, 2.0) == Timing(total_s=1.0, audio_s=2.0, batch=1, figures={}, refusal="")


def test_a_run(make_dataset, harness_run):
    """Codec and synthesizer side by side; resumed without timing anything twice; once more under another seed."""
    root = make_dataset(["one", "two"])
    words = ["suite=speed", "systems=[stub_echo,stub_voice]", "suite.budget_s=0.02", "suite.others=99", "suite.width=9", "executor=serial"]
    code, folder = harness_run(root, *words, metrics="[rtf,rtf_encode,ttfa_ms,floor_rtf]")
    assert code == 0
    frame = load(folder).set_index(["system", "item", "metric"])
    assert frame.loc[("stub_echo", "item0", "rtf"), "value"] > 0 and frame.loc[("stub_voice", "item1", "ttfa_ms"), "value"] > 0
    assert set(frame["status"]) == {"ok", "skipped_by_policy"}
    before = dict(frame["value"].dropna())
    assert harness_run(root, *words, metrics="[rtf,rtf_encode,ttfa_ms,floor_rtf]")[0] == 0
    assert dict(load(folder).set_index(["system", "item", "metric"])["value"].dropna()) == before
    code, again = harness_run(root, *words, "seeds=[1]", name="again", metrics="[rtf]")
    assert code == 0
    values = load(again).set_index(["system", "item", "metric"])["value"]
    assert all(values[key] != before[key] for key in before if key[2] == "rtf")


@pytest.mark.parametrize(
    "words",
    [{"batches": [0]}, {"batches": []}, {"batches": [1, 1]}, {"batches": "abc"}, {"batches": 3}, {"batches": [1.5]}, {"batches": [True]}, {"prompt_tokens": [-1]},
     {"prompt_tokens": [0, 0]}, {"concurrent": ["abc"]}, {"concurrent": [0]}, {"arrivals_hz": [0]}, {"arrivals_hz": [1, 1]}, {"seconds": "abc"}, {"seconds": -1},
     {"least": 0}, {"width": "abc"}, {"warmups": 1.5}, {"requests": "abc"}, {"others": -1}, {"budget_s": 0}],
)  # fmt: skip
@pytest.mark.cases(
    "A15", before="suite.batches=[1,1] timed the same twice, suite.seconds=abc was a traceback", after="refused before the work, in words"
)
def test_parameters_that_cannot_be_are_refused_before_the_work(words):
    from harness.errors import ConfigError
    from harness.running.runner import default_systems

    with pytest.raises(ConfigError, match="suite 'speed' cannot be built from"):
        default_systems({"suite": {"name": "speed", **words}})
