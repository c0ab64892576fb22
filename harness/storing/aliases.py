"""What of this machine stands in nothing that is sent: secrets, environments, and where its folders lie.

Manifest, records, report, baseline and listening page name folders by alias (``<dataset>/a.wav``, ``<runs>``, ``<home>``); a folder
without one is ``<elsewhere>/its last part``. Where the aliases lie is kept in the store (``store/places/<plan digest>.json``, for its
owner only), which stays on the machine: there the harness finds recordings again, and a run folder that was sent has none.

Secrets (settings named like a token, a password, a key ...) and environments of workers are given to whom they are meant for and
written nowhere; store keys hold a hash of them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.errors import StoreError
from harness.storing.files import replacing

WITHHELD = "<withheld>"
ELSEWHERE = "<elsewhere>"
PLACES = "places"

_ENVIRONMENTS = frozenset({"environment", "environ", "env"})
_SECRETS = frozenset(
    {"token", "secret", "secrets", "password", "passwd", "passphrase", "pwd", "credential", "credentials", "authorization", "auth", "bearer", "cookie"}
)  # fmt: skip
_SECRET_PAIRS = re.compile(r"(?:^|_)(?:api|access|account|private|secret|signing|encryption|license|licence)_?key(?:_|$)")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NAMED = re.compile(r"[\{,\[]\s*['\"]?([\w.-]+)['\"]?\s*[:=]")
_ASSIGNED = re.compile(r"(?P<name>[\w.-]*[A-Za-z][\w-]*)=(?P<value>[^\s,\]}]+)")
_VARIABLE = re.compile(r"(?P<name>(?:^|(?<=[\[,\s=]))[A-Z_][A-Z0-9_]*)=(?P<value>[^\s,\]}]+)")
_TELLING = re.compile(
    r"(?P<user>(?<=://)[^/@\s]+@)|(?i:(?<=bearer )[\w.~+/-]+)|\bhf_[A-Za-z0-9]{16,}|\bsk-[\w-]{16,}|\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}"
    r"|\bAKIA[0-9A-Z]{16}|\bxox[abp]-[\w-]{10,}|\beyJ[\w-]{10,}\.[\w-]+\.[\w-]+"
    r"|(?P<signed>(?i:[?&](?:x-(?:amz|goog)-)?(?:sig|signature|credential|security-token|googleaccessid|awsaccesskeyid)=))[^&\s'\",\]}]+"
)
"""Credentials that are known by their looks, whatever the setting is called."""
_FOR_A_SHELL = re.compile(r"[^\w+=:.,/\[\]{}@%<>-]")
_SHORTEST = 6
"""Characters of a secret that is also looked for in texts: shorter ones stand in too many innocent words."""
_ABSOLUTE = re.compile(
    r"""(?:(?<=file://)|(?<![\w.<>~/+-]))/(?:(?<=['"]/)[^'"\n]+(?=['"])|[^\s/'"<>|:;,()\[\]{}=]+(?:/[^\s/'"<>|:;,()\[\]{}=]+)*)/?"""
)


def is_secret(name: str) -> bool:
    """Whether a setting of that name holds a secret: ``HF_TOKEN``, ``apiKey``, ``client_secret``; not ``prompt_tokens``."""
    words = _CAMEL.sub("_", name.rpartition(".")[2]).lower().replace("-", "_")
    parts = set(words.split("_"))
    return bool(parts & _SECRETS) or bool(_SECRET_PAIRS.search(words)) or words.endswith(("apikey", "token", "secret", "password"))


def without_secrets(node: Any, name: str = "") -> Any:
    """A configuration with `WITHHELD` in the place of secrets and whole environments."""
    if isinstance(node, Mapping):
        return {key: WITHHELD if _is_withheld(str(key), value) else without_secrets(value, str(key)) for key, value in node.items()}
    if isinstance(node, list | tuple):
        words: list[Any] = []
        for value in node:
            option = words[-1] if words and isinstance(words[-1], str) and words[-1].startswith("-") else ""
            hidden = isinstance(value, str) and option and "=" not in option and is_secret(option.lstrip("-"))
            words.append(WITHHELD if hidden else without_secrets(value, name))
        return words
    return _shown(node) if isinstance(node, str) else node


def secrets(node: Any, shown: Any = None) -> Iterator[str]:
    """The texts that `without_secrets` takes out of a configuration."""
    shown = without_secrets(node) if shown is None else shown
    if isinstance(node, Mapping | list | tuple):
        for key, value in node.items() if isinstance(node, Mapping) else enumerate(node):
            yield from secrets(value, shown if shown == WITHHELD else shown[key])
    elif shown == WITHHELD:
        yield str(node)
    elif isinstance(node, str) and node != shown:
        yield from (m["value"] for m in (*_ASSIGNED.finditer(node), *_VARIABLE.finditer(node)) if m["value"] not in shown)


def typed(words: Sequence[str]) -> str:
    """The words of a command line as they may be shown and typed again: without secrets and environments, quoted where a shell needs it."""
    shown = (_typed(word) for word in words)
    return " ".join("'" + w.replace("'", "'\\''") + "'" if _FOR_A_SHELL.search(w) else w for w in shown)


def command(text: str) -> str:
    """A command line as `typed` gives its words."""
    try:
        return typed(shlex.split(text))
    except ValueError:  # a quote is not closed: it was put together by a program
        return typed(text.split(" "))


def _typed(word: str) -> str:
    key, eq, value = word.partition("=")
    parts = key.lstrip("+~").split(".")
    inner = {name.rpartition(".")[2] for name in _NAMED.findall(value)}
    if eq and (
        _ENVIRONMENTS & {p.lower() for p in parts} or is_secret(parts[-1]) or any(n.lower() in _ENVIRONMENTS or is_secret(n) for n in inner)
    ):
        return f"{key}={WITHHELD}"
    return f"{key}{eq}{_shown(value)}"


def _is_withheld(key: str, value: Any) -> bool:
    if value is None or isinstance(value, bool) or value in ("", {}, []):
        return False
    if key.lower() in _ENVIRONMENTS:
        return not isinstance(value, str | int | float)
    return is_secret(key)


def _shown(text: str) -> str:
    """A text without what is assigned in it to a secret's name or to an environment variable, and without credentials of URLs."""
    if "=" in text:
        text = _ASSIGNED.sub(lambda m: f"{m['name']}={WITHHELD}" if is_secret(m["name"]) else m[0], text)
        text = _VARIABLE.sub(lambda m: f"{m['name']}={WITHHELD}", text)
    return _TELLING.sub(_unnamed, text)


def _unnamed(found: re.Match[str]) -> str:
    return f"{WITHHELD}@" if found["user"] else f"{found['signed'] or ''}{WITHHELD}"


@dataclass(frozen=True)
class Aliases:
    """Names in the place of folders, and what is withheld."""

    roots: tuple[
        tuple[str, str], ...
    ]  # alias (``<dataset>`` ...) and absolute folder; of those that fit a path the longest, then the first
    withheld: frozenset[str] = frozenset()  # texts that are never shown

    @classmethod
    def here(cls, config: Mapping[str, Any] | None = None, dataset: Path | None = None) -> Aliases:
        """Those of this process; and of a run the configuration's ``run.root`` and secrets, and the folder of the dataset."""
        section = (config or {}).get("run") or {}
        places: list[tuple[str, str | os.PathLike[str] | None]] = [
            ("<dataset>", dataset),
            ("<runs>", section.get("root")),
            ("<harness>", Path(__file__).parents[2]),
            ("<here>", Path.cwd()),
            ("<python>", sys.prefix),
            ("<tmp>", tempfile.gettempdir()),
            ("<home>", os.path.expanduser("~")),  # noqa: PTH111  (a user without a home is no error here)
        ]
        roots: dict[str, str] = {}
        for alias, place in places:
            if place is not None:
                for form in (os.path.abspath(place), os.path.realpath(place)):  # noqa: PTH100
                    if len(form) > 1:
                        roots.setdefault(form, alias)
        return cls(
            tuple((alias, root) for root, alias in roots.items()), frozenset(s for s in secrets(config or {}) if len(s) >= _SHORTEST)
        )

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest = sorted({root for _, root in self.roots}, key=len, reverse=True)
        known = "|".join(re.escape(root) for root in longest) or r"(?!)"
        return re.compile(rf"(?:(?<=file://)|(?<![\w.<>~]))(?P<root>{known})(?=/|$|[^\w.-])|{_ABSOLUTE.pattern}")

    @cached_property
    def _hidden(self) -> re.Pattern[str] | None:
        return re.compile("|".join(re.escape(s) for s in sorted(self.withheld, key=len, reverse=True))) if self.withheld else None

    def text(self, text: str) -> str:
        """A text with aliases in the place of absolute paths, without what is withheld."""
        text = _TELLING.sub(_unnamed, text)
        if self._hidden is not None:
            text = self._hidden.sub(WITHHELD, text)
        if "/" not in text:
            return text
        names = {root: alias for alias, root in reversed(self.roots)}

        def named(found: re.Match[str]) -> str:
            if found["root"]:
                return names[found["root"]]
            path = found[0].rstrip("/")
            before = text[found.start() - 1] if found.start() else "="
            if path.count("/") == 1 and before not in "='\"([":
                return found[0]  # a slash before a word, no path for sure
            return f"{ELSEWHERE}/{path.rpartition('/')[2]}"

        return self._pattern.sub(named, text)

    def path(self, path: Path) -> str:
        """The path of a file by its alias."""
        absolute = os.path.abspath(path)  # noqa: PTH100
        for alias, root in self.roots[:2]:
            if absolute.startswith(f"{root}/"):
                return alias + absolute[len(root) :]
        return self.text(absolute)

    def cleaned(self, node: Any) -> Any:
        """JSON-ready data with every text as `text` gives it, without secrets."""
        return self._cleaned(without_secrets(node))

    def _cleaned(self, node: Any) -> Any:
        if isinstance(node, Mapping):
            return {self.text(k) if isinstance(k, str) else k: self._cleaned(v) for k, v in node.items()}
        if isinstance(node, list | tuple):
            return [self._cleaned(v) for v in node]
        if isinstance(node, str):
            return self.text(node)
        return self.text(os.fspath(node)) if isinstance(node, os.PathLike) else node

    def located(self, text: str) -> Path | None:
        """The file or folder behind an alias and a path below it; None where that is not known, or leaves its root."""
        alias, slash, rest = text.partition("/")
        root = dict(reversed(self.roots)).get(alias)
        if root is None or rest.startswith("/") or ".." in rest.split("/"):
            return None
        return Path(root, rest) if slash else Path(root)

    def restored(self, node: Any) -> Any:
        """Data with folders in the place of the aliases that texts begin with: what `cleaned` was given, but for the secrets."""
        if isinstance(node, Mapping):
            return {k: self.restored(v) for k, v in node.items()}
        if isinstance(node, list):
            return [self.restored(v) for v in node]
        found = self.located(node) if isinstance(node, str) and node.startswith("<") else None
        return node if found is None else str(found)

    def save(self, store: Path, plan: str) -> None:
        """Keeps where the aliases lie, for the owner of the store only, under the digest of the plan. Raises StoreError."""
        path = _file(store, plan)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror}") from error
        with replacing(path, 0o600) as file:
            file.write(json.dumps({"roots": self.roots}, ensure_ascii=False).encode())


def places(store: Path, plan: str) -> Aliases:
    """Where the aliases of a run lie; none are known where it was sent here without its store."""
    if not re.fullmatch(r"[0-9a-f]{8,64}", plan):
        return Aliases(())
    try:
        roots = json.loads(_file(store, plan).read_text(encoding="utf-8"))["roots"]
        return Aliases(tuple((str(alias), str(root)) for alias, root in roots))
    except (OSError, ValueError, KeyError, TypeError):
        return Aliases(())  # the recordings are not found, as in a run that was sent: whoever looks for them says so


def _file(store: Path, plan: str) -> Path:
    return store / PLACES / f"{plan}.json"
