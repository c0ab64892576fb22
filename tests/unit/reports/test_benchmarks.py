"""Timings of pytest-benchmark side by side."""

from __future__ import annotations

import json

import pytest

from harness.cli import main
from harness.errors import Incomparable, UsageError
from reports.benchmarks import compare_benchmarks, table


@pytest.fixture
def write(tmp_path):
    def make(name, medians, node="here"):
        cpu = {"brand_raw": "EPYC", "count": 2}
        benchmarks = [{"fullname": kernel, "stats": {"median": value, "rounds": 5}} for kernel, value in medians.items()]
        (tmp_path / name).write_text(json.dumps({"machine_info": {"node": node, "cpu": cpu}, "benchmarks": benchmarks}))
        return tmp_path / name

    return make


def test_pairs_cancel_what_the_machine_does(write):
    """Every other pair is measured on a machine three times as slow; B is 1.3 times as slow as A in all of them (F36)."""
    paths = []
    for number in range(7):
        busy = 3.0 if number % 2 else 1.0
        paths.append(write(f"A{number}.json", {"rvq": 0.01 * busy, "same": 0.02 * busy, "gone": 1.0}))
        noise = 1.0 + 0.002 * (number - 3)
        paths.append(write(f"B{number}.json", {"rvq": 0.013 * busy * noise, "same": 0.02 * busy * noise}))
    rvq, same = compare_benchmarks(paths)
    assert (rvq.name, same.name) == ("rvq", "same") and rvq.ratio == pytest.approx(1.3) and rvq.verdict == "slower"
    assert same.verdict == "undecided" and same.interval[0] < 1.0 < same.interval[1] and rvq.pairs == 7
    assert compare_benchmarks([p for a, b in zip(paths[::2], paths[1::2], strict=True) for p in (b, a)])[0].verdict == "faster"


def test_few_pairs_decide_nothing(write):
    paths = [write("A.json", {"rvq": 0.01}), write("B.json", {"rvq": 0.05})]
    (found,) = compare_benchmarks(paths)
    assert found.ratio == pytest.approx(5.0) and found.interval is None and found.verdict == "undecided"
    assert "six are wanted" in table([found])[-1]


def test_what_cannot_be_compared(write, tmp_path):
    here = write("A.json", {"rvq": 0.01})
    with pytest.raises(Incomparable, match="one machine only"):
        compare_benchmarks([here, write("B.json", {"rvq": 0.01}, node="there")])
    with pytest.raises(Incomparable, match="no benchmark in common"):
        compare_benchmarks([here, write("C.json", {"opq": 0.01})])
    with pytest.raises(UsageError, match="even number"):
        compare_benchmarks([here])
    (tmp_path / "D.json").write_text('{"records": []}')
    with pytest.raises(UsageError, match="no JSON file of pytest-benchmark"):
        compare_benchmarks([here, tmp_path / "D.json"])


def test_from_the_command_line(write, capsys):
    paths = [write("A.json", {"rvq": 0.01}), write("B.json", {"rvq": 0.02})]
    assert main(["compare", *map(str, paths)]) == 0
    assert "rvq" in (told := capsys.readouterr().out) and "2.000" in told
    assert main(["compare", str(paths[0]), str(write("C.json", {"rvq": 0.02}, node="there"))]) == 3
