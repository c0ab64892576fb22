"""The report in a real browser: it opens from the disk, sorts, explains itself, prints, and asks the network for nothing."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.api import Status
from reports.run.output import ReportFiles, write_report
from reports.statistics.intervals import IntervalSettings
from tests.stubs.fake_runs import FakeRun

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--remote-debugging-pipe",
)
HOSTILE = '</script><img src="https://evil.example/x.png" onerror="document.title=1">&<!--'


def gallery(folder: Path, num_items: int = 30) -> Any:
    """A run as a user would see it: eight systems, failures, a silent reference, variants, calibration, hostile texts."""
    rng = np.random.default_rng(1)
    words = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "seven", "wizards", "box"]
    items = {f"speaker{n % 6}_utterance{n:03d}": " ".join(rng.choice(words, 9)).capitalize() + "." for n in range(num_items)}
    ids = list(items)
    items[ids[1]] = f"A hostile text {HOSTILE}"
    run = FakeRun(folder, items, {i: i.split("_")[0] for i in ids}, synthetic=True, calibration=["same_speaker", "impostor"])
    levels = {  # label: family, bit/s, PESQ, WER in %, Hz
        "opus6k": ("opus", 6000, 2.25, 18.0, 16000),
        "opus12k": ("opus", 12000, 3.60, 6.0, 16000),
        "opus24k": ("opus", 24000, 4.38, 4.5, 24000),
        "codec2_1200": ("codec2", 1200, 1.30, 31.0, 8000),
        "qdac16": ("qdac", 8000, 2.29, 11.0, 24000),
        "qdac4": ("qdac", 2000, 1.62, 24.0, 24000),
        "socodec120": ("socodec", 470, 1.48, 19.0, 16000),
        "socodec40": ("socodec", 1400, 1.71, 14.0, 16000),
    }
    for label, (family, _, _, _, rate) in levels.items():
        learnt = family in ("qdac", "socodec")
        described = {"family": family, "version": "1", "description": f"{family} for this test", "sample_rate": rate, "device": "cpu"}
        if learnt:
            described |= {"size": "small", "weights": "trained", "num_parameters": 5_400_000, "training_data": "twelve machine voices, 3 h"}
        run.systems[label] = {**described, "precision": "float32", "tools": [["libopus", "1.5.2"]] if family == "opus" else []}
    run.curves = [
        {"title": "Quality and intelligibility over rate", "x": "emitted_bps", "y": ["pesq_wb", "wer"], "log_x": True},
        {"title": "Speed over rate", "x": "emitted_bps", "y": ["rtf"], "log_x": True},
    ]
    for n, item in enumerate(ids):
        seconds = 0.4 + 0.05 * (n % 5)
        time = np.arange(int(16000 * seconds)) / 16000
        run.references[item] = run.audio(f"reference_{n}", 0.3 * np.sin(2 * np.pi * (200 + 10 * n) * time), 16000)
        for label, (_, bps, pesq, wer, rate) in levels.items():
            time = np.arange(int(rate * seconds)) / rate
            level = 1.4 if (label, n) == ("qdac4", 0) else 0.3
            tone = level * np.sin(2 * np.pi * (200 + 10 * n) * time) + 0.01 * rng.normal(size=time.size)
            run.outputs[label, "{}", item, 0] = run.audio(f"{label}_{n}", tone, rate)
            run.add(label, "emitted_bps", item, bps * float(rng.normal(1, 0.02)), weight=seconds)
            run.add(label, "rtf", item, float(rng.uniform(0.01, 0.03)) * (4 if "qdac" in label else 1), weight=seconds)
            run.add(label, "stoi", item, float(np.clip(0.6 + pesq / 12 + rng.normal(0, 0.03), 0, 1)))
            wrong = int(rng.binomial(9, wer / 100))
            counts = {"hits": 9 - wrong, "substitutions": wrong, "deletions": 0, "insertions": 0}
            said = items[item].lower().rstrip(".")
            heard = " ".join(f"<b>{w}</b>" if n == 1 and i == 2 else w for i, w in enumerate(said.split()) if i >= wrong)
            texts = {"reference": items[item], "transcript": heard, "reference_normalised": said, "transcript_normalised": heard}
            detail = {**texts, "unit": "word"}
            run.add(label, "wer", item, 100 * wrong / 9, counts=counts, detail=detail)
            if n == 3:
                run.add(label, "pesq_wb", item, status=Status.METRIC_UNDEFINED, side="reference", reason="silent reference, -91 dB RMS")
            elif label == "codec2_1200" and n in (1, 5, 9):
                reason = f"0.1{n} s {HOSTILE}, PESQ needs 0.25 s"
                run.add(label, "pesq_wb", item, status=Status.METRIC_UNDEFINED, side="output", reason=reason)
            else:
                run.add(label, "pesq_wb", item, float(np.clip(rng.normal(pesq, 0.25), 1, 4.64)))
        for label, pesq in (("same_speaker", 4.64), ("impostor", 1.05)):
            run.add(label, "pesq_wb", item, pesq + float(rng.normal(0, 0.01)))
    return run


class Browser:
    """A headless Chromium driven over a pipe (DevTools protocol): real time, real keys, any window size.

    Args:
        profile: empty folder.
        limit_s: longest wait for any answer.
    """

    def __init__(self, profile: Path, limit_s: float = 60.0) -> None:
        inward, self._to = os.pipe()
        self._from, outward = os.pipe()
        words = " ".join([str(CHROMIUM), *FLAGS, f"--user-data-dir='{profile}'", "about:blank"])
        # The protocol is spoken on the descriptors 3 and 4.
        command = f"exec {words} 3<&{inward} 4>&{outward}"
        self._process = subprocess.Popen(["bash", "-c", command], pass_fds=(inward, outward), stderr=subprocess.DEVNULL)
        os.close(inward)
        os.close(outward)
        self._limit_s, self._waiting, self._number, self._session = limit_s, b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def _message(self) -> dict[str, Any]:
        until = time.monotonic() + self._limit_s
        while b"\0" not in self._waiting:
            ready, _, _ = select.select([self._from], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise TimeoutError("chromium does not answer")
            if not (part := os.read(self._from, 1 << 16)):
                raise EOFError("chromium has ended")
            self._waiting += part
        message, _, self._waiting = self._waiting.partition(b"\0")
        return dict(json.loads(message))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        os.write(self._to, json.dumps({"id": self._number, "method": method, "params": params, **session}).encode() + b"\0")
        while (message := self._message()).get("id") != self._number:
            self.events.append(message)
        assert "error" not in message, message
        return dict(message["result"])

    def open(self, page: Path, width: int = 1280, fragment: str = "") -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        # An address that differs in its fragment only would not be loaded again.
        for url in ("about:blank", page.as_uri() + fragment):
            self.events.clear()
            self.call("Page.navigate", url=url)
            while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
                self.events.append(self._message())

    def js(self, code: str) -> Any:
        """The value of an expression, awaited."""
        found = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, condition: str) -> None:
        """Waits in the page until a JavaScript expression holds."""
        turn = f"if ({condition}) return true; await new Promise((done) => setTimeout(done, 20));"
        assert self.js(f"(async () => {{ for (let i = 0; i < 1500; i += 1) {{ {turn} }} }})()"), f"never came true: {condition}"

    def press(self, key: str, code: int = 0, text: str = "") -> None:
        known = {"key": key, "windowsVirtualKeyCode": code, **({"text": text} if text else {})}
        self.call("Input.dispatchKeyEvent", type="keyDown", **known)
        self.call("Input.dispatchKeyEvent", type="keyUp", **known)

    def complaints(self) -> list[str]:
        """Errors, warnings and violations of the content policy since the page was opened."""
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Audits.issueAdded")
        return [json.dumps(e) for e in self.events if e.get("method") in kinds]

    def requests(self) -> list[str]:
        """What was asked for beside the page itself and what the page holds."""
        urls = [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return [u for u in urls[1:] if not u.startswith("blob:")]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> ReportFiles:
    return write_report(gallery(tmp_path_factory.mktemp("run")).run(), how=IntervalSettings(resamples=200))


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_hostile_nothing_from_outside_nothing_sideways(report: ReportFiles, browser: Browser, width: int) -> None:
    browser.open(report.html, width)
    browser.js("for (const box of document.querySelectorAll('details')) box.open = true")
    browser.until("document.querySelector('.gallery[data-drawn]')")
    assert browser.js("document.title").startswith("Resynthesis by codecs")
    assert browser.js("document.images.length") == 0 and browser.js(
        "document.querySelectorAll('main b, main script').length"
    ) == browser.js("document.querySelectorAll('.range b').length")
    assert "<img src=" in browser.js("document.querySelector('.failures').textContent")
    assert browser.js("document.documentElement.scrollWidth") <= width
    assert browser.complaints() == [] and browser.requests() == []


def test_heads_sort(report: ReportFiles, browser: Browser) -> None:
    browser.open(report.html)
    head = "document.querySelector('table.sortable thead th:nth-child(3)')"
    values = f"[...{head}.closest('table').tBodies[0].rows].map((r) => Number(r.cells[2].dataset.v))"
    assert browser.js(f"{head}.textContent").startswith("pesq_wb")
    orders = []
    for _ in range(2):
        browser.js(f"{head}.querySelector('button').click()")
        orders.append((browser.js(f"{head}.getAttribute('aria-sort')"), browser.js(values)))
    (first, down), (second, up) = orders
    assert (first, second) == ("descending", "ascending") and down == sorted(down, reverse=True) and up == down[::-1] and len(up) == 8


def test_signature_and_provenance_are_one_press_away(report: ReportFiles, browser: Browser) -> None:
    browser.open(report.html)
    column = next(c for c in report.summary.columns if c.key == "pesq_wb")
    button = "document.querySelector('button.about[aria-label^=\"About pesq_wb\"]')"
    browser.js(f"{button}.focus()")
    browser.press("Enter", 13, "\r")
    told = browser.js("document.querySelector('dialog[open]').innerText")
    assert column.signature in told and "higher is better" in told and "10/10" not in told
    cell = report.summary.rows[0].cells["pesq_wb"]
    assert column.shown(cell.value) in told and column.span(cell) in told and cell.counted in told and "1 metric undefined, 29 ok" in told
    assert browser.js("document.activeElement.textContent") == "Close"
    browser.press("Escape", 27)
    assert browser.js("document.querySelector('dialog[open]')") is None and browser.js(f"document.activeElement === {button}")
    browser.js("[...document.querySelectorAll('button.about-row')].find((b) => b.textContent === 'qdac16').click()")
    told = browser.js("document.querySelector('dialog[open]').innerText")
    assert "twelve machine voices, 3 h" in told and "5400000" in told and "24000" in told
    browser.js("document.querySelector('dialog[open] .close').click()")
    assert browser.js("document.querySelector('dialog[open]')") is None
    for name in browser.js("[...document.querySelectorAll('.bar a')].map((a) => a.hash.slice(1))"):
        assert browser.js(f"document.getElementById({name!r}) !== null"), name


def test_tab_reaches_what_can_be_pressed(report: ReportFiles, browser: Browser) -> None:
    browser.open(report.html)
    seen = []
    for _ in range(24):
        browser.press("Tab", 9)
        outline = "getComputedStyle(document.activeElement).outlineStyle + getComputedStyle(document.activeElement).outlineWidth"
        seen.append((browser.js("document.activeElement.tagName + '.' + document.activeElement.className"), browser.js(outline)))
    names = [name for name, _ in seen]
    assert names[0] == "A.skip" and "BUTTON.sort" in names and "BUTTON.about" in names and "BUTTON.name about-row" in names
    assert len({*names}) >= 5 and all("none" not in outline and "0px" not in outline for _, outline in seen)


CONTRAST = """
(() => {
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (let n = node; n; n = n.parentElement) {
      const colour = numbers(getComputedStyle(n).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some((c) => c.nodeType === 3 && c.textContent.trim());
    if (!own || !node.checkVisibility() || node.closest('svg, script, option, [disabled]')) continue;
    const [a, b] = [light(numbers(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), node.tagName + '.' + node.className + ' ' + node.textContent.slice(0, 30)]);
  }
  return found.sort((x, y) => x[0] - y[0]).slice(0, 3).concat([[found.length, 'all']]);
})()
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(report: ReportFiles, browser: Browser, scheme: str) -> None:
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(report.html)
    browser.js("for (const box of document.querySelectorAll('details')) box.open = true")
    browser.until("document.querySelector('.item .aligned ins')")
    *worst, (number, _) = browser.js(CONTRAST)
    browser.call("Emulation.setEmulatedMedia", features=[])
    # 4.5 : 1 is WCAG AA.
    assert number > 500 and worst[0][0] >= 4.5, worst


def test_print_has_tables_and_no_controls(report: ReportFiles, browser: Browser) -> None:
    browser.open(report.html, 1040)
    browser.call("Emulation.setEmulatedMedia", media="print")
    browser.js("dispatchEvent(new Event('beforeprint'))")
    visible = "[...document.querySelectorAll({!r})].filter((n) => n.checkVisibility()).length"
    assert browser.js(visible.format(".controls, .bar, button.act, .pager")) == 0
    assert browser.js("[...document.querySelectorAll('.failures')].every((t) => t.checkVisibility())")
    # A table wider than the sheet makes the browser shrink everything.
    assert browser.js("Math.max(...[...document.querySelectorAll('table')].map((t) => t.scrollWidth))") <= 1040
    browser.call("Emulation.setEmulatedMedia", media="")


def test_page_names_no_outside_address(report: ReportFiles) -> None:
    text = report.html.read_text(encoding="utf-8")
    markup = re.sub(r'<script type="application/json".*?</script>', "", text)
    assert not re.search(r"""(?:src|href|action|data)\s*=\s*["']?\s*(?:https?:)?//""", markup)
    assert not re.search(r"url\((?!#)|@import|<link|<iframe|<base", text)
    assert "default-src 'none'" in text
    assert "SYNTHETIC SPEECH" in text
