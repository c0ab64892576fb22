"""Datasets: what a configuration asks for, read from a manifest or a corpus tree and checked in full before anything runs."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.api import Item
from harness.data import embedded_set, layouts, listings
from harness.data.digests import Contents, contents_digest
from harness.data.entries import Entry, Problems, checked_items, checked_language
from harness.errors import ConfigError, ManifestError, UnknownName

_TREES: Mapping[str, tuple[layouts.Reader, str]] = {
    "folder": (layouts.folder, ""),
    "librispeech": (layouts.librispeech, "CC BY 4.0 (LibriSpeech)"),
    "libritts": (layouts.libritts, "CC BY 4.0 (LibriTTS)"),
    "vctk": (layouts.vctk, "CC BY 4.0 (VCTK)"),
    "aishell": (layouts.aishell, "Apache-2.0 (AISHELL-1)"),
}
_TABLES: Mapping[str, tuple[Callable[[Path, str, Problems], Iterable[Entry]], tuple[str, ...]]] = {
    "jsonl": (listings.read_jsonl, (".jsonl", ".ndjson", ".json")),
    "csv": (listings.read_csv, (".csv", ".tsv")),
}
KINDS = ("embedded", *_TABLES, "seedtts", *_TREES, "auto")
"""Values of `DatasetConfig.kind`; "auto" takes what the root looks like."""
_HASHERS, _HASHED_AT_ONCE, _TOLD_EVERY = 4, 64, 1000
FEW_VOICES = 6
"""Fewer speakers than these are said before a run."""


@dataclass(frozen=True)
class DatasetConfig:
    """Which items to measure on.

    Raises:
        ConfigError: a value of the wrong type or range.
    """

    name: str  # of the dataset in every record
    kind: str = "auto"  # one of `KINDS`
    root: Path | None = None  # folder (or the manifest itself); no path of a manifest may leave it. Relative to the working directory.
    manifest: str | None = None  # file in ``root``, or elsewhere when ``root`` is None (then its folder is the root)
    language: str = ""  # ISO 639 code: of items that state none; items that state another one are left out. "" takes all.
    # a part of the dataset: subfolder of a tree, VCTK's microphone, list of SeedTTS, value of a table's ``split`` column
    split: str | None = None
    channel: int | None = None  # of recordings and prompts with several, the one to take, counted from 1; null averages them
    limit: int | None = None  # take so many, spread over languages and speakers (`spread`)
    items: tuple[str, ...] = ()  # take only these ids

    def __post_init__(self) -> None:
        if not self.name or not isinstance(self.name, str):
            raise ConfigError(f"dataset.name must be a word, got {self.name!r}")
        if self.channel is not None and (isinstance(self.channel, bool) or not isinstance(self.channel, int) or self.channel < 1):
            raise ConfigError(
                f"dataset.channel must be the number of a channel, counted from 1, or null for the average, got {self.channel!r}"
            )
        if self.limit is not None and (isinstance(self.limit, bool) or not isinstance(self.limit, int) or self.limit < 1):
            raise ConfigError(f"dataset.limit must be a positive number of items or null, got {self.limit!r}")
        try:
            object.__setattr__(self, "language", checked_language(self.language or ""))
        except ValueError as error:
            raise ConfigError(f"dataset.{error}") from None
        if self.kind not in KINDS:
            raise UnknownName("dataset kind", str(self.kind), KINDS)

    @classmethod
    def from_mapping(cls, section: Mapping[str, Any]) -> DatasetConfig:
        """From a configuration's plain values (text for paths, a list of ids).

        Raises:
            ConfigError: an unknown key or a wrong value.
        """
        known = [f.name for f in fields(cls)]
        if unknown := sorted(set(section) - set(known)):
            raise ConfigError(f"dataset has no key {', '.join(map(repr, unknown))}; there are: {', '.join(known)}")
        values = {k: v for k, v in section.items() if v is not None}
        for key in ("name", "kind", "root", "manifest", "language", "split"):
            if key in values and not isinstance(values[key], str | Path):
                raise ConfigError(f"dataset.{key} must be text, got {values[key]!r} (quote it)")
        items = values.pop("items", ())
        if isinstance(items, str) or not isinstance(items, Iterable):
            raise ConfigError(f"dataset.items must be a list of ids, got {items!r}")
        if "root" in values:
            values["root"] = Path(values["root"]).expanduser()
        if "name" not in values:
            raise ConfigError("dataset.name is missing")
        return cls(**values, items=tuple(str(i) for i in items))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Items, checked and in manifest order."""

    name: str
    items: tuple[Item, ...]  # at least one; ids unique, also when case is ignored
    synthetic: bool  # at least one recording is synthetic speech
    description: str  # one line: kind, place and what was taken
    licence: str  # as far as the manifest or the corpus states it
    rows_digest: str  # of what the manifest says of these items (32 hex digits), wherever the dataset lies; no recording is opened for it
    # what lies in the dataset and is not among the items, in short phrases: "3 .m4a files", "columns not read: age"
    left_out: tuple[str, ...] = ()
    root: Path | None = None  # folder that no path of an item leaves

    @cached_property
    def contents(self) -> Mapping[str, Contents]:
        """What the files of each item hold, by its id; every file is read when this is first asked for, several at a time."""
        return self.hashed(lambda count: None)

    def hashed(self, tell: Callable[[int], None]) -> Mapping[str, Contents]:
        """`contents`; where they have to be read for it, ``tell`` hears of how many items they were, time and again."""
        if "contents" not in self.__dict__:
            found: dict[str, Contents] = {}
            parts = [self.items[i : i + _HASHED_AT_ONCE] for i in range(0, len(self.items), _HASHED_AT_ONCE)]
            # Hashing leaves the interpreter's lock, and a file may have to come from far away.
            with ThreadPoolExecutor(_HASHERS) as hashers:
                for part, contents in zip(parts, hashers.map(lambda part: [Contents.of(item) for item in part], parts), strict=True):
                    found.update((item.id, held) for item, held in zip(part, contents, strict=True))
                    tell(len(part))
            self.__dict__["contents"] = found
        known: Mapping[str, Contents] = self.__dict__["contents"]
        return known

    @cached_property
    def digest(self) -> str:
        """Of everything: what the manifest says and what the recordings and prompts hold (32 hex digits)."""
        return contents_digest(self.rows_digest, self.contents)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Lines to be said before anything runs."""
        said = ", ".join(words for words in self.left_out if ":" not in words)
        columns = [words for words in self.left_out if ":" in words]
        lines = [f"left out: {'; '.join([*([said] if said else []), *columns])}"] if self.left_out else []
        voices = {item.speaker for item in self.items}
        if len(self.items) > 1 and "" not in voices and len(voices) < FEW_VOICES:
            told = "one voice" if len(voices) == 1 else f"{len(voices)} voices"
            means = "nothing is learnt of other speakers" if len(voices) == 1 else "intervals over so few speakers are wide"
            lines.append(f"{told} in {len(self.items)} items: {means}")
        return tuple(lines)


@dataclass(frozen=True)
class _Source:
    """Where entries come from: the root that confines them, a reader's result, and the licence that is known beforehand."""

    kind: str
    root: Path
    entries: Iterable[Entry]
    licence: str = ""
    description: str = ""
    splits_rows: bool = False
    ours: bool = False  # its notes are our own


def load_dataset(config: DatasetConfig, tell: Callable[[int], None] = lambda count: None) -> Dataset:
    """Read and check a whole dataset; no sound file is opened (but the embedded set's hashes are compared).

    ``tell`` hears of how many entries were read, time and again.

    Raises:
        ManifestError: the manifest is wrong (every offending line named), or nothing is left to measure.
        ConfigError: ``root`` or ``manifest`` is missing or does not exist, or the kind cannot be guessed.
        UnknownName: ``items`` holds an id that the dataset has not.
    """
    problems = Problems()
    source = _source(config, problems)
    items = checked_items(config.name, source.root, config.language, _told(source.entries, tell), problems)
    total, everything = len(items), items
    if source.splits_rows and config.split:
        items = tuple(i for i in items if i.notes.get("split") == config.split)
        problems.leave("item{s} of other splits", total - len(items))
        if total and not items:
            splits = _counted(i.notes.get("split", "") for i in everything)
            raise ManifestError(f"dataset '{config.name}': no row has split '{config.split}'; there are: {splits}")
    if config.language:
        items, before = tuple(i for i in items if i.language == config.language), items
        if others := [i.language for i in before if i.language != config.language]:
            problems.leave(f"item{{s}} in other languages ({_counted(others)})", len(others))
        if before and not items:
            raise ManifestError(
                f"dataset '{config.name}': no item in language '{config.language}'; there are: {_counted(i.language for i in before)}"
            )
    if not items:
        left = f"; left out: {', '.join(problems.left_out)}" if problems.left_out else ""
        raise ManifestError(
            f"dataset '{config.name}' is empty: no items of kind {source.kind} in {source.root} ({layouts.seen(source.root)}){left}"
        )
    items = _picked(config, items)
    if config.channel is not None:
        items = tuple(replace(i, channel=config.channel) for i in items)
    licences = sorted({i.notes["licence"] for i in items if i.notes.get("licence")})
    what = source.description or f"{source.kind} in {source.root}"
    if problems.long_rows:
        what += f" ({problems.long_rows} {'row runs' if problems.long_rows == 1 else 'rows run'} over several lines)"
    taken = f"{len(items)} items" if len(items) == total else f"{len(items)} of {total} items"
    return Dataset(
        name=config.name,
        items=items,
        synthetic=any(i.synthetic for i in items),
        description=f"{what}; {taken} ({_counted(i.language for i in items)})",
        licence=source.licence or "; ".join(licences) or "not stated",
        rows_digest=_digest(items, source.root),
        left_out=() if source.ours else problems.left_out,
        root=source.root,
    )


def _told(entries: Iterable[Entry], tell: Callable[[int], None]) -> Iterator[Entry]:
    for number, entry in enumerate(entries, 1):
        yield entry
        if number % _TOLD_EVERY == 0:
            tell(_TOLD_EVERY)


def _source(config: DatasetConfig, problems: Problems) -> _Source:
    kind = config.kind
    if kind == "embedded" and config.root is None and config.manifest is None:
        embedded_set.verify()
        root = embedded_set.ROOT
        entries = listings.read_jsonl(root / embedded_set.MANIFEST, embedded_set.MANIFEST, problems)
        return _Source(kind, root, entries, embedded_set.LICENCE, embedded_set.DESCRIPTION, splits_rows=True, ours=True)
    if kind == "embedded":
        raise ConfigError(
            "the embedded set lies inside the package: leave dataset.root and dataset.manifest empty, or choose another dataset"
        )
    root, manifest = _places(config)
    if kind == "auto":
        kind = layouts.guess(root / manifest if manifest else root) or ""
        manifest = manifest or (layouts.main_table(root) if kind in _TABLES else None)
        if not kind:
            raise ConfigError(
                f"dataset '{config.name}': cannot tell what {root / (manifest or '')} is; saw {layouts.seen(root)}. "
                f"Give dataset.kind, one of {', '.join(k for k in KINDS if k != 'auto')}."
            )
    if kind == "seedtts":
        lists = layouts.seedtts(config.name, root, manifest, config.split, config.language, problems)
        return _Source(kind, root, lists)
    if kind in _TABLES:
        reader, suffixes = _TABLES[kind]
        name = manifest or _only_table(root, suffixes, problems)
        return _Source(kind, root, reader(root / name, name, problems), splits_rows=True)
    if manifest:
        given = f"dataset.root={config.root} is a file" if config.manifest is None else f"dataset.manifest={config.manifest} is given"
        raise ConfigError(f"dataset kind '{kind}' is a folder tree: it takes a folder as dataset.root and no manifest, but {given}")
    tree, licence = _TREES[kind]
    return _Source(kind, root, tree(root, config.split, problems), licence)


def _places(config: DatasetConfig) -> tuple[Path, str | None]:
    """(root, manifest relative to it or None), both existing."""
    if config.root is None and config.manifest is None:
        raise ConfigError(f"dataset '{config.name}' (kind {config.kind}) needs a place: dataset.root=FOLDER or dataset.manifest=FILE")
    try:
        return _existing(config)
    except (OSError, ValueError) as error:  # a name too long, a folder that may not be read
        raise ConfigError(
            f"dataset.root={config.root or 'null'} dataset.manifest={config.manifest or 'null'}: {getattr(error, 'strerror', None) or error}"
        ) from error


def _existing(config: DatasetConfig) -> tuple[Path, str | None]:
    if config.root is None:
        file = Path(config.manifest or "").expanduser()
        if not file.is_file():
            there = " (no file, but something else)" if file.exists() else ""
            raise ConfigError(f"dataset.manifest={config.manifest}: no such file{there}")
        return file.parent, file.name
    if config.root.exists() and not config.root.is_dir() and not config.root.is_file():
        raise ConfigError(f"dataset.root={config.root} is neither a folder nor a file, but a named pipe, socket or device")
    if config.root.is_dir():
        next(config.root.iterdir(), None)
    if not config.root.exists():
        raise ConfigError(f"dataset.root={config.root}: no such folder; its parent holds {layouts.seen(config.root.absolute().parent)}")
    if config.root.is_file() and config.manifest is None:
        return config.root.parent, config.root.name
    if config.manifest is None:
        return config.root, None
    if not (config.root / config.manifest).is_file():
        raise ConfigError(f"dataset.manifest={config.manifest}: no such file in {config.root}, which holds {layouts.seen(config.root)}")
    inside = os.path.relpath(os.path.abspath(config.root / config.manifest), os.path.abspath(config.root))  # noqa: PTH100
    if inside.startswith(".."):
        raise ConfigError(f"dataset.manifest={config.manifest} lies outside dataset.root={config.root}; leave one of them out")
    return config.root, Path(inside).as_posix()


def _only_table(root: Path, suffixes: tuple[str, ...], problems: Problems) -> str:
    found = sorted(p.name for p in root.iterdir() if p.suffix.lower() in suffixes and p.is_file())
    preferred = [n for n in found if Path(n).stem == "manifest"] or [n for n in found if Path(n).stem == "metadata"]
    lines = [n for n in found if not n.endswith(".json")]  # which may hold anything
    if len(chosen := preferred or lines or found) != 1:
        raise ConfigError(f"{len(chosen)} manifests ({' or '.join(suffixes)}) in {root}: give dataset.manifest; saw {layouts.seen(root)}")
    problems.leave("other table{s}", len({*lines, *chosen}) - 1)
    return chosen[0]


def _picked(config: DatasetConfig, items: tuple[Item, ...]) -> tuple[Item, ...]:
    if config.items:
        wanted, ids = set(config.items), {i.id: None for i in items}
        if missing := [name for name in config.items if name not in ids]:
            import difflib

            close = [c for name in missing[:3] for c in difflib.get_close_matches(name, ids, n=3, cutoff=0.5)]
            known = dict.fromkeys([*close, *list(ids)[:20]])
            also = f"Also unknown: {', '.join(missing[1:6])}. " if missing[1:] else ""
            raise UnknownName(
                "item", missing[0], known, f"{also}({len(known)} of the {len(items)} ids of dataset '{config.name}' are shown.)"
            )
        items = tuple(i for i in items if i.id in wanted)
    return spread(items, config.limit) if config.limit else items


def spread(items: tuple[Item, ...], limit: int) -> tuple[Item, ...]:
    """So many of the items, in their order, from as many speakers and languages as can be.

    Two speakers of each language by turns, so that there is soon an impostor for everybody, and a second item of a speaker only after a
    first of all. Which speaker and which item comes first, a hash of its name decides: the same in every run, whatever follows in the
    manifest; and what a smaller limit takes, a larger one takes too.
    """
    if limit >= len(items):
        return items
    voices: dict[str, dict[str, list[Item]]] = {}
    for item in items:
        voices.setdefault(item.language, {}).setdefault(item.speaker, []).append(item)
    ranked = [
        (turn, place // 2, language, place, item.id)
        for language, speakers in enumerate(voices.values())
        for place, speaker in enumerate(sorted(speakers, key=_drawn))
        for turn, item in enumerate(sorted(speakers[speaker], key=lambda i: _drawn(i.id)))
    ]
    chosen = {name for *_, name in sorted(ranked)[:limit]}
    return tuple(i for i in items if i.id in chosen)


def _drawn(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


def _counted(values: Iterable[str]) -> str:
    return ", ".join(f"{n} {value or 'unstated'}" for value, n in sorted(Counter(values).items()))


def _digest(items: tuple[Item, ...], root: Path) -> str:
    h = hashlib.blake2b(digest_size=16)
    top = len(os.fspath(root).rstrip("/")) + 1 if os.fspath(root) != "." else 0
    for i in items:
        places = [os.fspath(p)[top:] if p else None for p in (i.path, i.prompt_path)]
        said = [i.id, i.text, i.language, i.speaker, i.prompt_text, i.synthetic, *places, sorted(i.notes.items())]
        h.update(json.dumps(said if i.channel is None else [*said, i.channel]).encode() + b"\n")
    return h.hexdigest()
