"""First output, stages, memory, energy, floors and load."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from harness.api import Audio, Work
from harness.timing import systems as floors
from harness.timing.clock import StageClock
from harness.timing.load import Arrival, listen, poisson_arrivals, run_load, time_to_audible, underrun
from harness.timing.machine import joules
from harness.timing.systems import MachineRates, counted_flops, machine_rates

RATE = 16000


def _tone(seconds, level=0.1):
    return Audio.mono(level * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE + 0.5), RATE)


def _silence(seconds):
    return Audio.mono(np.zeros(round(seconds * RATE)), RATE)


def _nothing():
    pass


class _Clock:
    """Time that passes only when somebody says so."""

    def __init__(self):
        self.at = 100.0

    def __call__(self):
        return self.at


def _streamed(clock, pieces):
    for seconds, chunk in pieces:
        clock.at += seconds
        yield chunk


def test_figures_of_a_stream_by_hand():
    clock = _Clock()
    found = listen(_streamed(clock, [(0.3, _tone(0.2)), (0.1, _tone(0.2)), (0.5, _tone(0.2))]), _nothing, clock).figures()
    assert found["ttfc_s"] == pytest.approx(0.3) and found["ttfa_s"] == pytest.approx(0.3, abs=1e-3)
    # Played from .3 on, chunk 2 ends at .7; chunk 3 comes at .9.
    assert found["underrun_0_s"] == pytest.approx(0.2) and found["underrun_100_s"] == pytest.approx(0.1)
    assert found["underrun_200_s"] == pytest.approx(0.0, abs=1e-9)
    assert found["chunks"] == 3 and found["first_chunk_s"] == pytest.approx(0.2)


def test_a_silent_first_chunk_gains_nothing():
    def figures(*pieces):
        clock = _Clock()
        return listen(_streamed(clock, pieces), _nothing, clock).figures()

    honest = figures((0.5, _tone(0.5)), (0.1, _tone(0.5)))
    gamed = figures((0.01, _silence(0.3)), (0.49, _tone(0.5)), (0.1, _tone(0.5)))
    assert gamed["ttfc_s"] < honest["ttfc_s"] and gamed["first_chunk_audible"] == 0.0  # which the metric refuses, see the suite's tests
    assert gamed["ttfa_s"] >= honest["ttfa_s"]
    long = figures((0.01, _silence(2.0)), (0.49, _tone(0.5)))
    assert long["ttfa_s"] == pytest.approx(2.01, abs=1e-3)  # silence that was sent has to be listened to
    tiny = figures((0.01, _tone(0.001)), (0.49, _tone(0.5)))
    assert tiny["first_chunk_s"] == pytest.approx(0.001) and tiny["underrun_0_s"] == pytest.approx(0.489, abs=1e-3)
    assert "ttfa_s" not in figures((0.1, _silence(1.0))) and figures() == {} and figures((0.1, _silence(0.0))) == {}


def test_waits_add_up():
    arrivals = [Arrival(1.0, 0.1, None), Arrival(2.0, 0.1, None), Arrival(3.0, 0.1, 0.05)]
    assert underrun(arrivals, 0.0) == pytest.approx(0.9 + 0.9)
    assert time_to_audible(arrivals) == pytest.approx(3.05)
    assert underrun([], 0.0) == 0.0 and time_to_audible([]) is None


def test_stages_events_work_and_memory():
    clock, waits = _Clock(), []
    watch = StageClock(lambda: waits.append(clock.at), clock)
    watch.begin()
    for seconds in (0.5, 0.25):
        with watch.stage("lm"):
            clock.at += seconds
    watch.event("token")
    clock.at += 1.0
    watch.event("token")
    watch.work("lm", Work(10, 1, 5))
    watch.work("lm", Work(10, 1, 5))
    watch.memory("kv_cache", 7)
    watch.memory("kv_cache", 3)
    assert watch.stages_s == {"lm": pytest.approx(0.75)} and watch.events_s == {"token": pytest.approx(0.75)}
    assert watch.works == {"lm": Work(20, 2, 10)} and watch.memory_bytes == {"kv_cache": 7}
    assert len(waits) == 1 + 2 * 2 + 1  # the device is idle on both sides of every stage, and at an event


def test_the_peak_of_memory_is_seen():
    # In a process of its own: one that once held more would not see its peak move where the system cannot reset it.
    code = (
        "import numpy as np\n"
        "from harness.timing.machine import begin_peaks, peaks\n"
        "begin_peaks('cpu')\n"
        "before = peaks('cpu').get('memory.host_peak_bytes')\n"
        "held = np.ones(80 * 2**20, dtype=np.uint8)\n"
        "after = peaks('cpu')\n"
        "print(before and after['memory.host_peak_bytes'] - before, after.get('memory.device_peak_bytes'))"
    )
    grown, device = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    if grown == "None":
        pytest.skip("this system does not tell the peak of resident memory")
    assert float(grown) > 60 * 2**20 and device == "None"


def test_joules_of_the_packages(tmp_path):
    for zone, micro in (("intel-rapl:0", 5_000_000), ("intel-rapl:1", 2_000_000), ("intel-rapl:0:0", 1_000_000)):
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "energy_uj").write_text(str(micro))
    assert joules("cpu", tmp_path) == pytest.approx(7.0)  # cores are a part of their package
    assert math.isnan(joules("cpu", tmp_path / "absent"))


def test_a_floor_is_the_greater_of_reading_and_computing():
    rates = MachineRates(bandwidth=100.0, flops={"float32": 10.0})
    assert rates.floor_s(Work(150, 50, 10), "float32") == 2.0
    assert rates.floor_s(Work(150, 50, 50), "float32") == 5.0
    assert rates.floor_s(Work(150, 50, 50), "int8") == 2.0  # no rate is known: it does not count


def test_rates_of_this_machine_are_positive_and_kept(monkeypatch):
    monkeypatch.setattr(floors, "_READ_BYTES", 2**22)
    monkeypatch.setattr(floors, "_MATRIX", 128)
    machine_rates.cache_clear()
    found = machine_rates("cpu", 1, ("float32",))
    assert found.bandwidth > 0 and found.flops["float32"] > 0
    assert machine_rates("cpu", 1, ("float32",)) is found
    machine_rates.cache_clear()  # what was measured here is of caches, not of memory


def test_operations_are_counted():
    import torch

    layer, convolution = torch.nn.Linear(30, 20), torch.nn.Conv1d(3, 5, 7)
    with torch.inference_mode():
        assert counted_flops(lambda: layer(torch.zeros(4, 30))) == 2 * 4 * 30 * 20
        assert counted_flops(lambda: convolution(torch.zeros(2, 3, 16))) == 2 * 2 * 10 * 3 * 5 * 7


def test_arrivals_by_chance_are_the_same_for_the_same_seed():
    found = poisson_arrivals(5.0, 4000, seed=3)
    assert found == poisson_arrivals(5.0, 4000, seed=3) != poisson_arrivals(5.0, 4000, seed=4)
    gaps = np.diff((0.0, *found))
    assert np.all(gaps > 0) and np.mean(gaps) == pytest.approx(0.2, rel=0.05) and np.std(gaps) == pytest.approx(0.2, rel=0.1)
    with pytest.raises(ValueError, match="positive rate"):
        poisson_arrivals(0.0, 3, 0)


class _Server:
    """Streams that take a known time, and how many of them ran at once."""

    def __init__(self, seconds, fails=()):
        self.seconds, self.fails, self.most, self._now, self._lock = seconds, fails, 0, 0, threading.Lock()

    def __call__(self, number):
        if number in self.fails:
            raise RuntimeError("no speech")
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(self.seconds)
        with self._lock:
            self._now -= 1
        yield _tone(0.5)


def test_a_closed_loop_keeps_its_users_busy():
    server = _Server(0.02, fails={3})
    found = run_load(server, [None] * 12, workers=3, synchronise=_nothing)
    assert [s.number for s in found.served] == list(range(12)) and server.most == 3
    assert found.failed == 1 and "RuntimeError: no speech" in found.served[3].failure
    assert found.audio_per_s == pytest.approx(11 * 0.5 / found.wall_s)
    shares = found.percentiles("ttfc_s")
    assert 0.02 <= shares["p50"] <= shares["p90"] and set(shares) == {"p50", "p90"}  # eleven requests tell no p95


def test_requests_that_come_too_fast_wait():
    found = run_load(_Server(0.05), [0.0, 0.0, 0.0], workers=1, synchronise=_nothing)
    waits = sorted(s.figures()["waited_s"] for s in found.served)
    assert np.all(np.diff(waits) >= 0.05)  # one after the other
    last = max(found.served, key=lambda s: s.waited_s).figures()
    assert last["ttfc_s"] >= last["waited_s"] + 0.05 and last["latency_s"] >= last["ttfc_s"]  # what a user waits for holds the queue
    with pytest.raises(ValueError, match="at least one worker"):
        run_load(_Server(0.0), [], 1, _nothing)
