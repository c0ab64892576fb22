"""the shards of a run as jobs, on SLURM say

  harness launch shards=N run.name=NAME [hydra/launcher=NAME] [hydra.launcher.KEY=VALUE ...] [key=value ...] [--dry-run]

  harness launch shards=16 hydra/launcher=submitit_slurm hydra.launcher.partition=cpu run.name=big suite=codec

Each job is the command itself, `harness run ... run.shard=I/N`, so everything is checked there as always; Hydra and its launcher only
hand out the jobs and wait for them. All machines see the same folders. Also: python -m harness.commands.launch ...
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from harness.commands import take_words
from harness.errors import HarnessError, MissingDependency, UsageError

MODULE = "harness.commands.launch"
RESULTS = "hydra.sweep.dir=runs/launch/${now:%Y-%m-%d_%H-%M-%S}"


def declare(parser: ArgumentParser) -> None:
    take_words(parser, "key=value")
    parser.add_argument("--dry-run", action="store_true", help="print the jobs' commands and stop")


def main(options: Namespace) -> int:
    hydras = [w for w in options.words if w.lstrip("+~").startswith("hydra")]
    counts = [w.partition("=")[2] for w in options.words if w.startswith("shards=")]
    if len(counts) != 1 or not counts[0].isdigit() or int(counts[0]) < 1:
        raise UsageError("say how many jobs: shards=N, e.g. shards=16")
    count = int(counts[0])
    ours = [w for w in options.words if w not in hydras and not w.startswith("shards=")]
    if not any(w.startswith("run.name=") for w in ours):
        raise UsageError("give the run a name that its shards share: run.name=NAME")
    if options.dry_run:
        print("\n".join(shlex.join(command(ours, f"{i}/{count}")) for i in range(1, count + 1)))
        return 0
    if any("submitit" in w for w in hydras) and find_spec("hydra_plugins.hydra_submitit_launcher") is None:
        raise MissingDependency("SLURM jobs need hydra-submitit-launcher: pip install 'speech-systems-harness[slurm]'")
    _launch(count, ours, hydras)
    return 0


def command(words: Sequence[str], shard: str) -> list[str]:
    """What one job runs."""
    return [sys.executable, "-m", "harness.cli", "run", "--no-report", *words, f"run.shard={shard}"]


def run_job(config: Any) -> int:
    """Inside a job, on whatever machine: ``config`` has ``words`` (JSON text) and ``shard``. The launcher reports the RuntimeError."""
    words = command(json.loads(config.words), str(config.shard))
    code = subprocess.run(words, check=False).returncode
    if code not in (0, 1):  # 1: done, with failures that its table lists
        raise RuntimeError(f"{shlex.join(words)} ended with exit code {code}")
    return code


def _launch(count: int, words: Sequence[str], hydras: Sequence[str]) -> None:
    import hydra
    from hydra.core.config_store import ConfigStore
    from hydra.errors import HydraException

    ConfigStore.instance().store(name="launch", node={"words": "[]", "shard": "1/1"})
    # Hydra sees the overrides of `harness run` as one text: what they mean is found out in the job.
    text = json.dumps(json.dumps(list(words)))
    shards = ",".join(f'"{i}/{count}"' for i in range(1, count + 1))
    place = [] if any(w.startswith("hydra.sweep.dir=") for w in hydras) else [RESULTS]
    before, sys.argv = sys.argv, [MODULE, "--multirun", f"words={text}", f"shard={shards}", *place, *hydras]
    full = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints a traceback and ends the process
    try:
        hydra.main(version_base="1.3", config_path=None, config_name="launch")(run_job)()
    except HydraException as error:
        raise UsageError(f"Hydra refuses {shlex.join(hydras)}: {error}") from error
    except Exception as error:  # every launcher has errors of its own
        asked = f" It was asked: {shlex.join(hydras)}." if hydras else ""
        raise HarnessError(
            f"the launcher failed: {type(error).__name__}: {' '.join(str(error).split())}.{asked} Shards that ended are kept; the same command hands all out again, "
            "and those do nothing twice"
        ) from error
    finally:
        sys.argv = before
        if full is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full


if __name__ == "__main__":
    from harness.cli import main as command_line

    sys.exit(command_line(["launch", *sys.argv[1:]]))
