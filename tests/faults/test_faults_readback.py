"""Run folders and baselines that are not what was written: words and exit code 2, never a traceback; links in them are never followed."""

import json
import os
import shutil
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from harness import load
from harness.cli import main
from harness.errors import DamagedFile, NewerVersion, UsageError
from harness.storing.files import claimed, read_json, sealed, write_json
from harness.storing.runfolder import read_manifest
from tests.conftest import STUBS

fault = pytest.mark.fault


def start(root, folder, *extra):
    return main(["run", "--no-report", "dataset=csv", f"dataset.root={root}", "systems=[stub_echo]", "metrics=[stub_peak]", f"run.root={folder}",
                 "run.name=x", "executor=serial", *extra])  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A dataset and a finished run of it, for `finished`."""
    root = tmp_path_factory.mktemp("made")
    soundfile.write(root / "a.wav", np.linspace(-0.5, 0.5, 8000), 16000)
    (root / "manifest.csv").write_text("id,audio,text,language\na,a.wav,x,en\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(STUBS), *sys.path])
        assert start(root, root / "runs") == 0
    return root


@pytest.fixture
def finished(made, stubs, tmp_path, monkeypatch):
    """A dataset and the folder of a finished run of it."""
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "here", tmp_path / "here" / "runs" / "x"


def empty(path):
    path.write_bytes(b"")


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def without_columns(path):
    pq.write_table(pa.table({}), path)


def other_columns(path):
    pq.write_table(pa.table({"a": [1]}), path)


def a_folder(path):
    path.unlink()
    path.mkdir()


def a_pipe(path):
    path.unlink()
    os.mkfifo(path)


RECORDS = (empty, cut, without_columns, other_columns, a_folder, a_pipe)
MANIFESTS = {
    "nothing": "{}", "a list": "[]", "null": "null", "a number": "3", "empty": "", "cut": '{"schema": 1, "su', "nan": '{"a": NaN}', "deep": "[" * 100_000,
    "null sections": '{"schema": 1, "suite": null, "systems": {}, "metrics": {}, "items": {}}',
    "a list of items": '{"schema": 1, "suite": {}, "systems": {}, "metrics": {}, "items": []}',
    "items of null": '{"schema": 1, "suite": {}, "systems": {}, "metrics": {}, "items": {"a": null}}',
    "outputs of null": '{"schema": 1, "suite": {}, "systems": {}, "metrics": {}, "items": {}, "outputs": [null]}',
    "counts of null": '{"schema": 1, "suite": {}, "systems": {}, "metrics": {}, "items": {}, "counts": null}',
}  # fmt: skip


def refused(folder, capsys, *verbs):
    """What the readers of a run folder say of it."""
    with pytest.raises(UsageError):
        load(folder)
    whole, said = folder.parent / "whole", []
    words = {"report": [folder], "compare": [folder, whole], "bless": [folder, "out=base"], "gate": [whole, f"against={folder}"]}
    for verb in verbs or words:
        assert main([verb, *map(str, words[verb])]) == 2, verb
        said.append(capsys.readouterr().err)
    assert not any("Traceback" in text for text in said)
    return said


@pytest.mark.cases(
    "D11", before="records.parquet empty, cut or without columns: a traceback; gate exited 1, as of a regression", after="words, exit 2"
)
@pytest.mark.parametrize("declared", [True, False], ids=["sealed", "of another hand"])
@pytest.mark.parametrize("damage", RECORDS)
def test_damaged_records_are_refused_in_words(finished, damage, declared, capsys):
    root, folder = finished
    shutil.copytree(folder, folder.parent / "whole")
    if not declared:  # then nothing says what the records were
        manifest = {k: v for k, v in read_json(folder / "manifest.json").items() if k != "records"}
        (folder / "manifest.json").write_text(json.dumps({**manifest, "schema": 1}))
    damage(folder / "records.parquet")
    for text in refused(folder, capsys, *([] if damage is cut else ["gate"])):
        assert "records.parquet" in text and "writes it again" in text
    if damage is not a_folder:
        assert start(root, folder.parent) == 0
        assert load(folder).equals(load(folder.parent / "whole"))


@pytest.mark.cases("D11", before="{} or a list as a manifest, null in place of a section: KeyError, TypeError", after="words, exit 2")
@pytest.mark.parametrize("text", MANIFESTS.values(), ids=MANIFESTS)
def test_foreign_manifests_are_refused_in_words(finished, text, capsys):
    root, folder = finished
    shutil.copytree(folder, folder.parent / "whole")
    (folder / "manifest.json").write_text(text)
    assert all("manifest.json is" in said for said in refused(folder, capsys, *([] if text == "{}" else ["gate"])))
    assert start(root, folder.parent) == 2
    assert "run.overwrite=true" in capsys.readouterr().err


@pytest.mark.parametrize("replace", [a_folder, a_pipe])
def test_a_manifest_that_is_no_file(finished, replace, capsys):
    _, folder = finished
    shutil.copytree(folder, folder.parent / "whole")
    replace(folder / "manifest.json")
    assert all("manifest.json cannot be read" in said for said in refused(folder, capsys))


@pytest.mark.cases("D5", before="a manifest of a newer schema was read as if it were ours", after="named, with what to do")
def test_a_newer_manifest_is_named(finished, capsys):
    root, folder = finished
    manifest = read_json(folder / "manifest.json")
    write_json(folder / "manifest.json", {**manifest, "schema": 99})
    with pytest.raises(NewerVersion, match="upgrade it"):
        read_manifest(folder)
    assert start(root, folder.parent) == 2
    assert "a run of a newer version" in capsys.readouterr().err


@pytest.mark.cases("A6", before="a flipped byte in a baseline gave another verdict", after="exit 2, and what to do")
@pytest.mark.parametrize("name", ["records.parquet", "manifest.json"])
def test_a_flipped_byte_in_a_baseline(finished, tmp_path, name, capsys):
    _, folder = finished
    base = tmp_path / "base"
    assert main(["bless", str(folder), f"out={base}"]) == 0
    data = bytearray((base / name).read_bytes())
    data[len(data) // 2] ^= 1
    (base / name).write_bytes(data)
    assert main(["gate", str(folder), f"against={base}"]) == 2
    assert name in capsys.readouterr().err


def test_an_edit_made_on_purpose_can_be_kept(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": {"b": 1}, "c": [{"d": "é\udc80"}], "e": []})
    assert read_json(path) == {"a": {"b": 1}, "c": [{"d": "é\udc80"}], "e": []}
    edited = path.read_text().replace('"b": 1', '"b": 2')
    path.write_text(edited)
    with pytest.raises(DamagedFile, match='take out its line "checksum"'):
        read_json(path)
    path.write_text(",\n".join(line for line in edited.split(",\n") if '"checksum"' not in line) + "}")
    assert read_json(path)["a"] == {"b": 2}
    path.write_text(sealed('{"a": 1}'))
    assert read_json(path) == {"a": 1}


@pytest.mark.cases("D6", before="manifest.tmp, records.tmp and .lock were written through other people's links", after="links are replaced")
def test_links_in_a_run_folder_are_replaced_never_followed(finished, tmp_path):
    root, folder = finished
    assert main(["report", str(folder)]) == 0
    names = [*(p.name for p in folder.iterdir() if p.is_file()), "manifest.tmp", "records.tmp", ".lock"]
    victims = {}
    for name in dict.fromkeys(names):
        victims[name] = tmp_path / f"private-{name}"
        victims[name].write_text("mine")
        (folder / name).unlink(missing_ok=True)
        if name not in ("manifest.json", "records.parquet"):
            (folder / name).symlink_to(victims[name])
    lock = folder.parent / "store" / "outcomes" / ".compacting"
    lock.unlink()
    lock.symlink_to(victims[".lock"])
    assert start(root, folder.parent, "metrics=[stub_peak,si_sdr_db]", "run.overwrite=true") == 0
    assert main(["report", str(folder)]) == 0
    for name in ("manifest.json", "records.parquet"):
        (folder / name).rename(tmp_path / name)
        (folder / name).symlink_to(victims[name])
    victims["manifest.json"].write_bytes((tmp_path / "manifest.json").read_bytes())
    before = victims["manifest.json"].read_bytes()
    assert start(root, folder.parent, "metrics=[stub_peak,si_sdr_db]") == 0
    assert main(["report", str(folder)]) == 0
    assert victims.pop("manifest.json").read_bytes() == before
    assert {victim.read_text() for victim in victims.values()} == {"mine"}
    assert not any((folder / name).is_symlink() for name in ("manifest.json", "records.parquet", "report.html", "report.csv", ".lock"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a link that belongs to somebody else")
def test_a_run_folder_that_is_another_users_link_is_refused(tmp_path):
    (tmp_path / "private").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "private")
    with claimed(tmp_path / "run", lambda: "", overwrite=False, advice="choose another"):
        pass  # the user's own
    (tmp_path / "private" / ".lock").unlink()
    os.lchown(tmp_path / "run", 12345, 12345)
    with pytest.raises(UsageError, match="another user's link"), claimed(tmp_path / "run", lambda: "", overwrite=False, advice=""):
        pass
    assert list((tmp_path / "private").iterdir()) == []
