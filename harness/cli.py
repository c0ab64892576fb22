"""The ``harness`` command. The verb is argparse's, the rest of ``harness run`` goes to Hydra; nothing heavy is imported before it is needed."""

from __future__ import annotations

import argparse
import os
import sys

from harness.commands.manual import BLESS_HELP, COMPARE_HELP, GATE_HELP
from harness.errors import HarnessError, Incomparable, Interrupted, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

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

RUN_HELP = """\
Every setting is key=value; `harness run --show-config` prints them all with their present values.

  suite=NAME               what is asked of the systems       (harness list suites)
  systems=[A,B,...]        who is asked                       (harness list systems)
  systems.A.PARAM=VALUE    a parameter of system A
  dataset=NAME             on what                            (harness list datasets)
  dataset.root=DIR  dataset.language=en  dataset.items=[id,...]  dataset.channel=N
  dataset.limit=N          so many items, spread over languages and speakers; the same each time
  metrics=[A,B,...]        instead of the suite's own         (harness list metrics)
  asr=PRESET  speaker=NAME  mos=NAME                          the judging models (harness list asr|speaker|mos)
  executor.workers=N  executor.timeout_s=120  executor=serial
  run.name=NAME  run.root=DIR  run.overwrite=true  run.keep_failed=true  run.max_failures=N  run.allow_missing=true

Names and paths are the text that is typed (null: none; quotes around the whole come off; ~ at the beginning is the home folder). Every value is
checked before anything runs. Options stand anywhere.
"""

TRAIN_HELP = """\
  harness train system=NAME data=MANIFEST [key=value ...]

  system=NAME       what to train: a variant (`harness list systems`) whose family can be trained, or a part by itself:
                    speech_encoder, mel_vocoder, qtts_decoder (what QTTS's codes become sound by)
  data=PATH         manifest (CSV, JSONL) or corpus folder, as `harness run dataset.root=PATH` takes it
  valid=PATH        held-out recordings; without it held_out=8 of the data are kept back
  out=DIR           where everything goes (runs/train-SYSTEM-DIGEST); holds checkpoint.safetensors, model.safetensors, log.csv, curve.png
  steps=N           planned length; the learning rate ends there (20000)
  minutes=M         stop after so much time of this start, with a checkpoint
  resume=false      refuse to continue a checkpoint found in out (default: continue it)
  overwrite=true    begin anew in a folder that holds another training; what is there is moved aside
  device=auto|cpu|cuda   precision=float32|bfloat16   seed=0   threads=N   average_decay=0.999
  cache=DIR         keep what frozen networks make of the recordings (codes, features) there; several trainings on them share it
  log_s=10  checkpoint_s=180  memory_gib=8  max_skipped=20  tensorboard=true
  anything else     a parameter of the recipe, e.g. size=small batch_size=16; training.batch_size=16 says which group of them is meant.
                    Language models: delays=[0,1] (one model of several delays); they and qtts_decoder: start=FILE (go on from a trained one);
                    transfer=FILE (begin with text and transformer of a language model over another codec)

The same command again continues where it stopped. Several processes: torchrun --nproc_per_node=2 -m harness.cli train ... (needs the
[train] extra). Exit codes: 0 done or out of time, 1 diverged, 2 cannot be carried out, 130 stopped by a signal (resumable).
"""

TABLES_HELP = """\
  harness tables [PAPER ...] [key=value ...]      papers: qtts, socodec; all of them unless named

Every table and figure of a paper as published, beside what the finished runs in run.root measured, cell by cell with a status: reproduced,
not reproduced, too few, not comparable (and why), not run. Runs that are missing are listed with their commands.

  run=true          carry out what is missing and can be run here; what is in the store already is not computed again
  out=DIR           where to write (runs/tables-PAPER): tables.html, .md, .tex, cells.csv, claims.csv, runs.csv, figures
  run.root=DIR      where runs lie (runs)
  anything else     an override of `harness run` for those runs, e.g. dataset.limit=10, dataset=seedtts dataset.root=DIR, asr=seedtts,
                    systems.qdac16_paper.checkpoint=FILE; where data or judges are chosen so, only runs with the same choice are looked at
"""

JOIN_HELP = """\
  harness join RUN [--from URL]

Puts the shards of a run together: after `harness run run.name=big run.shard=I/N ...` for every I from 1 to N, on as many machines as
there are, `harness join runs/big` makes runs/big of runs/big.1ofN ..., as if it had been one run. Shards that were published elsewhere
(run.publish=URL) are read from there by --from URL.
"""

SELFCHECK_HELP = """\
  harness selfcheck [key=value ...]

Runs a small request (overrides as `harness run`; 4 items unless dataset.limit says otherwise) again and again in empty stores: the same
again, with more workers, items in reversed order, everything in one process, other numbers of threads, Ray where it is installed. Numbers
and codes must be the same each time, to the tolerance printed. Exit codes: 0 they are, 1 they are not.
"""

LISTEN_HELP = """\
  harness listen RUN [--design rating|ab|abx] [--systems A,B] [--trials N]      writes listening.html and listening_key.json
  harness listen RUN --answers ratings_*.csv                                    reads what listeners returned

rating: each output from 0 to 100 beside the recording, which is also hidden among them; ab: which of two is better; abx: whether X is
A or B. The page names no system and sends nothing; listeners download their answers as CSV. The key stays with you.
"""

VERBS = ("run", "train", "list", "report", "tables", "compare", "gate", "bless", "join", "selfcheck", "listen", "doctor")

LISTS = {
    "systems": "systems",
    "suites": "suite",
    "metrics": "metrics",
    "datasets": "dataset",
    "asr": "asr",
    "speaker": "speaker",
    "mos": "mos",
    "executors": "executor",
    "gates": "gate",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        The exit code (see `harness.errors`).
    """
    parser = _parser()
    typed = list(sys.argv[1:] if arguments is None else arguments)
    options = _options(parser, typed)
    if options.verb is None:
        parser.print_help()
        return 2
    try:
        _check_encoding(typed)
        code: int = options.call(options)
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


def _options(parser: argparse.ArgumentParser, typed: Sequence[str]) -> argparse.Namespace:
    """The words parsed, options wherever they stand among them.

    argparse takes a verb's words up to the first option after one of them; those that it leaves over are added here. Options that stand
    before the verb are the verb's. What follows ``--`` is never an option.
    """
    words = list(typed)
    place = next((i for i, word in enumerate(words) if word in VERBS), 0)
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


def _formatter(prog: str) -> argparse.HelpFormatter:
    """Help as wide as the terminal; told here, because argparse would import shutil (2 ms) to find out, also when it prints nothing."""
    try:
        width = os.get_terminal_size().columns
    except OSError:
        width = 120
    return argparse.RawDescriptionHelpFormatter(prog, width=width - 2)


def _parser() -> argparse.ArgumentParser:
    from harness import __version__

    raw = _formatter
    parser = argparse.ArgumentParser(prog="harness", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"harness {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", prog="harness")

    run = verbs.add_parser("run", help="run a suite: predict, score, report", description=RUN_HELP, formatter_class=raw)
    run.add_argument("overrides", nargs="*", metavar="key=value")
    run.add_argument(
        "--config-dir", type=_path, metavar="DIR", help="folder with YAML of your own (systems/NAME.yaml, dataset/NAME.yaml, ...)"
    )
    run.add_argument("--show-config", action="store_true", help="print the composed configuration and stop")
    run.add_argument("--no-report", action="store_true", help="leave out the report files (the table is still printed)")
    run.set_defaults(call=_run, rest="overrides")

    train = verbs.add_parser("train", help="train a system of our own", description=TRAIN_HELP, formatter_class=raw)
    train.add_argument("overrides", nargs="*", metavar="key=value")
    train.set_defaults(call=_train, rest="overrides")

    show = verbs.add_parser("list", help="list systems, suites, metrics, datasets, judging models", formatter_class=raw)
    show.add_argument("what", nargs="?", choices=sorted(LISTS))
    show.add_argument("--config-dir", type=_path, metavar="DIR", help="folder with YAML of your own, listed as well")
    show.set_defaults(call=_list)

    report = verbs.add_parser("report", help="table, report.html, CSV, Markdown and LaTeX of a run", formatter_class=raw)
    report.add_argument("run", type=_path, metavar="RUN", help="run folder, e.g. runs/codec-1a2b3c4d")
    report.add_argument("--out", type=_path, metavar="DIR", help="where to write (the run folder)")
    report.set_defaults(call=_report)

    tables = verbs.add_parser(
        "tables", help="the papers' tables beside what was measured here", description=TABLES_HELP, formatter_class=raw
    )
    tables.add_argument("words", nargs="*", metavar="PAPER or key=value")
    tables.add_argument("--config-dir", type=_path, metavar="DIR", help="folder with YAML of your own systems")
    tables.set_defaults(call=_tables, rest="words")

    compare = verbs.add_parser("compare", help="paired differences of two runs", description=COMPARE_HELP, formatter_class=raw)
    compare.add_argument("words", nargs="*", metavar="RUN or key=value")
    compare.set_defaults(call=_compare, rest="words")

    gate = verbs.add_parser("gate", help="whether a run became worse than a baseline", description=GATE_HELP, formatter_class=raw)
    gate.add_argument("words", nargs="*", metavar="RUN or key=value")
    gate.set_defaults(call=_gate, rest="words")

    bless = verbs.add_parser("bless", help="make a baseline of a run", description=BLESS_HELP, formatter_class=raw)
    bless.add_argument("words", nargs="*", metavar="RUN or out=DIR")
    bless.set_defaults(call=_bless, rest="words")

    join = verbs.add_parser("join", help="put the shards of a run together", description=JOIN_HELP, formatter_class=raw)
    join.add_argument("run", type=_path, metavar="RUN", help="folder of the whole run, e.g. runs/big")
    join.add_argument("--from", dest="source", metavar="URL", help="where the shards were published (beside RUN)")
    join.set_defaults(call=_join)

    selfcheck = verbs.add_parser(
        "selfcheck", help="whether the same request gives the same numbers", description=SELFCHECK_HELP, formatter_class=raw
    )
    selfcheck.add_argument("overrides", nargs="*", metavar="key=value")
    selfcheck.add_argument("--config-dir", type=_path, metavar="DIR", help="folder with YAML of your own")
    selfcheck.set_defaults(call=_selfcheck, show_config=False, rest="overrides")

    listen = verbs.add_parser("listen", help="a blind listening page of a run", description=LISTEN_HELP, formatter_class=raw)
    listen.add_argument("run", type=_path, nargs="?", metavar="RUN", help="run folder, e.g. runs/codec-1a2b3c4d")
    listen.add_argument("--design", choices=("rating", "ab", "abx"), default="rating", help="what is asked (rating)")
    listen.add_argument("--systems", type=lambda text: text.split(","), default=[], metavar="A,B", help="to hear (all under test)")
    listen.add_argument("--trials", type=int, default=10, metavar="N", help="questions (10)")
    listen.add_argument("--seed", type=int, default=0, metavar="N", help="of the items drawn and their order (0)")
    listen.add_argument("--answers", type=_path, nargs="+", default=[], metavar="CSV", help="read what listeners returned")
    listen.add_argument("--out", type=_path, metavar="DIR", help="where the page and its key lie (the run folder)")
    listen.set_defaults(call=_listen)

    doctor = verbs.add_parser("doctor", help="what works on this machine, and how to get what is missing", formatter_class=raw)
    doctor.set_defaults(call=_doctor)
    return parser


def _path(text: str) -> Path:
    from pathlib import Path

    return Path(text).expanduser()


def _run(options: argparse.Namespace) -> int:
    config = _composed(options)
    if options.show_config:
        import yaml

        print(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), end="")
        return 0
    from harness.commands.progress import TerminalProgress
    from harness.running.runner import run
    from harness.storing.aliases import typed

    with TerminalProgress() as progress:
        result = run(config, f"harness run {typed(options.overrides)}".strip(), progress)
    _print_report(result.folder, None if options.no_report else result.folder, config["report"])
    result.check()
    return 0


def _composed(options: argparse.Namespace) -> dict[str, Any]:
    """The configuration of the overrides; a suite's own systems where none are named."""
    from harness.settings.config import compose

    overrides = list(options.overrides)
    config_dir = options.config_dir
    if config_dir is not None and not config_dir.is_dir():
        raise UsageError(f"--config-dir {config_dir} is not a folder")
    if not any(word.startswith("systems=") for word in overrides):
        from harness.running.runner import default_systems

        suite = compose([word for word in overrides if not word.startswith("systems.")], config_dir)
        overrides.append(f"systems=[{','.join(default_systems(suite))}]")
    return compose(overrides, config_dir)


def _join(options: argparse.Namespace) -> int:
    from harness.running.shards import join

    joined = join(options.run, options.source)
    counts = ", ".join(f"{number} {status}" for status, number in sorted(joined.counts.items()))
    print(f"{joined.folder}: {joined.records} records of {joined.shards} shards ({counts}); `harness report` shows them")
    joined.check()
    return 0


def _selfcheck(options: argparse.Namespace) -> int:
    from harness.commands.progress import TerminalProgress
    from harness.commands.selfcheck import check, render
    from harness.storing.aliases import typed

    with TerminalProgress() as progress:
        findings = list(check(_composed(options), f"harness selfcheck {typed(options.overrides)}".strip(), progress))
    print(render(findings))
    return 0 if all(f.held for f in findings) else 1


def _train(options: argparse.Namespace) -> int:
    from harness.commands.train import main as train

    return train(list(options.overrides))


def _tables(options: argparse.Namespace) -> int:
    from harness.commands.tables import main as tables

    return tables(options.words, options.config_dir)


def _listen(options: argparse.Namespace) -> int:
    from harness.commands.listen import make, read

    folders = [path for path in options.answers if path.is_dir()]  # the run, where it was typed behind the answers
    run = options.run or (folders[0] if len(folders) == 1 else None)
    if run is None:
        raise UsageError("which run? harness listen RUN, e.g. harness listen runs/codec-1a2b3c4d")
    if options.answers:
        return read(run, options.out, [path for path in options.answers if path != run])
    return make(run, options.out, options.design, options.systems, options.trials, options.seed)


def _compare(options: argparse.Namespace) -> int:
    from harness.commands.gate import compare

    return compare(options.words)


def _gate(options: argparse.Namespace) -> int:
    from harness.commands.gate import gate

    try:
        return gate(options.words)
    except HarnessError as error:
        # 1 is the exit code of a regression, and of nothing else.
        if error.exit_code in (UsageError.exit_code, Incomparable.exit_code, Interrupted.exit_code):
            raise
        raise UsageError(str(error)) from error
    except Exception as error:
        import traceback

        traceback.print_exc()
        raise UsageError(f"nothing was judged: {type(error).__name__}: {error}") from error


def _bless(options: argparse.Namespace) -> int:
    from harness.commands.gate import bless

    return bless(options.words)


def _report(options: argparse.Namespace) -> int:
    _print_report(options.run, options.out or options.run, None)
    return 0


def _print_report(folder: Path, out: Path | None, section: object) -> None:
    from rich.console import Console

    from reports.run.document import print_summary
    from reports.run.large import read_summary
    from reports.run.output import AUDIO_LIMIT_MB, write_report

    run, summary = read_summary(folder)
    files = None
    if out is not None:
        settings = section if isinstance(section, dict) else (run.manifest.get("config") or {}).get("report") or {}
        limit_mb = settings.get("audio_limit_mb")
        # A folder that somebody else wrote may not say it.
        limit_mb = float(limit_mb) if isinstance(limit_mb, int | float) else AUDIO_LIMIT_MB
        files = write_report(run, out, audio_limit_mb=limit_mb, summary=summary)
    print_summary(summary, Console())
    if files is not None:
        others = [files.markdown, files.latex, files.csv, *([files.claims] if files.claims else []), *files.figures]
        print(f"report: {files.html}\nalso:   " + " ".join(str(path.relative_to(files.html.parent)) for path in others))


def _list(options: argparse.Namespace) -> int:
    from harness.settings.registry import config_choices, config_names, entries, variants

    if options.what is None:
        for what, group in LISTS.items():
            names = list(entries("metrics")) if what == "metrics" else config_names(group, options.config_dir)
            plugins = [e.name for e in entries(what).values() if e.origin] if what in ("systems", "suites") else []
            print(f"{what:<10}", *names, *plugins)
        print("\n`harness list systems` and so on describe each.")
        return 0
    if options.what == "systems":
        rows = variants(options.config_dir)
    elif options.what == "metrics":
        rows = {name: entry.summary or f"plug-in from {entry.origin}" for name, entry in entries("metrics").items()}
    else:
        rows = config_choices(LISTS[options.what], options.config_dir)
        if options.what == "suites":
            rows |= {name: f"plug-in from {e.origin}" for name, e in entries("suites").items() if e.origin}
    width = max(map(len, rows), default=0)
    for name, summary in rows.items():
        print(f"{name:<{width}}  {summary}".rstrip())
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from harness.commands.doctor import examine, render

    findings = examine()
    print(render(findings))
    return 0 if all(f.ok or f.optional for f in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
