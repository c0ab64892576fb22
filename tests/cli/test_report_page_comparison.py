"""The comparison page in a real browser: its players."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from reports.compare import document
from reports.compare.differences import Settings, compare, same_rows
from reports.compare.pairing import half
from reports.statistics.intervals import IntervalSettings


def test_clips_play_one_at_a_time_and_can_be_wound(page_tests: ModuleType, browser: Any, tmp_path: Path) -> None:
    fake = page_tests.gallery(tmp_path, 12)
    for (system, _, _, _), path in list(fake.outputs.items()):  # long enough to be caught playing on a busy machine
        if system == "opus24k":
            fake.audio(path.stem, 0.3 * np.sin(2 * np.pi * 200 * np.arange(20 * 24000) / 24000), 24000)
    run = fake.run()
    frame = run.frame[(run.frame["system"] == "opus24k") & (run.frame["metric"] == "stoi")].reset_index(drop=True)
    before, after = (
        half(name, replace(run, frame=frame.assign(value=frame["value"] * factor))) for name, factor in (("old", 1.0), ("new", 0.8))
    )
    found = compare(before, after, same_rows(before, after)[0], Settings(how=IntervalSettings(resamples=200)))
    page = tmp_path / "compare.html"
    page.write_text("".join(document.page(found)), encoding="utf-8")
    browser.open(page)
    shown = "[...document.querySelectorAll('button[data-clip].playing')].length"
    browser.js("document.querySelectorAll('button[data-clip]')[1].click()")
    browser.until(f"{shown} === 1 && stage.current.sound.currentTime > 0.05")
    assert browser.js("stage.current.sound.seekable.length === 1 && stage.current.sound.seekable.end(0) > 19")
    browser.js("stage.current.sound.currentTime = 15")
    browser.until("stage.current.sound.currentTime > 15.02")
    browser.js("document.querySelectorAll('button[data-clip]')[2].click()")
    browser.until(f"{shown} === 1 && stage.current.button === document.querySelectorAll('button[data-clip]')[2]")
    browser.js("stage.current.button.click()")
    browser.until(f"{shown} === 0 && stage.current.sound.paused")
