"""Checkpoints by bundled name or by path."""

from __future__ import annotations

import pytest

from systems.bundled import bundled, located


def test_a_bundled_name_is_a_file_with_its_card():
    assert bundled()["qdac16"] == located("qdac16")
    for path in bundled().values():
        assert path.is_file() and path.with_suffix(".json").is_file()


def test_a_path_is_itself_and_wins_over_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qdac16").mkdir()
    (tmp_path / "m.safetensors").touch()
    assert located("m.safetensors").is_file() and located(tmp_path / "m.safetensors").is_file()
    assert located("qdac16").is_dir()


@pytest.mark.parametrize("name", ["none.safetensors", "folder/none", "/none"])
def test_a_path_with_nothing_there_is_named(name):
    with pytest.raises(FileNotFoundError, match=f"no checkpoint at {name}"):
        located(name)


def test_an_unknown_name_is_told_what_is_bundled():
    with pytest.raises(
        FileNotFoundError, match=r"no checkpoint 'qdac17' comes .*harness train system=qdac17 .*bundled are qdac16, .* more"
    ):
        located("qdac17")
