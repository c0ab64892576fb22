"""Systems by name: where their YAML lies, and what it says once its ``defaults`` are put in.

A file says the family of a system and its parameters. ``defaults: [NAME]`` begins with what another file says, so that a variant says only
what differs:

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
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.data.documents import YAML_BYTES, read_text
from harness.errors import ConfigError, UnknownName
from harness.hub import cached
from harness.settings.registry import NEEDS, config_files, entries

_WEIGHTS = ("checkpoint", "codec", "decoder", "vocoder", "ssl")
_SETTINGS = ("python", "root")


def system_section(name: str, extra_dir: Path | None = None) -> dict[str, Any]:
    """Family and parameters of a system, ``training`` among them; of a plug-in family without YAML the family alone.

    Args:
        name: as in ``systems=[NAME]``.
        extra_dir: a folder of the user's own YAML, ``systems/NAME.yaml``.

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

    Args:
        name: of a system with YAML.
        extra_dir: a folder of the user's own YAML.

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
