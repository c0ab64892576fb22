"""The laws of a suite."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence

from harness.api import CodecSpec, Settings, Suite, SuiteInfo, Task
from harness.testing.laws import ContractReport, Laws, expect, expect_kind

_SPECS = (
    None,
    CodecSpec(sample_rate=16000, hop_length=320),
    CodecSpec(sample_rate=16000, hop_length=320, codebook_sizes=(1024,)),
    CodecSpec(sample_rate=16000, hop_length=320, codebook_sizes=(1024,) * 8, prefix_decodable=True),
    CodecSpec(sample_rate=24000, hop_length=480, codebook_sizes=(2048, 64, 64), prefix_decodable=False),
)


def check_suite(suite: Suite, specs: Sequence[CodecSpec | None] = _SPECS) -> ContractReport:
    """Check every law of a suite.

    Args:
        suite: to check.
        specs: of the systems it is asked for variants of; None stands for a system that is no codec.

    Raises:
        BrokenLaw: a law is broken.
    """
    laws = Laws(type(suite).__name__)
    with laws.law("declaration"):
        expect(isinstance(suite, Suite), "a suite has info and variants")
        _declaration(suite.info)
        expect(suite.info == suite.info, "info should be the same at every look")
    with laws.law("headline"):
        extra = [m for m in suite.info.headline if m not in suite.info.metrics]
        expect(suite.info.headline, "the terminal table needs a headline metric")
        expect(not extra, f"headline metrics {extra} are not among the suite's metrics")
    with laws.law("variants"):
        for spec in specs:
            _variants(suite, spec)
    with laws.law("curves"):
        _curves(suite, specs)
    return laws.report()


def _declaration(info: SuiteInfo) -> None:
    expect_kind(info, SuiteInfo, "info")
    expect(re.fullmatch(r"[a-z][a-z0-9_]*", info.name), f"name {info.name!r} should be lower case letters, digits and underscores")
    expect(info.title.strip() and "\n" not in info.title, f"title should be one line, got {info.title!r}")
    expect(isinstance(info.task, Task), f"task should be a Task, got {info.task!r}")
    expect(info.metrics, "a suite needs at least one metric")
    for what in ("metrics", "further", "systems", "headline", "calibration"):
        names = expect_kind(getattr(info, what), tuple, what)
        twice = sorted({n for n in names if names.count(n) > 1})
        expect(not twice, f"{what} names {twice} twice")
    both = [name for name in info.further if name in info.metrics]
    expect(not both, f"{both} stand among the metrics and the further ones")
    unknown = set(info.calibration) - {"same_speaker", "impostor", "ground_truth"}
    expect(not unknown, f"calibration rows {sorted(unknown)} are unknown; there are same_speaker, impostor and ground_truth")


def _variants(suite: Suite, spec: CodecSpec | None) -> Sequence[Settings]:
    variants = suite.variants(spec)
    about = "a system that is no codec" if spec is None else f"a codec with {spec.num_codebooks} codebooks"
    expect(len(variants) > 0, f"no variant of {about}; a suite that runs a system once returns [{{}}]")
    texts = [_text(settings) for settings in variants]
    expect(len(set(texts)) == len(texts), f"{len(texts) - len(set(texts))} variants of {about} occur twice")
    expect([_text(s) for s in suite.variants(spec)] == texts, f"asked again, other variants of {about} came")
    for settings in variants:
        count = settings.get("codebooks")
        if count is not None:
            expect(spec is not None and spec.prefix_decodable, f"codebooks={count} asked of {about} that does not decode prefixes")
            assert spec is not None
            known = isinstance(count, int) and 1 <= count <= spec.num_codebooks
            expect(known, f"codebooks={count!r} asked of {about}")
    return variants


def _text(settings: Settings) -> str:
    for key, value in settings.items():
        plain = isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))
        expect(isinstance(key, str) and plain, f"setting {key!r}={value!r} is not a plain finite value")
    return json.dumps(dict(settings), sort_keys=True, allow_nan=False)


def _curves(suite: Suite, specs: Sequence[CodecSpec | None]) -> None:
    settings = {key for spec in specs for variant in suite.variants(spec) for key in variant}
    for curve in suite.info.curves:
        expect(curve.y, f"the figure '{curve.title}' has nothing on its y axis")
        for name in (curve.x, *curve.y):
            # What stands in the configurations of systems, a suite cannot know.
            known = (
                name in (*suite.info.metrics, *suite.info.further)
                or (name == curve.x and re.fullmatch(r"config\.[a-z]\w*", name))
                or (name.startswith("settings.") and name.removeprefix("settings.") in settings)
            )
            expect(
                known, f"the figure '{curve.title}' shows '{name}', which is neither a metric of the suite nor a setting of its variants"
            )
