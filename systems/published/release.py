"""A published codec's weights: where they come from, and where they lie on this machine. Nothing is ever downloaded here.

Licences, training data and pinned commits are as told in public sources, not checked against the hub: read the model card before use.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TRANSFORMERS = ("transformers", "pip install 'speech-systems-harness[hf]'")


@dataclass(frozen=True)
class Release:
    """Somebody's published weights.

    Args:
        title: of the codec.
        hub_id: Hugging Face name.
        licence: of the weights.
        training_data: what they were trained on, as their authors say.
        package: module that loads them, and the line that installs it.
        files: that make a folder complete, of every inner sequence at least one.
        subfolder: of the hub repository, "" for its root.
    """

    title: str
    hub_id: str
    licence: str
    training_data: str
    package: tuple[str, str] = TRANSFORMERS
    files: Sequence[Sequence[str]] = (("config.json",), ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"))
    subfolder: str = ""


@dataclass(frozen=True)
class Found:
    """A complete folder of weights.

    Args:
        folder: absolute.
        label: the folder's name, or the hub id with its revision.
    """

    folder: Path
    label: str


def missing_package(release: Release) -> str | None:
    """Why the release's package cannot be found, with the line that installs it; None where it is installed."""
    module, line = release.package
    return None if importlib.util.find_spec(module) is not None else f"{release.title} needs the package {module}: {line}"


def locate(release: Release, checkpoint: str | None, revision: str | None) -> Found | None:
    """The weights on this machine, or None.

    Args:
        release: what is looked for.
        checkpoint: a folder, or a hub id that is looked up in the local Hugging Face cache; None for the release's own.
        revision: commit of the hub id; None for the one its main branch had when it was fetched. Says nothing about a folder.
    """
    name = checkpoint or release.hub_id
    folder = Path(name).expanduser()
    if folder.is_dir():
        complete = _complete(release, folder.resolve())
        return Found(complete, folder.resolve().name) if complete is not None else None
    snapshot = _cached(name, revision)
    complete = _complete(release, snapshot) if snapshot is not None else None
    return Found(complete, f"{name}@{snapshot.name[:12]}") if complete is not None and snapshot is not None else None


def missing_weights(release: Release, checkpoint: str | None, revision: str | None) -> str | None:
    """None when `locate` finds them, else one sentence: what was looked for, how to get it, and under which licence."""
    if locate(release, checkpoint, revision) is not None:
        return None
    name = checkpoint or release.hub_id
    files = ", ".join(" or ".join(choice) for choice in release.files)
    if Path(name).expanduser().is_dir():
        return f"the folder {name} lacks some of {files}"
    fetch = f"hf download {name if name.count('/') == 1 else release.hub_id}" + (f" --revision {revision}" if revision else "")
    return (
        f"no weights '{name}'{f' of revision {revision[:12]}' if revision else ''} in the local Hugging Face cache, and no folder of that "
        f"name: {fetch} (licence: {release.licence}), or checkpoint=FOLDER (with {files}), or weights=random for speed only"
    )


def _complete(release: Release, folder: Path) -> Path | None:
    for place in (folder / release.subfolder, folder):
        if all(any((place / name).is_file() for name in choice) for choice in release.files):
            return place
    return None


def _cached(hub_id: str, revision: str | None) -> Path | None:
    """The folder of a hub id in the local Hugging Face cache."""
    if hub_id.count("/") != 1 or hub_id.startswith(("/", ".", "~")) or importlib.util.find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
