"""A published codec's weights: where they come from, and where they lie on this machine. Nothing is downloaded here.

Licences, training data and pinned commits are as told in public sources, not checked against the hub: read the model card before use.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.api import HubFiles

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


def wanted(release: Release, checkpoint: str | None, revision: str | None) -> HubFiles | None:
    """What of a hub is asked for; None where a folder is.

    Args:
        release: whose files.
        checkpoint: a folder, or another hub id with them; None for the release's own.
        revision: commit of the hub id; None for what its main branch has.
    """
    name = checkpoint or release.hub_id
    if Path(name).expanduser().is_dir():
        return None
    licence = release.licence if name == release.hub_id else ""
    return HubFiles(name, release.files, revision or "", licence, subfolder=release.subfolder)


def locate(release: Release, checkpoint: str | None, revision: str | None) -> Found | None:
    """The weights on this machine, or None.

    Args:
        release, checkpoint: see `wanted`; a hub id is looked up in the local Hugging Face cache.
        revision: as there; None for the one its main branch had when it was fetched. Says nothing about a folder.
    """
    hub = wanted(release, checkpoint, revision)
    if hub is not None:
        there = hub.located()
        return Found(*there) if there is not None else None
    folder = Path(checkpoint or release.hub_id).expanduser().resolve()
    complete = HubFiles("", release.files, subfolder=release.subfolder).complete(folder)
    return Found(complete, folder.name) if complete is not None else None


def missing_weights(release: Release, checkpoint: str | None, revision: str | None) -> str | None:
    """None when `locate` finds them, else one sentence: what was looked for, how to get it, and under which licence."""
    if locate(release, checkpoint, revision) is not None:
        return None
    hub = wanted(release, checkpoint, revision)
    files = ", ".join(" or ".join(choice) for choice in release.files)
    if hub is None:
        return f"the folder {checkpoint or release.hub_id} lacks some of {files}"
    fetch = f"hf download {hub.hub_id if hub.hub_id.count('/') == 1 else release.hub_id}" + (f" --revision {revision}" if revision else "")
    return (
        f"no weights '{hub.hub_id}'{f' of revision {revision[:12]}' if revision else ''} in the local Hugging Face cache, and no folder of "
        f"that name: `harness fetch` with the system's name, or {fetch} (licence: {release.licence}), or checkpoint=FOLDER (with {files}), "
        "or weights=random for speed only"
    )
