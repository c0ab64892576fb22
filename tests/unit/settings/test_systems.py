"""Systems by name: every YAML is found, is one, and composes; defaults put in what another says."""

from __future__ import annotations

import inspect

import pytest

from harness.commands.doctor import state_of
from harness.errors import UnknownName
from harness.settings.config import compose
from harness.settings.registry import SYSTEMS, config_files, entries, resolve
from harness.settings.systems import expanded, standing, system_section
from harness.settings.training import planned, trainers

NAMES = list(config_files("systems"))


def test_every_name_is_one_file():
    folder = next(iter(config_files("systems").values())).parents[1]
    assert folder.name == "conf" and sorted(NAMES) == sorted(path.stem for path in folder.rglob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_every_system_says_only_what_its_family_takes(name):
    section = system_section(name)
    section.pop("training", None)
    kind = resolve("systems", section.pop("family"))
    inspect.signature(kind).bind(**{key: value for key, value in section.items() if key != "tree"})


def test_all_systems_compose_together_as_their_files_say():
    told = {name: system_section(name) for name in NAMES}
    for section in told.values():
        section.pop("training", None)
    assert compose([f"systems=[{','.join(NAMES)}]"])["systems"] == expanded(told)
    assert {section["family"] for section in told.values()} <= set(SYSTEMS) <= set(entries("systems"))


def test_defaults_begin_with_what_others_say(tmp_path):
    folder = tmp_path / "systems"
    folder.mkdir()
    (folder / "base.yaml").write_text("family: noise\nseed: 1\nmore: {a: 1, b: [1, 2]}\ntraining: {steps: 3}\n")
    (folder / "second.yaml").write_text("defaults: [base]\nmore: {a: 2}\n")
    (folder / "mine.yaml").write_text("defaults: [second]\nseed: null\nmore: {b: [3]}\n")
    assert system_section("mine", tmp_path) == {
        "family": "noise", "seed": None, "more": {"a": 2, "b": [3]}, "training": {"steps": 3},
    }  # fmt: skip
    found = compose(["systems=[mine,opus16]", "systems.mine.more.a=5"], tmp_path)["systems"]
    assert found["mine"] == {"family": "noise", "seed": None, "more": {"a": 5, "b": [3]}} and list(found) == ["mine", "opus16"]


def test_a_users_file_wins_over_one_of_the_package_and_may_begin_with_it(tmp_path):
    (tmp_path / "systems").mkdir()
    (tmp_path / "systems" / "louder.yaml").write_text("# @package systems.louder\ndefaults: [noise]\nseed: 5\n")
    assert compose(["systems=[louder]"], tmp_path)["systems"]["louder"] == {**system_section("noise"), "seed": 5}


def test_no_such_system():
    with pytest.raises(UnknownName, match="qdac16"):
        system_section("qdac17")


def test_a_list_says_of_each_system_what_the_system_itself_says():
    for name in NAMES:
        section = expanded({name: system_section(name)})[name]
        section.pop("training", None)
        said, _ = state_of(section.pop("family"), section)
        state, what = standing(name)
        assert state == said, (name, state, what, said)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("defaults: [qdac16]\nnum_codebooks: 3  # of 16\n", ("ready", "")),
        ("defaults: [qdac16]\ncheckpoint: mine\n", ("needs weights", "harness train system=mine data=MANIFEST")),
        ("defaults: [qdac16]\ncheckpoint: null\n", ("needs weights", "checkpoint=")),
        ("defaults: [encodec6]\ncheckpoint: nobody/nothing\n", ("needs weights", "harness fetch mine")),
        ("defaults: [socodec120]\nssl: null\nvocoder: null\n", ("needs weights", "ssl=, vocoder=")),
        ("defaults: [socodec120_tts]\ncodec: {checkpoint: other, ssl: speech_encoder}\n", ("needs weights", "harness train system=other data=MANIFEST")),
        ("defaults: [mine]\n", ("ready", "")),
    ],
)  # fmt: skip
def test_what_a_users_system_needs(tmp_path, text, expected):
    pytest.importorskip("transformers")
    (tmp_path / "systems").mkdir()
    (tmp_path / "systems" / "mine.yaml").write_text(text)
    assert standing("mine", tmp_path) == expected


def test_a_package_or_program_that_is_not_there(monkeypatch):
    from harness.settings import systems

    monkeypatch.setattr(systems, "find_spec", lambda name: None)
    monkeypatch.setattr(systems.shutil, "which", lambda name: None)
    assert standing("opus16") == ("needs package", "av") and standing("codec2_700c") == ("needs program", "c2enc")
    assert standing("recorded") == ("needs setting", "root=") and standing("noise") == ("ready", "")


def test_nothing_is_called_trained_here():
    assert not [name for name, path in config_files("systems").items() if "trained here" in path.read_text()]


@pytest.mark.parametrize("name", [name for name in NAMES if system_section(name)["family"] in trainers()])
def test_what_a_yaml_says_of_training_its_recipe_understands(name):
    assert planned([f"system={name}", "data=MANIFEST"]).family == system_section(name)["family"]
