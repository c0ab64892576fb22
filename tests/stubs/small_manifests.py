"""Manifests and sounds written, and datasets loaded, in one line each."""

from __future__ import annotations

import json

import numpy as np
import soundfile

from harness.data.manifests import DatasetConfig, load_dataset

GOOD = {"id": "ok", "text": "fine"}


def sound(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).normal(0, 0.1, 1600), 16000)
    return path


def load(kind, root=None, **options):
    return load_dataset(DatasetConfig("set", kind, root, **options))


def jsonl(folder, *rows, name="manifest.jsonl"):
    (folder / name).write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")
    return folder
