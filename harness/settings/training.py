"""What a ``harness train`` command line asks for. Knows no recipe by import.

A *recipe* (what is trained, and its losses) belongs to a family of systems; the table is ``systems.training.TRAINERS``, and third
parties join by entry points in the group ``harness.trainers``. ``system=NAME`` is a variant as ``harness run`` knows it: those of its
YAML's parameters that training is about are taken over, and any further ``key=value`` is a parameter of the recipe.
What systems are built from and no run can name, a speech encoder say, is trained under its family's own name.

The parameters of a recipe are its constructor's own and the fields of dataclasses that the constructor takes: one like
``Recipe(size="small", training: Training | None = None)`` is given ``size=small batch_size=4``, where ``batch_size`` is a
field of ``Training``, and the other fields keep the values that a recipe of that size has by itself. ``training.batch_size=4`` says
the same; where two dataclasses share a field's name, the bare name means the first in the constructor's order.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import shlex
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from harness.data.documents import check_yaml
from harness.errors import ConfigError, MissingDependency, UnknownName
from harness.settings.schema import unquoted

TEXT = ("system", "data", "valid", "out", "cache", "device", "precision", "start", "transfer")
"""Words and paths, taken as typed: a folder may be called 2024, or [a."""


@dataclass(frozen=True)
class TrainingSettings:
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
    cache: str | None = None
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
    """What will be trained."""

    settings: TrainingSettings  # of the run
    family: str  # of the system
    recipe_class: Any  # callable with ``parameters``
    parameters: Mapping[str, Any]  # of the recipe
    command: str  # as typed, for the records


def planned(overrides: Sequence[str]) -> Plan:
    """The words, checked; no data is opened yet.

    Raises:
        ConfigError: malformed words, unknown keys, wrong values.
        UnknownName: no such system, or one that cannot be trained.
        MissingDependency: the recipe cannot be imported.
    """
    typed = _parsed(overrides)
    own = {f.name for f in fields(TrainingSettings)}
    for name, example in (("system", "system=qdac16"), ("data", "data=train/manifest.csv")):
        if name not in typed:
            raise ConfigError(f"{name}= is missing, e.g. {example}; `harness train --help` shows every key")
    section = _section(str(typed["system"]))
    family = str(section.get("family", typed["system"]))
    recipe_class = _recipe_class(family, str(typed["system"]))
    variant = getattr(recipe_class, "words", _words)(section)
    settings = TrainingSettings(**{k: v for k, v in {**variant, **typed}.items() if k in own})
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
    for key in sorted(set(variant) - set(accepted) - own):
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
        if key in TEXT:
            typed[key] = None if (text := word[len(key) + 1 :]) == "null" else unquoted(text)
            continue
        try:
            check_yaml(word[len(key) + 1 :], f"'{key}'")
            # Not resolved: an interpolation could read the environment, and none is needed here.
            loaded: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"value{word[len(key) :]}"]), resolve=False)
            typed[key] = loaded["value"]
        except (OmegaConfBaseException, YAMLError) as error:
            raise ConfigError(f"'{word}' cannot be read: {str(error).splitlines()[0]}") from error
    return typed


def _section(system: str) -> dict[str, Any]:
    """What the system's YAML says; nothing where the name is itself a family."""
    from harness.settings.registry import config_names, variants
    from harness.settings.systems import system_section

    if system in config_names("systems"):
        return system_section(system)
    if system in trainers():
        return {}
    raise UnknownName("system", system, {*variants(), *trainers()}, "`harness list systems` describes them.")


def _words(section: Mapping[str, Any]) -> dict[str, Any]:
    """What a system's YAML says of its training: its ``shape`` and ``training``."""
    return {**(section.get("shape") or {}), **(section.get("training") or {})}


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


def _listed(accepted: Sequence[str]) -> str:
    return ", ".join(name for name in accepted if "." not in name) or "none"


def known_parameters(recipe_class: Any) -> list[str]:
    """Every word that `build_recipe` understands: plain parameters, fields by their bare names, then dotted ones; not the seed, which is the run's."""
    plain, groups = _plain(recipe_class), _groups(recipe_class)
    bare = dict.fromkeys(f.name for kind in groups.values() for f in dataclasses.fields(kind) if f.init and f.name not in plain)
    dotted = [f"{group}.{f.name}" for group, kind in groups.items() for f in dataclasses.fields(kind) if f.init]
    return [name for name in [*plain, *bare, *dotted] if name != "seed"]


def build_recipe(recipe_class: Any, parameters: Mapping[str, Any], seed: int) -> Any:
    """The recipe that words among `known_parameters` describe; the seed is handed on where its constructor wants one.

    Raises:
        ConfigError: a field's value is of the wrong type.
    """
    plain, groups = _plain(recipe_class), _groups(recipe_class)
    arguments = {name: value for name, value in parameters.items() if name in plain}
    if "seed" in plain:
        arguments["seed"] = seed
    changes: dict[str, dict[str, Any]] = {}
    for name, value in parameters.items():
        if name not in plain:
            group, _, field = name.rpartition(".")
            group = group or next(g for g, kind in groups.items() if field in {f.name for f in dataclasses.fields(kind)})
            changes.setdefault(group, {})[field] = value
    for name, parameter in inspect.signature(recipe_class).parameters.items():  # groups that are the same whatever the plain ones are
        if name in changes and isinstance(parameter.default, groups[name]):
            arguments[name] = _changed(name, parameter.default, changes.pop(name))
    if not changes:
        return recipe_class(**arguments)
    unchanged = recipe_class(**arguments)  # its own choices depend on the plain parameters, and only it knows how
    for group, values in changes.items():
        kind = groups[group]
        before = next((v for v in vars(unchanged).values() if type(v) is kind), None)
        arguments[group] = _changed(group, kind() if before is None else before, values)
    del unchanged
    return recipe_class(**arguments)


def _changed(group: str, before: Any, values: Mapping[str, Any]) -> Any:
    return dataclasses.replace(before, **{k: _fitting(f"{group}.{k}", getattr(before, k), v) for k, v in values.items()})


def _plain(recipe_class: Any) -> list[str]:
    groups = _groups(recipe_class)
    wanted = inspect.signature(recipe_class).parameters.values()
    return [p.name for p in wanted if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in groups]


def _groups(recipe_class: Any) -> dict[str, Any]:
    """Parameters whose type is a dataclass, or a dataclass or None."""
    hints = typing.get_type_hints(recipe_class.__init__ if inspect.isclass(recipe_class) else recipe_class)
    found = {}
    for name, hint in hints.items():
        kinds = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
        for kind in kinds:
            if dataclasses.is_dataclass(kind) and name != "return":
                found[name] = kind
    return found


def _fitting(name: str, before: Any, value: Any) -> Any:
    """The value, where it is of the same kind as the one it replaces."""
    if isinstance(before, tuple) and isinstance(value, list):
        return tuple(value)
    if isinstance(before, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if before is not None and type(value) is not type(before):
        raise ConfigError(f"{name} must be of type {type(before).__name__} (now {before!r}), got {value!r}")
    return value
