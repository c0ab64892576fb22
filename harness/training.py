"""``harness train``: from words on the command line to a trained model in a folder. Knows no recipe by import.

A *recipe* (what is trained, and its losses) belongs to a family of systems; the table is ``systems.training.TRAINERS``, and third
parties join by entry points in the group ``harness.trainers``. ``system=NAME`` is a variant as ``harness run`` knows it: those of its
YAML's parameters that training is about are taken over, and any further ``key=value`` is a parameter of the recipe (`harness.recipes`).
What systems are built from and no run can name, a speech encoder say, is trained under its family's own name.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from types import FrameType
from typing import Any

from harness.errors import CheckpointError, ConfigError, HarnessError, Interrupted, MissingDependency, RunConflict, StoreError, UnknownName
from harness.folders import claimed
from harness.recipes import build_recipe, known_parameters
from harness.torchaudio import ensure_torchaudio

NOTES = "training.json"
USE_ONLY = (
    "checkpoint", "vocoder", "weights", "device", "precision", "search_width", "training_seed", "temperature", "top_k", "top_p",
    "repetition_penalty", "max_s", "chunk_ms", "acceleration",
)  # fmt: skip
"""Parameters of a system's YAML that concern its use and say nothing about its training."""


@dataclass(frozen=True)
class Settings:
    """The part of the command line that is not the recipe's; see ``harness train --help``.

    Raises:
        ConfigError: a value of the wrong type or range.
    """

    system: str
    data: str
    valid: str | None = None
    out: str | None = None
    held_out: int = 8
    steps: int = 20_000
    minutes: float | None = None
    resume: bool = True
    overwrite: bool = False
    device: str = "auto"
    precision: str = "float32"
    seed: int = 0
    threads: int | None = None
    average_decay: float = 0.999
    log_s: float = 10.0
    checkpoint_s: float = 180.0
    memory_gib: float = 8.0
    max_skipped: int = 20
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for f in fields(self):
            value, kinds = getattr(self, f.name), str(f.type)
            if value is None and "None" in kinds:
                continue
            kind: tuple[type, ...] = {"str": (str,), "int": (int,), "bool": (bool,), "float": (float, int)}[kinds.removesuffix(" | None")]
            if not isinstance(value, kind) or (isinstance(value, bool) and bool not in kind):
                raise ConfigError(f"{f.name} must be of type {kinds.removesuffix(' | None')}, got {value!r}")
        for name in ("steps", "threads", "minutes", "log_s", "checkpoint_s", "memory_gib", "max_skipped"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} must be positive, got {value}")
        if self.seed < 0 or self.held_out < 0:
            raise ConfigError("seed and held_out must not be negative")
        if not 0.0 <= self.average_decay < 1.0:
            raise ConfigError(f"average_decay must lie in [0, 1), got {self.average_decay}")


@dataclass(frozen=True)
class Plan:
    """What will be trained.

    Args:
        settings: of the run.
        family: of the system.
        recipe_class: callable with ``parameters``.
        parameters: of the recipe.
        command: as typed, for the records.
    """

    settings: Settings
    family: str
    recipe_class: Any
    parameters: Mapping[str, Any]
    command: str


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


def planned(overrides: Sequence[str]) -> Plan:
    """The words, checked; no data is opened yet.

    Raises:
        ConfigError: malformed words, unknown keys, wrong values.
        UnknownName: no such system, or one that cannot be trained.
        MissingDependency: the recipe cannot be imported.
    """
    typed = _parsed(overrides)
    own = {f.name for f in fields(Settings)}
    for name, example in (("system", "system=qdac16"), ("data", "data=train/manifest.csv")):
        if name not in typed:
            raise ConfigError(f"{name}= is missing, e.g. {example}; `harness train --help` shows every key")
    settings = Settings(**{k: v for k, v in typed.items() if k in own})
    variant = _variant(settings.system)
    family = str(variant.pop("family", settings.system))
    recipe_class = _recipe_class(family, settings.system)
    accepted = known_parameters(recipe_class)
    words = {k: v for k, v in typed.items() if k not in own}
    if unknown := sorted(set(words) - set(accepted)):
        import difflib

        close = difflib.get_close_matches(unknown[0], [*own, *accepted], n=3, cutoff=0.6)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise ConfigError(
            f"'{unknown[0]}' is neither a key of `harness train` nor a parameter of the recipe of '{family}' "
            f"(which has: {_listed(accepted)}).{hint}"
        )
    for key in sorted(set(variant) - set(accepted) - set(USE_ONLY)):
        raise ConfigError(
            f"system={settings.system} says {key}: {variant[key]}, which the recipe of '{family}' cannot train (it has: {_listed(accepted)})"
        )
    parameters = {**{k: v for k, v in variant.items() if k in accepted}, **words}
    return Plan(settings, family, recipe_class, parameters, shlex.join(["harness", "train", *overrides]))


def trainers() -> dict[str, str]:
    """Families that can be trained, with "module:attr" of their recipes: built-in ones, then plug-ins under names of their own."""
    from importlib.metadata import entry_points

    found: dict[str, str] = dict(importlib.import_module("systems.training").TRAINERS)
    for entry in entry_points(group="harness.trainers"):
        found.setdefault(entry.name, entry.value)
    return found


def _parsed(overrides: Sequence[str]) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    typed: dict[str, Any] = {}
    for word in overrides:
        key, eq, _ = word.partition("=")
        if not eq or not all(part.isidentifier() for part in key.split(".")):
            raise ConfigError(
                f"'{word}' is not an override: write key=value, e.g. harness train system=qdac16 data=train/manifest.csv steps=5000"
            )
        if key in typed:
            raise ConfigError(f"'{key}' is given twice")
        try:
            # Not resolved: an interpolation could read the environment, and none is needed here.
            loaded: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"value{word[len(key) :]}"]), resolve=False)
            typed[key] = loaded["value"]
        except (OmegaConfBaseException, YAMLError) as error:
            raise ConfigError(f"'{word}' cannot be read: {str(error).splitlines()[0]}") from error
    for key in ("system", "data", "valid", "out"):
        if isinstance(typed.get(key), int | float):  # a folder may be called 2024
            typed[key] = next(w.partition("=")[2] for w in overrides if w.startswith(f"{key}="))
    return typed


def _variant(system: str) -> dict[str, Any]:
    """Parameters of the system's YAML; empty where the name is itself a family."""
    import yaml

    from harness.registry import CONF_DIR, variants

    path = Path(CONF_DIR) / "systems" / f"{system}.yaml"
    if system in variants() and path.exists():
        loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        return loaded
    if system in trainers():
        return {}
    raise UnknownName("system", system, {*variants(), *trainers()}, "`harness list systems` describes them.")


def _recipe_class(family: str, system: str) -> Any:
    known = trainers()
    if family not in known:
        raise UnknownName("family to train", family, known, f"'{system}' is of this family, which has nothing to train or no recipe here.")
    module, _, attr = known[family].partition(":")
    try:
        return getattr(importlib.import_module(module), attr)
    except (ImportError, AttributeError, OSError) as error:
        raise MissingDependency(
            f"the recipe of '{family}' ({known[family]}) cannot be imported: {type(error).__name__}: {error}"
        ) from error


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
    ensure_torchaudio()
    torch.manual_seed(settings.seed)  # the recipe draws its first weights
    try:
        recipe = build_recipe(plan.recipe_class, plan.parameters, settings.seed)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the recipe of '{plan.family}' refuses {_shown(plan.parameters)}: {error}") from error
    identity = {
        "system": settings.system,
        "parameters": json.dumps(plan.parameters, sort_keys=True),
        "seed": str(settings.seed),
        "precision": settings.precision,
        "average_decay": str(settings.average_decay),
        "data": dataset.digest,
        "valid": held_out.digest if held_out else f"{settings.held_out} held out",
    }
    key = hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=4).hexdigest()
    folder = Path(settings.out) if settings.out else Path("runs") / f"train-{settings.system}-{key}"
    leads = processes.rank == 0
    with _claim(folder, identity, settings.overwrite) if leads else nullcontext(), _Signals() as signals:
        processes.wait()
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
    from harness import provenance

    loops, trainers_ = importlib.import_module("systems.training.loop"), importlib.import_module("systems.training.trainer")
    settings, leads = plan.settings, processes.rank == 0

    def say(line: str) -> None:
        if leads:
            print(line, file=sys.stderr, flush=True)

    identity = {**identity, "sound": data.training.digest}
    try:
        config = trainers_.TrainerConfig(
            settings.steps, settings.seed, settings.precision, settings.average_decay, settings.max_skipped, identity=identity
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
    metadata = {
        "family": plan.family,
        "system": settings.system,
        "parameters": json.dumps(plan.parameters, sort_keys=True),
        **({"size": str(plan.parameters["size"])} if "size" in plan.parameters else {}),
        "data": dataset.description,
        "data_digest": data.training.digest,
        "data_licence": dataset.licence,
        "data_synthetic": str(dataset.synthetic).lower(),
        "num_items": str(len(data.training.items)),
        "data_hours": f"{data.training.duration_s / 3600:.4f}",
        "command": plan.command,
        "git_commit": f"{git.get('commit', 'unknown')}{' (changed)' if git.get('changed') else ''}",
        "precision": settings.precision,
        "device": str(processes.device),
    }
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
    from harness.runfolder import write_json

    path = folder / NOTES
    starts = json.loads(path.read_text(encoding="utf-8"))["starts"] if path.exists() else []
    write_json(path, {"identity": dict(identity), "starts": [*starts, facts]})


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


def _claim(folder: Path, identity: Mapping[str, str], overwrite: bool) -> AbstractContextManager[None]:
    """The folder for this training alone; another training in it is refused or moved aside."""

    def conflict() -> str:
        if not (folder / NOTES).exists():
            return ""
        if overwrite:
            return "an earlier training"
        before = json.loads((folder / NOTES).read_text(encoding="utf-8"))["identity"]
        different = [f"{k} was {before.get(k)}, is {v}" for k, v in identity.items() if before.get(k) != v]
        return f"another training ({'; '.join(different)})" if different else ""

    return claimed(folder, conflict, overwrite=overwrite, advice="choose another out=DIR, or overwrite=true to move it aside")


def _listed(accepted: Sequence[str]) -> str:
    return ", ".join(name for name in accepted if "." not in name) or "none"


def _shown(parameters: Mapping[str, Any]) -> str:
    return " ".join(f"{k}={v}" for k, v in parameters.items()) or "no parameters"
