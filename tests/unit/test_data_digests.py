"""Digests of items and datasets: they follow the content and nothing else."""

from __future__ import annotations

import os
import time

import pytest

from harness.api import Item
from harness.data.manifests import item_digest
from tests.stubs.small_manifests import jsonl, load, sound

# -- digests ---------------------------------------------------------------------------------------------------------


def test_item_digest_follows_content_and_nothing_else(tmp_path):
    a, b, copy = sound(tmp_path / "a.wav", 1), sound(tmp_path / "b.wav", 2), sound(tmp_path / "sub/copy.wav", 1)
    base = Item("a", "set", a, "text", "en", "spk", b, "prompt")
    digest = item_digest(base)
    assert len(digest) == 32
    assert int(digest, 16) >= 0
    assert item_digest(Item("other id", "other", copy, "text", "en", "other", b, "prompt", True, {"x": "y"})) == digest
    others = [
        Item("a", "set", b, "text", "en", "spk", b, "prompt"),
        Item("a", "set", a, "text", "en", "spk", a, "prompt"),
        Item("a", "set", b, "text", "en", "spk", a, "prompt"),
        Item("a", "set", None, "text", "en", "spk", b, "prompt"),
        Item("a", "set", tmp_path / "missing.wav", "text", "en", "spk", b, "prompt"),
        Item("a", "set", tmp_path, "text", "en", "spk", b, "prompt"),
        Item("a", "set", a, "texte", "n", "spk", b, "prompt"),
        Item("a", "set", a, "text", "zh", "spk", b, "prompt"),
        Item("a", "set", a, "text", "en", "spk", b, "prompts"),
    ]
    assert len({digest, *map(item_digest, others)}) == len(others) + 1


def test_changed_bytes_under_the_same_path_change_the_digest(tmp_path):
    path = sound(tmp_path / "a.wav", 1)
    before, status, size = item_digest(Item("a", "set", path)), path.stat(), path.stat().st_size
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    time.sleep(0.02)  # the resolution of the file system's clock
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # same size, same modification time
    assert path.stat().st_size == size
    assert item_digest(Item("a", "set", path)) != before


def test_file_digests_are_read_once(tmp_path, monkeypatch):
    path = sound(tmp_path / "a.wav", 1)
    item = Item("a", "set", path)
    first = item_digest(item)
    monkeypatch.setattr("pathlib.Path.open", lambda *a, **k: pytest.fail("read again"))
    assert item_digest(item) == first


def test_dataset_digest_is_of_the_content_wherever_it_lies(tmp_path):
    rows = [{"id": "a", "audio": "a.wav", "text": "x"}, {"id": "b", "text": "y"}]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = (load("jsonl", jsonl(tmp_path / n, *rows)).digest for n in ("one", "two"))
    assert one == two
    changes = [
        rows[::-1],
        rows[:1],
        [{**rows[0], "text": "z"}, rows[1]],
        [{**rows[0], "audio": "c.wav"}, rows[1]],
        [{**rows[0], "mood": "x"}, rows[1]],
    ]
    assert len({one, *(load("jsonl", jsonl(tmp_path / "one", *c)).digest for c in changes)}) == 6
