"""Digests of items and datasets: they follow the content and nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from harness.api import Item
from harness.data.digests import file_digest, item_digest
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


def test_digests_of_settled_files_are_made_once_and_of_fresh_ones_every_time(tmp_path, monkeypatch):
    path = sound(tmp_path / "a.wav", 1)
    item = Item("a", "set", path)
    first = item_digest(item)
    data = path.read_bytes()
    monkeypatch.setattr("harness.data.digests._state", lambda status: (0, 0, 0, 0, 0))  # written again within a tick of the clock
    path.write_bytes(bytes(reversed(data)))
    assert item_digest(item) != first
    path.write_bytes(data)
    monkeypatch.undo()
    monkeypatch.setattr(time, "time_ns", lambda: path.stat().st_ctime_ns + 3_000_000_000)
    assert item_digest(item) == first
    monkeypatch.setattr("harness.data.digests.open_regular", lambda path: pytest.fail("read again"))
    assert item_digest(item) == first


@pytest.mark.cases(
    "A3", before="two missing files with equal text shared one key: one got the other's number", after="a key of its own for every place"
)
def test_two_files_that_are_not_there_share_nothing(tmp_path):
    def of(name, **parts):
        return item_digest(Item("a", "set", tmp_path / name, "the same text", **parts))

    assert of("a.wav") != of("b.wav")
    assert of("a.wav") == of("a.wav")
    assert of("c.wav", prompt_path=tmp_path / "d.wav") != of("c.wav", prompt_path=tmp_path / "e.wav")
    for name in ("f.wav", "g.wav"):
        (tmp_path / name).mkdir()
    assert len({of(name) for name in "abfg"}) == 4
    assert of("odd\udcff.wav") != of("odd\udcfe.wav")  # names that are no UTF-8


def test_whatever_lies_under_a_name_a_digest_comes_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    found = [file_digest(tmp_path / name) for name in ("pipe", "loop", "a\0b", "x" * 300)]
    assert [d.partition(":")[0] for d in found] == ["unreadable"] * 4
    assert file_digest(Path("/dev/zero")).startswith("unreadable:")


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
