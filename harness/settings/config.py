"""From the words on the command line to one checked configuration, through Hydra's compose API.

Names are checked before Hydra sees them, because it lists no options for an unknown name inside a list. Text never reaches it: a mark
stands in its place until everything is composed (`harness.settings.schema` says what is text). Values name registry families and parameters; a
``_target_`` anywhere is refused, since instantiating it would run code.
"""

from __future__ import annotations

import inspect
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

from harness.data.documents import YAML_BYTES, check_yaml, read_text
from harness.errors import ConfigError, UnknownName
from harness.settings.registry import CONF_DIR, config_names, entries, resolve, variants
from harness.settings.schema import GIVEN_FREELY, JUDGES, NAMES, check, complete, is_text, names_of, place_of, text_of
from harness.settings.systems import expanded, last_word, listed, split_judges, system_section

SINGLE_GROUPS = ("suite", "dataset", *JUDGES, "executor")

MAX_LENGTH, MAX_DEPTH = 10_000, 20
"""Characters of a value that Hydra parses, and how deep its brackets may lie in one another."""

_SECTION = ".section"
"""Behind a system's name among Hydra's options, so that Hydra does not read its YAML as well: its `defaults` are not Hydra's."""

Config = dict[str, Any]


def compose(overrides: Sequence[str], config_dir: Path | None = None, given: Mapping[str, Any] | None = None) -> Config:
    """The whole configuration as plain dicts and lists.

    Args:
        overrides: Hydra overrides, ``key=value`` each.
        config_dir: a folder of the user's own YAML (``systems/NAME.yaml``, ``dataset/NAME.yaml`` ...), searched as well.
        given: settings by their full names whose values are Python's and need no parsing.

    Returns:
        The tree of conf/run.yaml; ``systems`` maps each chosen name to its family and parameters.

    Raises:
        UnknownName: an option of a group that does not exist.
        ConfigError: malformed override, unknown key, ``_target_``, wrong type.
    """
    given = given or {}
    words, given = split_judges([_checked_word(word) for word in overrides], given)
    for key in given:
        _checked_word(f"{key}=")
    if config_dir is not None:
        _check_files(config_dir)
    _check_names(words, config_dir)
    typed = _Typed()
    config: Config = typed.restored(
        _hydra([*map(typed.marked, words), *(typed.given(key, value) for key, value in given.items())], config_dir, typed)
    )
    config["systems"] = config.get("systems") or {}  # Hydra leaves the key out when none is chosen
    named = _named(overrides)
    for name in named:
        if not isinstance(config["systems"], Mapping) or name not in config["systems"]:
            raise ConfigError(f"'{name}' cannot name a system: a dot in a name stands for a level of the configuration")
    complete(config)
    check(config)
    order = dict.fromkeys((*named, *config["systems"]))  # as typed, then those a suite or ``+systems.name...`` added
    config["systems"] = expanded({name: config["systems"][name] for name in order})
    for path, value in _walk(config):
        # no manifest could hold it, nor could it be compared with what was run before
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"'{path}' is not a finite number; quote it if a word is meant, e.g. {path}=\\'nan\\'")
        if path.rpartition(".")[2] == "_target_":
            raise ConfigError(
                f"'{path}' is refused: configuration names registered families (family: NAME), never Python objects. See `harness list systems`."
            )
    return config


def _check_files(config_dir: Path) -> None:
    """Refuses YAML of the user's own that no parser should see: Hydra reads these files without limits."""
    import yaml

    for group in (*SINGLE_GROUPS, "systems"):
        for folder, _, names in os.walk(config_dir / group):
            for path in (Path(folder, name) for name in sorted(names) if name.endswith(".yaml")):
                try:
                    check_yaml(read_text(path, YAML_BYTES), str(path))
                except (OSError, ValueError) as problem:
                    raise ConfigError(f"{path} cannot be read: {problem}") from problem
                except yaml.YAMLError as problem:
                    raise ConfigError(f"{path} is not YAML: {problem}") from problem


def _checked_word(word: str) -> str:
    key, eq, _ = word.partition("=")
    if not eq and not word.startswith("~"):
        raise ConfigError(f"'{word}' is not an override: write key=value, e.g. suite=codec systems=[passthrough,opus16] dataset.limit=10")
    if "_target_" in word:
        raise ConfigError(f"'{key}' is refused: configuration names registered families (family: NAME), never Python objects.")
    if key.lstrip("+~").startswith("hydra"):
        raise ConfigError(f"'{key}': Hydra's own settings are not used here; your own YAML goes into a folder given by --config-dir.")
    return word


class _Typed:
    """What was typed as text: a mark stands in its place while Hydra parses, composes and interpolates."""

    _MARK = re.compile("HARNESS_TEXT_([0-9]+)_END")

    def __init__(self) -> None:
        self._values: list[Any] = []

    def marked(self, word: str) -> str:
        """The override as Hydra gets it.

        Raises:
            ConfigError: a list of names is none, or a value that has to be parsed is too long or too deep.
        """
        key, eq, value = word.partition("=")
        bare = key.lstrip("+")
        if not eq or key.startswith("~") or bare.partition("@")[0] in SINGLE_GROUPS:
            return word
        if bare == "systems":
            return f"{key}=[{','.join(name + _SECTION for name in listed('systems', value))}]"
        # A system's parameters need not stand in its YAML: whether it takes them, its constructor knows.
        key = f"++{key}" if key.startswith("systems.") else key
        if bare in NAMES:
            return self._mark(key, names_of(bare, value))
        if is_text(bare):
            return self._mark(key, text_of(bare, value))
        return self._mark(key, value) if _is_plain(key, value) else f"{key}={value}"

    def given(self, key: str, value: Any) -> str:
        """The override of a value that is taken as it is; a path is text, and a list of names may be one name.

        Raises:
            ConfigError: it is nothing that could stand in YAML.
        """
        value = plain(key, value)
        if isinstance(value, str):
            value = [value] if key in NAMES else place_of(key, value)
        return self._mark(f"++{key}" if key.startswith("systems.") else key, value)

    def restored(self, node: Any) -> Any:
        """The composed configuration with the text again where its marks are."""
        if isinstance(node, dict):
            return {str(key): self.restored(value) for key, value in node.items()}
        if isinstance(node, list):
            return [self.restored(value) for value in node]
        if isinstance(node, str) and (mark := self._MARK.search(node)):
            found = self._value(mark)
            return found if mark[0] == node else self._MARK.sub(lambda m: str(self._value(m)), node)
        return node

    def _mark(self, key: str, value: Any) -> str:
        if value is None:
            return f"{key}=null"
        self._values.append(value)
        return f"{key}=HARNESS_TEXT_{len(self._values) - 1}_END"

    def _value(self, mark: re.Match[str]) -> Any:
        number = int(mark[1])
        return self._values[number] if number < len(self._values) else mark[0]


def plain(key: str, value: Any) -> Any:
    """A value of Python's as YAML has it: paths as text, tuples as lists.

    Raises:
        ConfigError: it is nothing that could stand in YAML.
    """
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): plain(f"{key}.{name}", inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain(key, inner) for inner in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Integral):  # numpy's
        return int(value)
    raise ConfigError(f"{key}={value!r}: a {type(value).__name__} is no setting; text, numbers, true and false, lists and mappings are")


def _is_plain(key: str, value: str) -> bool:
    """Whether a value is text: no number, truth, null, list, mapping, interpolation or quoted text of Hydra's grammar."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    if len(value) > MAX_LENGTH:
        raise ConfigError(
            f"'{key.lstrip('+')}': the value has {len(value)} characters; at most {MAX_LENGTH}. A longer one goes into a YAML of --config-dir"
        )
    depth = deepest = 0
    for character in value:
        depth += (character in "[{(") - (character in "]})")
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        raise ConfigError(f"'{key.lstrip('+')}': the brackets of the value lie {deepest} deep in one another; at most {MAX_DEPTH}")
    if re.fullmatch(r"[0-9_]*_[0-9_]*", value) and not re.fullmatch(r"[0-9]{1,3}(_[0-9]{3})+", value):
        return True  # 16_000 is a number, 2026_11_30 is none
    try:
        parsed = OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        # What was begun as a list or mapping is left to Hydra, which says what is wrong with it; a system's parameter may be anything.
        return key.lstrip("+").partition(".")[0] in GIVEN_FREELY or not value.lstrip().startswith(("[", "{"))
    if parsed.is_sweep_override():
        return True
    found = parsed.value()
    return isinstance(found, str) and not value.lstrip().startswith(("'", '"')) and "${" not in value


def _check_names(words: Sequence[str], config_dir: Path | None) -> None:
    for word in words:
        key, _, value = word.partition("=")
        group = key.lstrip("+").partition("@")[0]
        if group in SINGLE_GROUPS:
            known = {*config_names(group, config_dir), *(entries("suites") if group == "suite" else ())}
            if value not in known:
                raise UnknownName(group, value, known)
        elif key == "systems":
            known_systems = variants(config_dir)
            for name in listed("systems", value):
                if name not in known_systems:
                    raise UnknownName("system", name, known_systems, "`harness list systems` describes them.")


def _named(overrides: Sequence[str]) -> list[str]:
    """The systems asked for."""
    return listed("systems", last_word("systems", overrides) or "")


def _hydra(words: Sequence[str], config_dir: Path | None, typed: _Typed) -> Config:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    GlobalHydra.instance().clear()
    _offer(words, config_dir)
    search = [f"hydra.searchpath=[{config_dir.resolve().as_uri()}]"] if config_dir else []
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(CONF_DIR)):
            composed = hydra_compose(config_name="run", overrides=[*search, *words])
        for path, value in _walk(OmegaConf.to_container(composed, resolve=False)):
            if isinstance(value, str) and _asks(value):
                raise ConfigError(
                    f"'{path}' is refused: ${{RESOLVER:...}} would read this machine (its environment, say) into the configuration. "
                    "Write the value itself; ${key.of.another.setting} is fine."
                )
        plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except YAMLError as error:  # what Hydra's reader takes for no YAML beyond what the grammar says: a key twice
        raise ConfigError(" ".join(str(error).split())) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(typed.restored(_explain(error, words))) from error
    assert isinstance(plain, dict)
    return {str(k): v for k, v in plain.items()}


def _offer(words: Sequence[str], config_dir: Path | None) -> None:
    """The systems and the suite asked for become options of their group."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    for name in (option.removesuffix(_SECTION) for option in _named(words)):
        section = system_section(name, config_dir)
        section.pop("training", None)
        store.store(group="systems", name=name + _SECTION, package=f"systems.{name}", node=section)
    name = last_word("suite", words) or "codec"
    store.store(group="suite", name=name, node={"name": name, **_defaults(name)})


def _defaults(name: str) -> dict[str, Any]:
    """The settings of a built-in suite: its constructor's parameters. A plug-in's are taken as typed (``+suite.KEY=VALUE``)."""
    entry = entries("suites").get(name)
    if entry is None or entry.origin:
        return {}
    parameters = inspect.signature(resolve("suites", name)).parameters.values()
    return {p.name: list(p.default) if isinstance(p.default, tuple) else p.default for p in parameters}


def _explain(error: Exception, words: Sequence[str]) -> str:
    text = str(error.__cause__ or error).splitlines()[0].strip()
    full = str(error)
    for word in sorted(words, key=lambda w: -len(w.partition("=")[0])):
        key = word.partition("=")[0].lstrip("+~")
        if key and key in full:
            import difflib

            known = list(dict.fromkeys(_known_keys(last_word("suite", words) or "codec")))
            close = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
            hint = f" Did you mean {' or '.join(close)}?" if close and key not in known else ""
            return f"'{word.lstrip('+')}' cannot be applied: {text}.{hint} `harness run --show-config` prints every key."
    return f"{text} (overrides: {' '.join(words)})"


def _known_keys(suite: str) -> Iterator[str]:
    import yaml

    sections = [("", CONF_DIR / "run.yaml"), *((group, path) for group in SINGLE_GROUPS for path in (CONF_DIR / group).glob("*.yaml"))]
    found = [(section, yaml.safe_load(path.read_text(encoding="utf-8")) or {}) for section, path in sections]
    for section, node in (*found, ("suite", _defaults(suite))):
        yield from (key for key, _ in _walk(node, section) if "[" not in key and not key.endswith("defaults"))


def _walk(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting below a node, by its full name."""
    for key, value in node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ():
        here = f"{path}[{key}]" if isinstance(node, list) else f"{path}.{key}" if path else str(key)
        yield here, value
        yield from _walk(value, here)


def _asks(text: str) -> bool:
    """Whether an interpolation in it calls a resolver: one has a colon inside, a reference to another setting has none."""
    depth = 0
    for found in re.finditer(r"\$\{|\}|:", text):
        depth += {"${": 1, "}": -min(depth, 1)}.get(found[0], 0)
        if found[0] == ":" and depth:
            return True
    return False
