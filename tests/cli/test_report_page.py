"""The report in a real browser: it opens from the disk, sorts, plays, and asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from harness.api import Status
from reports.intervals import Statistics
from reports.output import ReportFiles, write_report

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
    "--enable-logging=stderr",
    "--log-level=0",
    "--autoplay-policy=no-user-gesture-required",
)
HOSTILE = '</script><img src="https://evil.example/x.png" onerror="document.title=1">&<!--'


def fake_runs() -> ModuleType:
    """The builder of small runs beside the unit tests of the tables."""
    name = "reports_fake_runs"
    if name not in sys.modules:
        path = Path(__file__).resolve().parents[1] / "unit" / "test_reports_tables.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec and spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def gallery(folder: Path, num_items: int = 30) -> Any:
    """A run as a user would see it: eight systems, failures, a silent reference, variants, calibration, hostile texts."""
    rng = np.random.default_rng(1)
    words = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "seven", "wizards", "box"]
    items = {f"speaker{n % 6}_utterance{n:03d}": " ".join(rng.choice(words, 9)).capitalize() + "." for n in range(num_items)}
    ids = list(items)
    items[ids[1]] = f"A hostile text {HOSTILE}"
    run = fake_runs().FakeRun(folder, items, {i: i.split("_")[0] for i in ids}, synthetic=True, calibration=["same_speaker", "impostor"])
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
            detail = {"hypothesis": items[item].lower()}
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


PROBE = """
window.addEventListener('load', async () => {
  const out = {errors: window.probeErrors};
  const head = document.querySelector('table.sortable thead th:nth-child(3)');
  const read = () => [...head.closest('table').tBodies[0].rows].map((r) => r.cells[2].dataset.v);
  out.heading = head.textContent;
  head.querySelector('button').click(); out.once = read(); out.sortedOnce = head.getAttribute('aria-sort');
  head.querySelector('button').click(); out.twice = read(); out.sortedTwice = head.getAttribute('aria-sort');
  out.listed = document.querySelectorAll('.item').length;
  out.playersBefore = document.querySelectorAll('audio').length;
  const item = document.querySelector('.item');
  item.open = true;
  await new Promise((done) => setTimeout(done, 50));
  const buttons = item.querySelectorAll('td.player button');
  out.buttons = buttons.length;
  out.durations = [];
  for (const button of [...buttons].slice(0, 2)) {
    const cell = button.closest('td');
    button.click();
    const audio = cell.querySelector('audio');
    // The browser's clock is virtual and runs ahead of the decoder: each look is held up by work that takes real time.
    for (let look = 0; look < 300 && audio.readyState < 1 && !audio.error; look += 1) {
      await new Promise((done) => setTimeout(done, 10));
      for (let i = 0; i < 2e7; i += 1) window.heldUp = i;
    }
    out.durations.push(audio.error ? audio.error.message : audio.duration);
  }
  out.clipped = item.textContent.includes('clipped in this player');
  const search = document.getElementById('search');
  search.value = 'utterance007'; search.dispatchEvent(new Event('input'));
  out.found = [...document.querySelectorAll('.item .id')].map((n) => n.textContent);
  search.value = ''; search.dispatchEvent(new Event('input'));
  const order = document.getElementById('order');
  order.value = 'failures'; order.dispatchEvent(new Event('input'));
  out.worst = document.querySelector('.item .id').textContent;
  const whose = document.getElementById('whose');
  order.value = [...order.options].find((o) => o.text === 'worst pesq_wb first').value;
  whose.value = [...whose.options].find((o) => o.text === 'opus24k').value;
  whose.dispatchEvent(new Event('input'));
  out.standing = [...document.querySelectorAll('.item .standing')].map((n) => n.textContent);
  out.images = document.images.length;
  out.width = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  out.requests = performance.getEntriesByType('resource').map((e) => e.name).filter((n) => !n.startsWith('blob:'));
  out.inner = innerWidth;
  parent.postMessage(JSON.stringify(out), '*');
});
"""
WATCH = """
window.probeErrors = [];
window.addEventListener('error', (e) => window.probeErrors.push(String(e.message)));
window.addEventListener('unhandledrejection', (e) => window.probeErrors.push(String(e.reason)));
document.addEventListener('securitypolicyviolation', (e) => window.probeErrors.push(e.violatedDirective + ' ' + e.blockedURI));
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> ReportFiles:
    return write_report(gallery(tmp_path_factory.mktemp("run")).run(), statistics=Statistics(resamples=200))


def probed(page: Path, width: int) -> Path:
    """A frame around a copy of the page with two scripts of this test, which its content policy admits by their hashes only."""
    text = page.read_text(encoding="utf-8")
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in (WATCH, PROBE))
    text = text.replace("script-src ", f"script-src {hashes} ", 1)
    text = text.replace("<title>", f"<script>{WATCH}</script><title>", 1).replace("</body>", f"<script>{PROBE}</script></body>")
    copy = page.with_name("probed.html")
    copy.write_text(text, encoding="utf-8")
    # A window of Chromium is never narrower than 500 pixels, a frame may be.
    frame = copy.with_name(f"frame_{width}.html")
    listen = "addEventListener('message', (e) => { document.documentElement.dataset.probe = e.data; })"
    frame.write_text(f'<script>{listen}</script><iframe width="{width}" height="900" style="border:0" src="{copy.name}"></iframe>')
    return frame


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize("width", [1280, 400])
def test_in_chromium(report: ReportFiles, tmp_path: Path, width: int) -> None:
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path}", "--window-size=1400,1000", "--virtual-time-budget=20000", "--dump-dom"]
    done = subprocess.run([*command, probed(report.html, width).as_uri()], capture_output=True, text=True, timeout=90, check=True)
    match = re.search(r'data-probe="([^"]*)"', done.stdout)
    assert match, done.stderr[-3000:]
    found = json.loads(html.unescape(match[1]))
    assert found["errors"] == [] and "CONSOLE" not in done.stderr
    assert found["heading"].startswith("pesq_wb")
    once, twice = ([float(v) for v in found[k]] for k in ("once", "twice"))
    assert found["sortedOnce"] == "descending" and once == sorted(once, reverse=True) and len(once) == 8
    assert found["sortedTwice"] == "ascending" and twice == sorted(once)
    assert (found["listed"], found["playersBefore"], found["buttons"]) == (25, 0, 9)
    assert found["durations"] == [pytest.approx(0.4, abs=0.002)] * 2
    assert found["clipped"] and found["found"] == ["speaker1_utterance007"] and found["worst"] == "speaker3_utterance003"
    # The items of one system from its worst to its best, the figure beside each.
    levels = [float(re.fullmatch(r"pesq_wb (\d\.\d+)", s)[1]) for s in found["standing"]]  # type: ignore[index]
    assert levels == sorted(levels) and len(levels) == 25 and levels[0] > 3
    # Nothing of the hostile text became an element, nothing was asked of the network, nothing sticks out sideways.
    assert found["images"] == 0 and found["requests"] == [] and found["width"] <= 0 and found["inner"] == width


def test_page_names_no_outside_address(report: ReportFiles) -> None:
    text = report.html.read_text(encoding="utf-8")
    markup = re.sub(r'<script type="application/json".*?</script>', "", text)
    assert not re.search(r"""(?:src|href|action|data)\s*=\s*["']?\s*(?:https?:)?//""", markup)
    assert not re.search(r"url\((?!#)|@import|<link|<iframe|<base", text)
    assert "default-src 'none'" in text
    assert "SYNTHETIC SPEECH" in text
