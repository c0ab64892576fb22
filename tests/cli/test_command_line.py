"""The command as a person types it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness.cli import _options, _parser, main
from harness.judges.weights import WEIGHTS, absence
from harness.storing.aliases import command, typed

METRICS = "metrics=[pesq_wb,stoi,si_sdr_db,emitted_bps]"


def test_no_verb_teaches(capsys):
    assert main([]) == 2
    assert "harness run suite=codec" in capsys.readouterr().out


@pytest.mark.parametrize("verb", [[], ["run"], ["list"], ["report"], ["doctor"]])
def test_help_of_every_verb(verb, capsys):
    with pytest.raises(SystemExit) as exit:
        main([*verb, "--help"])
    assert exit.value.code == 0
    assert "harness" in capsys.readouterr().out


def test_lists_show_what_run_accepts(capsys):
    for what, name in [("systems", "opus16"), ("suites", "codec"), ("metrics", "pesq_wb"), ("datasets", "seedtts"), ("asr", "embedded")]:
        assert main(["list", what]) == 0
        assert any(line.split()[0] == name for line in capsys.readouterr().out.splitlines())


def test_show_config_is_yaml_of_everything(capsys):
    import yaml

    assert main(["run", "--show-config", "systems=[noise]", "dataset.limit=3"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["dataset"]["limit"] == 3
    assert list(config["systems"]) == ["noise"]


@pytest.mark.parametrize(
    "words", [["suite=codex"], ["systems=[opsu]"], ["dataset=folder", "dataset.root=/no/such/place"], ["metrics=[pesq]"]]
)
def test_a_request_that_cannot_be_carried_out_gives_2_and_advice(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["run", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("harness: ")
    assert "Traceback" not in error
    assert not (tmp_path / "runs").exists()


def test_a_run_ends_with_a_table_and_files(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        main(["run", "suite=codec", "systems=[passthrough,opus16,noise]", "dataset.limit=3", METRICS, "run.name=x", "executor.workers=1"])
        == 0
    )
    out = capsys.readouterr().out
    assert "SYNTHETIC SPEECH" in out
    assert "report.html" in out
    frame = harness.load(tmp_path / "runs" / "x").set_index(["system", "metric", "item"])["value"]
    mean = frame.groupby(level=[0, 1]).mean()
    assert mean["passthrough", "pesq_wb"] == pytest.approx(4.644, abs=0.001)
    assert mean["passthrough", "si_sdr_db"] == 100
    assert mean["noise", "pesq_wb"] < 1.3 < mean["opus16", "pesq_wb"]
    for name in ("report.html", "report.md", "report.tex", "report.csv", "records.parquet", "manifest.json"):
        assert (tmp_path / "runs" / "x" / name).stat().st_size > 0
    manifest = json.loads((tmp_path / "runs" / "x" / "manifest.json").read_text())
    assert manifest["dataset"]["synthetic"] is True
    assert "opus" in json.dumps(manifest["systems"]["opus16"])
    # and the report again, elsewhere
    assert main(["report", str(tmp_path / "runs" / "x"), "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "report.html").exists()


def test_report_of_what_is_no_run(capsys, tmp_path):
    assert main(["report", str(tmp_path)]) == 2
    assert "manifest.json" in capsys.readouterr().err


def test_a_reader_that_goes_away_makes_no_traceback(tmp_path):
    code = "import sys; from harness.cli import main; sys.exit(main(['list']))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(harness.__file__).parents[1]
    )
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    process.wait(timeout=30)


def test_doctor_names_what_is_missing_and_how_to_get_it(capsys):
    lacking = [name for name in ("whisper-base", "campplus", "distillmos") if name in WEIGHTS and absence(WEIGHTS[name])]
    assert main(["doctor"]) == bool(lacking)
    out = capsys.readouterr().out
    assert "speaker=ecapa" in out
    assert "`harness fetch speaker=ecapa`: " in out
    assert ("needed by a default run: asr=" if "whisper-base" in lacking else "everything a default run needs is here") in out


def test_human_speech_by_the_seedtts_layout(capsys, tmp_path, monkeypatch):
    root = Path(__file__).resolve().parents[2] / "../shared/data/eval"
    if not root.exists():
        pytest.skip("the human evaluation set (shared/data/eval beside the checkout) is not here")
    monkeypatch.chdir(tmp_path)
    words = [
        "dataset=seedtts",
        f"dataset.root={root.resolve()}",
        "dataset.limit=4",
        "systems=[passthrough,opus6,opus]",
        "systems.opus.bitrate_bps=24000",
        "metrics=[pesq_wb]",
        "executor=serial",
        "run.name=x",
    ]
    assert main(["run", *words]) == 0
    assert "SYNTHETIC" not in capsys.readouterr().out
    mean = harness.load(tmp_path / "runs" / "x").groupby("system")["value"].mean()
    assert mean["opus6"] < mean["opus"] < mean["passthrough"]


@pytest.mark.cases("A11", before="what a dataset left out stood nowhere", after="a line at the start, and a list in manifest.json")
def test_what_is_left_out_is_said_and_kept(make_dataset, harness_run, capsys):
    root = make_dataset(["one", "two"])
    text = (root / "manifest.jsonl").read_text()
    (root / "manifest.jsonl").write_text(text.replace('"id"', '"mood": "calm", "id"'))
    code, folder = harness_run(root, "systems=[stub_echo]", "executor=serial")
    assert code == 0
    assert "left out: columns not read: mood" in capsys.readouterr().err
    assert json.loads((folder / "manifest.json").read_text())["dataset"]["left_out"] == ["columns not read: mood"]


@pytest.mark.parametrize(
    ("line", "words", "options"),
    [
        (["run", "suite=codec", "--no-report", "run.name=a"], ["suite=codec", "run.name=a"], {"no_report": True}),
        (["run", "--no-report", "suite=codec", "--show-config", "run.name=a"], ["suite=codec", "run.name=a"], {"no_report": True, "show_config": True}),
        (["run", "a=1", "--config-dir", "D", "b=2", "--no-report", "c=3"], ["a=1", "b=2", "c=3"], {"config_dir": Path("D"), "no_report": True}),
        (["run", "a=1", "--", "b=2"], ["a=1", "b=2"], {}),
        (["run", "a=1", "--no-report", "--", "-b=2", "--c"], ["a=1", "-b=2", "--c"], {"no_report": True}),
        (["--no-report", "run", "a=1"], ["a=1"], {"no_report": True}),
        (["selfcheck", "a=1", "--config-dir", "D", "b=2"], ["a=1", "b=2"], {"config_dir": Path("D")}),
        (["tables", "qtts", "--config-dir", "D", "run=true"], ["qtts", "run=true"], {"config_dir": Path("D")}),
        (["report", "--out", "O", "R"], None, {"out": Path("O"), "run": Path("R")}),
        (["report", "R", "--out", "O"], None, {"out": Path("O"), "run": Path("R")}),
        (["list", "--config-dir", "D", "systems"], None, {"what": "systems", "config_dir": Path("D")}),
        (["join", "--from", "U", "R"], None, {"source": "U", "run": Path("R")}),
        (["listen", "--trials", "3", "R", "--seed", "1"], None, {"trials": 3, "seed": 1, "run": Path("R")}),
        (["compare", "A", "B", "metrics=[stoi]"], ["A", "B", "metrics=[stoi]"], {}),
        (["gate", "--", "-A", "against=B"], ["-A", "against=B"], {}),
    ],
)  # fmt: skip
@pytest.mark.cases(
    "D12",
    before="harness run suite=codec --no-report run.name=a: unrecognized arguments: run.name=a",
    after="options stand anywhere, in every verb",
)
def test_options_stand_anywhere(line, words, options):
    parsed = _options(_parser(line), line)
    if words is not None:
        assert getattr(parsed, parsed.rest) == words
    assert {name: getattr(parsed, name) for name in options} == options


@pytest.mark.parametrize("line", [["run", "a=1", "--no-such"], ["report", "R", "S"], ["doctor", "x"], ["join", "R", "--out", "x"]])
def test_an_option_that_does_not_exist_is_refused(line, capsys):
    with pytest.raises(SystemExit) as exit:
        main(line)
    assert exit.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["compare", "gate", "bless", "listen"])
def test_a_verb_without_its_run_says_what_it_wants(verb, capsys):
    assert main([verb]) == 2
    assert f"harness: {'which run' if verb == 'listen' else verb + ' wants'}" in capsys.readouterr().err


def test_the_command_of_a_run_can_be_typed_again():
    import shlex

    words = ["suite=codec", "systems=[a,b]", "dataset.root=/d/it's (here)", "run.name=$x #1"]
    assert shlex.split(typed(words)) == words
    assert typed(words[:2]) == "suite=codec systems=[a,b]"
    assert command(f"harness run {typed(words)}") == f"harness run {typed(words)}"
    assert command("harness run 'a") == "harness run ''\\''a'"
