"""Files of claims: what their grammar takes, and what it refuses and how."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from harness.errors import ConfigError, UnknownName
from reports.claims.claims import parse_claims
from tests.stubs.claim_stories import claims_file, less, monotone

# ---- the grammar -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("test", "words"),
    [
        ({"lesser": {}}, "no test 'lesser'; there are less, greater, alike, monotone"),
        ({}, "one of the keys"),
        ({"less": {}, "greater": {}}, "one of the keys"),
        ([], "at least one"),
        ({"less": {"metric": "mcd_db", "left": {"system": "a"}}}, "lacks right"),
        (less("a", "b", tolerance=1), "unknown keys tolerance; there are metric, left, right, margin"),
        (less("a", "b", margin="much"), "margin: a number, got 'much'"),
        (less("", "b"), "left, system: words"),
        ({"less": {"metric": "mcd_db", "left": {"system": "a", "codebook": 1}, "right": {"system": "b"}}}, "unknown keys codebook"),
        ({"less": {"metric": "mcd_db", "left": {"system": "a", "codebooks": [1]}, "right": {"system": "b"}}}, "plain value"),
        ({"less": {"metric": "mcd_db", "left": {"system": "a", "minus": {}}, "right": {"system": "b"}}}, "minus: lacks system"),
        ({"alike": {"metric": "mcd_db", "left": {"system": "a"}, "right": {"system": "b"}}}, "lacks margin"),
        ({"alike": less("a", "b", margin=-1)["less"]}, "must be above 0"),
        (monotone(4, direction="up"), "increasing and decreasing"),
        (monotone(4, over="speed"), "over is 'speed'"),
        (monotone(4, codebooks=2), "not fixed beside it"),
        (monotone(1), "no range"),
    ],
)
def test_a_test_that_is_none_is_refused(test: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=r"here\.yaml, claim 1.*'one'") as caught:
        parse_claims(claims_file(test), "here.yaml")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- [", "not YAML"),
        ("just words", "keys paper, claims"),
        ("paper: P\nclaims: {}", "must be a list"),
        ("paper: P\nclaims: [{id: x}]", "lacks text, source, status, suite, test"),
        (claims_file(less("a", "b"), status="rumoured"), "there are published and claimed"),
        (claims_file(less("a", "b"), colour="red"), "unknown keys colour"),
        ("!!python/object/apply:os.getcwd []", "not YAML"),
    ],
)
def test_a_file_that_is_none_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_claims(text, "here.yaml")
    assert "here.yaml" in str(caught.value) and words in str(caught.value)


def test_unknown_suites_and_metrics_are_answered_with_near_ones() -> None:
    with pytest.raises(UnknownName, match=r"no suite named 'stream_prefixes'.*stream_prefix"):
        parse_claims(claims_file(less("a", "b"), suite="stream_prefixes"), "here.yaml")
    with pytest.raises(UnknownName, match=r"no metric named 'mcd'.*mcd_db.*here\.yaml"):
        parse_claims(claims_file(less("a", "b", "mcd")), "here.yaml")


def test_one_id_is_one_claim() -> None:
    data = json.loads(claims_file(less("a", "b")))
    with pytest.raises(ConfigError, match="one id"):
        parse_claims(json.dumps(data | {"claims": data["claims"] * 2}), "here.yaml")


def test_data_are_what_the_mapping_says() -> None:
    kinds: Mapping[str, int] = {"less": 1, "greater": 1, "alike": 1}
    for kind, count in kinds.items():
        (claim,) = parse_claims(claims_file({kind: less("a", "b", margin=0.5)["less"]}, protocol="by  ear"), "here.yaml")
        assert len(claim.test) == count and claim.systems == ("a", "b") and claim.metrics == ("mcd_db",) and claim.protocol == "by ear"
