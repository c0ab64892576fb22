"""The check of suites: a sound one passes, and for every law there is a broken one that it catches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from harness.api import CodecSpec, Curve, Settings, SuiteInfo, Task
from harness.testing import BrokenLaw, check_suite


class SoundSuite:
    """Every prefix of every codec that decodes them."""

    info = SuiteInfo(
        name="prefixes", title="Prefixes", task=Task.RESYNTHESIS, systems=("passthrough",),
        metrics=("stoi", "emitted_bps"), headline=("stoi",),
        curves=(Curve("Prefixes", x="settings.codebooks", y=("stoi",)),),
    )  # fmt: skip

    def variants(self, spec: CodecSpec | None) -> Sequence[Settings]:
        if spec is None or not spec.prefix_decodable:
            return [{}]
        return [{"codebooks": b} for b in range(1, spec.num_codebooks + 1)]


def _suite(info: Mapping[str, Any] | None = None, variants: Callable[[CodecSpec | None], Sequence[Settings]] | None = None) -> SoundSuite:
    suite = SoundSuite()
    suite.info = replace(SoundSuite.info, **(info or {}))
    if variants is not None:
        suite.variants = variants  # type: ignore[method-assign]
    return suite


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (_suite({"name": "My Suite"}), "declaration"),
        (_suite({"metrics": ("stoi", "stoi")}), "declaration"),
        (_suite({"systems": ("noise", "noise")}), "declaration"),
        (_suite({"title": "two\nlines"}), "declaration"),
        (_suite({"calibration": ("oracle",)}), "declaration"),
        (_suite({"headline": ("pesq_wb",)}), "headline"),
        (_suite({"headline": ()}), "headline"),
        (_suite({"curves": (Curve("?", x="emitted_bps", y=("wer",)),)}), "curves"),
        (_suite({"curves": (Curve("?", x="settings.depth", y=("stoi",)),)}), "curves"),
        (_suite(variants=lambda spec: []), "variants"),
        (_suite(variants=lambda spec: [{}, {}]), "variants"),
        (_suite(variants=lambda spec: [{"codebooks": 99}]), "variants"),
        (_suite(variants=lambda spec: [{"codebooks": 1}]), "variants"),
        (_suite(variants=lambda spec: [{"temperature": float("nan")}]), "variants"),
        (_suite(variants=lambda spec, seen=[]: seen.append(1) or [{"n": len(seen)}]), "variants"),  # type: ignore[misc]
    ],
)
def test_a_broken_suite_is_caught(broken: SoundSuite, law: str) -> None:
    with pytest.raises(BrokenLaw) as caught:
        check_suite(broken)
    assert caught.value.law == law, str(caught.value)


def test_a_sound_suite_passes() -> None:
    assert check_suite(SoundSuite()).checked == ("declaration", "headline", "variants", "curves")
