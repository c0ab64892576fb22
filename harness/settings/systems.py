"""What is chosen by name: systems, one entry that stands for a folder of several, and several judging models in one run.

A system's YAML says its family and parameters. ``defaults: [NAME]`` begins with what another file says, so that a variant says only what
differs:

```yaml
# QDAC's first 8 of 16 codebooks at 50 Hz, 4.4 kbps
defaults: [qdac16]
num_codebooks: 8
```

``training`` are parameters of the recipe that trains the system (`harness train system=NAME`); a run does not see them.
"""

from __future__ import annotations

import importlib
import re
import shutil
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.data.documents import YAML_BYTES, read_text
from harness.errors import ConfigError, UnknownName
from harness.hub import cached
from harness.settings.registry import NEEDS, config_files, entries
from harness.settings.schema import JUDGES

_WEIGHTS = ("checkpoint", "codec", "decoder", "vocoder", "ssl")
_SETTINGS = ("python", "root")


def system_section(name: str, extra_dir: Path | None = None) -> dict[str, Any]:
    """Family and parameters of a system, ``training`` among them; of a plug-in family without YAML the family alone.

    Raises:
        UnknownName: there is no such system.
        ConfigError: a file that is no YAML or says no family, or ``defaults`` that name no system or come back to themselves.
    """
    files = config_files("systems", extra_dir)
    entry = entries("systems").get(name)
    if name not in files and entry is not None and entry.origin:
        return {"family": name}
    from omegaconf import OmegaConf

    found = OmegaConf.to_container(_merged(name, files, ()), resolve=False)
    assert isinstance(found, dict)
    if not found.get("family"):
        raise ConfigError(f"{files[name]} says nothing of a system: family: NAME is wanted, or defaults: [NAME of another system]")
    return {str(key): value for key, value in found.items()}


def _merged(name: str, files: Mapping[str, Path], asking: tuple[str, ...]) -> Any:
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if name in asking:
        raise ConfigError(f"the defaults of system '{asking[0]}' come back to '{name}': {' -> '.join((*asking, name))}")
    if name not in files:
        if not asking:
            raise UnknownName("system", name, files)
        raise ConfigError(f"{files[asking[-1]]}: its defaults name '{name}', and no system is called so; `harness list systems`")
    try:
        own = OmegaConf.load(files[name])
    except (YAMLError, OmegaConfBaseException, OSError, ValueError) as problem:
        raise ConfigError(f"{files[name]}: {' '.join(str(problem).split())}") from problem
    if not isinstance(own, DictConfig):
        raise ConfigError(f"{files[name]} says nothing of a system: family: NAME and its parameters are wanted")
    bases = own.pop("defaults", None) or []
    return OmegaConf.merge(*(_merged(str(base), files, (*asking, name)) for base in bases), own)


def standing(name: str, extra_dir: Path | None = None) -> tuple[str, str]:
    """How a system stands here as far as files tell; a list of systems asks this, and imports none of them nor a reader of YAML.

    Returns:
        "ready", "needs package", "needs program", "needs weights" or "needs setting"; and which, or what gets them, "" when ready.
    """
    said = _words(name, config_files("systems", extra_dir), ())
    kind, need = NEEDS.get(said.get("family", ""), ("", ""))
    if need and (find_spec(need) if kind == "package" else shutil.which(need)) is None:
        return f"needs {kind}", need
    files = {key: value for key, value in said.items() if key.rpartition(".")[2] in _WEIGHTS and "checkpoint" in said}
    if given := [f"{key}=" for key, value in files.items() if value == "null"]:
        return "needs weights", ", ".join(given)
    for value in files.values():
        if "/" in value and not any(cached(value)) and not Path(value).exists():
            return "needs weights", f"harness fetch {name}"
        if "/" not in value and value not in importlib.import_module("systems.bundled").bundled():
            return "needs weights", f"harness train system={value} data=MANIFEST"
    wanted = [f"{key}=" for key in _SETTINGS if said.get(key) == "null"]
    return ("needs setting", ", ".join(wanted)) if wanted else ("ready", "")


def _words(name: str, files: Mapping[str, Path], asking: tuple[str, ...]) -> dict[str, str]:
    """The plain words a YAML says at its top level, and one level below in braces ("codec.vocoder"), its defaults' before its own."""
    found: dict[str, str] = {}
    if name in asking or name not in files:
        return found
    try:
        lines = read_text(files[name], YAML_BYTES).splitlines()
    except (OSError, ValueError):
        return found
    for line in lines:
        if match := re.match(r"(\w+):\s*(\{?)([^#]*)", line):
            key, brace, rest = match[1], match[2], match[3].strip()
            if key == "defaults":
                for base in re.findall(r"[\w.-]+", rest):
                    found |= _words(base, files, (*asking, name))
                continue
            found = {k: v for k, v in found.items() if brace or not k.startswith(f"{key}.")}
            pairs = [(f"{key}.{inner}", value) for inner, value in re.findall(r"(\w+): *([^\s,{}]+)", rest)] if brace else [(key, rest)]
            found |= {k: v.strip("'\"") for k, v in pairs}
    return found


_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def expanded(systems: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The systems, one with a ``tree`` (a folder of folders, each with somebody's outputs) replaced by one for each folder in it.

    Each stands under the folder's name and has it as ``root``.

    Raises:
        ConfigError: the tree is no folder or holds none, a name cannot be a label or is taken, or both tree and root are given.
    """
    found: dict[str, dict[str, Any]] = {}
    for label, section in systems.items():
        parameters = dict(section)
        tree = parameters.pop("tree", None)
        if tree is None:
            _add(found, label, parameters)
            continue
        where = f"systems.{label}.tree={tree}"
        if parameters.get("root"):
            raise ConfigError(f"{where} and systems.{label}.root exclude each other: root is the folder of one system, tree holds several")
        for folder in _folders(Path(str(tree)).expanduser(), where):
            _add(found, folder.name, {**parameters, "root": str(folder)})
    return found


def _folders(tree: Path, where: str) -> list[Path]:
    if not tree.is_dir():
        raise ConfigError(f"{where}: there is no such folder")
    folders = sorted(path for path in tree.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise ConfigError(f"{where} holds no folders; it wants one for each system, with its outputs inside")
    if odd := [path.name for path in folders if not _NAME.fullmatch(path.name)]:
        raise ConfigError(f"{where}: the folder {odd[0]!r} cannot name a system; use letters, digits, '_', '.' and '-'")
    return folders


def _add(found: dict[str, dict[str, Any]], label: str, parameters: dict[str, Any]) -> None:
    if label in found:
        raise ConfigError(f"two systems are called '{label}'; rename the folder")
    found[label] = parameters


_EXAMPLES = {
    "systems": "passthrough,opus16",
    "asr": "embedded,whisper-en",
    "speaker": "campplus,resemblyzer",
    "mos": "distillmos,dnsmos",
    "features": "whisper,wavlm_large",
    "emotion": "emotion2vec,other",
}


def split_judges(words: Sequence[str], given: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Overrides in which lists of judging models (``mos=[distillmos,dnsmos]``) are taken apart.

    The first is the section as it is with one, so its figures have the same names and keys; each of the others stands by its name below
    ``also``, and what asks for a model of that kind is measured by every one: ``mos`` and ``mos@dnsmos``.

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
    value = last_word(kind, words)
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


def last_word(key: str, words: Sequence[str]) -> str | None:
    """What the last ``key=value`` says."""
    return next((word.partition("=")[2] for word in reversed(words) if word.startswith(f"{key}=")), None)


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
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{key}={value}: '{name}' is not a name; write {key}=[{_EXAMPLES[key]}]")
    if len(set(names)) != len(names):
        raise ConfigError(f"{key}={value}: {'a system' if key == 'systems' else 'one'} is named twice")
    return names
