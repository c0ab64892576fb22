"""What every setting of ``harness run`` may be: which are text as typed, which are lists of names, and one check of all of them.

Text (a path, a name) is never parsed, so that a folder called ``2026_11_30``, ``true`` or ``[a,b`` is that folder. Two things alone are
done to it: quotes around the whole are taken off, and ``~`` at the beginning of a path is the home folder. ``null`` means "not given".
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.documents import load_yaml
from harness.errors import ConfigError
from harness.storing.aliases import without_secrets

TEXT = frozenset((
    "run.root", "run.name", "run.shard", "run.publish", "executor.address",
    "dataset.name", "dataset.kind", "dataset.root", "dataset.manifest", "dataset.language", "dataset.split",
))  # fmt: skip
NAMES = frozenset(("metrics", "dataset.items"))
PATHS = frozenset((
    "root", "manifest", "tree", "checkpoint", "checkout", "python", "worker", "model", "tokenizer", "codec", "decoder", "vocoder", "ssl",
    "vocab", "ar", "nar",
))  # fmt: skip
"""Parameters of systems and judging models that are a file, a folder or a published name; so is what ends in ``_checkpoint``."""
WORDS = frozenset(("family", "pattern", "description", "revision", "voice", "device"))
"""Others that are words."""
JUDGES = ("asr", "speaker", "mos", "features", "emotion")
"""Sections that choose a judging model, or several: the first is the section itself, the others stand by name below ``also``."""
GIVEN_FREELY = ("systems", *JUDGES, "also")
"""Sections whose parameters their constructors know."""
MAX_SEED = 2**32 - 1
MAX_NAME_BYTES = 200


def is_text(key: str) -> bool:
    """Whether the setting ``a.b.c`` is text as typed."""
    section, _, rest = key.partition(".")
    if section not in GIVEN_FREELY or not rest:
        return key in TEXT
    return is_path(key) or key.rpartition(".")[2] in WORDS or ".environment." in key


def is_path(key: str) -> bool:
    """Whether ``~`` at its beginning is the home folder."""
    last = key.rpartition(".")[2]
    if key.partition(".")[0] in GIVEN_FREELY:
        return last in PATHS or last.endswith("_checkpoint")
    return key in ("run.root", "dataset.root", "dataset.manifest")


def text_of(key: str, typed: str) -> str | None:
    """The value of a text setting as it was typed; None for ``null``.

    Raises:
        ConfigError: as `place_of`.
    """
    if typed == "null":
        return None
    return place_of(key, unquoted(typed))


def place_of(key: str, text: str) -> str:
    """The value of a text setting, with the home folder in the place of ``~`` at the beginning of a path.

    Raises:
        ConfigError: it is the home folder of somebody who is not known here.
    """
    if not is_path(key):
        return text
    path = os.path.expanduser(text)  # noqa: PTH111  (a Path would change the text)
    if path.startswith("~"):
        raise ConfigError(f"{key}={text}: there is no user '{path[1:].partition('/')[0]}' here; a folder that is called so is ./{path}")
    return path


def unquoted(text: str) -> str:
    """Without quotes around the whole of it."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" and text[0] not in text[1:-1]:
        return text[1:-1]
    return text


def names_of(key: str, typed: str) -> list[str] | None:
    """The names in ``[a,b]`` or ``a,b`` or ``a``, as typed; one that holds a comma stands in quotes. None for ``null``.

    Raises:
        ConfigError: a bracket is not closed, a name is empty, or there is none.
    """
    inner = typed.strip()
    if inner == "null":
        return None
    if inner.startswith("[") != inner.endswith("]"):
        raise ConfigError(f"{key}={typed}: a bracket is missing; write {key}=[a,b]")
    inner = inner[1:-1].strip() if inner.startswith("[") else inner
    names, quote = [""] if inner else [], ""
    for character in inner:
        if character == "," and not quote:
            names.append("")
            continue
        if character in "'\"" and not quote and not names[-1].strip():
            quote = character
        elif character == quote:
            quote = ""
        names[-1] += character
    found = [unquoted(name.strip()) for name in names]
    if not found:
        raise ConfigError(f"{key}={typed}: a list of names without a name; write {key}=[a,b], or leave it out")
    if not all(found):
        raise ConfigError(f"{key}={typed}: a name is empty; write {key}=[a,b]")
    return found


def split_words(words: Sequence[str], keys: Mapping[str, type], usage: str) -> tuple[list[Path], dict[str, Any]]:
    """Folders and settings of the command line of a verb that judges runs; ``usage`` is for messages.

    Args:
        keys: the settings there are with what each holds; of a dict ``key.NAME=VALUE``.

    Raises:
        ConfigError: an unknown key, one given twice, or a value of another type.
    """
    folders: list[Path] = []
    settings: dict[str, Any] = {}
    for word in words:
        key, eq, text = word.partition("=")
        first, _, rest = key.partition(".")
        if not eq or not first.isidentifier() or os.path.exists(word):  # noqa: PTH110  (a word may be too long for a name)
            folders.append(Path(word))
            continue
        if first not in keys or (keys[first] is dict) != bool(rest):
            known = [f"{k}.METRIC" if kind is dict else k for k, kind in keys.items()]
            raise ConfigError(f"no setting '{key}'; {usage} has {', '.join(known)}")
        kind = keys[first]
        # A folder may be called 2024: what is a word stays as typed.
        value = text if kind is str else names_of(key, text) if kind is list else load_yaml(text, f"'{word}'")
        if kind is dict:
            settings.setdefault(first, {})[rest] = value
            continue
        if key in settings:
            raise ConfigError(f"'{key}' is given twice")
        settings[key] = _of_kind(word, value, kind)
    return folders, settings


def _of_kind(word: str, value: Any, kind: type) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is list and isinstance(value, str):
        return [value]
    wrong = not isinstance(value, kind) or (kind is int and isinstance(value, bool)) or value == ""
    if wrong or (kind is list and not all(isinstance(v, str) for v in value)):
        raise ConfigError(f"'{word}': {_WANTED[kind]} is wanted")
    return value


_WANTED = {list: "a list, e.g. [a,b]", str: "a word", float: "a number", int: "a whole number", bool: "true or false"}


@dataclass(frozen=True)
class _Kind:
    """What a setting may be."""

    accepted: str  # in words
    holds: Callable[[Any], bool]  # whether a value is so
    optional: bool = False  # null is as well


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _different(value: Any, holds: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(holds, value)) and len(set(value)) == len(value)


def _word(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


_TRUTH = _Kind("true or false", lambda v: isinstance(v, bool))
_COUNT = _Kind("a whole number from 1 on, or null", lambda v: _whole(v, 1), optional=True)
_ABOVE_0 = _Kind("a number above 0", lambda v: _number(v) and v > 0)
_MAYBE_WORD = _Kind("text, or null", _word, optional=True)

KINDS: Mapping[str, _Kind] = {
    "metrics": _Kind(
        "a list of different names, e.g. [pesq_wb,stoi], full for all that the suite can measure (also [full,visqol_speech]), or null for its usual ones",
        lambda v: _different(v, _word) and bool(v),
        optional=True,
    ),
    "seeds": _Kind(
        "a list of different whole numbers from 0 on, e.g. [0,1,2]",
        lambda v: _different(v, lambda s: _whole(s, 0) and s <= MAX_SEED) and bool(v),
    ),
    "allow_random": _TRUTH,
    "run.root": _Kind("a folder", _word),
    "run.name": _MAYBE_WORD,
    "run.overwrite": _TRUTH,
    "run.keep_failed": _TRUTH,
    "run.max_failures": _Kind("a whole number from 0 on", lambda v: _whole(v, 0)),
    "run.shard": _Kind("I/N, e.g. 3/16, or null", lambda v: isinstance(v, str), optional=True),
    "run.publish": _MAYBE_WORD,
    "run.allow_missing": _TRUTH,
    "run.fetch": _TRUTH,
    "report.audio_limit_mb": _Kind("a number from 0 on", lambda v: _number(v) and v >= 0),
    "dataset.name": _Kind("a word", _word),
    "dataset.kind": _Kind("a word", _word),
    "dataset.root": _Kind("a folder or file, or null", _word, optional=True),
    "dataset.manifest": _Kind("a file, or null", _word, optional=True),
    "dataset.language": _Kind("text", lambda v: isinstance(v, str), optional=True),
    "dataset.split": _Kind("text, or null", lambda v: isinstance(v, str), optional=True),
    "dataset.limit": _COUNT,
    "dataset.channel": _COUNT,
    "dataset.items": _Kind(
        "a list of different ids, e.g. [a,b]", lambda v: _different(v, lambda i: isinstance(i, str | int)), optional=True
    ),
    "executor.kind": _Kind("local, serial or ray", lambda v: v in ("local", "serial", "ray")),
    "executor.workers": _COUNT,
    "executor.predict_workers": _COUNT,
    "executor.threads": _COUNT,
    "executor.timeout_s": _ABOVE_0,
    "executor.memory_gib": _Kind("a number above 0, or null", _ABOVE_0.holds, optional=True),
    "executor.address": _MAYBE_WORD,
}
"""The settings that mean something to the harness itself; those of a suite, a system or a judging model, their constructors check."""


OPTIONAL = frozenset(("executor.memory_gib", "executor.address"))
"""Settings that not every configuration has."""


def complete(config: Mapping[str, Any]) -> None:
    """Refuses a configuration from which a setting was taken away, or to whose own sections one was added that nobody would read.

    Raises:
        ConfigError: names the setting.
    """
    for section in ("run", "report", "executor"):
        there = config.get(section)
        known = [key.partition(".")[2] for key in KINDS if key.startswith(f"{section}.")]
        if isinstance(there, Mapping) and (unknown := [str(name) for name in there if name not in known]):
            raise ConfigError(f"{section} has no setting '{unknown[0]}'; there are: {', '.join(known)}")
    for key in KINDS:
        section, _, name = key.rpartition(".")
        there = config.get(section) if section else config
        if section != "dataset" and key not in OPTIONAL and (not isinstance(there, Mapping) or name not in there):
            raise ConfigError(f"the setting {key} is not there; `harness run --show-config` prints those there are")


def check(config: Mapping[str, Any]) -> None:
    """Refuses what no run could be made with, before anything is done; a setting that is absent is not asked for.

    Raises:
        ConfigError: names the setting, its value and what is accepted.
    """
    for section in ("run", "report", "dataset", "executor", "suite", *GIVEN_FREELY):
        if section in config and not isinstance(config[section], Mapping):
            raise ConfigError(
                f"{section}={config[section]!r}: settings are wanted, e.g. {section}.KEY=VALUE; `harness run --show-config` prints them"
            )
    for key, kind in KINDS.items():
        section, _, name = key.rpartition(".")
        settings = config.get(section, {}) if section else config
        if name in settings and not (kind.holds(settings[name]) or (kind.optional and settings[name] is None)):
            raise ConfigError(f"{key}={shown(settings[name])}: {kind.accepted} is wanted")
    for label, section in (config.get("systems") or {}).items():
        if not isinstance(section, Mapping) or "family" not in section:
            raise ConfigError(
                f"systems.{label}: {without_secrets(section)} has no 'family'; a parameter given to a system that is not in systems=[...]?"
            )
    if fault := name_fault((config.get("run") or {}).get("name")):
        raise ConfigError(fault)


def shown(value: Any) -> str:
    """As it could be typed: ``true`` and ``null``, not Python's words."""
    if isinstance(value, list):
        return f"[{','.join(map(shown, value))}]"
    return {True: "true", False: "false", None: "null"}[value] if value is None or isinstance(value, bool) else str(value)


def name_fault(name: str | None) -> str:
    """Why a run cannot be called so; "" where it can."""
    if name is None:
        return ""
    reasons: Sequence[tuple[bool, str]] = (
        ("/" in name or "\\" in name, "it has a slash: run.root=FOLDER says where the folder of the run lies"),
        (name in (".", ".."), "it is a folder that exists already"),
        (name.startswith(("-", ".")), f"it begins with '{name[:1]}'"),
        (name != name.strip(), "it begins or ends with white space"),
        (not name.isprintable(), "it has control characters"),
        (len(name.encode("utf-8", "surrogateescape")) > MAX_NAME_BYTES, f"it is longer than {MAX_NAME_BYTES} bytes"),
        (name == "store", "the store of predictions and scores is called so"),
        (re.search(r"\.\d+of\d+$", name) is not None, "folders of shards are called so; run.shard=I/N makes one"),
    )
    found = next((reason for fails, reason in reasons if fails), "")
    return f"run.name={name!r} cannot name a folder of results: {found}" if found else ""
