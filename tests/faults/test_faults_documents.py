"""Files that are no files, and texts that grow: named pipes, devices, sockets; YAML and JSON made to overflow a parser."""

import json
import os
import signal
import socket
import time

import pytest

from harness.cli import main
from harness.data.documents import YAML_BYTES, YAML_DEPTH, check_yaml, load_yaml, open_regular, read_text
from harness.data.manifests import DatasetConfig, load_dataset
from harness.errors import ConfigError, HarnessError, ManifestError
from harness.settings.config import compose

D1 = {
    "before": "a named pipe in the dataset: the report waited for ever",
    "after": "only regular files are opened; what else lies there is named",
}
D4 = {
    "before": "50,000 nested brackets in a user's YAML: a RecursionError traceback; a bomb of aliases: no end within a minute",
    "after": "refused in under a second with the file and the limit, before any parser builds it",
}


@pytest.fixture(autouse=True)
def at_most_a_minute():
    """A reader that waits for a pipe would hold up all tests."""

    def late(number, frame):
        raise TimeoutError("something waits for a named pipe or a device")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


# -- what is no file -------------------------------------------------------------------------------------------------


@pytest.mark.cases("D1", **D1)
def test_a_pipe_in_the_dataset_is_an_item_that_cannot_be_read(make_dataset, harness_run, capsys):
    root = make_dataset(["one", "two"])
    os.mkfifo(root / "pipe.wav")
    with (root / "manifest.jsonl").open("a") as file:
        file.write(json.dumps({"id": "pipe", "audio": "pipe.wav", "text": "x"}) + "\n")
    code, folder = harness_run(root, "systems=[stub_echo]", "executor=serial", "run.max_failures=9")
    assert code == 0
    assert main(["report", str(folder)]) == 0
    assert "named pipe" in (folder / "report.html").read_text(encoding="utf-8")
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.cases("D1", **D1)
def test_a_recording_that_becomes_a_pipe_after_the_run_is_a_clip_with_its_problem(tmp_path):
    from reports.writing.clips import duration_s, encoded

    os.mkfifo(tmp_path / "pipe.wav")
    assert encoded(tmp_path / "pipe.wav").problem == "cannot be read: a named pipe, not a file"
    assert duration_s(tmp_path / "pipe.wav") is None
    assert "a device" in encoded(tmp_path / "../../../../../../dev/zero").problem


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket"])
@pytest.mark.cases("D1", **D1)
def test_only_regular_files_are_opened(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if kind == "pipe":
        os.mkfifo("x.txt")
    elif kind == "folder":
        os.mkdir("x.txt")  # noqa: PTH102
    else:
        socket.socket(socket.AF_UNIX).bind("x.txt")
    with pytest.raises(OSError, match=f"a {'named pipe' if kind == 'pipe' else kind}, not a file"):
        open_regular("x.txt")
    (tmp_path / "x.wav").write_bytes(b"RIFF")
    with pytest.raises(ManifestError, match=r"x\.txt: cannot be read \(a .*, not a file\)"):
        load_dataset(DatasetConfig("set", "folder", tmp_path))


@pytest.mark.parametrize("kind", ["auto", "jsonl", "csv", "folder", "seedtts", "librispeech", "vctk"])
@pytest.mark.parametrize("place", ["/dev/zero", "pipe", "/dev/null/x", "x" * 5000, "root/manifest.jsonl"])
@pytest.mark.cases("D1", **D1)
def test_places_that_are_no_data_are_refused_in_words(tmp_path, monkeypatch, kind, place):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    (tmp_path / "root").mkdir()
    os.mkfifo(tmp_path / "root/manifest.jsonl")
    for options in ({"root": place}, {"manifest": place}, {"root": "root", "manifest": "manifest.jsonl"}, {"root": "root"}):
        section = {"name": "set", "kind": kind, **options}
        with pytest.raises(HarnessError) as caught:
            load_dataset(DatasetConfig.from_mapping(section))
        assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["meta_en.lst", "manifest.csv", "manifest.tsv"])
@pytest.mark.cases("D1", **D1)
def test_lists_and_tables_that_are_pipes(tmp_path, name):
    os.mkfifo(tmp_path / name)
    for kind in ("auto", "csv", "seedtts"):
        with pytest.raises(HarnessError):
            load_dataset(DatasetConfig("set", kind, tmp_path))


@pytest.mark.cases("D1", **D1)
def test_yaml_rules_answers_and_checkpoints_that_are_pipes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "systems").mkdir()
    for name in ("systems/mine.yaml", "rules.yaml", "weights.safetensors", "timings.json"):
        os.mkfifo(name)
    assert main(["list", "systems", "--config-dir", "."]) == 0
    assert "mine" in (out := capsys.readouterr().out)
    assert "cannot be read: a named pipe" in out
    for words in (
        ["run", "--show-config", "--config-dir", ".", "systems=[mine]"],
        ["gate", "nowhere", "against=nowhere", "rules=rules.yaml"],
        ["compare", "timings.json", "timings.json"],
        [
            "run",
            "systems=[qdac16]",
            "systems.qdac16.checkpoint=weights.safetensors",
            "dataset.limit=1",
            "metrics=[stoi]",
            "executor=serial",
            "run.root=runs",
        ],
    ):
        assert main(words) == 2, words
    assert "Traceback" not in capsys.readouterr().err


# -- texts that grow -------------------------------------------------------------------------------------------------


def bomb(levels=9, width=9):
    lines = [f"a0: &a0 [{','.join('x' * width)}]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels)]
    return "\n".join(lines)


GROWING = {
    "brackets": ("x: " + "[" * 50_000 + "]" * 50_000, f"more than {YAML_DEPTH} deep"),
    "unclosed": ("x: " + "[" * 50_000, f"more than {YAML_DEPTH} deep"),
    "braces": ("x: " + "{a: " * 5_000 + "}" * 5_000, f"more than {YAML_DEPTH} deep"),
    "indented": ("\n".join(" " * i + "a:" for i in range(500)), f"more than {YAML_DEPTH} deep"),
    "dashes": ("x:\n  " + "- " * 5_000 + "a", f"more than {YAML_DEPTH} deep"),
    "aliases": (bomb(), "values once its aliases are written out"),
    "merges": ("a: &a {x: 1}\nb: &b [" + ",".join(["*a"] * 400) + "]\nc: [" + ",".join(["*b"] * 400) + "]", "values once its aliases"),
    "circle": ("x: &x [*x]", "stands inside of what it names"),
    "length": ("x: " + "y" * YAML_BYTES, "more than 1 MiB"),
}


@pytest.mark.parametrize("name", GROWING)
@pytest.mark.cases("D4", **D4)
def test_a_yaml_that_grows_is_refused_at_once(tmp_path, name):
    text, message = GROWING[name]
    (tmp_path / "systems").mkdir()
    (tmp_path / "systems" / "mine.yaml").write_text(f"# @package systems.mine\nfamily: noise\n{text}\n")
    began = time.process_time()
    with pytest.raises(ConfigError) as caught:
        compose(["systems=[mine]"], tmp_path)
    assert time.process_time() - began < 2
    assert message in str(caught.value) or (name == "length" and "1 are read" in str(caught.value))
    assert "mine.yaml" in str(caught.value)
    with pytest.raises(ConfigError):
        load_yaml(text, "given")


@pytest.mark.cases("D4", **D4)
def test_what_people_write_passes(tmp_path):
    text = "a: &a {x: [1, 2]}\nb: *a\nc: {<<: *a, y: 3}\nd: " + "[" * (YAML_DEPTH - 2) + "]" * (YAML_DEPTH - 2)
    check_yaml(text, "fine")
    assert load_yaml(text, "fine")["c"] == {"x": [1, 2], "y": 3}
    (tmp_path / "t.yaml").write_text("\ufeffa: ü", encoding="utf-8")
    assert load_yaml(read_text(tmp_path / "t.yaml"), "t") == {"a": "ü"}


@pytest.mark.parametrize("value", ["[" * 50_000, "[" * 9_000, "{a:" * 3_000, "[" * 30 + "]" * 30, "${a:" * 2_000, "(" * 500, "x" * 20_000])
@pytest.mark.parametrize("key", ["systems.noise.x", "seeds", "+a.b", "suite.counts"])
@pytest.mark.cases(
    "D4",
    before="systems.x= with 2,000 brackets: 3.5 s, and a message of as many brackets",
    after="refused at once with the setting and the limit",
)
def test_an_override_that_nests_is_refused_at_once(key, value):
    began = time.process_time()
    with pytest.raises(ConfigError) as caught:
        compose(["systems=[noise]", f"{key}={value}"])
    assert time.process_time() - began < 2
    assert key.lstrip("+") in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("words", [["compare", "a", "b", "resamples=" + "[" * 9_000], ["compare", "a", "b", "margin.stoi=" + "{a: " * 2_000], ["train", "system=qdac16", "data=x", "steps=" + "[" * 9_000]])  # fmt: skip
@pytest.mark.cases(
    "D4", before="9,000 brackets in a value of compare or train: OSError and RecursionError tracebacks", after="refused in words"
)
def test_values_of_other_verbs_that_nest(words, capsys):
    assert main(words) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("row", ['{"id": "a", "text": "x", "n": %s}' % ("[" * n + "]" * n) for n in (60, 900, 50_000)])
@pytest.mark.cases(
    "D4", before="a JSONL row nested 900 deep was taken, one 990 deep said 'maximum recursion depth'", after="refused by line"
)
def test_a_row_that_nests_is_refused_by_line(tmp_path, row):
    (tmp_path / "manifest.jsonl").write_text(row)
    with pytest.raises(ManifestError, match=r"manifest\.jsonl:1: ('n' is nested more than 50 deep|not JSON)"):
        load_dataset(DatasetConfig("set", "jsonl", tmp_path))
