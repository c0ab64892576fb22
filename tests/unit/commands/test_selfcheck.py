"""The self-check holds for what is the same, and names what is not."""

import pytest

from harness.cli import main
from harness.commands import selfcheck
from harness.commands.selfcheck import PLAIN, Circumstance, render
from harness.settings.config import compose
from tests.stubs.consoles import Silent

SERIAL = {**PLAIN, "kind": "serial"}


@pytest.fixture
def few(monkeypatch):
    """Three circumstances without worker processes; the others are `harness selfcheck`'s own matter."""
    found = [
        Circumstance("plain", SERIAL),
        Circumstance("the same again", SERIAL),
        Circumstance("items in reversed order", SERIAL, reverse=True),
    ]
    monkeypatch.setattr(selfcheck, "circumstances", lambda: found)


def findings(root, *words):
    config = compose(["dataset=jsonl", f"dataset.root={root}", *words])
    return list(selfcheck.check(config, "test", Silent()))


def test_the_same_numbers_every_time(make_dataset, stubs, few):
    found = findings(
        make_dataset(["fine", "raise", "fine"]), "systems=[stub_echo,opus16]", "metrics=[stub_peak,stub_trouble,si_sdr_db,rtf]"
    )
    assert [f.held for f in found] == [True, True]
    assert all(f.records == 24 and f.differing == 0 and f.codes == 0 for f in found)  # the recordings too; times are left out


def test_a_system_that_throws_dice_is_caught(make_dataset, stubs, few):
    found = findings(make_dataset(["a", "b"]), "systems=[stub_echo]", "+systems.stub_echo.fault=dice", "metrics=[stub_peak]")
    assert [f.held for f in found] == [False, False]
    assert "stub_peak" in found[0].example
    assert "DIFFERS" in render(found)


def test_a_system_that_remembers_the_item_before_is_caught(make_dataset, stubs, few):
    again, reversed_order = findings(
        make_dataset(["a", "b", "c"]), "systems=[stub_echo]", "+systems.stub_echo.fault=memory", "metrics=[stub_peak]"
    )
    assert again.held
    assert not reversed_order.held


def test_a_tolerance_allows_what_it_says():
    one, other = ({("s", "{}", "i", 0, "m"): ("ok", value, "")} for value in (1.0, 1.0 + 5e-6))
    for tolerance, held in ((0.0, False), (1e-5, True)):
        found = selfcheck._compared(
            selfcheck._Results(one, {}), selfcheck._Results(other, {}), Circumstance("x", SERIAL, tolerance=tolerance)
        )
        assert found.held == held
        assert found.largest == pytest.approx(5e-6, rel=1e-3)


def test_the_command(make_dataset, stubs, few, capsys):
    root = make_dataset(["fine", "fine"])
    words = ["selfcheck", "dataset=jsonl", f"dataset.root={root}", "metrics=[stub_peak]"]
    assert main([*words, "systems=[stub_echo]"]) == 0
    assert capsys.readouterr().out.count(" ok") == 2
    assert main([*words, "systems=[stub_echo]", "+systems.stub_echo.fault=dice"]) == 1


def test_every_executor_is_among_the_circumstances():
    kinds = {c.executor["kind"] for c in selfcheck.circumstances()}
    assert {"local", "serial"} <= kinds
    assert sum(c.reverse for c in selfcheck.circumstances()) == 1
