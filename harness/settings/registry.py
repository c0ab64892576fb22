"""Every name a user can type, as lazy ``"module:attr"`` strings; nothing is imported until it is used.

Built-in families stand below, metrics in `harness.metrics`; a suite is a file of the package ``suites`` (`suites`). A third party joins
by entry points in the groups ``harness.systems``, ``harness.suites`` and ``harness.metrics``. *Variants* of systems are YAML files in
``systems/conf``; a plug-in family without one is its own variant.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from configparser import Error as NoEntryPoints
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import Any

from harness.data.documents import MIB, YAML_BYTES, read_text
from harness.errors import MissingDependency, UnknownName
from harness.metrics import METRICS

CONF_DIR = Path(__file__).resolve().parents[1] / "conf"
GROUPS = ("systems", "suites", "metrics")

SYSTEMS = {
    "passthrough": "systems.classical.bounds:Passthrough",
    "noise": "systems.classical.bounds:Noise",
    "resampled": "systems.classical.bounds:Resampled",
    "ffmpeg": "systems.classical.ffmpeg:FFmpegCodec",
    "gsm": "systems.classical.narrowband:Gsm",
    "codec2": "systems.classical.narrowband:Codec2",
    "encodec": "systems.published.transformers_codecs:Encodec",
    "dac": "systems.published.transformers_codecs:Dac",
    "mimi": "systems.published.transformers_codecs:Mimi",
    "xcodec": "systems.published.transformers_codecs:XCodec",
    "xcodec2": "systems.published.transformers_codecs:XCodec2",
    "speechtokenizer": "systems.published.speechtokenizer:SpeechTokenizer",
    "recorded": "systems.classical.recorded:RecordedFolder",
    "espeak": "systems.classical.speaking_programs:Espeak",
    "flite": "systems.classical.speaking_programs:Flite",
    "hibari": "systems.published.hibari:HibariVoice",
    "qdac": "systems.qdac.adapter:QdacCodec",
    "mel_vocoder": "systems.vocoder.adapter:MelVocoder",
    "socodec": "systems.socodec.adapter:SocodecCodec",
    "lm_tts": "systems.tts.lm_tts:LmTts",
    "worker_codec": "systems.worker.adapters:WorkerCodec",
    "worker_synthesizer": "systems.worker.adapters:WorkerSynthesizer",
}

NEEDS = {
    **dict.fromkeys(("encodec", "dac", "mimi", "xcodec", "xcodec2"), ("package", "transformers")),
    "speechtokenizer": ("package", "speechtokenizer"),
    "hibari": ("package", "hibari"),
    "ffmpeg": ("package", "av"),
    "gsm": ("package", "soundfile"),
    "codec2": ("program", "c2enc"),
    "espeak": ("program", "espeak-ng"),
    "flite": ("program", "flite"),
}
"""What a family cannot do without, for lists; the systems themselves say more (`harness doctor`)."""

LENT: dict[str, Callable[[], Any]] = {}
"""Families of systems that exist in this process only, while somebody measures an object (`harness.notebook.evaluate`)."""


@dataclass(frozen=True)
class Entry:
    """A registered name."""

    group: str  # "systems", "suites" or "metrics"
    name: str  # as typed
    target: str  # "module:attr"
    summary: str = ""  # one line, "" for plug-ins
    origin: str = ""  # "" for built-in, else the distribution that brought it


def entries(group: str) -> dict[str, Entry]:
    """All names of a group, built-in first. A plug-in cannot replace a built-in name; such a clash is listed by `broken_plugins`."""
    if group == "systems":
        found = {name: Entry(group, name, target) for name, target in SYSTEMS.items()}
    elif group == "metrics":
        found = {name: Entry(group, name, *about) for name, about in METRICS.items()}
    else:
        found = {name: Entry(group, name, f"suites.{name}:{name.title().replace('_', '')}Suite") for name in config_files("suite")}
    for plugin in _plugins(tuple(sys.path)):
        if plugin.group == group:
            found.setdefault(plugin.name, plugin)
    return found


def resolve(group: str, name: str) -> Any:
    """The class or factory behind a name, imported now.

    Raises:
        UnknownName: not registered.
        MissingDependency: its import fails; the reason is in the message.
    """
    if group == "systems" and name in LENT:
        return LENT[name]
    known = entries(group)
    if name not in known:
        raise UnknownName({"systems": "system family"}.get(group, group.rstrip("s")), name, known)
    from pkgutil import resolve_name

    from harness.foreign import attempt, loading, reason_of, tried
    from harness.kept import Kept

    entry = known[name]
    what = f"{group} '{name}' ({f'plug-in {entry.origin}' if entry.origin else 'built-in'}, {entry.target})"
    if not entry.origin:
        try:
            return attempt(lambda: resolve_name(entry.target))
        except Exception as error:
            raise MissingDependency(f"{what} cannot be imported: {reason_of(error)}") from error
    loading(what)
    if fault := tried(entry.target.partition(":")[0]):
        raise MissingDependency(f"{what} cannot be imported: {fault}")
    try:
        with Kept(settling=True):
            return attempt(lambda: resolve_name(entry.target))
    except Exception as error:  # a plug-in may raise anything at import: it is reported, never hidden
        raise MissingDependency(f"{what} cannot be imported: {reason_of(error)}") from error


def broken_plugins() -> dict[Entry, str]:
    """Plug-ins that cannot be used, and distributions whose entry points cannot be read, with the reason.

    Imports every plug-in; for `harness doctor`.
    """
    broken = {}
    for plugin in _plugins(tuple(sys.path)):
        if plugin.group not in GROUPS:
            broken[plugin] = plugin.summary
            continue
        known = entries(plugin.group)[plugin.name]
        if (known.target, known.origin) != (plugin.target, plugin.origin):
            broken[plugin] = f"the name '{plugin.name}' is taken by {known.origin or 'a built-in'}"
            continue
        try:
            resolve(plugin.group, plugin.name)
        except MissingDependency as error:
            broken[plugin] = str(error)
    return broken


def variants(extra_dir: Path | None = None) -> dict[str, str]:
    """Names accepted by ``systems=[...]`` with their one-line descriptions: the YAML files, then plug-in families without one."""
    found = config_choices("systems", extra_dir)
    for name, entry in entries("systems").items():
        if entry.origin and name not in found:
            found[name] = f"plug-in from {entry.origin}"
    return found


def config_choices(group: str, extra_dir: Path | None = None) -> dict[str, str]:
    """Options of a config group (``dataset``, ``asr``, ...) with the first line of each file that describes it."""
    return {name: _description(path) for name, path in config_files(group, extra_dir).items()}


def config_names(group: str, extra_dir: Path | None = None) -> list[str]:
    """Options of a config group, without opening their files."""
    return list(config_files(group, extra_dir))


def config_files(group: str, extra_dir: Path | None = None) -> dict[str, Path]:
    """The file of every option of a config group: suites are Python, systems describe themselves in folders of their own package."""
    if group == "suite":
        found = _installed("suites", "[!_]*.py")
    elif group == "systems":
        found = _installed("systems", "conf/**/*.yaml")
    else:
        found = _named(CONF_DIR / group, "[!_]*.yaml")  # what others begin with is no option
    return found if extra_dir is None else found | _named(extra_dir / group, "[!_]*.yaml")


def _installed(package: str, pattern: str) -> dict[str, Path]:
    """Files of a package by the name of each, found without importing it."""
    spec = find_spec(package)
    folders = spec.submodule_search_locations or () if spec else ()
    return {name: path for folder in folders for name, path in _named(Path(folder), pattern).items()}


def _named(folder: Path, pattern: str) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob(pattern), key=lambda path: path.name)}


def _description(path: Path) -> str:
    """The first line of a module's docstring, or the first of YAML's leading comments that is no directive of Hydra's."""
    try:
        lines = read_text(path, YAML_BYTES).splitlines()
    except (OSError, ValueError) as problem:
        return f"cannot be read: {problem}"
    if path.suffix == ".py":
        return lines[0].strip('"').rstrip(".") if lines else ""
    comments = (line.lstrip("# ").strip() for line in takewhile(lambda line: line.startswith("#"), lines))
    return next((text for text in comments if text and not text.startswith("@package")), "")


@cache
def _plugins(path: tuple[str, ...]) -> list[Entry]:
    """Entry points of the three groups in every distribution on the search path; one installed while a process runs it does not notice.

    `importlib.metadata` would find them too, at five times the price, but opens whatever lies under the name ``entry_points.txt``: a named pipe would hold every
    verb for ever, and a file that is no text end it.
    """
    folders = (Path(directory or ".") for directory in dict.fromkeys(path))
    # A folder may hold bytes in its name that are no text; a search path may name zip files and folders that are not there.
    places = [place for folder in folders for suffix in ("dist-info", "egg-info") for place in sorted(folder.glob(f"*.{suffix}"))]
    return [entry for place in places for entry in _scan(place)]


def _scan(place: Path) -> Iterator[Entry]:
    """The entries of our groups in one distribution; a line that cannot be one makes it a broken one, and the other lines are used."""
    origin = place.stem.encode("utf-8", "backslashreplace").decode()
    parser = ConfigParser(delimiters=("=",), comment_prefixes=("#", ";"), allow_no_value=True, strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names as they are typed
    try:
        text = read_text(place / "entry_points.txt", MIB)  # a thousand times more than a usual file has
        if "[harness." in text:
            parser.read_string(text)
    except (FileNotFoundError, NotADirectoryError):
        return  # most distributions have none
    except (OSError, ValueError, NoEntryPoints) as error:
        yield Entry("distribution", origin, "", f"its entry_points.txt cannot be read, so nothing of it is used: {error}", origin)
        return
    for group in GROUPS:
        for name, value in parser.items(f"harness.{group}") if parser.has_section(f"harness.{group}") else ():
            target = (value or "").split("[")[0].strip()  # extras are of no matter here
            module, _, attr = target.partition(":")
            if all(part.isidentifier() for part in f"{module}.{attr}".split(".")):
                yield Entry(group, name, target, origin=origin)
            else:
                line = f"{name} = {value}" if value is not None else name
                reason = f"its entry_points.txt has a line that is no entry point (name = module:attribute): {line[:80]!r}"
                yield Entry("distribution", origin, "", reason, origin)


_CODE = frozenset({".py", ".so", ".pyd", ".c", ".cpp", ".cu", ".json", ".yaml", ".yml", ".toml"})
_IMPORTED = re.compile(r"^[ \t]*(?:from[ \t]+(\w+)[\w.]*[ \t]+import|import[ \t]+([\w., \t]+))", re.MULTILINE)
_OURS = frozenset({"harness", "systems", "suites", "reports"})
_INSTALLED = frozenset({"site-packages", "dist-packages"})


def source_digest(made: Any) -> str:
    """Digest (16 hex digits) of the code behind a class, function or object of a plug-in; "" for what comes with the harness.

    Built-in systems, metrics and suites are versioned by their ``version`` alone. What a third party registers is often a file that is
    being worked on, whose author forgets to raise it; so the code itself counts. It is, of the module that was named: every code and
    configuration file of its top-level package, or the one file of a module without a package; and, unless that is installed among
    other distributions, the same of whatever these files import from the folder it lies in. Weights are not code: they have a digest of
    their own. The code is read now, once a process: a worker asks right after it has imported it.
    """
    kind = made if isinstance(made, type) or hasattr(made, "__qualname__") else type(made)
    top = str(getattr(kind, "__module__", "") or "").partition(".")[0]
    return "" if top in _OURS or top in sys.stdlib_module_names else _digest(top)


@cache
def _digest(top: str) -> str:
    h = hashlib.blake2b(digest_size=8)
    for name, path in sorted(_files(top)):
        try:
            data = path.read_bytes()
        except OSError as error:
            data = f"unreadable: {error.strerror}".encode()
        h.update(f"{name}\0{len(data)}\0".encode("utf-8", "surrogateescape") + data)
    return h.hexdigest()


def _files(top: str) -> Iterator[tuple[str, Path]]:
    """Name below their folder, and path, of the files that a top-level module consists of."""
    module = sys.modules.get(top)
    place = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
    if place is None:
        return  # made by hand, in a test or a notebook: there is no file
    first = Path(place)
    folder = first.parent.parent if hasattr(module, "__path__") and first.suffix else first.parent
    local = not _INSTALLED & set(folder.parts)
    waiting, seen = [top], {top}
    while waiting:
        name = waiting.pop()
        package = folder / name
        found = sorted(_below(package)) if package.is_dir() else [folder / f"{name}.py"] if name != top else [first]
        for path in found:
            yield path.relative_to(folder).as_posix(), path
            if local and path.suffix == ".py":
                for other in _imported(path) - seen - _OURS:
                    if (folder / f"{other}.py").is_file() or (folder / other / "__init__.py").is_file():
                        seen.add(other)
                        waiting.append(other)


def _below(package: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(package):
        folders[:] = [name for name in folders if name != "__pycache__" and not name.startswith(".")]
        yield from (Path(root, name) for name in names if Path(name).suffix in _CODE)


def _imported(path: Path) -> set[str]:
    """Top-level names that a file imports, anywhere in it."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()  # its digest says that it cannot be read
    found: set[str] = set()
    for origin, names in _IMPORTED.findall(text):
        found |= {origin} if origin else {name.split()[0].partition(".")[0] for name in names.split(",") if name.strip()}
    return found
