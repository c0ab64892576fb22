"""Parameters of a recipe as words: its constructor's own, and the fields of dataclasses that the constructor takes.

A constructor like ``Recipe(size="small", training: Training | None = None)`` is given ``size=small batch_size=4``: ``batch_size`` is a
field of ``Training``, and the other fields keep the values that a recipe of that size has by itself. ``training.batch_size=4`` says
the same; where two dataclasses share a field's name, the bare name means the first in the constructor's order.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any

from harness.errors import ConfigError


def known_parameters(recipe_class: Any) -> list[str]:
    """Every word that `build_recipe` understands: plain parameters, fields by their bare names, then dotted ones; not the seed, which is the run's."""
    plain, groups = _plain(recipe_class), _groups(recipe_class)
    bare = dict.fromkeys(f.name for kind in groups.values() for f in dataclasses.fields(kind) if f.init and f.name not in plain)
    dotted = [f"{group}.{f.name}" for group, kind in groups.items() for f in dataclasses.fields(kind) if f.init]
    return [name for name in [*plain, *bare, *dotted] if name != "seed"]


def build_recipe(recipe_class: Any, parameters: Mapping[str, Any], seed: int) -> Any:
    """The recipe those words describe.

    Args:
        recipe_class: callable.
        parameters: among `known_parameters`.
        seed: handed on where the constructor wants one.

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
    if not changes:
        return recipe_class(**arguments)
    unchanged = recipe_class(**arguments)  # its own choices depend on the plain parameters, and only it knows how
    for group, values in changes.items():
        kind = groups[group]
        before = next((v for v in vars(unchanged).values() if type(v) is kind), None)
        before = kind() if before is None else before
        arguments[group] = dataclasses.replace(before, **{k: _fitting(f"{group}.{k}", getattr(before, k), v) for k, v in values.items()})
    del unchanged
    return recipe_class(**arguments)


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
