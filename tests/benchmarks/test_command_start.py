"""How long the command takes to say what it can do, beside a Python that does nothing.

``pytest tests/benchmarks/test_command_start.py --benchmark-enable -s`` prints the table; starts are paired, an empty one and each command by turns.
"""

import os
import statistics
import sys
import time

import pytest

COMMANDS = {"empty": "pass"} | {
    line: f"import sys; from harness.cli import main; sys.exit(main({line.split()!r}))" for line in ("--help", "run --help", "list")
}


def _started(code):
    """Wall and processor seconds."""
    began = time.perf_counter()
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    _, _, used = os.wait4(os.posix_spawn(sys.executable, [sys.executable, "-c", code], os.environ, file_actions=quiet), 0)
    return time.perf_counter() - began, used.ru_utime + used.ru_stime


def test_command_start(benchmark):
    if benchmark.disabled:
        pytest.skip("a timing: run with --benchmark-enable on a quiet machine")
    rounds = [{name: _started(code) for name, code in COMMANDS.items()} for _ in range(20)]
    benchmark.pedantic(_started, (COMMANDS["--help"],), rounds=1)
    print()
    for name in COMMANDS:
        for what, i in (("wall", 0), ("processor", 1)):
            ours, empty = ([r[n][i] for r in rounds] for n in (name, "empty"))
            print(
                f"{name:<11} {what:<9} minimum {min(ours) * 1e3:6.1f} ms, {min(ours) / min(empty):.2f}x   "
                f"median {statistics.median(ours) * 1e3:6.1f} ms, {statistics.median(ours) / statistics.median(empty):.2f}x"
            )
    used = {name: min(r[name][1] for r in rounds) for name in COMMANDS}
    assert used["--help"] < 3 * used["empty"]
