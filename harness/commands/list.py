"""list systems, suites, metrics, datasets, judging models"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from harness.commands import path

GROUPS = {
    "systems": "systems",
    "suites": "suite",
    "metrics": "metrics",
    "datasets": "dataset",
    "asr": "asr",
    "speaker": "speaker",
    "mos": "mos",
    "features": "features",
    "emotion": "emotion",
    "executors": "executor",
    "gates": "gate",
}


def declare(parser: ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", choices=sorted(GROUPS))
    parser.add_argument("--config-dir", type=path, metavar="DIR", help="folder with YAML of your own, listed as well")


def main(options: Namespace) -> int:
    from harness.settings.registry import config_choices, config_names, entries

    plugins = {what: {e.name: f"plug-in from {e.origin}" for e in entries(what).values() if e.origin} for what in ("systems", "suites")}
    if options.what is None:
        for what, group in GROUPS.items():
            names = list(entries("metrics")) if what == "metrics" else config_names(group, options.config_dir)
            print(f"{what:<10}", *names, *plugins.get(what, ()))
        print("\n`harness list systems` and so on describe each.")
        return 0
    if options.what == "systems":
        rows = _systems(options.config_dir)
    elif options.what == "metrics":
        rows = {name: entry.summary or f"plug-in from {entry.origin}" for name, entry in entries("metrics").items()}
    else:
        rows = config_choices(GROUPS[options.what], options.config_dir) | plugins.get(options.what, {})
    width = max(map(len, rows), default=0)
    for name, summary in rows.items():
        print(f"{name:<{width}}  {summary}".rstrip())
    return 0


def _systems(config_dir: Path | None) -> dict[str, str]:
    """Each system with how it stands here and its description."""
    from harness.settings.registry import config_names, variants
    from harness.settings.systems import standing

    known = variants(config_dir)
    stands = {name: standing(name, config_dir) for name in config_names("systems", config_dir)}
    width = max(len(state) for state, _ in stands.values())
    rows = {}
    for name, summary in known.items():
        state, what = stands.get(name, ("", ""))
        rows[name] = f"{state:<{width}}  {summary}{f' [{what}]' if what else ''}"
    return rows
