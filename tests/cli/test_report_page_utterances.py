"""The page's utterances in a real browser: filters, the worst, players, spectrograms, transcripts, addresses."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile

from reports.run.output import ReportFiles, write_report
from reports.statistics.intervals import IntervalSettings

TESTED = ("opus6k", "opus24k", "qdac4")


@pytest.fixture(scope="module")
def report(page_tests: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> ReportFiles:
    fake = page_tests.gallery(tmp_path_factory.mktemp("run"), 30)
    # One utterance is long enough to be caught playing on a busy machine.
    for (system, _, item, _), path in fake.outputs.items():
        if item == "speaker0_utterance000" and system in TESTED:
            rate = soundfile.info(path).samplerate
            tone = (1.4 if system == "qdac4" else 0.3) * np.sin(2 * np.pi * 200 * np.arange(20 * rate) / rate)
            fake.audio(path.stem, tone + 0.01 * np.random.default_rng(0).normal(size=tone.size), rate)
    run = fake.run()
    # Two languages, as a filter needs.
    for number, item in enumerate(run.manifest["items"].values()):
        item["language"] = "de" if number % 3 == 2 else "en"
    kept = run.frame["system"].isin([*TESTED, "same_speaker"])
    outputs = {key: path for key, path in run.outputs.items() if key[0] in TESTED}
    run.manifest["suite"] |= {"task": "resynthesis", "curves": []}
    return write_report(replace(run, frame=run.frame[kept].reset_index(drop=True), outputs=outputs), how=IntervalSettings(resamples=100))


IDS = "[...document.querySelectorAll('.item .id')].map((n) => n.textContent)"


def choose(browser: Any, name: str, value: str) -> None:
    """Sets a control; of a list the option that reads so."""
    find = f"[...c.options].find((o) => o.text === {value!r}).value"
    browser.js(
        f"(() => {{ const c = document.getElementById({name!r}); c.value = c.options && {value!r} ? {find} : {value!r}; "
        "c.dispatchEvent(new Event('input')); })()"
    )


def cells(browser: Any, place: str) -> list[list[str]]:
    rows = f"[...document.querySelectorAll('{place} tbody tr')]"
    return list(browser.js(f"{rows}.map((r) => [...r.cells].map((c) => c.innerText.trim()))"))


def test_filters(report: ReportFiles, browser: Any) -> None:
    browser.open(report.html)
    assert (
        len(browser.js(IDS)) == 25 and browser.js("document.querySelector('.pager').textContent").count("30 utterances, page 1 of 2") == 1
    )
    choose(browser, "language", "de")
    chosen = browser.js(IDS)
    assert [int(i[-3:]) for i in chosen] == list(range(2, 30, 3))
    choose(browser, "speaker", "speaker5")
    assert [int(i[-3:]) for i in browser.js(IDS)] == [5, 11, 17, 23, 29]
    choose(browser, "search", "utterance01")
    assert [int(i[-3:]) for i in browser.js(IDS)] == [11, 17]
    assert browser.js("document.getElementById('chosen').textContent") == "2 of 30 utterances"
    browser.js("document.getElementById('clear').click()")
    # Lengths are 0.4 to 0.6 s in steps of 0.05.
    choose(browser, "shortest", "0.44")
    choose(browser, "longest", "0.51")
    assert {int(i[-3:]) % 5 for i in browser.js(IDS)} == {1, 2} and browser.js("document.getElementById('chosen').textContent")[:2] == "12"
    choose(browser, "longest", "0.1")
    assert browser.js(IDS) == [] and cells(browser, "#worst-list") == []


def test_means_of_all_but_nothing_are_the_table(report: ReportFiles, browser: Any) -> None:
    """A filter that everything passes gives the figures of the results, one that some pass the mean of these."""
    browser.open(report.html)
    assert browser.js("document.getElementById('means').childElementCount") == 0
    choose(browser, "shortest", "0.1")
    table = cells(browser, "#means")
    heads = browser.js("[...document.querySelectorAll('#means thead th')].map((h) => h.textContent.split('\\u00a0')[0])")
    column = next(c for c in report.summary.columns if c.key == "pesq_wb")
    expected = [[r.label, *column.shown(r.cells["pesq_wb"].value).split(), r.cells["pesq_wb"].counted] for r in report.summary.rows]
    at = heads.index("pesq_wb")
    assert [[row[0], *row[at].split("\n")] for row in table] == expected and "emitted_bps" not in heads
    choose(browser, "search", "speaker2")
    means = {row[0]: row[at].split("\n") for row in cells(browser, "#means")}
    assert means["opus6k"][1] == "5/5" and means["opus6k"][0] != expected[0][1]


def test_worst_come_first(report: ReportFiles, browser: Any) -> None:
    browser.open(report.html)
    choose(browser, "worst-by", "pesq_wb")
    choose(browser, "worst-of", "opus24k")
    rows = cells(browser, "#worst-list")
    figures = [float(r[0]) for r in rows]
    assert len(rows) == 8 and figures == sorted(figures) and {r[1] for r in rows} == {"opus24k"}
    data = "items.flatMap((i) => i.outputs.filter((o) => rows[o.row].label === 'opus24k').map((o) => o.values[columns.findIndex((c) => c.key === 'pesq_wb')]))"
    values = sorted(v for v in browser.js(data) if v is not None)
    assert figures == [pytest.approx(v, abs=6e-4) for v in values[:8]]
    assert float(rows[0][2]) == pytest.approx(values[0] - float(np.median(values)), abs=6e-4)
    choose(browser, "worst-of", "all systems")
    # Not the weakest system alone: each is measured by its own median.
    assert len({r[1] for r in cells(browser, "#worst-list")}) > 1
    browser.js("[...document.querySelectorAll('#worst-list button')].find((b) => b.textContent === 'Show more').click()")
    assert len(cells(browser, "#worst-list")) == 32
    choose(browser, "worst-by", "wer")
    assert browser.js("document.querySelector('#worst-list .said').textContent") != ""
    browser.js("document.querySelector('#worst-list a').click()")
    browser.until("document.querySelector('.item[open]')")
    assert browser.js("document.querySelector('.item[open] .id').textContent") == browser.js(
        "document.querySelector('#worst-list a').textContent"
    )


def test_order_of_the_list(report: ReportFiles, browser: Any) -> None:
    browser.open(report.html)
    choose(browser, "order", "worst pesq_wb first")
    choose(browser, "whose", "opus24k")
    levels = [
        float(s.removeprefix("pesq_wb ")) for s in browser.js("[...document.querySelectorAll('.item .standing')].map((n) => n.textContent)")
    ]
    assert levels == sorted(levels) and len(levels) == 25
    choose(browser, "order", "most failures first")
    assert browser.js(f"{IDS}[0]") == "speaker3_utterance003"


def test_an_address_opens_its_utterance(report: ReportFiles, browser: Any) -> None:
    browser.open(report.html, fragment="#item-27")
    assert browser.js("document.querySelector('.item[open] .id').textContent") == "speaker3_utterance027"
    assert browser.js("document.activeElement.parentElement.id") == "item-27"
    choose(browser, "search", "utterance002")
    browser.js("location.hash = '#item-12'")
    browser.until("document.getElementById('item-12')?.open")
    assert browser.js("document.getElementById('search').value") == ""
    links = browser.js("[...document.querySelectorAll('.failures a')].map((a) => [a.textContent, a.hash])")
    assert links and all(int(h.removeprefix("#item-")) == int(t[-3:]) for t, h in links)


def test_players_and_spectrograms(report: ReportFiles, browser: Any) -> None:
    browser.open(report.html, fragment="#item-0")
    browser.until("document.querySelector('#item-0 .gallery').dataset.drawn === '4'")
    box = "document.getElementById('item-0')"
    note = browser.js(f"{box}.querySelector('.below').textContent")
    assert note.startswith("Spectrograms: 0 to 12 kHz, 0 to 20.00 s") and "clipped in this player" in browser.js(f"{box}.textContent")
    # The tone of 200 Hz lies in the rows of 200 Hz, what is above a codec's own rate is black.
    brightest = (
        "((c) => { const { data } = c.getContext('2d').getImageData(5, 0, 1, 120); let best = 0; "
        "for (let y = 0; y < 120; y += 1) if (data[4 * y] + data[4 * y + 1] > data[4 * best] + data[4 * best + 1]) best = y; "
        "return [(119.5 - best) / 120 * 12000, data[4 * 10]]; })"
    )
    canvases = f"[...{box}.querySelectorAll('canvas')]"
    peaks = browser.js(f"{canvases}.map({brightest})")
    assert len(peaks) == 4 and all(abs(hz - 200) <= 150 for hz, _ in peaks)
    names = browser.js(f"[...{box}.querySelectorAll('.clip-head .name')].map((n) => n.textContent)")
    assert names == ["reference", "opus6k", "opus24k", "qdac4"]
    high = dict(zip(names, [top for _, top in peaks], strict=True))
    assert high["opus6k"] == 0 and high["opus24k"] > 0
    # Digits play; a second one takes over where the first was.
    browser.js(f"{box}.querySelector('.clip button').focus()")
    browser.press("1", 49, "1")
    playing = f"[...{box}.querySelectorAll('.clip')].filter((c) => c.querySelector('button.playing')).map((c) => c.querySelector('.name').textContent)"
    browser.until(f"{playing}.join() === 'opus6k' && stage.current.sound.currentTime > 0.05")
    browser.press("2", 50, "2")
    browser.until(f"{playing}.join() === 'opus24k'")
    assert browser.js("stage.current.name.startsWith('opus24k') && stage.current.sound.currentTime >= 0.05")
    browser.until("stage.current.sound.duration > 0")
    assert browser.js("stage.current.sound.duration") == pytest.approx(20, abs=0.002)
    browser.press("2", 50, "2")
    browser.until(f"{playing}.length === 0")
    browser.js(
        "(() => { const s = document.querySelectorAll('#item-0 input[type=range]')[3]; s.value = 15; s.dispatchEvent(new Event('input')); })()"
    )
    browser.until(f"!{box}.querySelectorAll('.spectrogram i')[3].hidden")
    assert browser.js(f"{box}.querySelectorAll('.spectrogram i')[3].style.left") == "75%"


def test_transcripts_show_what_was_missed(report: ReportFiles, browser: Any) -> None:
    browser.open(report.html, fragment="#item-1")
    browser.until("document.querySelector('#item-1 .aligned')")
    marks = browser.js(
        "[...document.querySelectorAll('#item-1 .aligned')].map((n) => [n.querySelectorAll('del').length, n.querySelector('.counts').textContent])"
    )
    assert marks and all((count > 0) == (not told.startswith("all ")) for count, told in marks)
    whole = browser.js("document.querySelector('#item-1 .aligned').textContent")
    assert "<b>" in whole or "hostile" in whole
    assert browser.js("document.querySelectorAll('#item-1 .aligned b').length") == 0
    assert browser.js("document.querySelector('#item-1 .inside details summary').textContent") == "Heard against the text (wer)"
