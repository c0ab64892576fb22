"""The local caches of the hubs where weights are published: where a repository's files lie on this machine. Nothing is downloaded here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

FileChoices = Sequence[Sequence[str]]
"""What a folder must hold: of every inner sequence at least one file."""


@dataclass(frozen=True)
class HubFiles:
    """Weights in somebody's repository on Hugging Face, and what of it is needed."""

    hub_id: str  # "owner/name"
    files: FileChoices  # that make a folder complete
    revision: str = ""  # commit, branch or tag; "" for what the main branch has
    licence: str = ""  # of the weights, as told in public sources; "" where none was
    also: Sequence[str] = ("*.json", "*.txt", "*.yaml", "*.model")  # patterns of further files that are taken where there are some
    subfolder: str = ""  # of the repository, "" for its root
    others: Sequence[str] = ()  # further ids under which the same is published, on either hub

    def complete(self, folder: Path) -> Path | None:
        """Where below a folder all files are: in the subfolder or, copied out of it, in the folder itself."""
        return next((place for place in (folder / self.subfolder, folder) if holds(place, self.files)), None)

    def located(self) -> tuple[Path, str] | None:
        """The complete folder in a local cache, and the hub id with its revision; None where there is none."""
        for hub_id in (self.hub_id, *self.others):
            for snapshot, revision in cached(hub_id, self.revision) if self.revision else cached_anywhere(hub_id):
                if (place := self.complete(snapshot)) is not None:
                    return place, f"{hub_id}@{revision}"
        return None


def holds(folder: Path, files: FileChoices) -> bool:
    """Whether a folder has of every choice at least one file."""
    return all(any((folder / name).is_file() for name in choice) for choice in files)


def is_hub_id(name: str) -> bool:
    """Whether it can name a repository, and is no path."""
    return name.count("/") == 1 and not name.startswith(("/", ".", "~")) and not name.endswith("/")


def cache_folder() -> Path:
    """Of Hugging Face on this machine, by the environment variables that its own library reads."""
    env = os.environ
    home = env.get("HF_HOME") or Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE") or Path(home) / "hub").expanduser()


def cached(hub_id: str, revision: str = "") -> Iterator[tuple[Path, str]]:
    """Folders of a repository in the local Hugging Face cache, each with the first 12 digits of its commit.

    Args:
        hub_id: what is no hub id has none.
        revision: commit, branch or tag; "" gives all there are, that of the main branch first.
    """
    if not is_hub_id(hub_id):
        return
    repository = cache_folder() / f"models--{hub_id.replace('/', '--')}"
    ref = repository / "refs" / (revision or "main")
    commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else revision
    for snapshot in sorted(repository.glob("snapshots/*"), key=lambda path: (path.name != commit, path.name)):
        if not revision or snapshot.name == commit:
            yield snapshot, snapshot.name[:12]


def cached_anywhere(hub_id: str) -> Iterator[tuple[Path, str]]:
    """Folders of a repository in the caches of Hugging Face and of ModelScope, which has had several layouts, each with its revision."""
    yield from cached(hub_id)
    if is_hub_id(hub_id):
        home = Path(os.environ.get("MODELSCOPE_CACHE") or Path.home() / ".cache" / "modelscope" / "hub").expanduser()
        for folder in (home / "models" / hub_id, home / hub_id, home / "hub" / "models" / hub_id):
            if folder.is_dir():
                yield folder, "modelscope"


def on_modelscope_only(hub_id: str) -> bool:
    """Whether its owner publishes on ModelScope under that name and has none on Hugging Face."""
    return hub_id.startswith(("iic/", "damo/"))
