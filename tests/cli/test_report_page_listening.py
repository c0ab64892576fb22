"""A listening test through a real browser and back: what was answered is what is read."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import harness.commands.listen
from harness.cli import main
from reports.listening import Session, read_key


@pytest.fixture
def run(page_tests: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    made = page_tests.gallery(tmp_path / "run", 6).run()
    # A run folder of the store's own would need a real run; what follows takes any `OpenedRun`.
    monkeypatch.setattr(harness.commands.listen, "open_run", lambda _: made)
    return made


def begun(browser: Any, run: Any, *words: str) -> Session:
    assert main(["listen", str(run.path), *words]) == 0
    browser.open(run.path / harness.commands.listen.PAGE, 400)
    browser.js("document.getElementById('listener').value = ' An <b>na</b> '; document.querySelector('form button').click()")
    return read_key(run.path / harness.commands.listen.KEY)


def answered(browser: Any, run: Any) -> str:
    """The result of the downloaded answers, read by the command."""
    assert browser.js("document.querySelector('a.download').download").endswith("_An-b-na-b-.csv")
    (run.path / "ratings.csv").write_text(browser.js("csv()"), encoding="utf-8")
    browser.js("document.querySelector('a.download').click()")
    assert browser.js("saved") and browser.complaints() == [] and browser.requests() == []
    assert main(["listen", str(run.path), "--answers", str(run.path / "ratings.csv")]) == 0
    return (run.path / "listening.md").read_text(encoding="utf-8")


def test_rating(browser: Any, run: Any) -> None:
    session = begun(browser, run, "--systems", "opus6k,qdac4", "--trials", "2")
    levels = {"opus6k": 60, "qdac4": 25, "reference": 95}
    for trial in session.trials:
        # The digit works from the heading, where the focus is; the reference is 0.
        browser.press("1", 49, "1")
        browser.until("stage.current && stage.current.name === 'A' && answers[at].plays === 1")
        assert browser.js("document.querySelectorAll('.rate').length") == 3 and browser.js("next.disabled")
        for i, name in enumerate(trial.samples):
            slider = f"document.querySelectorAll('.rate input')[{i}]"
            browser.js(f"{slider}.value = {levels[name]}; {slider}.dispatchEvent(new Event('input'))")
        assert not browser.js("next.disabled") and browser.js("document.documentElement.scrollWidth") <= 400
        browser.js("next.click()")
    text = answered(browser, run)
    for name, value in levels.items():
        assert f"| {name} | {value}.0 mean rating<br>[{value}.0, {value}.0] | 2 |" in text
    assert "2 trials, 1 listener" in text


def test_abx(browser: Any, run: Any) -> None:
    session = begun(browser, run, "--design", "abx", "--systems", "opus6k", "--trials", "4")
    for trial in session.trials:
        right = trial.samples.index(trial.samples[2])
        assert browser.js("document.querySelectorAll('.sample').length") == 3
        browser.js(f"document.querySelectorAll('.choice input')[{right}].click(); next.click()")
    assert "100 % right" in answered(browser, run) and "4 of 4" in (run.path / "listening.md").read_text()


def test_key_of_another_test_is_not_overwritten(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["listen", str(run.path), "--trials", "2", "--systems", "opus6k"]) == 0
    page, key = (run.path / name for name in (harness.commands.listen.PAGE, harness.commands.listen.KEY))
    before = page.read_bytes(), key.read_bytes()
    assert main(["listen", str(run.path), "--trials", "2", "--systems", "opus6k"]) == 0 and (page.read_bytes(), key.read_bytes()) == before
    assert main(["listen", str(run.path), "--trials", "3", "--systems", "opus6k"]) == 2
    assert "the key of another listening test" in capsys.readouterr().err and key.read_bytes() == before[1]
    assert main(["listen", str(run.path), "--out", str(run.path / "other"), "--answers", str(page)]) == 2
