"""list systems, suites, metrics, datasets, judging models"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from harness.commands import path

GROUPS = {
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


def declare(parser: ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("what", nargs="?", choices=sorted(GROUPS))
    parser.add_argument("--config-dir", type=path, metavar="DIR", help="folder with YAML of your own, listed as well")


def main(options: Namespace) -> int:
    """Carries it out."""
    from harness.settings.registry import config_choices, config_names, entries, variants

    plugins = {what: {e.name: f"plug-in from {e.origin}" for e in entries(what).values() if e.origin} for what in ("systems", "suites")}
    if options.what is None:
        for what, group in GROUPS.items():
            names = list(entries("metrics")) if what == "metrics" else config_names(group, options.config_dir)
            print(f"{what:<10}", *names, *plugins.get(what, ()))
        print("\n`harness list systems` and so on describe each.")
        return 0
    if options.what == "systems":
        rows = variants(options.config_dir)
    elif options.what == "metrics":
        rows = {name: entry.summary or f"plug-in from {entry.origin}" for name, entry in entries("metrics").items()}
    else:
        rows = config_choices(GROUPS[options.what], options.config_dir) | plugins.get(options.what, {})
    width = max(map(len, rows), default=0)
    for name, summary in rows.items():
        print(f"{name:<{width}}  {summary}".rstrip())
    return 0
