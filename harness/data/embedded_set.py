"""The set of synthetic utterances that ships inside the package, checked against its own hashes."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from harness.errors import ManifestError

ROOT = Path(__file__).parent / "embedded"
MANIFEST = "manifest.jsonl"
DESCRIPTION = "sentences of our own spoken by flite, hibari and espeak-ng: synthetic speech, for smoke tests and comparisons, not for published numbers"
LICENCE = (
    "sentences and audio: Apache-2.0, as this package; synthetic speech made with Flite (free licence of Carnegie Mellon University: "
    "use and distribution with notice), with hibari (Apache-2.0) and with espeak-ng (GPL-3.0-or-later, of which only the audio it "
    "produced is shipped)"
)


def rows(root: Path = ROOT) -> list[dict[str, Any]]:
    """The lines of the manifest."""
    return [json.loads(line) for line in (root / MANIFEST).read_text(encoding="utf-8").splitlines()]


@functools.cache
def verify(root: Path = ROOT) -> None:
    """Compare size and SHA-256 of every file with the manifest; once per process and folder.

    Raises:
        ManifestError: files missing or changed, all named.
    """
    wrong = {}
    for row in rows(root):
        for prefix in ("", "prompt_"):
            name, size, sha = row[f"{prefix}audio"], row[f"{prefix}bytes"], row[f"{prefix}sha256"]
            file = root / name
            if name in wrong:
                continue
            if not file.is_file():
                wrong[name] = "missing"
            elif file.stat().st_size != size or hashlib.sha256(file.read_bytes()).hexdigest() != sha:
                wrong[name] = "changed"
    if wrong:
        listed = "\n  ".join(f"{name}: {what}" for name, what in sorted(wrong.items()))
        raise ManifestError(f"the embedded set in {root} is damaged; install the package again:\n  {listed}")
