"""What several test folders share: the stub plug-in and small datasets."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

STUBS = Path(__file__).parent / "stubs"
CASES = (*(f"A{i}" for i in range(1, 23)), *(f"B{i}" for i in range(1, 9)), "C1", *(f"D{i}" for i in range(1, 14)))
"""Every line of what people brought: wrong numbers (A), statistics (B), MCD's band (C), hangs, losses and leaks (D)."""


_ENDED: pytest.StashKey = pytest.StashKey()
"""(case, before, after) to how its tests ended."""


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    # Tests of very different length: a worker without work takes over what another has waiting. Only where there are several (-n): the option
    # by itself would switch benchmarks off.
    if getattr(config.option, "numprocesses", None) and config.option.dist == "no":
        config.option.dist = "worksteal"


def pytest_configure(config):
    if not config.getoption("benchmark_enable", False):
        # torch reads it when it is imported. Threads that wait for each other on cores that other tests use take many times as long.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    config.stash[_ENDED] = {}
    config.pluginmanager.register(Cases(config), "cases-table")


def pytest_collection_modifyitems(items):
    for item in items:
        if unknown := {mark.args[0] for mark in item.iter_markers("cases")} - set(CASES):
            raise pytest.UsageError(f"{item.nodeid}: no case {', '.join(sorted(unknown))}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call" or not report.passed:
        # A report travels from a worker process to the one that prints; the item does not.
        told = [(mark.args[0], mark.kwargs["before"], mark.kwargs["after"]) for mark in item.iter_markers("cases")]
        report.user_properties += [("case", case) for case in told]
    return report


class Cases:
    """How the tests of each case ended, wherever they ran."""

    def __init__(self, config):
        self.ended = config.stash[_ENDED]

    def pytest_runtest_logreport(self, report):
        for name, case in report.user_properties:
            if name == "case" and (report.when == "call" or not report.passed):
                outcome = "passed" if report.passed else ("skipped" if report.skipped else "FAILED")
                self.ended.setdefault(tuple(case), []).append(outcome)


def pytest_terminal_summary(terminalreporter, config):
    """With ``-m cases``: each case with what happened before, what happens now and whether its tests say so."""
    if config.getoption("markexpr") != "cases":
        return
    terminalreporter.section("cases")
    rows = config.stash[_ENDED]
    for case, before, after in sorted(rows, key=lambda row: CASES.index(row[0])):
        worst = next((e for e in ("FAILED", "skipped") if e in rows[case, before, after]), "passed")
        terminalreporter.write_line(f"{case:<4} {worst:<7} before: {before}\n{'':12} now:    {after}")
    if lacking := sorted(set(CASES) - {case for case, _, _ in rows}, key=CASES.index):
        terminalreporter.write_line(f"no test of: {', '.join(lacking)}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Takes SpeechBrain's lazy modules away before a hypothesis test.

    hypothesis looks at every imported module for constants worth trying, and to be looked at makes these import what is not installed.
    """
    if item.get_closest_marker("hypothesis"):
        for name in [name for name, module in sys.modules.items() if type(module).__module__ == "speechbrain.utils.importutils"]:
            del sys.modules[name]


@pytest.fixture
def stubs(monkeypatch):
    """The misbehaving plug-in, registered by its entry points (also in worker processes, which inherit the path)."""
    monkeypatch.setattr(sys, "path", [str(STUBS), *sys.path])
    return STUBS


@pytest.fixture
def make_dataset(tmp_path):
    """Writes a JSONL manifest with noise recordings; ``texts`` gives one item each, 0.5 s plus 20 ms per index."""

    def make(texts, name="data"):
        root = tmp_path / name
        root.mkdir()
        rng = np.random.default_rng(0)
        with (root / "manifest.jsonl").open("w", encoding="utf-8") as file:
            for i, text in enumerate(texts):
                soundfile.write(root / f"{i}.wav", rng.uniform(-0.5, 0.5, 8000 + 320 * i).astype(np.float32), 16000, subtype="FLOAT")
                file.write(
                    json.dumps({"id": f"item{i}", "audio": f"{i}.wav", "text": text, "language": "en", "speaker": f"s{i % 3}"}) + "\n"
                )
        return root

    return make


@pytest.fixture
def harness_run(tmp_path, monkeypatch, stubs):
    """Runs ``harness run`` in this process in a folder of its own; returns exit code and run folder.

    One worker process predicts and scores unless told: each costs more than the few items here, and what one does, two do.
    """
    from harness.cli import main

    monkeypatch.chdir(tmp_path)

    def run(root, *words, name="run", metrics="[stub_peak]"):
        code = main(
            [
                "run",
                "--no-report",
                "dataset=jsonl",
                f"dataset.root={root}",
                f"metrics={metrics}",
                f"run.name={name}",
                "executor.workers=1",
                *words,
            ]
        )
        return code, tmp_path / "runs" / name

    return run
