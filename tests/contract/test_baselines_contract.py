"""Every codec among the baselines that can be built here keeps every law of its protocol, and so do recorded outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.settings.registry import SYSTEMS, config_names, resolve
from harness.settings.systems import system_section
from harness.testing import check_codec, check_recorded, speechlike

FAMILIES = {name for name, target in SYSTEMS.items() if target.startswith("systems.classical.")}


def _configs() -> dict[str, dict[str, Any]]:
    found = {name: system_section(name) for name in config_names("systems")}
    return {name: config for name, config in found.items() if config["family"] in FAMILIES - {"recorded", "espeak", "flite"}}


@pytest.mark.parametrize("name", _configs())
def test_every_law_holds(name: str) -> None:
    config = _configs()[name]
    family = config.pop("family")
    kind = resolve("systems", family)
    if reason := kind.missing(**config):
        pytest.skip(reason)
    report = check_codec(kind(**config), factory=lambda: kind(**config))
    assert {"length", "determinism", "decode needs only the encoded", "edge lengths", "silence", "wrong sample rate"} <= set(report.checked)
    if name not in ("noise",) and not name.startswith("codec2"):
        assert "delay" in report.checked, dict(report.skipped)["delay"]


def test_recorded_folder(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    for name in ("a", "b c", "été"):
        soundfile.write(tmp_path / f"{name}.wav", speechlike(0.3, seed=len(name)).samples[0], 16000)
    recorded = resolve("systems", "recorded")(tmp_path)
    check_recorded(recorded, ["a", "b c", "été"])
