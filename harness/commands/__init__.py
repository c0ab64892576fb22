"""One module a verb of ``harness``. Its docstring is the help text, the first line of which stands in ``harness --help``.

``declare(parser)`` adds its arguments, and ``main(options)`` carries it out and gives the exit code; nothing else names a verb. A verb
whose words may stand behind its options sets ``rest`` to where they go.
"""

from __future__ import annotations

from argparse import ArgumentParser

# As type checkers take it: `harness --help` has three times what an empty Python takes, and typing or pathlib want a third of that.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path


def path(text: str) -> Path:
    """A path as it is typed."""
    from pathlib import Path

    return Path(text).expanduser()


def take_words(parser: ArgumentParser, metavar: str, config_dir: str = "") -> None:
    """Declares any number of words, before and behind the options; and ``--config-dir`` where there is a help text for it."""
    parser.add_argument("words", nargs="*", metavar=metavar)
    parser.set_defaults(rest="words")
    if config_dir:
        parser.add_argument("--config-dir", type=path, metavar="DIR", help=config_dir)
