"""The ``harness`` command. The verb is argparse's, the rest of ``harness run`` goes to Hydra; nothing heavy is imported before it is needed."""

from __future__ import annotations

import argparse
import os
import sys

from harness.errors import HarnessError, Interrupted, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DESCRIPTION = "Run neural speech codecs and language-model text-to-speech behind one interface, measure them correctly, and say what the numbers mean."

EXAMPLES = """\
examples:
  harness run suite=codec                                      the default systems on the speech that ships with the package
  harness run suite=codec systems=[passthrough,opus6,opus16]   choose systems; `harness list systems` shows all
  harness run suite=codec dataset=seedtts dataset.root=DIR     your data; `harness list datasets` shows the layouts
  harness run suite=codec dataset.limit=10 metrics=[pesq_wb,stoi] executor.workers=4
  harness report runs/codec-1a2b3c4d                           table and files of an earlier run again
  harness doctor                                               what works on this machine, and what is missing

The same `harness run` command resumes an interrupted run. Exit codes: 0 done, 1 done with failures (listed in the table), 2 the
request cannot be carried out (nothing was run), 130 stopped by Ctrl-C (resumable).
"""

RUN_HELP = """\
Every setting is key=value; `harness run --show-config` prints them all with their present values.

  suite=NAME               what is asked of the systems       (harness list suites)
  systems=[A,B,...]        who is asked                       (harness list systems)
  systems.A.PARAM=VALUE    a parameter of system A
  dataset=NAME             on what                            (harness list datasets)
  dataset.root=DIR  dataset.limit=N  dataset.language=en  dataset.items=[id,...]
  metrics=[A,B,...]        instead of the suite's own         (harness list metrics)
  asr=PRESET  speaker=NAME  mos=NAME                          the judging models (harness list asr|speaker|mos)
  executor.workers=N  executor.timeout_s=120  executor=serial
  run.name=NAME  run.root=DIR  run.overwrite=true  run.keep_failed=true  run.max_failures=N  run.allow_missing=true
"""

LISTS = {
    "systems": "systems",
    "suites": "suite",
    "metrics": "metrics",
    "datasets": "dataset",
    "asr": "asr",
    "speaker": "speaker",
    "mos": "mos",
    "executors": "executor",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        The exit code (see `harness.errors`).
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.verb is None:
        parser.print_help()
        return 2
    try:
        code: int = options.call(options)
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


def _parser() -> argparse.ArgumentParser:
    from harness import __version__

    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="harness", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"harness {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")

    run = verbs.add_parser("run", help="run a suite: predict, score, report", description=RUN_HELP, formatter_class=raw)
    run.add_argument("overrides", nargs="*", metavar="key=value")
    run.add_argument(
        "--config-dir", type=_path, metavar="DIR", help="folder with YAML of your own (systems/NAME.yaml, dataset/NAME.yaml, ...)"
    )
    run.add_argument("--show-config", action="store_true", help="print the composed configuration and stop")
    run.add_argument("--no-report", action="store_true", help="leave out the report files (the table is still printed)")
    run.set_defaults(call=_run)

    show = verbs.add_parser("list", help="list systems, suites, metrics, datasets, judging models")
    show.add_argument("what", nargs="?", choices=sorted(LISTS))
    show.add_argument("--config-dir", type=_path, metavar="DIR", help="folder with YAML of your own, listed as well")
    show.set_defaults(call=_list)

    report = verbs.add_parser("report", help="table, report.html, CSV, Markdown and LaTeX of a run")
    report.add_argument("run", type=_path, metavar="RUN", help="run folder, e.g. runs/codec-1a2b3c4d")
    report.add_argument("--out", type=_path, metavar="DIR", help="where to write (the run folder)")
    report.set_defaults(call=_report)

    doctor = verbs.add_parser("doctor", help="what works on this machine, and how to get what is missing")
    doctor.set_defaults(call=_doctor)
    return parser


def _path(text: str) -> Path:
    from pathlib import Path

    return Path(text)


def _run(options: argparse.Namespace) -> int:
    from harness.config import compose

    overrides = list(options.overrides)
    config_dir = options.config_dir
    if config_dir is not None and not config_dir.is_dir():
        raise UsageError(f"--config-dir {config_dir} is not a folder")
    config = compose(overrides, config_dir)
    if not any(word.startswith("systems=") for word in overrides):
        from harness.runner import default_systems

        config = compose([*overrides, f"systems=[{','.join(default_systems(config))}]"], config_dir)
    if options.show_config:
        import yaml

        print(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), end="")
        return 0
    from harness.progress import TerminalProgress
    from harness.runner import run

    with TerminalProgress() as progress:
        result = run(config, f"harness run {' '.join(overrides)}".strip(), progress)
    _print_report(result.folder, None if options.no_report else result.folder, config["report"])
    result.check()
    return 0


def _report(options: argparse.Namespace) -> int:
    _print_report(options.run, options.out or options.run, None)
    return 0


def _print_report(folder: Path, out: Path | None, section: object) -> None:
    from rich.console import Console

    from harness.frame import open_run
    from reports.output import write_report
    from reports.tables import summarise
    from reports.terminal import print_summary

    run = open_run(folder)
    files = None
    if out is None:
        summary = summarise(run)
    else:
        settings = section if isinstance(section, dict) else run.manifest["config"]["report"]
        files = write_report(run, out, audio_limit_mb=float(settings["audio_limit_mb"]))
        summary = files.summary
    print_summary(summary, Console())
    if files is not None:
        others = [files.markdown, files.latex, files.csv, *files.figures]
        print(f"report: {files.html}\nalso:   " + " ".join(str(path.relative_to(files.html.parent)) for path in others))


def _list(options: argparse.Namespace) -> int:
    from harness.registry import config_choices, entries, variants

    for what in [options.what] if options.what else list(LISTS):
        if what == "systems":
            rows = variants(options.config_dir)
        elif what == "metrics":
            rows = {name: entry.summary or f"plug-in from {entry.origin}" for name, entry in entries("metrics").items()}
        else:
            rows = config_choices(LISTS[what], options.config_dir)
            if what == "suites":
                rows |= {name: f"plug-in from {e.origin}" for name, e in entries("suites").items() if e.origin}
        if options.what is None:
            print(f"{what}:")
        width = max(map(len, rows), default=0)
        for name, summary in rows.items():
            print(f"  {name:<{width}}  {summary}".rstrip())
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from harness.doctor import examine, render

    findings = examine()
    print(render(findings))
    return 0 if all(f.ok or f.optional for f in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
