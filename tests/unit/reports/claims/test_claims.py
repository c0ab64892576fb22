"""Claims against figures whose answer is known: they hold, fail, stay open, or cannot be judged."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from harness.api import Better, Evidence, MetricInfo, Need, Sample
from harness.settings.registry import entries, resolve, variants
from reports.claims.claims import load_claims
from reports.claims.verdicts import Replication
from reports.run import summarise as tables
from reports.statistics.intervals import IntervalSettings
from reports.statistics.jackknife import interval
from reports.statistics.records import system_of
from tests.stubs.claim_stories import QUICK, Story, less, monotone, pair, pilot, sweep

# ---- the four outcomes -------------------------------------------------------------------------------------------------------


def test_a_claim_that_holds_is_reproduced_though_the_items_differ_more_than_the_systems(judge: Any) -> None:
    story = pair(-0.3, 0.2)
    verdict = judge(less("a", "b"), story)
    assert (verdict.outcome, verdict.reason) == (Replication.REPRODUCED, "")
    (found,) = verdict.contrasts
    values = {s: np.array([r["value"] for r in story.rows if r["system"] == s]) for s in "ab"}
    items = [f"item i{n:03d}" for n in range(30)]
    theirs = interval(values["a"] - values["b"], np.ones(30), items)
    assert (found.value, found.low, found.high) == pytest.approx((theirs.value, theirs.low, theirs.high))
    assert found.value == pytest.approx(-0.3) and (found.n, found.n_wanted, found.clusters) == (30, 30, 30)
    # Unpaired, the two intervals overlap by far: the pairing is what decides.
    apart = [interval(v, np.ones(30), items) for v in values.values()]
    assert apart[0].high > apart[1].low


def test_a_claim_that_fails_is_contradicted(judge: Any) -> None:
    verdict = judge(less("a", "b"), pair(0.3, 0.2))
    assert verdict.outcome is Replication.NOT_REPRODUCED and verdict.reason == "contradicted: the interval lies on the other side of zero"
    assert verdict.contrasts[0].low > 0


@pytest.mark.parametrize("difference", [-0.02, 0.02, 0.0])
def test_a_claim_that_the_items_do_not_decide_is_undecided(judge: Any, difference: float) -> None:
    verdict = judge(less("a", "b"), pair(difference, 0.5))
    assert verdict.outcome is Replication.NOT_REPRODUCED and verdict.reason == "undecided: the interval spans zero"


def test_equal_systems_decide_nothing(judge: Any) -> None:
    assert judge(less("a", "b"), pair(0.0, 0.0)).reason.startswith("undecided")


def test_speakers_count_and_not_their_items(judge: Any) -> None:
    # Ten items a speaker and six speakers of whom two disagree: sixty independent items would decide it.
    story = Story([f"s{n % 6}" for n in range(60)])
    story.add("a", np.full(60, 5.0))
    story.add("b", 5.0 + np.tile([1.0, 1.2, -0.2, 0.9, 1.1, -0.3], 10))
    assert judge(less("a", "b"), story).reason.startswith("undecided")
    story.speakers, story.rows = [""] * 60, [r | {"speaker": ""} for r in story.rows]
    assert judge(less("a", "b"), story).outcome is Replication.REPRODUCED


def test_greater_and_margins_and_alike(judge: Any) -> None:
    story = pair(0.3, 0.1)  # a is 0.3 above b

    def outcome(kind: str, margin: float, left: str = "a", right: str = "b") -> str:
        test = {kind: {"metric": "mcd_db", "left": {"system": left}, "right": {"system": right}, "margin": margin}}
        verdict = judge(test, story)
        return verdict.reason.split(":")[0] or str(verdict.outcome)

    assert [outcome("greater", m) for m in (0, 0.1, 0.3, 0.5)] == ["reproduced", "reproduced", "undecided", "contradicted"]
    assert [outcome("less", m, "b", "a") for m in (0, 0.3, 0.5)] == ["reproduced", "undecided", "contradicted"]
    # A negative margin: a may be above b, by less than so much.
    assert [outcome("less", m) for m in (-0.5, -0.3, -0.1)] == ["reproduced", "undecided", "contradicted"]
    assert [outcome("alike", m) for m in (0.5, 0.3, 0.1)] == ["reproduced", "undecided", "contradicted"]
    assert "the margin of 0.5" in judge(less("b", "a", margin=0.5), story).reason


# ---- what cannot be judged ---------------------------------------------------------------------------------------------------


def test_without_its_data_a_claim_is_not_run_and_says_what_to_run(judge: Any) -> None:
    story = Story([""] * 4)
    story.add("opus6", np.ones(4), codebooks=1)
    verdict = judge(less("opus16", "opus6"), story)
    assert verdict.outcome is Replication.NOT_RUN and "harness run suite=stream_prefix systems=[opus16,opus6]" in verdict.reason
    assert verdict.contrasts[0].value is None and verdict.notes == ()
    unknown = judge(less("nobody", "opus6"), story).reason
    assert "nobody" in unknown and "trained" in unknown and "harness run" not in unknown
    story.add("opus16", np.ones(4))
    assert judge(less("opus16", "opus6"), story).reason == "opus6 was not run with all of its codebooks"
    test = less("opus16", "opus16")
    test["less"]["right"]["codebooks"] = 2
    assert judge(test, story).reason == "opus16 was not run with codebooks=2"
    assert "cer was not measured" in judge(less("opus16", "opus16", "cer"), story).reason
    story.absent = {"cer": "no recogniser here"}
    assert judge(less("opus16", "opus16", "cer"), story).reason == "cer is absent from this run: no recogniser here"


def test_an_unfinished_run_decides_nothing(judge: Any) -> None:
    story = pair(-1.0, 0.1)
    story.rows = [r for r in story.rows if r["system"] == "a" or r["item"] < "i020"]
    verdict = judge(less("a", "b"), story)
    assert verdict.outcome is Replication.NOT_RUN and "10 of 30 items of b" in verdict.reason and "finish" in verdict.reason


def test_what_must_not_be_compared(judge: Any) -> None:
    def reason(story: Story) -> str:
        verdict = judge(less("a", "b"), story)
        assert verdict.outcome is Replication.NOT_COMPARABLE
        return str(verdict.reason)

    story = pair(-1.0, 0.1)
    story.systems["b"]["weights"] = "random"
    assert "b has random weights" in reason(story)
    story = pair(-1.0, 0.1)
    story.systems["b"]["size"] = "paper"
    assert "paper and small" in reason(story)
    failing = Story([""] * 30)
    failing.add("a", np.ones(30))
    failing.add("b", [math.nan] * 3 + [2.0] * 27)
    assert "3 of 30 outputs of b have no mcd_db" in reason(failing)
    skipped = Story([""] * 3)
    skipped.add("a", [math.inf] * 3)
    skipped.add("b", [math.inf] * 3)
    assert "does not apply to this data: skipped_by_policy here" in reason(skipped)


@pytest.mark.cases("B2", before='"contradicted", in red, of two utterances', after="too few, grey, and how many a verdict takes")
@pytest.mark.parametrize("difference", [-0.3, 0.3, 0.0])
def test_of_too_few_nothing_is_said(judge: Any, difference: float) -> None:
    for n in (1, 2, 5):
        verdict = judge(less("a", "b"), pair(difference, 0.01, n=n))
        assert verdict.outcome is Replication.TOO_FEW
        assert verdict.reason.startswith(f"{n} item{'' if n == 1 else 's'}, a verdict takes at least 6")
    speakers = judge(less("a", "b"), pair(difference, 0.01, n=60, speakers=[f"s{i % 5}" for i in range(60)]))
    assert speakers.outcome is Replication.TOO_FEW and speakers.reason.startswith("5 speakers, a verdict takes at least 6")
    alike = {"alike": {"metric": "mcd_db", "left": {"system": "a"}, "right": {"system": "b"}, "margin": 1.0}}
    assert judge(alike, pair(difference, 0.01, n=2)).outcome is Replication.TOO_FEW
    assert judge(alike, pair(difference, 0.01, n=6)).outcome is Replication.REPRODUCED


def test_how_many_it_takes_is_told_from_the_spread_seen(judge: Any) -> None:
    reason = judge(less("a", "b"), pair(-0.3, 0.5, n=5)).reason
    about = int(re.search(r"about (\d+) at the spread seen", reason).group(1))
    assert about == pytest.approx((2.8 * np.random.default_rng(3).normal(0, 0.5, 5).std(ddof=1) / 0.3) ** 2, abs=about) and about > 6


def test_three_signs_of_sixty_are_too_few(judge: Any) -> None:
    story = Story([""] * 60)
    wrong = np.zeros(60)
    wrong[:4] = 0.1
    story.add("a", np.full(60, 1.0))
    story.add("b", 1.0 + wrong)
    # Student's t alone says reproduced: 4 of 60 items, all one way, which chance does once in 16.
    verdict = judge(less("a", "b"), story)
    assert verdict.outcome is Replication.TOO_FEW and verdict.reason == "4 of 60 items differ, a verdict takes at least 6"
    wrong[:9] = 0.1
    story = Story([""] * 60)
    story.add("a", np.full(60, 1.0))
    story.add("b", 1.0 + wrong)
    assert judge(less("a", "b"), story).outcome is Replication.REPRODUCED


def test_an_item_that_one_metric_skips_leaves_the_others(judge: Any) -> None:
    story = Story([""] * 4)
    story.add("a", [1.0, 1.1, 1.2, math.inf])
    story.add("b", [2.0, 2.1, 2.3, 900.0])
    (found,) = judge(less("a", "b"), story).contrasts
    assert (found.n, found.n_wanted) == (3, 4) and found.value == pytest.approx(-1.0333, abs=1e-3)


# ---- training seeds ----------------------------------------------------------------------------------------------------------


def test_training_seeds_are_repeats_of_one_system(judge: Any) -> None:
    assert [system_of(s) for s in ("x_seed1", "x", "x_seed12", "seed1", "x_seeds")] == ["x", "x", "x", "seed1", "x_seeds"]
    rng = np.random.default_rng(0)
    hard = rng.normal(6, 2, 40)
    story = Story([""] * 40)
    offsets = {"a": 0.0, "a_seed1": 0.3, "a_seed2": -0.3, "b": 1.0, "b_seed1": 1.4}
    for system, offset in offsets.items():
        story.add(system, hard + offset)
    verdict = judge(less("a", "b"), story)
    (found,) = verdict.contrasts
    assert verdict.outcome is Replication.REPRODUCED and found.seeds == (3, 2)
    assert found.value == pytest.approx(0.0 - 1.2)
    # Of one training of a against one of b: the variances add.
    assert found.seed_spread == pytest.approx(np.hypot(0.3, np.std([1.0, 1.4], ddof=1)))
    assert "3/2 seeds, SD over seeds 0.412" in found.counted and "one training seed" not in verdict.notes


def test_figures_of_one_training_share_its_luck(judge: Any) -> None:
    story = Story([""] * 30)
    for system, offset in {"a": 0.0, "a_seed1": 0.5, "a_seed2": 1.0}.items():
        for codebooks, gain in ((1, 0.0), (2, -0.2 - 0.01 * offset)):
            story.add(system, np.linspace(3, 9, 30) + offset + gain, codebooks=codebooks)
    (found,) = judge(monotone(2), story).contrasts
    assert found.seeds == (3,) and found.value == pytest.approx(-0.205) and found.seed_spread == pytest.approx(0.005)


def test_one_seed_is_said_and_a_difference_within_the_seeds_is_said(judge: Any) -> None:
    assert "one training seed" in judge(less("a", "b"), pair(-0.3, 0.1)).notes
    story = Story([""] * 40)
    for system, offset in {"a": 0.0, "a_seed1": 0.9, "b": 0.1, "b_seed1": 1.0}.items():
        story.add(system, np.linspace(3, 9, 40) + offset)
    verdict = judge(less("a", "b"), story)
    # The items agree to the last one, the trainings do not: the claim stands on items and the reader is told.
    assert verdict.outcome is Replication.REPRODUCED
    assert "1 of 1 differences are no larger than their spread over seeds" in verdict.notes


def test_a_seed_that_lacks_a_setting_is_not_left_out_silently(judge: Any) -> None:
    story = pair(-1.0, 0.1)
    story.add("b_seed1", np.ones(30), metric="cer")
    verdict = judge(less("a", "b"), story)
    assert verdict.outcome is Replication.NOT_RUN and "mcd_db was not measured of b_seed1" in verdict.reason


# ---- several comparisons -----------------------------------------------------------------------------------------------------


def test_monotone_looks_at_every_step_that_was_measured(judge: Any) -> None:
    verdict = judge(monotone(4), sweep(5.0, 4.0, 3.5, 3.2))
    assert verdict.outcome is Replication.REPRODUCED
    assert [f.words for f in verdict.contrasts] == [f"a codebooks={b + 1} < a codebooks={b}" for b in (1, 2, 3)]
    assert [f.value for f in verdict.contrasts] == pytest.approx([-1.0, -0.5, -0.3])
    assert "codebooks measured: 1, 2, 3, 4" in verdict.notes
    dip = judge(monotone(4), sweep(5.0, 4.0, 4.2, 3.2))
    assert dip.reason.startswith("contradicted") and dip.deciding.words == "a codebooks=3 < a codebooks=2"
    flat = judge(monotone(4), sweep(5.0, 4.0, 4.0, 3.2))
    assert flat.reason.startswith("undecided") and flat.deciding.words == "a codebooks=3 < a codebooks=2"
    assert judge(monotone(4, margin=-0.1), sweep(5.0, 4.0, 4.0, 3.2)).outcome is Replication.REPRODUCED
    assert judge(monotone(4, direction="increasing"), sweep(1.0, 2.0, 3.0, 4.0)).outcome is Replication.REPRODUCED


def test_monotone_needs_its_ends_and_only_its_range(judge: Any) -> None:
    assert judge(monotone(8), sweep(5.0, 4.0, 3.0)).reason == "a was not run with codebooks=8"
    story = sweep(5.0, 4.0, 9.0)
    assert judge(monotone(2), story).outcome is Replication.REPRODUCED
    story.rows = [r for r in story.rows if json.loads(r["settings"]) != {"codebooks": 2}]
    assert [f.words for f in judge(monotone(3), story).contrasts] == ["a codebooks=3 < a codebooks=1"]


def test_the_gain_of_one_system_against_the_gain_of_another(judge: Any) -> None:
    story = sweep(9.0, 5.0)
    sweep(6.0, 5.5, system="b", story=story)

    def gain(system: str) -> dict[str, Any]:
        return {"system": system, "codebooks": 1, "minus": {"system": system, "codebooks": 2}}

    verdict = judge({"greater": {"metric": "mcd_db", "left": gain("a"), "right": gain("b")}}, story)
    (found,) = verdict.contrasts
    assert verdict.outcome is Replication.REPRODUCED and found.value == pytest.approx(4.0 - 0.5)
    assert found.words == "(a codebooks=1 minus a codebooks=2) > (b codebooks=1 minus b codebooks=2)"
    assert (found.low, found.high) == pytest.approx((3.5, 3.5))  # what makes an item hard cancels, here all of it


def test_all_holds_only_as_a_whole(judge: Any) -> None:
    story = pair(-0.3, 0.1)
    story.add("c", [r["value"] + 0.01 for r in story.rows if r["system"] == "b"])

    def outcome(*parts: Any) -> tuple[Any, str]:
        verdict = judge(list(parts), story)
        return verdict.outcome, verdict.deciding.words

    good, bad, lacking = less("a", "b"), less("c", "b"), less("a", "z")
    assert outcome(good, [good, less("a", "c")])[0] is Replication.REPRODUCED
    assert outcome(good, bad) == (Replication.NOT_REPRODUCED, "c < b")
    assert outcome(good, lacking) == (Replication.NOT_RUN, "a < z")
    # One part is enough to contradict the whole, whatever the others would say.
    assert outcome(lacking, bad) == (Replication.NOT_REPRODUCED, "c < b")


def test_a_long_claim_is_not_contradicted_by_chance(judge: Any) -> None:
    # The interval of a - b excludes zero at 95 %, not at 99.75 %.
    story = Story([""] * 30)
    noise = np.random.default_rng(5).normal(0, 1, 30)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    story.add("a", 5 + noise + 2.35 / math.sqrt(30))
    story.add("b", np.full(30, 5.0))
    how = IntervalSettings(resamples=4000)
    assert judge(less("a", "b"), story, how).reason.startswith("contradicted")
    long = judge([less("a", "b")] * 20, story, how)
    assert long.outcome is Replication.NOT_REPRODUCED and long.reason.startswith("undecided") and "several comparisons" in long.reason


class FrameShare:
    """A share of frames, pooled: 100 * sum(value) / sum(frames)."""

    info = MetricInfo(
        "phone_accuracy", "1", "", Better.NEITHER, frozenset({Need.CODES}), None, (0.0, 1.0), "for tests", {}, "pooled over frames"
    )

    def measure(self, sample: Sample) -> Evidence:
        raise AssertionError("records are pooled here, not measured")

    def pool(self, evidence: Sequence[Evidence], resamples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        values, frames = np.array([e.value for e in evidence]), np.array([e.counts["frames"] for e in evidence])
        return np.asarray((resamples @ values) / (resamples @ frames))


def test_a_pooled_metric_is_pooled_under_the_same_resamples(judge: Any) -> None:
    story = Story([""] * 20)
    rng = np.random.default_rng(2)
    hard = rng.uniform(0, 1, 20)
    story.add("a", hard, metric="phone_accuracy")
    story.add("b", hard + 0.1 + rng.normal(0, 0.01, 20), metric="phone_accuracy")
    verdict = judge(less("a", "b", "phone_accuracy"), story, pooled={"phone_accuracy": FrameShare()})
    (found,) = verdict.contrasts
    assert verdict.outcome is Replication.REPRODUCED and found.high - found.low < 0.02 and found.value == pytest.approx(-0.1, abs=0.01)


# ---- the papers' own -----------------------------------------------------------------------------------------------------------


def test_the_papers_claims_are_measured_by_their_suites() -> None:
    found = {suite: load_claims(suite) for suite in entries("suites")}
    assert {s for s, claims in found.items() if claims} >= {"stream_prefix", "quantizer_ablation", "semantic_ablation", "codebook_sweep"}
    for suite, claims in found.items():
        info = resolve("suites", suite)().info
        for claim in claims:
            assert set(claim.metrics) <= set(info.metrics) <= set(entries("metrics")), claim.id
            assert set(claim.systems) <= {*info.systems, *info.calibration, *variants()}, claim.id


def test_figure_4_of_a_small_pilot(tmp_path: Path) -> None:
    verdicts = {v.claim.id: v for v in tables.summarise(pilot().run(tmp_path), QUICK).verdicts}
    assert verdicts["socodec_pq_unordered"].outcome is Replication.REPRODUCED
    assert verdicts["socodec_opq_rq_ordered"].outcome is Replication.REPRODUCED
    assert verdicts["socodec_opq_below_rq_mcd"].reason.startswith("contradicted")
    assert verdicts["socodec_opq_below_rq_cer"].outcome is Replication.NOT_RUN
    alike = verdicts["socodec_opq_rq_alike"]
    assert alike.reason.startswith("contradicted") and alike.deciding.value == pytest.approx(0.5)
    assert {"small models, own data", "one training seed"} < set(alike.notes) and "FunASR" in alike.notes[-1]
