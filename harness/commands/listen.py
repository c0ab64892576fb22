"""``harness listen``: a blind listening page of a run, and what the answers to it say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import UsageError
from harness.storing.frame import open_run

PAGE, KEY = "listening.html", "listening_key.json"


def make(folder: Path, out: Path | None, design: str, systems: Sequence[str], num_trials: int, seed: int) -> int:
    """Writes the page and its key.

    Args:
        folder: of the run.
        out: where to write, the run folder unless told.
        design: "rating", "ab" or "abx".
        systems: to hear, none for all.
        num_trials: asked.
        seed: of the order.

    Raises:
        UsageError: there is nothing to ask about, or a key of other answers would be lost.
    """
    from reports.listening.page import Design, arrange, read_key, render
    from reports.writing.files import written

    run = open_run(folder)
    session = arrange(run, Design(design), systems, num_trials, seed)
    out = out or folder
    key = out / KEY
    if key.exists() and read_key(key) != session:
        # Without its key nobody can read answers that may be on their way.
        raise UsageError(
            f"{key} is the key of another listening test; write to another folder (--out DIR), or delete it if no answers are awaited"
        )
    page = written(out / PAGE, render(run, session))
    written(key, [session.as_json()])
    where = "" if out == folder else f" --out {out}"
    print(f"page: {page} ({len(session.trials)} trials, {page.stat().st_size / 1e6:.1f} MB; give it to listeners)")
    print(f"key:  {key} (names what was heard; keep it back)\nthen: harness listen {folder}{where} --answers ratings_{session.name}_*.csv")
    return 0


def read(folder: Path, out: Path | None, paths: Sequence[Path]) -> int:
    """Prints and writes (``listening.md``) what the answers say.

    Raises:
        UsageError: no key here, or answers that do not fit it.
    """
    from rich.console import Console

    from reports.listening.page import read_key
    from reports.listening.ratings import blocks, read_answers, results
    from reports.writing import markdown, terminal
    from reports.writing.files import written

    out = out or folder
    if not (out / KEY).exists():
        raise UsageError(f"there is no {KEY} in {out}; name the folder that the page was written to: --out DIR")
    session = read_key(out / KEY)
    answers = read_answers(paths, session)
    told = blocks(session, results(session, answers), len({a.listener for a in answers}))
    terminal.write(told, Console())
    print(f"written: {written(out / 'listening.md', [markdown.render(told)])}")
    return 0
