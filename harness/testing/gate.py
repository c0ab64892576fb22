"""A gate inside a test suite of your own::

from harness.testing import check_gate

def test_nothing_became_worse():
check_gate("runs/nightly", against="baselines/codec")
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any


class GateFailed(AssertionError):
    """A run that is worse than its baseline, or cannot be compared with it.

    Args:
        message: the checks that failed, with their figures.
        verdict: `reports.gate.checks.GateResult`.
    """

    def __init__(self, message: str, verdict: Any) -> None:
        super().__init__(message)
        self.verdict = verdict


def check_gate(run: str | PathLike[str], against: str | PathLike[str], rules: str | PathLike[str] = "default", force: bool = False) -> Any:
    """Judges a finished run, as ``harness gate`` does; no file is written.

    Args:
        run: its folder.
        against: a baseline (``harness bless``), or another run.
        rules: name of a gate, or a YAML file.
        force: judge although data, package versions or signatures differ.

    Returns:
        The verdict (`reports.gate.checks.GateResult`), which is a pass.

    Raises:
        GateFailed: a regression, or nothing that can be compared.
        UsageError: a folder is no run, or the rules are wrong.
    """
    from harness.commands.gate import judged

    verdict = judged(Path(run), Path(against), str(rules), force)
    if verdict.exit_code:
        from reports.gate.document import text

        raise GateFailed(text(verdict), verdict)
    return verdict
