"""``harness train``: from words on the command line (`harness.commands.train_plan`) to a trained model in a folder."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from harness.commands.recipes import build_recipe
from harness.commands.train_plan import Plan, planned
from harness.errors import (
    CheckpointError,
    ConfigError,
    DamagedFile,
    HarnessError,
    Interrupted,
    MissingDependency,
    RunConflict,
    StoreError,
    UsageError,
)
from harness.storing.files import read_json, write_json
from harness.storing.folders import claimed
from harness.torchaudio import ensure_torchaudio

NOTES = "training.json"


def main(overrides: Sequence[str]) -> int:
    """Trains until done, out of time or stopped.

    Args:
        overrides: ``key=value`` words, see ``harness train --help``.

    Returns:
        0.

    Raises:
        UsageError: the request cannot be carried out.
        HarnessError: the training diverged, or the disk is full.
        Interrupted: SIGINT or SIGTERM; a checkpoint was written.
    """
    plan = planned(overrides)
    package = importlib.import_module("systems.training.faults")
    try:
        _run(plan)
    except package.StateMismatch as error:
        raise CheckpointError(f"{error}. overwrite=true moves the old training aside; out=DIR chooses another folder.") from error
    except package.BadRecordings as error:
        raise ConfigError(f"data={plan.settings.data}: {error}") from error
    except package.TrainingFault as error:
        raise HarnessError(str(error)) from error
    return 0


def _run(plan: Plan) -> None:
    import torch

    from harness.data.manifests import DatasetConfig, load_dataset

    settings = plan.settings
    corpora = importlib.import_module("systems.training.data")
    dataset = load_dataset(DatasetConfig(name="train", root=Path(settings.data).expanduser()))
    held_out = load_dataset(DatasetConfig(name="valid", root=Path(settings.valid).expanduser())) if settings.valid else None
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    try:
        processes = importlib.import_module("systems.training.processes").join(settings.device)
    except ImportError as error:
        raise MissingDependency(f"several processes need accelerate (pip install 'speech-systems-harness[train]'): {error}") from error
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if processes.rank == 0:
        for name, data in (("data", dataset), ("valid", held_out)):
            for line in data.remarks if data else ():
                print(f"{name}: {line}", file=sys.stderr)
    ensure_torchaudio()
    torch.manual_seed(settings.seed)  # the recipe draws its first weights
    try:
        recipe = build_recipe(plan.recipe_class, plan.parameters, settings.seed)
    except (TypeError, ValueError, FileNotFoundError) as error:
        raise ConfigError(f"the recipe of '{plan.family}' refuses {_shown(plan.parameters)}: {error}") from error
    identity = {
        "system": settings.system,
        "parameters": json.dumps(plan.parameters, sort_keys=True),
        "seed": str(settings.seed),
        "precision": settings.precision,
        "average_decay": str(settings.average_decay),
        "data": dataset.rows_digest,
        "valid": held_out.rows_digest if held_out else f"{settings.held_out} held out",
    }
    key = hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=4).hexdigest()
    folder = Path(settings.out) if settings.out else Path("runs") / f"train-{settings.system}-{key}"
    with _claimed_together(processes, folder, identity, settings.overwrite), _Signals() as signals:
        workers = settings.threads or os.cpu_count() or 1
        corpus = corpora.load_corpus(dataset.items, recipe.sample_rate, settings.memory_gib, workers)
        if held_out is None:
            data = corpora.split(corpus, settings.held_out)
        else:
            data = corpora.Split(corpus, corpora.load_corpus(held_out.items, recipe.sample_rate, settings.memory_gib, workers))
        ending = _train(plan, recipe, data, processes, folder, identity, signals, dataset)
    processes.close()
    if ending == "interrupted":
        raise Interrupted(f"stopped by {signals.name}; the checkpoint is in {folder}, the same command continues")


def _train(
    plan: Plan,
    recipe: Any,
    data: Any,
    processes: Any,
    folder: Path,
    identity: Mapping[str, str],
    signals: _Signals,
    dataset: Any,
) -> str:
    from harness.running import provenance
    from harness.storing.aliases import Aliases, command, without_secrets

    loops, trainers_ = importlib.import_module("systems.training.loop"), importlib.import_module("systems.training.trainer")
    settings, leads = plan.settings, processes.rank == 0

    def say(line: str) -> None:
        if leads:
            print(line, file=sys.stderr, flush=True)

    identity = {**identity, "sound": data.training.digest}
    try:
        config = trainers_.TrainerConfig(
            settings.steps,
            settings.seed,
            settings.precision,
            settings.average_decay,
            settings.max_skipped,
            identity=identity,
            cache=Path(settings.cache).expanduser() if settings.cache else None,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    trainer = trainers_.Trainer(recipe, data, config, processes)
    resumed = loops.resume(trainer, folder)
    if resumed and not settings.resume:
        raise RunConflict(
            f"{folder} holds a checkpoint at step {trainer.finished} and resume=false was asked for; overwrite=true moves it aside"
        )
    weights = sum(p.numel() for module in recipe.modules().values() for p in module.parameters())
    say(
        f"{'continuing' if resumed else 'training'} {settings.system} ({plan.family}, {weights / 1e6:.2f} M weights) at step {trainer.finished} of "
        f"{settings.steps} on {processes.device}{f' x {processes.count}' if processes.count > 1 else ''}, {settings.precision}; "
        f"{len(data.training.items)} recordings, {data.training.duration_s / 3600:.2f} h; {len(data.held_out.items)} held out; in {folder}"
    )
    git = provenance.git()
    # A checkpoint is given away, its metadata with it.
    told = {
        "family": plan.family,
        "system": settings.system,
        "parameters": json.dumps(without_secrets(plan.parameters), sort_keys=True),
        **({"size": str(plan.parameters["size"])} if "size" in plan.parameters else {}),
        "data": dataset.description,
        "data_digest": data.training.digest,
        "data_licence": dataset.licence,
        "data_synthetic": str(dataset.synthetic).lower(),
        "num_items": str(len(data.training.items)),
        "data_hours": f"{data.training.duration_s / 3600:.4f}",
        "command": command(plan.command),
        "git_commit": f"{git.get('commit', 'unknown')}{' (changed)' if git.get('changed') else ''}",
        "precision": settings.precision,
        "device": str(processes.device),
    }
    metadata = Aliases.here(dataset=dataset.root).cleaned(told)
    if leads:
        _note(
            folder, {**metadata, "started": provenance.now(), "packages": provenance.packages(), "machine": provenance.machine()}, identity
        )
    loop_config = loops.LoopConfig(settings.minutes, settings.log_s, settings.checkpoint_s, settings.tensorboard, metadata)
    if trainer.finished >= settings.steps:
        say(f"nothing left to do: {trainer.finished} steps are done; a larger steps= goes on")
        return "finished"
    try:
        ending = str(loops.train(trainer, folder, loop_config, lambda: signals.raised, say))
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error}; what was saved before still stands") from error
    say(f"{ending} at step {trainer.finished}: {folder / loops.MODEL}")
    return ending


def _note(folder: Path, facts: Mapping[str, Any], identity: Mapping[str, str]) -> None:
    """Adds this start to the folder's notes."""
    starts = _noted(folder)["starts"] if (folder / NOTES).exists() else []
    write_json(folder / NOTES, {"identity": dict(identity), "starts": [*starts, facts]})


def _noted(folder: Path) -> Mapping[str, Any]:
    """The notes of earlier starts.

    Raises:
        UsageError: they cannot be read, or are not what was written.
    """
    try:
        notes = read_json(folder / NOTES)
    except OSError as error:
        raise UsageError(f"{folder / NOTES} cannot be read: {error.strerror or error}") from error
    if not isinstance(notes.get("identity"), dict) or not isinstance(notes.get("starts"), list):
        raise DamagedFile(f"{folder / NOTES} is damaged: it lacks 'identity' or 'starts'; overwrite=true moves the folder's content aside")
    return notes


class _Signals:
    """SIGINT and SIGTERM ask for a checkpoint; a second one ends the process at once."""

    def __init__(self) -> None:
        self.raised, self.name = False, ""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *details: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.raised, self.name = True, signal.Signals(number).name
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def _claimed_together(processes: Any, folder: Path, identity: Mapping[str, str], overwrite: bool) -> Iterator[None]:
    """Process 0 claims the folder for all; where it is refused, it says why and every process ends."""
    with ExitStack() as held:
        refusal = None
        if processes.rank == 0:
            try:
                held.enter_context(_claim(folder, identity, overwrite))
            except Exception as error:  # raised below, once the others know
                refusal = error
        if processes.any(refusal is not None):
            raise refusal or ConfigError("process 0 is refused the folder and says why")
        yield


def _claim(folder: Path, identity: Mapping[str, str], overwrite: bool) -> AbstractContextManager[None]:
    """The folder for this training alone; another training in it is refused or moved aside."""

    def conflict() -> str:
        if not (folder / NOTES).exists():
            return ""
        if overwrite:
            return "an earlier training"
        before = _noted(folder)["identity"]
        different = [f"{k} was {before.get(k)}, is {v}" for k, v in identity.items() if before.get(k) != v]
        return f"another training ({'; '.join(different)})" if different else ""

    return claimed(folder, conflict, overwrite=overwrite, advice="choose another out=DIR, or overwrite=true to move it aside")


def _shown(parameters: Mapping[str, Any]) -> str:
    return " ".join(f"{k}={v}" for k, v in parameters.items()) or "no parameters"
