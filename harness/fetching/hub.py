"""Repositories of Hugging Face, or of what HF_ENDPOINT names: looked at, and files of them downloaded into the library's own cache.

Transfers resume where they stopped. What arrived is compared with the digests that the hub's interface told: SHA-256 of large files, git's
of small ones. Its library goes on with the token that it finds (HF_TOKEN, `hf auth login`); nothing here reads or prints one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.errors import HarnessError, MissingDependency
from harness.hub import HubFiles, cache_folder

TIMEOUT_S = 10.0
"""For an answer of the hub, not for a transfer."""


@dataclass(frozen=True)
class HubFile:
    """A file of a repository."""

    name: str  # its path there
    size: int  # in bytes
    sha256: str = ""  # of its bytes; "" where the hub keeps it in git alone
    git: str = ""  # its git object's name, of files in git alone


@dataclass(frozen=True)
class Repository:
    """A repository at one commit, as the hub tells of it."""

    hub_id: str  # "owner/name"
    asked: str  # the commit, branch or tag that was asked for; "" for the main branch
    commit: str  # that this is
    licence: str  # by its model card; "" where that says none
    gated: bool  # files are given to those only who accepted conditions
    files: tuple[HubFile, ...]

    def chosen(self, wanted: HubFiles) -> tuple[HubFile, ...]:
        """What of it is needed, the largest first: an interrupted download then never looks complete by its small files.

        Raises:
            MissingDependency: it lacks a file.
        """
        there = {file.name: file for file in self.files}
        inside = f"{wanted.subfolder}/" if wanted.subfolder and any(name.startswith(f"{wanted.subfolder}/") for name in there) else ""
        here = {name.removeprefix(inside): file for name, file in there.items() if name.startswith(inside)}
        names: set[str] = set()
        for choice in wanted.files:
            first = next((name for name in choice if name in here), None)
            if first is None:
                raise MissingDependency(f"{self.hub_id} at {self.commit[:12]} has no {' or '.join(choice)}")
            stem, dot, _ = first.partition(".safetensors.index.json")
            names |= {first, *(name for name in here if dot and fnmatch(name, f"{stem}-*-of-*.safetensors"))}
        names |= {name for name in here if "/" not in name and any(fnmatch(name, pattern) for pattern in wanted.also)}
        return tuple(sorted((here[name] for name in names), key=lambda file: (-file.size, file.name)))


def look(hub_id: str, revision: str = "") -> Repository:
    """What the hub tells of a repository.

    Args:
        hub_id: "owner/name".
        revision: commit, branch or tag; "" for the main branch.

    Raises:
        MissingDependency: it is not there, is not shown to this user, or the hub cannot be reached; one sentence.
    """
    api = _library(hub_id).HfApi(endpoint=_endpoint())
    try:
        info = api.model_info(hub_id, revision=revision or None, timeout=TIMEOUT_S, files_metadata=True)
    except Exception as error:  # its classes change with the library it speaks HTTP by
        raise MissingDependency(_sentence(error, hub_id, revision)) from error
    card, tags = getattr(info, "card_data", None), info.tags or ()
    told = next((tag.partition(":")[2] for tag in tags if tag.startswith("license:")), "")
    files = tuple(
        HubFile(s.rfilename, int(s.size or 0), s.lfs.sha256 if s.lfs else "", "" if s.lfs else s.blob_id or "") for s in info.siblings or ()
    )
    licence = str(getattr(card, "license_name", None) or getattr(card, "license", None) or told)
    return Repository(hub_id, revision, str(info.sha), licence, bool(info.gated), files)


def download(repository: Repository, files: Iterable[HubFile]) -> None:
    """Files into the library's cache, each compared before it gets there with the digest that the hub told.

    Raises:
        MissingDependency: refused, interrupted, or of other bytes; one sentence.
        OSError: it cannot be written.
    """
    library = _library(repository.hub_id)
    blobs = cache_folder() / f"models--{repository.hub_id.replace('/', '--')}" / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    for file in files:
        try:
            _transfer(repository, file, blobs)
            path = library.hf_hub_download(  # has the bytes: gives them their name in the cache
                repository.hub_id, file.name, revision=repository.asked or None, cache_dir=str(cache_folder()), endpoint=_endpoint()
            )
        except HarnessError:
            raise
        except Exception as error:  # as above
            raise MissingDependency(_sentence(error, repository.hub_id, repository.asked, file)) from error
        if repository.commit not in Path(path).parts:
            raise MissingDependency(f"{repository.hub_id} got another commit than {repository.commit[:12]} meanwhile; fetch it again")


def _transfer(repository: Repository, file: HubFile, blobs: Path) -> None:
    """The bytes of a file to their place. The library's own download begins anew after each interruption; its parts do not have to."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils._headers import build_hf_headers

    url = hf_hub_url(repository.hub_id, file.name, revision=repository.commit, endpoint=_endpoint())
    headers = build_hf_headers()
    found = get_hf_file_metadata(url, headers=headers, timeout=TIMEOUT_S, endpoint=_endpoint())
    if not found.etag:
        raise MissingDependency(
            f"{_endpoint() or 'the hub'} tells no digest of '{file.name}' of {repository.hub_id}: it does not answer as a hub does"
        )
    blob, part = blobs / found.etag, blobs / f"{found.etag}.part"
    if blob.exists():
        return
    if urlsplit(found.location).netloc != urlsplit(url).netloc:  # a store of files, which is not to see the token
        headers.pop("authorization", None)
    with part.open("ab") as out:
        if out.tell() > file.size:
            out.truncate(0)
        http_get(found.location, out, resume_size=out.tell(), headers=headers, expected_size=file.size, displayed_filename=file.name)
    digest = _digest(part, bool(file.sha256))
    if digest != (file.sha256 or file.git or digest):
        part.unlink()
        raise MissingDependency(
            f"'{file.name}' of {repository.hub_id} arrived with other bytes than the hub tells of: {digest[:16]}... for "
            f"{(file.sha256 or file.git)[:16]}...; they were removed and are not used. Fetch it again; where that repeats, something between "
            "here and the hub changes it"
        )
    part.rename(blob)


def _digest(path: Path, sha256: bool) -> str:
    h: Any = hashlib.sha256() if sha256 else hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            h.update(block)
    return str(h.hexdigest())


def _endpoint() -> str | None:
    """Read now: the library reads it once, when it is imported."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _library(hub_id: str) -> Any:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise MissingDependency(f"HF_HUB_OFFLINE is set, so {hub_id} is not asked for; unset it")
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingDependency(f"{hub_id} is fetched by huggingface_hub, which is not installed: pip install huggingface_hub") from error
    return huggingface_hub


def _sentence(error: Exception, hub_id: str, revision: str, file: HubFile | None = None) -> str:
    """What went wrong, without the library's text, which may hold addresses with signatures."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    at = f" at {revision[:12]}" if revision else ""
    hub = _endpoint() or "https://huggingface.co"
    status = getattr(getattr(error, "response", None), "status_code", None)
    token = "a token of your own in HF_TOKEN (or by `hf auth login`)"
    if "GatedRepoError" in kinds:
        return f"{hub_id} is gated: accept its conditions at {hub}/{hub_id}, then give {token}"
    if "RevisionNotFoundError" in kinds:
        return f"{hub_id} has no revision '{revision}' on {hub}"
    if "RepositoryNotFoundError" in kinds or status in (401, 403):
        return f"there is no repository {hub_id} on {hub}, or it is shown only to those who give {token}"
    if "EntryNotFoundError" in kinds and file is not None and "LocalEntryNotFoundError" not in kinds:
        return f"{hub_id}{at} has no file '{file.name}'"
    if status is not None:
        return f"{hub} answered {status} when asked for {hub_id}{at}; try again later"
    if isinstance(error, OSError) and error.errno is not None and file is not None and "ConnectionError" not in kinds:
        return f"'{file.name}' of {hub_id} cannot be written below {cache_folder()}: {error.strerror}"
    if file is not None:
        return (
            f"the transfer of '{file.name}' of {hub_id} ({file.size / 1e6:.1f} MB) stopped ({type(error).__name__}): "
            "the same command goes on where it stopped"
        )
    return (
        f"{hub} cannot be reached ({type(error).__name__}), so {hub_id} cannot be fetched; on a machine without a network copy its folder"
    )
