"""whether a run became worse than a baseline

  harness gate RUN against=BASELINE [key=value ...]

Fails where a metric is shown to be worse than its tolerance allows. Writes gate.json, gate.md (a comment for a pull request), gate.xml (JUnit).

  against=DIR       a baseline (`harness bless`), or another run
  rules=NAME|FILE   default, speed, exact, or a YAML file of your own (reports/gate/rules.py says what is in it)
  force=true        judge although data, package versions or signatures differ; the output says so
  out=DIR           where to write (RUN)

Exit codes: 0 pass, 1 regression, 2 the request cannot be carried out, 3 incomparable (missing, renamed, measured otherwise, partial).
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands import take_words
from harness.errors import HarnessError, Incomparable, Interrupted, UsageError
from harness.settings.schema import split_words

if TYPE_CHECKING:
    from reports.gate.checks import GateResult


KEYS = {"against": str, "rules": str, "force": bool, "out": str}


def declare(parser: ArgumentParser) -> None:
    take_words(parser, "RUN or key=value")


def main(options: Namespace) -> int:
    """Raises UsageError where it cannot be carried out, whatever the reason: 1 is the exit code of a regression, and of nothing else."""
    try:
        return _judge(options)
    except HarnessError as error:
        if error.exit_code in (UsageError.exit_code, Incomparable.exit_code, Interrupted.exit_code):
            raise
        raise UsageError(str(error)) from error
    except Exception as error:
        import traceback

        traceback.print_exc()
        raise UsageError(f"nothing was judged: {type(error).__name__}: {error}") from error


def _judge(options: Namespace) -> int:
    from rich.console import Console

    from reports.gate import document
    from reports.gate.document import junit
    from reports.writing.files import written

    folders, settings = split_words(options.words, KEYS, "harness gate RUN against=BASELINE")
    if len(folders) != 1 or "against" not in settings:
        raise UsageError("gate wants one run folder and against=BASELINE: harness gate runs/codec-1a2b3c4d against=baselines/codec")
    verdict = judged(folders[0], Path(settings["against"]), settings.get("rules", "default"), settings.get("force", False))
    out = Path(settings.get("out") or folders[0])
    written(out / "gate.md", [document.markdown(verdict)])
    written(out / "gate.xml", [junit(verdict)])
    path = written(out / "gate.json", [document.as_json(verdict)])
    document.print_result(verdict, Console())
    print(f"verdict: {path}\nalso:    gate.md gate.xml")
    return verdict.exit_code


def judged(run: Path, against: Path, rules: str = "default", force: bool = False) -> GateResult:
    """The verdict on a run; arguments and errors as of `check_gate`."""
    from harness.storing.aliases import Aliases
    from harness.storing.runfolder import open_run
    from reports.compare.pairing import half
    from reports.gate.baseline import open_reference
    from reports.gate.checks import Gate, refusal
    from reports.gate.rules import load_rules

    asked = load_rules(rules)
    try:
        candidate = half(str(run), open_run(run))
        baseline = open_reference(against)
    except Incomparable as problem:
        text = Aliases.here().text
        return refusal(text(str(run)), text(str(against)), asked, Incomparable(text(str(problem))))
    return Gate(asked, force).judge(candidate, baseline)


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
