"""A paper's tables beside runs whose answer is known: cells and claims that hold, fail, cannot be compared, or were not run."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from harness.errors import ConfigError
from reports.claims.verdicts import Replication
from reports.papers.document import reasons_of
from reports.papers.study import Study
from tests.stubs.fake_papers import EMBEDDED, PAPER, SAME, found, paper, study, table


def cell(known: Study, row: str = "Ours", column: str = "PESQ") -> Any:
    answer = known.cell(known.paper.tables[0], row, column)
    assert answer is not None
    return answer


def outcomes(known: Study) -> dict[str, Replication]:
    return {judged.verdict.claim.id: judged.verdict.outcome for judged in known.claims}


# ---- claims: one that holds, one that fails, one without data --------------------------------------------------------------------


def test_a_claim_holds_another_fails_and_a_third_has_no_data() -> None:
    known = study(found({("ours", "pesq_wb"): 3.0, ("theirs", "pesq_wb"): 2.0}))
    assert outcomes(known) == {"ours_better": "reproduced", "ours_worse": "not reproduced", "nobody": "not run"}
    better, worse, nobody = (judged.verdict for judged in known.claims)
    assert better.contrasts[0].value == pytest.approx(1.0) and better.contrasts[0].low > 0.9
    assert worse.reason.startswith("contradicted") and nobody.contrasts[0].value is None
    assert known.counts["claims"] == {"reproduced": 1, "not reproduced": 1, "too few": 0, "not comparable": 0, "not run": 1}


def test_without_runs_nothing_is_reproduced_and_every_claim_says_what_to_do() -> None:
    known = study(unready={"ours": "no weights; train them", "absent": "no such system"})
    assert set(outcomes(known).values()) == {Replication.NOT_RUN} and known.runs == ()
    reasons = {judged.verdict.claim.id: judged.verdict.reason for judged in known.claims}
    assert reasons["ours_better"] == "ours cannot be run here, see the runs" and reasons["nobody"].startswith("absent cannot")
    assert all(c.value is None and c.outcome is not Replication.REPRODUCED for c in known.cells)


def test_a_claim_is_judged_on_the_one_run_that_holds_most_of_it() -> None:
    half = found({("ours", "pesq_wb"): 1.0}, n=60, name="half")
    small = found({("ours", "pesq_wb"): 1.0, ("theirs", "pesq_wb"): 2.0}, n=10, name="small")
    large = found({("ours", "pesq_wb"): 3.0, ("theirs", "pesq_wb"): 2.0}, n=30, name="large")
    known = study(half, small, large)
    assert known.claims[0].run == "large" and outcomes(known)["ours_better"] == "reproduced"
    assert {run.name for run in known.runs} >= {"large"}


def test_a_claim_about_speed_may_be_answered_by_untrained_models() -> None:
    faster = {"less": {"metric": "rtf", "left": {"system": "ours"}, "right": {"system": "theirs"}}}
    claim = {"id": "faster", "text": "Faster.", "source": "Table 1", "status": "published", "suite": "codec", "test": faster}
    random = {label: {"weights": "random"} for label in ("ours", "theirs")}
    run = found({("ours", "rtf"): 1.0, ("theirs", "rtf"): 2.0}, systems=random)
    assert outcomes(study(run, of=paper(claims=[claim]))) == {"faster": "not comparable"}
    known = study(run, of=paper(claims=[claim | {"untrained": True}]))
    assert outcomes(known) == {"faster": "reproduced"} and any("random weights" in note for note in known.claims[0].verdict.notes)
    with pytest.raises(ConfigError, match="untrained is true or false"):
        paper(claims=[claim | {"untrained": "yes"}])


# ---- cells -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "outcome", "start"),
    [(3.05, "reproduced", ""), (2.0, "not reproduced", "contradicted"), (3.2, "not reproduced", "undecided")],
)
def test_a_comparable_cell_is_judged_by_its_whole_interval(mean: float, outcome: str, start: str) -> None:
    answer = cell(study(found({("ours_paper", "pesq_wb"): mean})))
    assert (answer.outcome, answer.value) == (outcome, pytest.approx(mean)) and answer.reason.startswith(start)
    assert answer.low < mean < answer.high and (answer.n_ok, answer.n_total) == (30, 30) and answer.system == "ours_paper"


def test_figures_are_in_the_printed_unit() -> None:
    answer = cell(study(found({("ours_paper", "cer"): 0.10})), column="CER")
    assert (
        answer.value == pytest.approx(10.0) and answer.outcome is Replication.REPRODUCED and answer.column.printed(answer.value) == "10.0"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dataset": EMBEDDED}, "other data: 30 items of embedded for 30 sentences of X"),
        ({"dataset": SAME | {"split": "dev-clean"}}, "other data: 30 items of librispeech for 30 sentences of X"),
        ({"dataset": SAME | {"limit": 30}}, "not all of the data: 30 items only, a spread of them"),
        ({"n": 20}, "another number of items: 20 for 30"),
        ({"asr": "embedded"}, "other recogniser: embedded for FunASR"),
        (
            {"systems": {"ours_paper": {"size": "small", "num_parameters": 5_000_000, "training_data": "2 h"}}},
            "small size (5 M parameters, 2 h)",
        ),
    ],
)
def test_what_differs_from_the_paper_is_not_comparable_and_stands_beside_it(change: Any, reason: str) -> None:
    answer = cell(study(found({("ours_paper", "cer"): 0.10}, **change)), column="CER")
    assert answer.outcome is Replication.NOT_COMPARABLE and answer.reasons == (reason,) and answer.value == pytest.approx(10.0)


def test_failures_of_a_system_are_not_comparable() -> None:
    values = [3.0] * 28 + [math.nan] * 2
    answer = cell(study(found({("ours_paper", "pesq_wb"): values})))
    assert answer.outcome is Replication.NOT_COMPARABLE and answer.reasons == ("2 of 30 outputs have no figure",) and answer.n_ok == 28


def test_a_system_that_scored_nothing_is_told_so() -> None:
    answer = cell(study(found({("ours_paper", "pesq_wb"): [math.nan] * 30})))
    assert (answer.outcome, answer.value) == (Replication.NOT_COMPARABLE, None) and "none of 30 outputs" in answer.reason


def test_one_item_has_no_interval_and_decides_nothing() -> None:
    changed = table(protocol=PAPER["tables"][0]["protocol"] | {"items": 1})
    answer = cell(study(found({("ours_paper", "pesq_wb"): [3.0]}, n=1), of=changed))
    assert answer.outcome is Replication.TOO_FEW and answer.reason == "no interval: fewer than 2 clusters" and answer.value == 3.0
    changed = table(protocol=PAPER["tables"][0]["protocol"] | {"items": 5})
    five = cell(study(found({("ours_paper", "pesq_wb"): [3.0] * 5}, n=5), of=changed))
    assert five.outcome is Replication.TOO_FEW and "at least 6" in five.reason


def test_the_papers_size_comes_before_the_small_one_and_random_weights_never() -> None:
    small = {"ours": {"size": "small"}}
    both = found({("ours_paper", "pesq_wb"): 3.0, ("ours", "pesq_wb"): 1.0}, systems=small)
    assert cell(study(both)).system == "ours_paper"
    untrained = found({("ours_paper", "pesq_wb"): 3.0, ("ours", "pesq_wb"): 1.0}, systems=small | {"ours_paper": {"weights": "random"}})
    assert cell(study(untrained)).system == "ours" and cell(study(untrained)).outcome is Replication.NOT_COMPARABLE
    alone = found({("ours_paper", "pesq_wb"): 3.0}, systems={"ours_paper": {"weights": "random"}})
    assert (cell(study(alone)).outcome, cell(study(alone)).value) == (Replication.NOT_RUN, None)


def test_of_several_runs_the_closest_to_the_paper_is_taken() -> None:
    other = found({("ours_paper", "pesq_wb"): 1.0}, n=90, dataset=EMBEDDED, name="other")
    same = found({("ours_paper", "pesq_wb"): 3.0}, name="same")
    assert cell(study(other, same)).run == cell(study(same, other)).run == "same"
    more = found({("ours_paper", "pesq_wb"): 2.0}, n=91, dataset=EMBEDDED, name="more")
    assert cell(study(other, more)).run == "more"


def test_a_column_tied_to_its_data_takes_no_other() -> None:
    tied = table(protocol={"data": "a private list", "dataset": "pgc_hard", "only": True})
    elsewhere = study(found({("ours_paper", "pesq_wb"): 3.0}, dataset=EMBEDDED), of=tied)
    assert (cell(elsewhere).outcome, cell(elsewhere).value) == (Replication.NOT_RUN, None) and "dataset=pgc_hard" in cell(elsewhere).reason
    there = study(found({("ours_paper", "pesq_wb"): 3.0}, dataset=EMBEDDED | {"name": "pgc_hard"}), of=tied)
    assert cell(there).outcome is Replication.REPRODUCED
    (_, need) = there.needs
    assert "dataset=pgc_hard dataset.manifest=FILE.lst" in need.command and not need.to_run


def test_a_timing_is_compared_on_its_machine_only_and_needs_no_training() -> None:
    column = {"id": "RTF", "metric": "rtf", "decimals": 2, "within": 0.2, "protocol": {"machine": "H20"}}
    timed = table(columns=[column], rows=[{"name": "Ours", "systems": ["ours_paper"], "values": {"RTF": 3.0}}])
    run = found({("ours_paper", "rtf"): 3.0}, systems={"ours_paper": {"weights": "random", "device": "cpu"}}, dataset=EMBEDDED)
    answer = cell(study(run, of=timed), column="RTF")
    assert answer.reasons == ("other machine: cpu of A CPU for H20",) and answer.value == pytest.approx(3.0)
    there = replace(run, manifest=run.manifest | {"machine": {"processor": "x", "accelerators": ["NVIDIA H20"]}})
    assert cell(study(there, of=timed), column="RTF").outcome is Replication.REPRODUCED


def test_what_nothing_measures_is_not_comparable_with_the_reason() -> None:
    assert cell(study(), column="SMOS").reason == "ten people listened; nothing here measures it"


def test_a_system_that_cannot_be_built_is_not_run_with_its_reason() -> None:
    known = study(unready={"ours": "no weights; train with: harness train system=ours", "ours_paper": "give checkpoint="})
    assert cell(known).reasons == ("ours: no weights; train with: harness train system=ours",)
    assert cell(known, "Theirs").reason == "see the runs"


def test_reasons_that_cells_share_are_told_once() -> None:
    known = study(found({("ours_paper", "cer"): 0.1, ("ours_paper", "pesq_wb"): 3.0, ("theirs", "pesq_wb"): 2.0}, dataset=EMBEDDED))
    assert dict((reason.partition(":")[0], which) for reason, which in reasons_of(known.cells)) == {
        "not comparable, other data": "PESQ, CER",
        "not comparable, ten people listened; nothing here measures it": "SMOS",
    }


# ---- the runs it needs -----------------------------------------------------------------------------------------------------------


def test_a_missing_run_is_named_with_its_command() -> None:
    (need,) = study(unready={"ours_paper": "give checkpoint=", "absent": "no such system"}, words=("dataset.limit=3",)).needs
    assert need.command == "harness run suite=codec systems=[ours,theirs] metrics=[pesq_wb,cer] dataset.limit=3" and need.to_run
    assert need.lacking == {"absent": "no such system"} and need.closer == {"ours_paper": "give checkpoint="}


def test_a_run_that_holds_all_that_can_be_run_is_found() -> None:
    unready = {"ours_paper": "x", "absent": "y"}
    figures = {("ours", "pesq_wb"): 3.0, ("ours", "cer"): 0.1, ("theirs", "pesq_wb"): 2.0, ("theirs", "cer"): 0.1}
    (need,) = study(found(figures), unready=unready).needs
    assert need.found == "codec-1" and not need.to_run
    (need,) = study(found({k: v for k, v in figures.items() if k[0] == "ours"}), unready=unready).needs
    assert need.to_run


def test_where_nothing_can_be_run_there_is_no_command() -> None:
    (need,) = study(unready=dict.fromkeys(("ours", "ours_paper", "theirs", "absent"), "not here")).needs
    assert need.command == "" and not need.to_run and set(need.lacking) == {"ours", "theirs", "absent"}


def test_parameters_of_a_system_go_where_it_runs_and_replace_the_papers() -> None:
    changed = paper(runs={"codec": ["systems.ours.weights=random", "systems.theirs.weights=random"]})
    (need,) = study(of=changed, unready={"ours_paper": "x", "absent": "y"}, words=("systems.ours.checkpoint=f", "systems.absent.x=1")).needs
    assert need.words == ("systems.theirs.weights=random", "systems.ours.checkpoint=f")


def test_a_limit_is_said_before_the_numbers() -> None:
    known = study(found({("ours_paper", "pesq_wb"): 3.0}, n=3, dataset=EMBEDDED | {"limit": 3}))
    assert known.warnings == {"LIMITED DATA: 3 items only, a spread of them.": ("codec-1",)}
