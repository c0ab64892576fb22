"""Several judging models in one run: a column each, the first under the names and keys it has alone."""

import pytest

import harness
from harness.errors import ConfigError


@pytest.fixture
def judges(tmp_path):
    """A folder of the user's own recognisers: one recogniser under two protocols."""
    (tmp_path / "asr").mkdir()
    for name, preset in (("loose", "basic"), ("plain", "whisper-en")):
        (tmp_path / "asr" / f"{name}.yaml").write_text(f"preset: {preset}\nen: {{family: pocketsphinx}}\nzh: null\n")
    return tmp_path


def measured(judges, asr, **more):
    settings = {"config_dir": judges, "run_root": judges / "runs", "limit": 1, "metrics": ["wer", "length_ratio"], "executor": "serial"}
    return harness.run(systems=["opus6"], dataset={"name": "embedded", "language": "en"}, asr=asr, **(settings | more))


def test_each_judge_has_a_column_and_the_first_its_own_results(judges):
    alone = measured(judges, "plain").records().set_index("metric")
    both = measured(judges, ["plain", "loose"])
    records = both.records()
    rows = records[records["system"] == "opus6"].set_index("metric")
    assert set(rows.index) == {"wer", "wer@loose", "length_ratio"}
    one = alone[alone["system"] == "opus6"].loc["wer"]
    assert rows.loc["wer", "value"] == one["value"] and rows.loc["wer", "signature"] == one["signature"]
    assert '"preset":"basic"' in rows.loc["wer@loose", "signature"] and '"preset":"whisper-en"' in rows.loc["wer", "signature"]
    assert both.result.scored < len(records)  # what the first judge said is known already
    table = both.table()
    assert list(table[table["system"] == "opus6"]["name"]) == ["wer", "wer@loose", "length_ratio"]
    both.report()
    assert r"| system | wer ↓ | wer\@loose ↓ |" in (both.folder / "report.md").read_text()


def test_what_asks_for_no_judge_is_measured_once_and_a_missing_judge_is_told_by_its_metric(judges):
    (judges / "asr" / "absent.yaml").write_text("preset: basic\nen: {family: whisper, checkpoint: /nowhere/whisper}\nzh: null\n")
    with pytest.raises(harness.errors.MissingDependency, match=r"metric 'wer@absent': .*'/nowhere/whisper'"):
        measured(judges, ["plain", "absent"])
    done = measured(judges, ["plain", "absent"], overrides={"run.allow_missing": True})
    assert set(done.records()["metric"]) == {"wer", "length_ratio"}
    assert "wer@absent" in done.opened.manifest["absent_metrics"]
    with pytest.raises(ConfigError, match="named twice"):
        measured(judges, ["plain", "plain"])
