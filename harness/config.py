"""From the words on the command line to one checked configuration, through Hydra's compose API.

Names are checked before Hydra sees them, because it lists no options for an unknown name inside a list. Values name registry
families and parameters; a ``_target_`` anywhere is refused, since instantiating it would run code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.aliases import without_secrets
from harness.errors import ConfigError, UnknownName
from harness.registry import CONF_DIR as CONF
from harness.registry import config_choices, entries, variants
from harness.trees import expanded

CONF_DIR = Path(CONF)
SINGLE_GROUPS = ("suite", "dataset", "asr", "speaker", "mos", "executor")

Config = dict[str, Any]


def compose(overrides: Sequence[str], config_dir: Path | None = None) -> Config:
    """The whole configuration as plain dicts and lists.

    Args:
        overrides: Hydra overrides, ``key=value`` each.
        config_dir: a folder of the user's own YAML (``systems/NAME.yaml``, ``dataset/NAME.yaml`` ...), searched as well.

    Returns:
        The tree of conf/run.yaml; ``systems`` maps each chosen name to its family and parameters.

    Raises:
        UnknownName: an option of a group that does not exist.
        ConfigError: malformed override, unknown key, ``_target_``, wrong type.
    """
    words = [_checked_word(word) for word in overrides]
    _check_names(words, config_dir)
    config = _hydra([_for_hydra(word) for word in words], config_dir)
    systems: Config = config.get("systems") or {}  # Hydra leaves the key out when none is chosen
    config["systems"] = expanded({name: systems[name] for name in _order(overrides, systems)})
    for name, section in systems.items():
        if "family" not in section:
            raise ConfigError(
                f"systems.{name}: {without_secrets(section)} has no 'family'; a parameter given to a system that is not in systems=[...]?"
            )
    for path in _not_finite(config):
        raise ConfigError(f"'{path}' is not a finite number; quote it if a word is meant, e.g. {path}=\\'nan\\'")
    for path in _targets(config):
        raise ConfigError(
            f"'{path}' is refused: configuration names registered families (family: NAME), never Python objects. See `harness list systems`."
        )
    return config


def _checked_word(word: str) -> str:
    key, eq, _ = word.partition("=")
    if not eq and not word.startswith("~"):
        raise ConfigError(f"'{word}' is not an override: write key=value, e.g. suite=codec systems=[passthrough,opus16] dataset.limit=10")
    if "_target_" in word:
        raise ConfigError(f"'{key}' is refused: configuration names registered families (family: NAME), never Python objects.")
    if key.lstrip("+~").startswith("hydra"):
        raise ConfigError(f"'{key}': Hydra's own settings are not used here; your own YAML goes into a folder given by --config-dir.")
    return word


def _for_hydra(word: str) -> str:
    """A system's parameters need not stand in its YAML: whether it takes them, its constructor knows."""
    if word.startswith("systems="):
        return word.replace(" ", "")
    return f"++{word}" if word.startswith("systems.") else word


def _check_names(words: Sequence[str], config_dir: Path | None) -> None:
    for word in words:
        key, _, value = word.partition("=")
        if key in SINGLE_GROUPS:
            known = set(config_choices(key, config_dir)) | (set(entries("suites")) if key == "suite" else set())
            if value not in known:
                raise UnknownName(key, value, known)
        elif key == "systems":
            known_systems = variants(config_dir)
            for name in system_names(value):
                if name not in known_systems:
                    raise UnknownName("system", name, known_systems, "`harness list systems` describes them.")


def system_names(value: str) -> list[str]:
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
            raise ConfigError(f"systems={value}: '{name}' is not a name; write systems=[passthrough,opus16]")
    if len(set(names)) != len(names):
        raise ConfigError(f"systems={value}: a system is named twice")
    return names


def _order(overrides: Sequence[str], systems: Mapping[str, Any]) -> list[str]:
    """As the user typed them (the last time, as everywhere), then those a suite or ``+systems.name...`` added."""
    lists = [system_names(word.partition("=")[2]) for word in overrides if word.startswith("systems=")]
    typed = [name for name in (lists[-1] if lists else []) if name in systems]
    return typed + [name for name in systems if name not in typed]


def _hydra(words: Sequence[str], config_dir: Path | None) -> Config:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    GlobalHydra.instance().clear()
    _offer_plugins(config_dir)
    search = [f"hydra.searchpath=[{config_dir.resolve().as_uri()}]"] if config_dir else []
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(CONF_DIR)):
            composed = hydra_compose(config_name="run", overrides=[*search, *words])
        for path in _asking(OmegaConf.to_container(composed, resolve=False)):
            raise ConfigError(
                f"'{path}' is refused: ${{RESOLVER:...}} would read this machine (its environment, say) into the configuration. "
                "Write the value itself; ${key.of.another.setting} is fine."
            )
        plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error, words)) from error
    assert isinstance(plain, dict)
    return {str(k): v for k, v in plain.items()}


def _offer_plugins(config_dir: Path | None) -> None:
    """Plug-in families without a YAML of their own become options of their group."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    with_yaml = config_choices("systems", config_dir)
    for name, entry in entries("systems").items():
        if entry.origin and name not in with_yaml:
            store.store(group="systems", name=name, package=f"systems.{name}", node={"family": name})
    with_yaml = config_choices("suite", config_dir)
    for name in entries("suites"):
        if name not in with_yaml:
            store.store(group="suite", name=name, node={"name": name})


def _explain(error: Exception, words: Sequence[str]) -> str:
    text = str(error.__cause__ or error).splitlines()[0].strip()
    full = str(error)
    for word in words:
        key = word.partition("=")[0]
        if key.lstrip("+~") in full:
            import difflib

            known = list(_known_keys())
            close = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
            hint = f" Did you mean {' or '.join(close)}?" if close and key not in known else ""
            return f"'{word}' cannot be applied: {text}.{hint} `harness run --show-config` prints every key."
    return f"{text} (overrides: {' '.join(words)})"


def _known_keys() -> Iterator[str]:
    import yaml

    def walk(node: Any, prefix: str) -> Iterator[str]:
        for key, value in node.items():
            if key == "defaults":
                continue
            yield prefix + key
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{key}.")

    yield from walk(yaml.safe_load((CONF_DIR / "run.yaml").read_text(encoding="utf-8")), "")
    for group in SINGLE_GROUPS:
        for path in (CONF_DIR / group).glob("*.yaml"):
            yield from walk(yaml.safe_load(path.read_text(encoding="utf-8")) or {}, f"{group}.")


def _targets(node: Any, path: str = "") -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            here = f"{path}.{key}" if path else str(key)
            if str(key) == "_target_":
                yield here
            yield from _targets(value, here)
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from _targets(value, f"{path}[{i}]")


def _asking(node: Any, path: str = "") -> Iterator[str]:
    """Settings with an interpolation that calls a resolver: one has a colon inside, a reference to another setting has none."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _asking(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from _asking(value, f"{path}[{i}]")
    elif isinstance(node, str):
        depth = 0
        for found in re.finditer(r"\$\{|\}|:", node):
            depth += {"${": 1, "}": -min(depth, 1)}.get(found[0], 0)
            if found[0] == ":" and depth:
                yield path
                return


def _not_finite(node: Any, path: str = "") -> Iterator[str]:
    """NaN and Inf cannot be written to a manifest nor compared with what was run before."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _not_finite(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, float) and not math.isfinite(node):
        yield path
