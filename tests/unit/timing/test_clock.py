"""The clock: figures of calls whose duration is known, and what must not become a number."""

from __future__ import annotations

import itertools
import math
import statistics
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binom

from harness.api import TimingPlan
from harness.timing.clock import FEWEST, Instruments, Lap, Measured, measure, median_interval, percentile, timed, wanted
from harness.timing.machine import Conditions, Neighbours, compilations, others_s
from tests.stubs.turns import take_turns

PLAN = TimingPlan(budget_s=0.4, least=7, warmups=1)


class _Quiet(Neighbours):
    """A machine on which others use a fixed number of cores."""

    def __init__(self, cores=0.0):
        self.cores = cores

    def look(self):
        return self.cores


QUIET = Instruments(neighbours=_Quiet)


class _Time:
    """A clock that stands still unless somebody sleeps: exact, however busy the machine is."""

    def __init__(self):
        self.at = 0.0

    def __call__(self):
        return self.at

    def sleep(self, seconds):
        self.at += seconds


@pytest.fixture
def virtual():
    clock = _Time()
    return clock, replace(QUIET, now=clock)


def _of(walls, **more):
    laps = tuple(Lap(wall, others=others) for wall, others in walls)
    parts = {"first_s": 1.0, "warmups_s": (), "others_allowed": 0.1, "conditions": Conditions(0.5, 2, 0.0)}
    return Measured(None, laps=laps, **{**parts, **more})


def test_a_sleeping_call_is_measured_within_five_percent():
    """The true figure is what the sleeper saw on its own watch: a sleep on a busy machine is as long as it is."""
    slept = []

    def sleep():
        start = time.monotonic()
        time.sleep(0.03)
        slept.append(time.monotonic() - start)

    found = measure(sleep, plan=PLAN, instruments=QUIET)
    assert found.refusal == "" and found.median_s == pytest.approx(statistics.median(slept[2:]), rel=0.05)
    assert found.summary()["low_s"] <= found.median_s <= found.summary()["high_s"]


def test_first_call_and_warm_ups_are_listed_apart(virtual):
    clock, tools = virtual
    lengths = iter([5.0, 2.0, *[0.01] * 1000])
    found = measure(lambda: clock.sleep(next(lengths)), plan=PLAN, instruments=tools)
    assert (found.first_s, found.warmups_s) == (5.0, (2.0,))
    assert {round(lap.wall_s, 9) for lap in found.laps} == {0.01} and found.median_s == pytest.approx(0.01)
    assert found.summary()["first_s"] == 5.0 and found.summary()["warmup_s"] == 2.0


def test_laps_end_when_the_interval_is_narrow_and_at_the_latest_with_the_budget(virtual):
    clock, tools = virtual
    steady = measure(lambda: clock.sleep(0.02), plan=replace(PLAN, budget_s=20.0), instruments=tools)
    assert sum(lap.wall_s for lap in steady.laps) < 1.0
    turns = itertools.cycle([0.001, 0.02])
    uneven = measure(lambda: clock.sleep(next(turns)), plan=replace(PLAN, budget_s=5.0, width=1e-6), instruments=tools)
    assert 5.0 <= sum(lap.wall_s for lap in uneven.laps) < 5.5
    slow = measure(lambda: clock.sleep(9.0), plan=replace(PLAN, width=1e-6), instruments=tools)
    assert len(slow.laps) == FEWEST  # whatever the budget: fewer would be no number


class _Device:
    """Computes in the background, as an accelerator does: a call returns at once, and only synchronising waits."""

    def __init__(self, clock, seconds):
        self._clock, self._seconds, self._free_at = clock, seconds, 0.0

    def call(self):
        self._clock.sleep(0.001)  # launching
        self._free_at = max(self._free_at, self._clock.at) + self._seconds

    def synchronise(self, device="fake"):
        if device == "fake":
            self._clock.at = max(self._clock.at, self._free_at)


def test_work_of_a_declared_device_is_in_the_time(virtual):
    clock, tools = virtual
    device = _Device(clock, 0.03)
    tools = replace(tools, synchronise=device.synchronise, synchronise_all=device.synchronise)
    found = measure(device.call, "fake", PLAN, instruments=tools)
    assert found.refusal == "" and found.median_s == pytest.approx(0.031)


def test_an_unsynchronised_device_is_caught(virtual):
    """F32: the system says "cpu" and computes elsewhere, so its calls seem to take nothing."""
    clock, tools = virtual
    device = _Device(clock, 0.03)
    tools = replace(tools, synchronise=device.synchronise, synchronise_all=device.synchronise)
    found = measure(device.call, "cpu", PLAN, instruments=tools)
    assert max(lap.wall_s for lap in found.laps) == pytest.approx(0.001)
    assert "30 ms" in found.refusal
    assert "after the declared device was idle" in found.refusal
    with pytest.raises(ValueError, match="declared device"):
        _ = found.median_s


def test_a_compilation_inside_the_timed_call_is_caught(virtual):
    """F32: the first calls were with other shapes, so a lap compiles; that the first call compiles is as it should be."""
    clock, tools = virtual
    made = []

    def call(compiling):
        clock.sleep(0.01)
        if next(compiling):
            made.append(1)

    tools = replace(tools, compilations=lambda: len(made))
    late = itertools.chain([1, 0, 0, 1], itertools.repeat(0))
    found = measure(lambda: call(late), plan=PLAN, instruments=tools)
    assert [lap.compiled for lap in found.laps[:3]] == [0, 1, 0] and "compiled inside the timed call in 1 of" in found.refusal
    early = itertools.chain([1, 1], itertools.repeat(0))
    assert measure(lambda: call(early), plan=PLAN, instruments=tools).refusal == ""


def test_the_counters_of_a_compiler_that_was_imported_are_read(monkeypatch):
    counters = {"frames": {"total": 3}, "stats": {"unique_graphs": 2}}
    monkeypatch.setitem(sys.modules, "torch._dynamo.utils", SimpleNamespace(counters=counters))
    assert compilations() == 5
    monkeypatch.delitem(sys.modules, "torch._dynamo.utils")
    assert compilations() == 0


def test_a_busy_neighbour_leaves_no_number(virtual):
    """F33: laps beside more than a tenth of a core do not count, and fewer than five are no number."""
    clock, tools = virtual
    found = measure(lambda: clock.sleep(0.01), plan=PLAN, instruments=replace(tools, neighbours=lambda: _Quiet(0.6)))
    assert found.clean == () and "0 of" in found.refusal and "0.60 of" in found.refusal and "quiet machine" in found.refusal
    assert found.summary()["others"] == 0.6 and "median_s" not in found.summary()
    mixed = _of([(9.0, 0.5)] * 20 + [(1.0, 0.0)] * FEWEST)
    assert mixed.refusal == "" and mixed.median_s == 1.0
    assert f"only {FEWEST - 1} of 24 laps" in _of([(9.0, 0.5)] * 20 + [(1.0, 0.0)] * (FEWEST - 1)).refusal
    assert _of([(1.0, math.nan)] * 5).refusal == ""  # a system that does not tell of neighbours


def test_neighbours_are_what_others_use_of_our_cores(tmp_path):
    spent, now = iter([10.0, 10.5, 10.4]), iter([0.0, 2.0, 3.0])
    neighbours = Neighbours(lambda: next(spent), lambda: next(now))
    assert neighbours.look() == pytest.approx(0.25)
    assert neighbours.look() == 0.0  # ticks are coarse: less than nothing is nothing
    assert math.isnan(others_s(tmp_path / "absent"))
    assert others_s() == pytest.approx(others_s(), abs=2.0)


def test_a_jump_of_the_wall_clock_changes_nothing(monkeypatch):
    """F34."""
    jumps = iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: 1e9 - 3600.0 * next(jumps))
    assert 0.0 < timed(lambda: time.sleep(0.01), "cpu").wall_s < 600.0
    assert 0.0 < measure(lambda: time.sleep(0.01), plan=PLAN, instruments=QUIET).median_s < 600.0


@pytest.mark.parametrize("n", [5, 6, 7, 17, 100, 1001])
def test_the_interval_of_the_median_is_the_binomial_one(n):
    values = np.random.default_rng(n).exponential(size=n)
    found, ordered = median_interval(list(values)), np.sort(values)
    rank = int(binom.ppf(0.025, n, 0.5))  # the largest rank that leaves 2.5 % outside on each side
    rank -= binom.cdf(rank - 1, n, 0.5) > 0.025
    if n < 6:
        assert found is None and rank == 0
    else:
        assert found == (ordered[rank - 1], ordered[n - rank])


def test_the_interval_covers_the_median_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = [(low <= math.log(2) <= high) for low, high in (median_interval(list(rng.exponential(size=21))) for _ in range(600))]
    assert 0.93 <= np.mean(hits) <= 1.0


def test_percentiles_are_linear_and_need_enough_laps():
    values = [float(n) for n in np.random.default_rng(1).permutation(459)]
    for share in (0.5, 0.9, 0.95, 0.99):
        assert percentile(values, share) == pytest.approx(458 * share)
    assert (wanted(0.5), wanted(0.9), wanted(0.95), wanted(0.99)) == (1, 10, 20, 459)
    with pytest.raises(ValueError, match="p99 wants 459 values, there are 458"):
        percentile(values[:458], 0.99)
    assert set(_of([(1.0, 0.0)] * 19).summary()) >= {"p90_s"} and "p95_s" not in _of([(1.0, 0.0)] * 19).summary()
    assert "p99_s" in _of([(1.0, 0.0)] * 459).summary()


def test_figures_are_medians_of_the_clean_laps():
    laps = tuple(Lap(1.0, others=o, figures={"x": x}) for x, o in [(1.0, 0.0), (2.0, 0.0), (3.0, 0.0), (4.0, 0.0), (9.0, 0.0), (99.0, 1.0)])
    found = replace(_of([]), laps=laps)
    assert found.figure("x") == 3.0
    with pytest.raises(ValueError, match="no lap has a figure 'y'"):
        found.figure("y")


def test_turns_are_paired_so_that_what_drifts_cancels(virtual):
    """The machine gets slower from round to round; one call takes 1.3 times the other in each of them (F36)."""
    clock, tools = virtual
    calls, pace = [], itertools.count(10)

    def call(name, seconds):
        calls.append(name)
        clock.sleep(seconds * (next(pace) // 2))
        return {"own_s": 2 * seconds}

    both = {"a": lambda: call("a", 0.01), "b": lambda: call("b", 0.013)}
    turns = take_turns(both, rounds=8, warmups=1, instruments=tools)
    assert calls[:6] == ["a", "b", "b", "a", "a", "b"] and len(calls) == 2 * 9
    found = turns.ratio("b", "a")
    assert turns.refusal == "" and found.median == pytest.approx(1.3) and found.pairs == 8
    assert found.interval == (pytest.approx(1.3), pytest.approx(1.3)) and turns.ratio("b", "a", "own_s").median == pytest.approx(1.3)
    busy = take_turns(both, rounds=8, instruments=replace(tools, neighbours=lambda: _Quiet(0.9)))
    assert busy.clean == () and "0 of 8 rounds" in busy.refusal and len(busy.of("a")) == 8
