"""The ``harness`` command: from words to a verb of `harness.commands`, and from an error to a message and an exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import cache, partial

from harness import __version__, commands
from harness.errors import HarnessError, Interrupted, UsageError

DESCRIPTION = "Run neural speech codecs and language-model text-to-speech behind one interface, measure them correctly, and say what the numbers mean."

EXAMPLES = """\
examples:
  harness run suite=codec                                      the default systems on the speech that ships with the package
  harness run suite=codec systems=[passthrough,opus6,opus16]   choose systems; `harness list systems` shows all
  harness run suite=codec dataset=seedtts dataset.root=DIR     your data; `harness list datasets` shows the layouts
  harness run suite=codec dataset.limit=10 metrics=[pesq_wb,stoi] executor.workers=4
  harness report runs/codec-1a2b3c4d                           table and files of an earlier run again
  harness doctor                                               what works on this machine, and what is missing

The same `harness run` command resumes an interrupted run. Exit codes: 0 done, 1 done with more failures
than run.max_failures (listed in the table), 2 the request cannot be carried out (nothing was run), 130 stopped by Ctrl-C (resumable).
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        The exit code (see `harness.errors`).
    """
    typed = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser(typed)
    options = _options(parser, typed)
    if options.verb is None:
        parser.print_help()
        return 2
    try:
        _check_encoding(typed)
        if arguments is None and options.verb == "run":  # a program of its own: workers import while this process does
            from harness.running.preloads import preload_for

            preload_for(options.words)
        code: int = options.main(options)
        if sys.stdout is not None:  # it is None where the program was started with it closed
            sys.stdout.flush()
        return code
    except HarnessError as error:
        print(f"harness: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("harness: stopped; what was finished is stored, the same command resumes", file=sys.stderr)
        return Interrupted.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader went away: no traceback at exit either
        return 1


@cache
def _verbs() -> dict[str, str]:
    """The modules of `harness.commands` with the first line of each; none is imported, since most want more than help does."""
    found = {}
    for folder in commands.__path__:
        for name in sorted(os.listdir(folder)):  # noqa: PTH208  (pathlib would take a tenth of the time of `harness --help`)
            if name.endswith(".py") and not name.startswith("_"):
                with open(os.path.join(folder, name), encoding="utf-8") as file:  # noqa: PTH118, PTH123
                    found[name.removesuffix(".py")] = file.readline().strip('"\n')
    return found


def _parser(typed: Sequence[str]) -> argparse.ArgumentParser:
    """Knows every verb, and the arguments of the one that is typed."""
    asked = next((word for word in typed if word in _verbs()), "")
    try:
        width = os.get_terminal_size().columns
    except OSError:
        width = 120
    raw = partial(argparse.RawDescriptionHelpFormatter, width=width - 2)  # else argparse imports shutil to find out, 2 ms
    parser = argparse.ArgumentParser(prog="harness", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"harness {__version__}")
    of = parser.add_subparsers(dest="verb", metavar="VERB", prog="harness")
    for name, summary in _verbs().items():
        verb = of.add_parser(name, help=summary, formatter_class=raw)
        if name == asked:
            from importlib import import_module

            module = import_module(f"harness.commands.{name}")
            verb.description = (module.__doc__ or "").partition("\n\n")[2] or None
            module.declare(verb)
            verb.set_defaults(main=module.main)
    return parser


def _options(parser: argparse.ArgumentParser, typed: Sequence[str]) -> argparse.Namespace:
    """The words parsed, options wherever they stand among them.

    argparse takes a verb's words up to the first option after one of them; those that it leaves over are added here. Options that stand
    before the verb are the verb's. What follows ``--`` is never an option.
    """
    words = list(typed)
    place = next((i for i, word in enumerate(words) if word in _verbs()), 0)
    if place and words[0].startswith("-") and not {"-h", "--help", "--version", "--"}.intersection(words[:place]):
        words = [words[place], *words[:place], *words[place + 1 :]]
    options, left = parser.parse_known_args(words)
    end = left.index("--") if "--" in left else len(left)
    if left and ("rest" not in options or any(word.startswith("-") for word in left[:end])):
        parser.error(f"unrecognized arguments: {' '.join(left)}; `harness {options.verb} --help` shows what there is")
    if left:
        setattr(options, options.rest, [*getattr(options, options.rest), *left[:end], *left[end + 1 :]])
    return options


def _check_encoding(words: Sequence[str]) -> None:
    """Refuses bytes that are no text here: they could stand in no record, and a folder of that name in no manifest."""
    for word in words:
        if any("\ud800" <= c <= "\udfff" for c in word):
            shown = word.encode("utf-8", "backslashreplace").decode()
            raise UsageError(
                f"'{shown}' is no text in this terminal's encoding ({sys.getfilesystemencoding()}): rename the file or give it by a link "
                "with a plain name; where the name is UTF-8, PYTHONUTF8=1 or LC_ALL=C.UTF-8 helps"
            )


if __name__ == "__main__":
    sys.exit(main())
