"""What the workers of a run will import, as far as the words of its command tell. Itself it imports next to nothing."""

from __future__ import annotations

from collections.abc import Sequence

from harness.workers.preloading import preload

ALWAYS = ("harness.running.scoring", "harness.running.predicting")
LIBRARIES = {
    "pesq": ("pesq",),
    "stoi": ("pystoi.stoi",),
    "estoi": ("pystoi.stoi",),
    "mcd": ("pyworld",),
    "f0": ("pyworld",),
    "wer": ("faster_whisper",),
    "cer": ("faster_whisper",),
    "dwer": ("faster_whisper",),
    "sim": ("torch",),
    "mos": ("torch",),
}
"""What takes long to import, by the first part of a metric's name."""


def preload_for(words: Sequence[str]) -> None:
    """Starts the server of `harness.workers.preloading`, unless the words ask for another kind of workers."""
    said = dict(word.partition("=")[::2] for word in words)
    if said.get("executor", "local") != "local" or said.get("executor.kind", "local") != "local":
        return
    named = said.get("metrics", "null").strip("[]").split(",")
    names = LIBRARIES if {"null", "full"}.intersection(named) else {name.strip().partition("_")[0] for name in named}
    preload(dict.fromkeys([*ALWAYS, *(module for name in names for module in LIBRARIES.get(name, ()))]))
