"""Several judging models in one run: ``mos=[distillmos,dnsmos]``, ``speaker=[...]``, ``asr=[...]``.

The first is the section as it is with one, so its figures have the same names and keys; each of the others stands by its name below
``also``, and what asks for a model of that kind is measured by every one: ``mos`` and ``mos@dnsmos``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import ConfigError
from harness.settings.schema import JUDGES

_EXAMPLES = {
    "systems": "passthrough,opus16",
    "asr": "embedded,whisper-en",
    "speaker": "campplus,resemblyzer",
    "mos": "distillmos,dnsmos",
} | {
    "features": "whisper,wavlm_large",
    "emotion": "emotion2vec,other",
}


def split_judges(words: Sequence[str], given: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Overrides in which lists of judging models are taken apart, the first for the section itself, the others for ``also``.

    Args:
        words: ``key=value`` each; settings of one of several are ``mos.utmos.checkpoint=FILE``.
        given: values by such keys.

    Raises:
        ConfigError: a list without a name or with one twice, or a setting that does not say of which of several it is.
    """
    chosen = {kind: _names(kind, words) for kind in JUDGES}
    split: list[str] = []
    for word in words:
        key, eq, value = word.partition("=")
        if key not in JUDGES or not eq:
            split.append(_own(key, chosen) + eq + value)
    for kind, names in chosen.items():
        split += [f"{kind}={name}" if not place else f"+{kind}@also.{kind}.{name}={name}" for place, name in enumerate(names)]
    return split, {_own(key, chosen): value for key, value in given.items()}


def _names(kind: str, words: Sequence[str]) -> list[str]:
    """Those of the last word that names some; none where no word does."""
    value = next((word.partition("=")[2] for word in reversed(words) if word.startswith(f"{kind}=")), None)
    if value is None:
        return []
    names = listed(kind, value)
    if not names:
        raise ConfigError(f"{kind}={value}: a list without a name; write {kind}=[{_EXAMPLES[kind]}], or leave it out")
    return names


def _own(key: str, chosen: Mapping[str, Sequence[str]]) -> str:
    """Where a setting of one of several lies."""
    signs = key[: len(key) - len(key.lstrip("+~"))]
    kind, _, rest = key.lstrip("+~").partition(".")
    names = chosen.get(kind, ())
    name, _, setting = rest.partition(".")
    if not rest or (len(names) < 2 and not (name in names and setting)):
        return key
    if name not in names:
        raise ConfigError(f"'{key}': of which of {', '.join(names)}? Write {kind}.NAME.{rest}=VALUE, e.g. {kind}.{names[0]}.{rest}=VALUE")
    return f"{signs}{kind}.{setting}" if name == names[0] else f"{signs}also.{kind}.{name}.{setting}"


def listed(key: str, value: str) -> list[str]:
    """The names in ``[a,b]`` or ``a``, in order.

    Raises:
        ConfigError: not a list of names, or a name twice.
    """
    inner = value.strip()
    if inner.startswith("[") and inner.endswith("]"):
        inner = inner[1:-1]
    names = [n.strip().strip("'\"") for n in inner.split(",") if n.strip()]
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            raise ConfigError(f"{key}={value}: '{name}' is not a name; write {key}=[{_EXAMPLES[key]}]")
    if len(set(names)) != len(names):
        raise ConfigError(f"{key}={value}: {'a system' if key == 'systems' else 'one'} is named twice")
    return names
