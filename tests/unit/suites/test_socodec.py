"""The suites of the SoCodec paper: what they ask of whom, and a run of one from codec to report."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.api import CodecSpec
from harness.cli import main
from harness.settings.config import compose
from harness.settings.registry import METRICS, resolve, variants
from harness.settings.systems import system_section
from harness.testing import check_suite
from suites.codebook_sweep import CodebookSweepSuite, checked_counts, doubling, every
from suites.quantizer_ablation import QuantizerAblationSuite
from suites.quantizer_ablation_tts import QuantizerAblationTtsSuite
from suites.semantic_ablation import SemanticAblationSuite
from suites.semantic_ablation_tts import SemanticAblationTtsSuite
from suites.stream_prefix import StreamPrefixSuite

SUITES = (StreamPrefixSuite, QuantizerAblationSuite, SemanticAblationSuite)
SPOKEN = (QuantizerAblationTtsSuite, SemanticAblationTtsSuite)


def spec(codebooks: int, prefix: bool = True) -> CodecSpec:
    return CodecSpec(16000, 1920, (16384,) * codebooks, causal=True, prefix_decodable=prefix)


SPECS = (None, spec(1), spec(4), spec(8), spec(4, prefix=False), CodecSpec(16000, 320))


@pytest.mark.parametrize("kind", [*SUITES, *SPOKEN])
def test_laws(kind: Any) -> None:
    check_suite(kind(), SPECS)


@pytest.mark.parametrize("counts", ["all", [1, 2], [3, 100]])
def test_laws_of_chosen_streams(counts: Any) -> None:
    check_suite(StreamPrefixSuite(counts), SPECS)


@pytest.mark.parametrize("kind", [*SUITES, *SPOKEN])
def test_everything_a_suite_names_is_registered_and_configurable(kind: Any) -> None:
    info = kind().info
    assert set(info.metrics) <= set(METRICS)
    section = compose([f"suite={info.name}"])["suite"]
    assert resolve("suites", section.pop("name"))(**section).info == info


def counts_of(suite: Any, codec: CodecSpec | None) -> list[Any]:
    return [v.get("codebooks") for v in suite.variants(codec)]


def test_every_stream_is_decoded_unless_told() -> None:
    assert counts_of(StreamPrefixSuite(), spec(4)) == counts_of(StreamPrefixSuite("all"), spec(4)) == [1, 2, 3, 4]
    section = compose(["suite=stream_prefix", "suite.counts=[4,1,9]"])["suite"]
    assert counts_of(StreamPrefixSuite(section["counts"]), spec(4)) == [1, 4]
    assert counts_of(StreamPrefixSuite([9]), spec(4)) == [4]  # none of those asked for: the whole
    for kind in SUITES:  # what decodes no prefixes is a point of comparison
        for other in (None, spec(4, prefix=False), CodecSpec(16000, 320)):
            assert list(kind().variants(other)) == [{}]


@pytest.mark.parametrize("kind", [QuantizerAblationSuite, SemanticAblationSuite])
def test_ablations_run_each_codec_once_and_whole(kind: Any) -> None:
    assert list(kind().variants(spec(4))) == [{}]


def parameters(name: str) -> dict[str, Any]:
    """Of a synthesizer, its generation and how its codec is trained among them."""
    section = system_section(name)
    codec, generation = section.pop("codec"), section.pop("generation")
    return section | generation | system_section(codec)["training"]


@pytest.mark.parametrize(
    ("kind", "differing"),
    [
        (QuantizerAblationTtsSuite, {"checkpoint", "quantizer", "temperature", "top_k", "top_p", "repetition_penalty"}),
        (SemanticAblationTtsSuite, {"checkpoint", "source", "semantic"}),
    ],
)
def test_language_models_of_an_ablation_differ_in_nothing_else(kind: Any, differing: set[str]) -> None:
    names = kind().info.systems
    assert set(names) <= set(variants())
    found = [parameters(name) for name in names]
    assert len({str(sorted((k, v) for k, v in one.items() if k not in differing)) for one in found}) == 1
    assert len({str({k: one.get(k) for k in sorted(differing - {"checkpoint"})}) for one in found}) == len(names)
    plain = [parameters(name) for name in names if name.endswith("_plain")]
    assert all((one["temperature"], one["top_k"], one["top_p"], one["repetition_penalty"]) == (1.0, 0, 1.0, 1.0) for one in plain)


@pytest.mark.parametrize("counts", ["some", [], [0], [1.5], [True]])
def test_counts_that_are_none_are_refused(counts: Any) -> None:
    with pytest.raises(ValueError, match=r"suite\.counts="):
        StreamPrefixSuite(counts)


def test_prefixes() -> None:
    assert [doubling(n) for n in (1, 2, 5, 16)] == [[1], [1, 2], [1, 2, 4, 5], [1, 2, 4, 8, 16]]
    assert every(3) == [1, 2, 3] and checked_counts(None) is None and checked_counts([2]) == [2]
    assert counts_of(CodebookSweepSuite(), spec(5)) == [1, 2, 4, 5]


PLANES = '''
import numpy as np
from harness.api import Audio, CodecSpec, Codes, SystemInfo


class Planes:
    """Four bits of each sample (mu-law), a stream each, the coarsest first; missing ones are zeros."""

    info = SystemInfo(family="planes", version="1")
    spec = CodecSpec(16000, 1, (2, 2, 2, 2), causal=True, prefix_decodable=True)

    def encode(self, audio):
        y = np.clip(audio.samples[0], -1, 1)
        y = np.sign(y) * np.log1p(255 * abs(y)) / np.log(256)
        level = np.clip(((y + 1) * 8).astype(int), 0, 15)
        return Codes(np.stack([(level >> (3 - k)) & 1 for k in range(4)]), self.spec, audio.num_samples)

    def decode(self, codes):
        level = sum((row << (3 - k) for k, row in enumerate(codes.indices)), np.zeros(codes.num_samples, int))
        y = (level + 0.5) / 8 - 1
        return Audio.mono((np.sign(y) * (256 ** abs(y) - 1) / 255).astype(np.float32), 16000)
'''


def test_streams_from_codec_to_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "planes_codec.py").write_text(PLANES)
    (tmp_path / "planes-1.0.dist-info").mkdir()
    (tmp_path / "planes-1.0.dist-info" / "entry_points.txt").write_text("[harness.systems]\nplanes = planes_codec:Planes\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.chdir(tmp_path)
    words = [
        "suite=stream_prefix",
        "systems=[planes,opus6]",
        "metrics=[si_sdr_db,emitted_bps]",
        "dataset.limit=2",
        "executor=serial",
        "run.name=x",
    ]
    try:
        assert main(["run", *words]) == 0
    finally:
        sys.modules.pop("planes_codec", None)
    folder = tmp_path / "runs" / "x"
    rows = list(csv.DictReader((folder / "report.csv").open(encoding="utf-8")))
    quality = [float(r["value"]) for r in rows if r["system"] == "planes" and r["metric"] == "si_sdr_db"]
    assert len(quality) == 4 and quality == sorted(quality)  # the coarsest bit first: each further stream refines
    assert [r["settings"] for r in rows if r["system"] == "opus6"] == ["{}", "{}"]
    # The systems of the paper were not asked for: its claims say what to run.
    shown = " ".join(capsys.readouterr().out.split())
    assert "Claims of the papers" in shown and "harness run suite=stream_prefix systems=[socodec120,socodec120_pq,socodec120_rq]" in shown
    claims = list(csv.DictReader((folder / "report_claims.csv").open(encoding="utf-8")))
    assert claims and {r["outcome"] for r in claims} == {"not run"}
