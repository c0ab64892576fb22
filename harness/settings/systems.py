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

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, UnknownName
from harness.settings.registry import config_files, entries


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
