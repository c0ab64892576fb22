"""Finding checkpoints: where they lie, digests of what they hold, and what is said where there is none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from harness.errors import CheckpointError, MissingDependency
from harness.judges.checkpoints import Loading, absence, content_digest, locate
from harness.judges.recognisers import FasterWhisper, FunAsr, Whisper
from harness.judges.speakers import Ecapa, WavLm, WeSpeaker
from tests.stubs.checkpoint_folders import copy

pytestmark = pytest.mark.usefixtures("offline")


# --- finding checkpoints


def test_locate_folder_hub_cache_and_absence(tmp_path: Path) -> None:
    required = (("config.json",), ("a.bin", "b.bin"))
    snapshots = tmp_path / "hub" / "models--org--name" / "snapshots"
    for revision in ("aaa", "bbb"):
        (snapshots / revision).mkdir(parents=True)
        for name in ("config.json", "b.bin"):
            (snapshots / revision / name).write_text(revision)
    main = snapshots.parent / "refs" / "main"
    main.parent.mkdir()
    main.write_text("bbb")
    found = locate("org/name", required)
    assert found is not None and found.label == "org/name@bbb" and found.folder == (snapshots / "bbb").resolve()
    local = locate(str(snapshots / "aaa"), required)
    assert local is not None and local.label == "aaa"
    alias = locate("short", required, hub_ids=("org/name",))
    assert alias is not None and alias.label == "org/name@bbb"
    modelscope = tmp_path / "modelscope" / "models" / "org" / "other"
    copy(snapshots / "aaa", modelscope)
    other = locate("org/other", required)
    assert other is not None and other.folder == modelscope.resolve()
    assert absence("org/name", required, "do this") is None
    assert "do this" in str(absence("org/none", required, "do this"))
    (snapshots / "aaa" / "b.bin").unlink()
    assert "lacks some of config.json, a.bin or b.bin" in str(absence(str(snapshots / "aaa"), required, "do this"))
    for hostile in ("../x", "/etc/passwd", "~/x", "a/b/c", ""):
        assert locate(hostile, required) is None


def test_digest_follows_content(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"a" * 10)
    two.write_bytes(b"b" * 10)
    digest = content_digest([one, two])
    assert content_digest([two, one]) == digest
    assert content_digest([one, two], extra="x") != digest
    two.write_bytes(b"c" * 10)
    assert content_digest([one, two]) != digest


@pytest.mark.cases(
    "A3",
    before="a judge's model replaced while it loads: its numbers under the new file's digest",
    after="refused: the files were replaced while they were loaded",
)
def test_a_digest_is_of_what_was_loaded(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(b"a" * 10)
    loading = Loading([weights])
    assert loading.digest() == content_digest([weights])
    status = weights.stat()
    weights.write_bytes(b"b" * 10)
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(CheckpointError, match="were replaced while they were loaded"):
        loading.digest()


@pytest.mark.parametrize("judge", [FunAsr, Whisper, Ecapa, WavLm, WeSpeaker, FasterWhisper])
def test_nothing_here_is_one_sentence_and_no_wait(judge: Any) -> None:
    reason = judge.missing()
    assert reason and "\n" not in reason
    with pytest.raises(MissingDependency) as caught:
        judge()
    assert str(caught.value) == reason
