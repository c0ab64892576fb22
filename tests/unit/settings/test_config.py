"""Names and overrides: checked before anything runs, with the reason and a way out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import ConfigError, UnknownName
from harness.settings.config import compose
from harness.settings.schema import NAMES, check, is_text, names_of, text_of
from harness.settings.systems import listed


def test_systems_keep_the_order_of_the_command_line():
    config = compose(["systems=[noise,passthrough,opus16]"])
    assert list(config["systems"]) == ["noise", "passthrough", "opus16"]
    assert config["systems"]["noise"]["family"] == "noise"


def test_a_parameter_of_one_system():
    config = compose(["systems=[opus6,opus16]", "systems.opus6.bitrate_bps=7000"])
    assert config["systems"]["opus6"]["bitrate_bps"] == 7000
    assert config["systems"]["opus16"]["bitrate_bps"] != 7000


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["systems=[opus61]"], UnknownName, "Did you mean opus6"),
        (["systems=opsu16"], UnknownName, "opus16"),
        (["suite=codex"], UnknownName, "Did you mean codec"),
        (["dataset=seedtt"], UnknownName, "Did you mean seedtts"),
        (["asr=nothing"], UnknownName, "embedded"),
        (["datset.limit=3"], ConfigError, "dataset.limit"),
        (["executor.worker=3"], ConfigError, "executor.workers"),
        (["codec"], ConfigError, "key=value"),
        (["executor.workers=[a,b"], ConfigError, "executor.workers"),
        (["systems=[passthrough,passthrough]"], ConfigError, "twice"),
        (["systems=[../../etc/passwd]"], ConfigError, "not a name"),
        (["+systems.x._target_=os.system"], ConfigError, "refused"),
        (["+dataset.extra={_target_:os.system}"], ConfigError, "refused"),
        (["systems=[noise]", "systems.noise.seed=nan"], ConfigError, "not a finite"),
        (["hydra.run.dir=/tmp/x"], ConfigError, "Hydra's own"),
    ],
)
def test_what_cannot_be_is_refused_with_advice(words, error, message):
    with pytest.raises(error) as caught:
        compose(words)
    assert message in str(caught.value)


def test_a_target_in_a_users_yaml_is_refused(tmp_path):
    (tmp_path / "systems").mkdir()
    (tmp_path / "systems" / "evil.yaml").write_text("# @package systems.evil\nfamily: noise\nextra:\n  _target_: os.system\n")
    with pytest.raises(ConfigError, match=r"systems\.evil\.extra\._target_"):
        compose(["systems=[evil]"], tmp_path)


def test_a_users_own_yaml_joins_the_built_in_ones(tmp_path):
    (tmp_path / "systems").mkdir()
    (tmp_path / "systems" / "quiet.yaml").write_text("# @package systems.quiet\n# my own\nfamily: noise\nseed: 7\n")
    config = compose(["systems=[quiet,noise]"], tmp_path)
    assert config["systems"]["quiet"] == {"family": "noise", "seed": 7}


def test_a_parameter_that_the_yaml_does_not_state(tmp_path):
    assert compose(["systems=[noise]", "systems.noise.extra=3"])["systems"]["noise"]["extra"] == 3


def test_a_parameter_of_no_chosen_system_is_refused():
    with pytest.raises(ConfigError, match="opus6"):
        compose(["systems=[noise]", "systems.opus6.bitrate_bps=7000"])


def test_names_in_a_list():
    assert listed("systems", "[a, b ,c]") == ["a", "b", "c"]
    assert listed("systems", "a") == ["a"]
    assert listed("systems", "[]") == []


# -- values ----------------------------------------------------------------------------------------------------------

WRONG = [
    ("seeds=[0,0]", "seeds=[0,0]: a list of different whole numbers from 0 on"),
    ("seeds=3", "seeds=3: a list"),
    ("seeds=[]", "seeds=[]: a list"),
    ("seeds=[-1]", "seeds=[-1]: a list"),
    ("seeds=[0.5]", "seeds=[0.5]: a list"),
    ("seeds=[a]", "seeds=[a]: a list"),
    ("seeds=[true]", "seeds=[true]: a list"),
    ("seeds=[4294967296]", "seeds=[4294967296]: a list"),
    ("seeds=null", "seeds=null: a list"),
    ("metrics=[]", "metrics=[]: a list of names without a name"),
    ("dataset.items=[]", "dataset.items=[]: a list of names without a name"),
    ("dataset.root=~nobody-here/data", "there is no user 'nobody-here' here; a folder that is called so is ./~nobody-here/data"),
    ("metrics=[stoi,stoi]", "metrics=[stoi,stoi]: a list of different names"),
    ("metrics=[stoi", "metrics=[stoi: a bracket is missing"),
    ("metrics=[stoi,,pesq_wb]", "a name is empty"),
    ("dataset.items=[a,a]", "dataset.items=[a,a]: a list of different ids"),
    ("dataset.limit=0", "dataset.limit=0: a whole number from 1 on"),
    ("dataset.limit=abc", "dataset.limit=abc: a whole number from 1 on"),
    ("dataset.limit=1.5", "dataset.limit=1.5: a whole number"),
    ("dataset.root=", "dataset.root=: a folder"),
    ("executor.kind=threads", "executor.kind=threads: local, serial or ray is wanted"),
    ("executor.workers=0", "executor.workers=0: a whole number from 1 on"),
    ("executor.workers=-1", "executor.workers=-1: a whole number"),
    ("executor.workers=1.5", "executor.workers=1.5: a whole number"),
    ("executor.workers=abc", "executor.workers=abc: a whole number"),
    ("executor.workers=1,2", "executor.workers=1,2: a whole number"),
    ("executor.predict_workers=0", "executor.predict_workers=0: a whole number"),
    ("executor.threads=0", "executor.threads=0: a whole number"),
    ("executor.timeout_s=0", "executor.timeout_s=0: a number above 0"),
    ("executor.timeout_s=soon", "executor.timeout_s=soon: a number above 0"),
    ("executor.timeout_s=null", "executor.timeout_s=null: a number above 0"),
    ("executor.memory_gib=abc", "executor.memory_gib=abc: a number above 0"),
    ("executor.memory_gib=-1", "executor.memory_gib=-1: a number above 0"),
    ("run.max_failures=abc", "run.max_failures=abc: a whole number from 0 on"),
    ("run.max_failures=-1", "run.max_failures=-1: a whole number"),
    ("run.max_failures=null", "run.max_failures=null: a whole number"),
    ("run.overwrite=maybe", "run.overwrite=maybe: true or false"),
    ("run.overwrite=1", "run.overwrite=1: true or false"),
    ("run.keep_failed=yes", "run.keep_failed=yes: true or false"),
    ("run.allow_missing=sure", "run.allow_missing=sure: true or false"),
    ("allow_random=2", "allow_random=2: true or false"),
    ("report.audio_limit_mb=much", "report.audio_limit_mb=much: a number from 0 on"),
    ("run=3", "run"),
    ("run.root=", "run.root=: a folder"),
    ("run.root=null", "run.root=null: a folder"),
]


@pytest.mark.parametrize(("word", "message"), WRONG)
@pytest.mark.cases(
    "A15",
    before="seeds=[0,0] counted one prediction twice, seeds=3 was a traceback, run.max_failures=abc failed after the work, run.overwrite=maybe was true",
    after="every setting has a declared type, checked before the work: the message names setting, value and what is accepted",
)
@pytest.mark.cases(
    "D10", before="executor.memory_gib=abc waited for 60 s, run.overwrite=maybe was true", after="refused in words, before the work"
)
def test_a_value_of_another_type_is_refused_before_the_work(word, message, composed):
    """The value is read as `compose` reads it, and put into a configuration that was composed once."""
    key, _, typed = word.partition("=")
    with pytest.raises(ConfigError) as caught:
        value = names_of(key, typed) if key in NAMES else text_of(key, typed) if is_text(key) else _parsed(typed)
        section, _, name = key.rpartition(".")
        check({**composed, section: {**composed[section], name: value}} if section else {**composed, name: value})
    assert message in str(caught.value)


@pytest.fixture(scope="module")
def composed():
    return compose(["systems=[noise]"])


def _parsed(typed):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_override(f"key={typed}")
    return typed if parsed.is_sweep_override() else parsed.value()


@pytest.mark.parametrize(
    "word", ["seeds=[0,0]", "metrics=[]", "executor.workers=1,2", "executor.memory_gib=abc", "run.overwrite=maybe", "run=3"]
)
def test_compose_refuses_it(word):
    with pytest.raises(ConfigError, match=word.partition("=")[0]):
        compose(["systems=[noise]", word])


def test_no_systems_are_refused_before_the_work(tmp_path, monkeypatch, capsys):
    from harness.cli import main

    monkeypatch.chdir(tmp_path)
    assert main(["run", "systems=[]"]) == 2
    assert "no systems: write systems=[" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_lists_of_names_are_names_as_typed():
    config = compose(["systems=[noise]", "metrics=stoi,pesq_wb", 'dataset.items=[1e5, 007,"a,b",it\'s,2026_11_30,true]'])
    assert config["metrics"] == ["stoi", "pesq_wb"]
    assert config["dataset"]["items"] == ["1e5", "007", "a,b", "it's", "2026_11_30", "true"]
    assert compose(["metrics=stoi"])["metrics"] == ["stoi"]
    assert compose(["metrics=null"])["metrics"] is None


# -- text ------------------------------------------------------------------------------------------------------------

TEXTS = [
    "20261130", "2026_11_30", "1e5", "true", "None", "nan", "0x1f", "007", "a b", " ", "語音", "données", "тест", "[a,b]", "[a,b", "{x: 1}", "a,b",
    "a=b", "$HOME", "${oc.env:HOME}", "${run.root}", "#x", "it's", 'a"b', "a:b", "(x)", "a\\b", "a\\", "\\'", "x;y", "*?", "%20", "&", "!tag", "@at", "🎙",
]  # fmt: skip


@pytest.mark.cases(
    "D10",
    before="run.name=20261130 and roots with spaces, brackets, commas or other scripts: traceback, 'Did you mean dataset.root or dataset.root'",
    after="text settings are the text that was typed; what cannot name a folder is refused in words",
)
def test_text_is_text_as_typed():
    keys = ["systems.xtts.environment.V{}", "systems.qdac16.c{}_checkpoint", "asr.en.p{}.root"]
    words = [f"{'+' if key.startswith('asr') else ''}{key.format(i)}={text}" for i, text in enumerate(TEXTS) for key in keys]
    config = compose(["systems=[qdac16,xtts]", "asr=basic", *words])
    xtts, qdac16, asr = config["systems"]["xtts"]["environment"], config["systems"]["qdac16"], config["asr"]["en"]
    for i, text in enumerate(TEXTS):
        assert (xtts[f"V{i}"], qdac16[f"c{i}_checkpoint"], asr[f"p{i}"]["root"]) == (text, text, text)


@pytest.mark.parametrize("text", ["2026_11_30", "1e5", "true", "語 [a,b", "${run.root}", "a=b 'c"])
def test_folders_and_names_are_text_as_typed(text):
    config = compose(
        ["systems=[noise]", f"run.root=/d/{text}", f"run.name={text}", f"dataset.root={text}", f"dataset.manifest=/d/{text}", f"dataset.split={text}",
         f"run.publish=s3://{text}", f"systems.noise.checkpoint={text}"]
    )  # fmt: skip
    assert (config["run"]["root"], config["run"]["name"], config["run"]["publish"]) == (f"/d/{text}", text, f"s3://{text}")
    assert (config["dataset"]["root"], config["dataset"]["manifest"], config["dataset"]["split"]) == (text, f"/d/{text}", text)
    assert config["systems"]["noise"]["checkpoint"] == text


@pytest.mark.parametrize("name", ["a/b", "..", ".", "-x", ".hidden", "a\nb", "x" * 300, "store", "big.1of3", " a", "语" * 100])
def test_names_that_no_folder_can_have_are_refused_in_words(name):
    with pytest.raises(ConfigError, match=r"run\.name=.*cannot name a folder of results"):
        check({"run": {"name": name}})


def test_null_quotes_and_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert compose(["run.name=null"])["run"]["name"] is None
    assert compose(["run.name='null'"])["run"]["name"] == "null"
    config = compose(["systems=[qdac16]", "run.root=~/runs", 'dataset.root="~/my data"', "systems.qdac16.checkpoint=~/x", "run.name=~x"])
    assert (config["run"]["root"], config["dataset"]["root"]) == ("/home/somebody/runs", "/home/somebody/my data")
    assert config["systems"]["qdac16"]["checkpoint"] == "/home/somebody/x"
    assert config["run"]["name"] == "~x"


def test_parameters_of_unknown_type_are_numbers_where_they_read_so_and_text_else():
    words = {
        "a": "3",
        "b": "1e-5",
        "c": "true",
        "d": "[1,2]",
        "e": "{x: 1}",
        "f": "a b (c",
        "g": "x,y",
        "h": "2026_11_30",
        "i": "16_000",
        "j": "/x/[a",
        "k": "null",
        "l": "'5'",
    }
    config = compose(["systems=[noise]", *(f"systems.noise.{k}={v}" for k, v in words.items())])["systems"]["noise"]
    assert {k: config[k] for k in words} == {
        "a": 3, "b": 1e-5, "c": True, "d": [1, 2], "e": {"x": 1}, "f": "a b (c", "g": "x,y", "h": "2026_11_30", "i": 16000, "j": "/x/[a", "k": None, "l": "5",
    }  # fmt: skip


def test_a_suggestion_is_made_once():
    with pytest.raises(ConfigError) as caught:
        compose(["dataset.rot=3"])
    assert str(caught.value).count("dataset.root") == 1


@pytest.mark.parametrize("verb", ["run", "report"])
def test_bytes_that_are_no_text_are_refused(tmp_path, verb):
    words = [sys.executable, "-m", "harness.cli", verb, b"dataset.root=/data/\xff\xfe"]
    result = subprocess.run(words, cwd=Path(__file__).parents[3], capture_output=True, env={**os.environ, "PYTHONUTF8": "1"})
    assert result.returncode == 2
    assert b"is no text in this terminal's encoding" in result.stderr
    assert b"Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "mine.yaml says nothing of a system"),
        ("hello", "mine.yaml"),
        ("- a\n- b\n", "mine.yaml says nothing of a system"),
        ("family: noise\nfamily: opus\n", "duplicate key"),
        ("x: 1\n", "mine.yaml says nothing of a system: family: NAME"),
        ("family: [\n", "is not YAML"),
        ("family: noise\nx: !!set {a, b}\n", "not a supported"),
        ("defaults: [noise, mine]\n", "defaults of system 'mine' come back to 'mine': mine -> mine"),
        ("defaults: [none_such]\n", "mine.yaml: its defaults name 'none_such'"),
    ],
)
def test_a_users_yaml_that_is_none_is_refused_in_words(tmp_path, text, message):
    (tmp_path / "systems").mkdir()
    (tmp_path / "systems" / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        compose(["systems=[noise,mine]"], tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["+run.x=3"], "run has no setting 'x'; there are: root, name"),
        (["+executor.speed=3"], "executor has no setting 'speed'"),
        (["~run.max_failures"], "the setting run.max_failures is not there"),
        (["~seeds"], "the setting seeds is not there"),
        (["~executor.timeout_s"], "the setting executor.timeout_s is not there"),
        (["~report"], "the setting report.audio_limit_mb is not there"),
    ],
)
def test_settings_that_nobody_reads_or_that_were_taken_away_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        compose(["systems=[noise]", *words])


def test_systems_need_no_brackets():
    assert list(compose(["systems=noise,opus16"])["systems"]) == ["noise", "opus16"]


def test_several_judges_are_the_first_and_those_beside_it():
    words = ["speaker=[resemblyzer,ecapa,wavlm]", "speaker.wavlm.checkpoint=~/folder", "mos=[dnsmos]", "asr=[basic,whisper-en]"]
    config = compose([*words, "asr.basic.zh=null", "asr.whisper-en.en.checkpoint=/a folder"])
    assert config["speaker"] == {"family": "resemblyzer"} and config["mos"] == {"family": "dnsmos"}
    assert config["also"]["speaker"]["ecapa"]["family"] == "ecapa"
    assert config["also"]["speaker"]["wavlm"]["checkpoint"] == str(Path.home() / "folder")
    assert config["asr"]["preset"] == "basic" and config["asr"]["zh"] is None
    assert config["also"]["asr"]["whisper-en"]["en"]["checkpoint"] == "/a folder"
    assert "also" not in compose(["speaker=ecapa", "speaker.ecapa.checkpoint=here"])


@pytest.mark.parametrize(
    ("words", "error", "told"),
    [
        (["asr=[basic,whisperen]"], UnknownName, "Did you mean whisper-en"),
        (["asr=[basic,f5]", "asr.zh=null"], ConfigError, r"of which of basic, f5\? Write asr\.NAME\.zh=VALUE, e\.g\. asr\.basic\.zh=VALUE"),
        (["mos=[dnsmos,dnsmos]"], ConfigError, "named twice"),
        (["speaker=[]"], ConfigError, "a list without a name; write speaker="),
    ],
)
def test_lists_of_judges_say_what_is_wrong(words, error, told):
    with pytest.raises(error, match=told):
        compose(words)
