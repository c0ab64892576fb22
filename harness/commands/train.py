"""train a system of our own

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
                    Language models: codec=NAME|FILE (whose codes), delays=[0,1] (one model of several delays), transfer=FILE (begin with
                    text and transformer of one over another codec); they and qtts_decoder: start=FILE (go on from a trained one)

The same command again continues where it stopped. Several processes: torchrun --nproc_per_node=2 -m harness.cli train ... (needs the
[train] extra). Exit codes: 0 done or out of time, 1 diverged, 2 cannot be carried out, 130 stopped by a signal (resumable).
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.commands import take_words
from harness.data.manifests import Dataset, DatasetConfig, load_dataset
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
from harness.running import provenance
from harness.settings.training import Plan, build_recipe, planned
from harness.storing.aliases import Aliases, command, without_secrets
from harness.storing.files import claimed, read_json, write_json
from harness.torchaudio import ensure_torchaudio
from harness.workers.jobs import Stop

NOTES = "training.json"


def declare(parser: ArgumentParser) -> None:
    take_words(parser, "key=value")


def main(options: Namespace) -> int:
    return train(options.words)


def train(words: Sequence[str]) -> int:
    """0 once it is done or out of time.

    Raises:
        UsageError: the request cannot be carried out.
        HarnessError: the training diverged, or the disk is full.
        Interrupted: SIGINT or SIGTERM; a checkpoint was written.
    """
    plan = planned(words)
    faults = importlib.import_module("systems.training.recipe")
    stop = Stop()
    try:
        training = _begun(plan)
        with _claimed_together(training), stop.install():
            ending = _train(training, training.sound(), stop)
        training.processes.close()
    except faults.StateMismatch as error:
        raise CheckpointError(f"{error}. overwrite=true moves the old training aside; out=DIR chooses another folder.") from error
    except faults.BadRecordings as error:
        raise ConfigError(f"data={plan.settings.data}: {error}") from error
    except faults.TrainingFault as error:
        raise HarnessError(str(error)) from error
    if ending == "interrupted":
        raise Interrupted(f"stopped by {stop.signal}; the checkpoint is in {training.folder}, the same command continues")
    return 0


@dataclass(frozen=True)
class _Training:
    """What a training begins with."""

    plan: Plan  # what was asked for
    dataset: Dataset  # to learn from
    held_out: Dataset | None  # recordings of its own to look at
    recipe: Any  # what is trained, and its losses
    processes: Any  # that train together
    identity: Mapping[str, str]  # what it is known by

    @property
    def folder(self) -> Path:
        """Where everything goes."""
        key = hashlib.blake2b(json.dumps(self.identity, sort_keys=True).encode(), digest_size=4).hexdigest()
        settings = self.plan.settings
        return Path(settings.out) if settings.out else Path("runs") / f"train-{settings.system}-{key}"

    def sound(self) -> Any:
        """The recordings, read."""
        corpora, settings = importlib.import_module("systems.training.data"), self.plan.settings

        def corpus(dataset: Dataset) -> Any:
            return corpora.load_corpus(dataset.items, self.recipe.sample_rate, settings.memory_gib, settings.threads or os.cpu_count() or 1)

        first = corpus(self.dataset)
        return corpora.split(first, settings.held_out) if self.held_out is None else corpora.Split(first, corpus(self.held_out))

    def say(self, line: str) -> None:
        """Prints, once of all processes."""
        if self.processes.rank == 0:
            print(line, file=sys.stderr, flush=True)


def _begun(plan: Plan) -> _Training:
    import torch

    settings = plan.settings
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
        given = " ".join(f"{k}={v}" for k, v in plan.parameters.items()) or "no parameters"
        raise ConfigError(f"the recipe of '{plan.family}' refuses {given}: {error}") from error
    identity = {
        "system": settings.system,
        "parameters": json.dumps(plan.parameters, sort_keys=True),
        "seed": str(settings.seed),
        "precision": settings.precision,
        "average_decay": str(settings.average_decay),
        "data": dataset.rows_digest,
        "valid": held_out.rows_digest if held_out else f"{settings.held_out} held out",
    }
    return _Training(plan, dataset, held_out, recipe, processes, identity)


def _train(training: _Training, data: Any, stop: Stop) -> str:
    loops, trainers_ = importlib.import_module("systems.training.loop"), importlib.import_module("systems.training.trainer")
    settings, recipe, processes, folder = training.plan.settings, training.recipe, training.processes, training.folder
    identity = {**training.identity, "sound": data.training.digest}
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
    training.say(
        f"{'continuing' if resumed else 'training'} {settings.system} ({training.plan.family}, {weights / 1e6:.2f} M weights) at step "
        f"{trainer.finished} of {settings.steps} on {processes.device}{f' x {processes.count}' if processes.count > 1 else ''}, "
        f"{settings.precision}; {len(data.training.items)} recordings, {data.training.duration_s / 3600:.2f} h; "
        f"{len(data.held_out.items)} held out; in {folder}"
    )
    metadata = _metadata(training, data)
    if processes.rank == 0:
        started = {"started": provenance.now(), "packages": provenance.packages(), "machine": provenance.machine()}
        starts = _noted(folder)["starts"] if (folder / NOTES).exists() else []
        write_json(folder / NOTES, {"identity": identity, "starts": [*starts, {**metadata, **started}]})
    loop_config = loops.LoopConfig(settings.minutes, settings.log_s, settings.checkpoint_s, settings.tensorboard, metadata)
    if trainer.finished >= settings.steps:
        training.say(f"nothing left to do: {trainer.finished} steps are done; a larger steps= goes on")
        return "finished"
    try:
        ending = str(loops.train(trainer, folder, loop_config, lambda: stop.requested, training.say))
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error}; what was saved before still stands") from error
    training.say(f"{ending} at step {trainer.finished}: {folder / loops.MODEL}")
    return ending


def _metadata(training: _Training, data: Any) -> Mapping[str, str]:
    """What a checkpoint says of its training: it is given away, so nothing of this machine."""
    plan, dataset, git = training.plan, training.dataset, provenance.git()
    told = {
        "family": plan.family,
        "system": plan.settings.system,
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
        "precision": plan.settings.precision,
        "device": str(training.processes.device),
    }
    cleaned: Mapping[str, str] = Aliases.here(dataset=dataset.root).cleaned(told)
    return cleaned


def _noted(folder: Path) -> Mapping[str, Any]:
    """The notes of earlier starts. Raises UsageError: they cannot be read, or are not what was written."""
    try:
        notes = read_json(folder / NOTES)
    except OSError as error:
        raise UsageError(f"{folder / NOTES} cannot be read: {error.strerror or error}") from error
    if not isinstance(notes.get("identity"), dict) or not isinstance(notes.get("starts"), list):
        raise DamagedFile(f"{folder / NOTES} is damaged: it lacks 'identity' or 'starts'; overwrite=true moves the folder's content aside")
    return notes


@contextmanager
def _claimed_together(training: _Training) -> Iterator[None]:
    """Process 0 claims the folder for all; where it is refused, it says why and every process ends."""
    with ExitStack() as held:
        refusal = None
        if training.processes.rank == 0:
            try:
                held.enter_context(_claim(training.folder, training.identity, training.plan.settings.overwrite))
            except Exception as error:  # raised below, once the others know
                refusal = error
        if training.processes.any(refusal is not None):
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
