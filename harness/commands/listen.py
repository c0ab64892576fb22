"""a blind listening page of a run

  harness listen RUN [--design rating|ab|abx] [--systems A,B] [--trials N]      writes listening.html and listening_key.json
  harness listen RUN --answers ratings_*.csv                                    reads what listeners returned

rating: each output from 0 to 100 beside the recording, which is also hidden among them; ab: which of two is better; abx: whether X is
A or B. The page names no system and sends nothing; listeners download their answers as CSV. The key stays with you.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from harness.commands import path
from harness.errors import UsageError
from harness.storing.runfolder import open_run

PAGE, KEY = "listening.html", "listening_key.json"


def declare(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=path, nargs="?", metavar="RUN", help="run folder, e.g. runs/codec-1a2b3c4d")
    parser.add_argument("--design", choices=("rating", "ab", "abx"), default="rating", help="what is asked (rating)")
    parser.add_argument("--systems", type=lambda text: text.split(","), default=[], metavar="A,B", help="to hear (all under test)")
    parser.add_argument("--trials", type=int, default=10, metavar="N", help="questions (10)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the items drawn and their order (0)")
    parser.add_argument("--answers", type=path, nargs="+", default=[], metavar="CSV", help="read what listeners returned")
    parser.add_argument("--out", type=path, metavar="DIR", help="where the page and its key lie (the run folder)")


def main(options: Namespace) -> int:
    folders = [path for path in options.answers if path.is_dir()]  # the run, where it was typed behind the answers
    run = options.run or (folders[0] if len(folders) == 1 else None)
    if run is None:
        raise UsageError("which run? harness listen RUN, e.g. harness listen runs/codec-1a2b3c4d")
    if options.answers:
        return read(run, options.out, [path for path in options.answers if path != run])
    return make(run, options.out, options)


def make(folder: Path, out: Path | None, asked: Namespace) -> int:
    """Writes the page and its key. Raises UsageError: there is nothing to ask about, or a key of other answers would be lost."""
    from reports.listening import Design, arrange, read_key, render
    from reports.writing.files import written

    run = open_run(folder)
    session = arrange(run, Design(asked.design), asked.systems, asked.trials, asked.seed)
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
    """Prints and writes (``listening.md``) what the answers say. Raises UsageError: no key here, or answers that do not fit it."""
    from rich.console import Console

    from reports.listening import blocks, read_answers, read_key, results
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
