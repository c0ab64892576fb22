"""make a baseline of a run

  harness bless RUN [REPEAT ...] [out=DIR]

Makes a baseline to gate against: records and manifest without audio, texts and paths, small enough to commit. Repeats of the run, each
with its own run.root= so that nothing is taken from the store, say what varies from run to run.

  out=DIR           where (baselines/SUITE); a baseline that is there is replaced
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from harness.commands import take_words
from harness.errors import UsageError
from harness.settings.schema import split_words

BASELINES = Path("baselines")


def declare(parser: ArgumentParser) -> None:
    take_words(parser, "RUN or out=DIR")


def main(options: Namespace) -> int:
    """Makes the baseline. Raises Incomparable: a run is partial or no repeat of the first."""
    from harness.storing.runfolder import open_run
    from reports.gate.baseline import bless
    from reports.writing.wording import significant

    folders, settings = split_words(options.words, {"out": str}, "harness bless RUN [REPEAT ...]")
    if not folders:
        raise UsageError("bless wants at least one run folder: harness bless runs/codec-1a2b3c4d")
    runs = [open_run(folder) for folder in folders]
    suite = str((runs[0].manifest.get("suite") or {}).get("name") or "run")
    done = bless(runs, Path(settings.get("out") or BASELINES / suite))
    print(f"baseline: {done.path}, {done.repeats} run{'' if done.repeats == 1 else 's'}, {done.num_bytes / 1000:.0f} kB")
    if done.identical:
        print(
            "The repeats are identical: the systems are deterministic, or the runs took their outputs from one store (give each its own run.root=)."
        )
    elif done.spreads:
        print("Standard deviation of each figure from run to run:")
        for spread in done.spreads:
            print(
                f"  {spread.label}, {spread.column.name}: {significant(spread.deviation * spread.column.factor)} {spread.column.shown_unit}".rstrip()
            )
    return 0
