"""Nothing that is sent tells of the machine it was made on."""

import json
import os
import sys
from pathlib import Path

import pytest

import harness
from harness.cli import main
from harness.storing.runfolder import open_run


@pytest.mark.cases(
    "D7",
    before="HF_TOKEN and folders of the machine stood in manifest.json, report.html and the baseline",
    after="environment and secrets are withheld, folders go by alias; recordings are found again through the store only",
)
def test_no_secret_and_no_folder_in_what_is_sent(tmp_path, monkeypatch, make_dataset, stubs):
    root = make_dataset(["one", "two"], name="anns_corpus")
    (root / "1.wav").write_bytes(b"no sound")
    monkeypatch.chdir(tmp_path)
    words = [
        "systems=[passthrough,worker_codec,recorded]",
        "systems.worker_codec.worker=mulaw",
        f"systems.worker_codec.python={sys.executable}",
    ]
    words += ["systems.worker_codec.environment={HF_TOKEN: open-sesame, MODE: quietly}", f"systems.recorded.root={root}"]
    words += ["dataset=jsonl", f"dataset.root={root}", "metrics=[stub_peak,length_ratio]", "executor.workers=1"]
    code = main(["run", *words, "run.name=a", f"run.root={tmp_path / 'results'}"])
    folder = tmp_path / "results" / "a"
    assert code == 1  # the broken recording and what recorded lacks are failures, and their reasons name files
    assert main(["bless", str(folder), f"out={tmp_path / 'baseline'}"]) == 0
    assert main(["compare", str(folder), "left=passthrough", "right=worker_codec", f"out={folder}"]) == 0
    assert main(["listen", str(folder), "--trials", "1"]) == 0
    written = [path for place in (folder, tmp_path / "baseline") for path in place.rglob("*") if path.is_file()]
    assert {"manifest.json", "report.html", "report.csv", "compare.html", "listening.html"} <= {path.name for path in written}
    # pytest's own folder stands for the machine's: it lies in none of those that are known beforehand but the temporary one
    for path in written:
        if path.name != ".lock":
            for private in ("open-sesame", "quietly", os.fspath(tmp_path), os.path.dirname(sys.executable)):  # noqa: PTH120
                assert private.encode() not in path.read_bytes(), (path.name, private)
    frame = open_run(folder).frame
    assert not [text for text in frame["reason"] if str(tmp_path) in text]
    assert any("<dataset>/1.wav" in text for text in frame["reason"]), set(frame["reason"])


def test_a_run_that_was_sent_has_no_recordings_and_one_at_home_has(tmp_path, harness_run, make_dataset):
    root = make_dataset(["one"])
    code, folder = harness_run(root, "systems=[passthrough]")
    run = open_run(folder)
    assert code == 0
    assert run.references == {"item0": root / "0.wav"}
    assert len(run.digests["item0"]) == 32
    sent = tmp_path / "received" / "run"
    sent.parent.mkdir()
    folder.rename(sent)
    assert open_run(sent).references == {}
    manifest = json.loads((sent / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["items"]["item0"]["path"] == "<dataset>/0.wav"


@pytest.mark.cases(
    "D7",
    before="${oc.env:...} of a stranger's YAML put the environment into the configuration and the manifest",
    after="resolvers are refused, from YAML and from the command line; references to other settings are not",
)
@pytest.mark.parametrize(
    "value",
    ["${oc.env:PRIVATE}", "a${oc.env:PRIVATE,x}b", "${oc.decode:${oc.env:PRIVATE}}", "${${run.name}:PRIVATE}", "[1, '${oc.env:PRIVATE}']"],
)
def test_yaml_that_reads_the_environment_is_refused(tmp_path, monkeypatch, capsys, value):
    monkeypatch.setenv("PRIVATE", "open-sesame")
    (tmp_path / "systems").mkdir()
    lines = ["# @package systems.mine", "family: noise", f"note: {value if value.startswith('[') else json.dumps(value)}"]
    (tmp_path / "systems" / "mine.yaml").write_text("\n".join(lines), encoding="utf-8")
    assert main(["run", "--show-config", "--config-dir", str(tmp_path), "systems=[mine]"]) == 2
    told = capsys.readouterr()
    assert "systems.mine.note" in told.err
    assert "refused" in told.err
    assert "open-sesame" not in told.out + told.err


def test_the_environment_is_not_read_from_the_command_line_either(monkeypatch, capsys):
    monkeypatch.setenv("PRIVATE", "open-sesame")
    assert main(["run", "--show-config", "systems=[noise]", "systems.noise.note=${oc.env:PRIVATE}"]) == 2
    assert "systems.noise.note" in capsys.readouterr().err
    assert main(["run", "--show-config", "systems=[noise]", "systems.noise.note=${suite.name}"]) == 0
    assert "note: codec" in capsys.readouterr().out
    assert main(["run", "--show-config", "systems=[noise]", "run.name=${oc.env:PRIVATE}"]) == 0  # text as typed: nothing is read
    assert "open-sesame" not in capsys.readouterr().out


@pytest.mark.cases("D7", before="`harness tables` said in its pages where on this machine weights were looked for", after="by alias")
def test_pages_of_the_papers_name_no_folder_of_this_machine(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["tables", "socodec", f"systems.socodec240_tts.checkpoint={tmp_path}/other.safetensors"]) == 0
    folders = {str(tmp_path), str(Path(harness.__file__).parents[1]), str(Path.home())} - {"/"}
    pages = [path for path in (tmp_path / "runs" / "tables-socodec").iterdir() if path.suffix in (".html", ".md", ".tex", ".csv")]
    assert len(pages) >= 5
    for text in (*(path.read_text() for path in pages), capsys.readouterr().out):
        assert not [folder for folder in folders if folder in text]
