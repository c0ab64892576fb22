"""A run in shards is the run: every item in one of them, the same records when they are joined, wherever they lay."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

import harness
from harness.api import Item
from harness.cli import main
from harness.data.manifests import Dataset
from harness.errors import ConfigError
from harness.running.shards import Shard
from harness.storing.files import write_json
from harness.storing.runfolder import read_manifest

STUBS = Path(__file__).resolve().parents[2] / "stubs"
WHOLE = Dataset("d", tuple(Item(f"item{i}", "d", None, text="a") for i in range(1000)), False, "", "", "")


def test_every_item_is_in_one_shard_and_order_does_not_matter():
    parts = [Shard(i, 7).of(WHOLE).items for i in range(1, 8)]
    assert sorted(i.id for part in parts for i in part) == sorted(i.id for i in WHOLE.items)
    assert all(100 < len(part) < 200 for part in parts)
    assert {i.id for i in Shard(3, 7).of(replace(WHOLE, items=WHOLE.items[::-1])).items} == {i.id for i in parts[2]}
    assert Shard.parsed(None).of(WHOLE) is WHOLE


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "-1/4", "1/0", 3])
def test_what_is_no_shard(text):
    with pytest.raises(ConfigError, match="I/N"):
        Shard.parsed(text)


def test_a_shard_without_items_is_refused():
    with pytest.raises(ConfigError, match="none of the 1 items"):
        [Shard(i, 2).of(replace(WHOLE, items=WHOLE.items[:1])) for i in (1, 2)]


def words(root, folder, *extra):
    return ["run", "--no-report", "dataset=jsonl", f"dataset.root={root}", "systems=[stub_echo,passthrough]", "metrics=[stub_peak,si_sdr_db]",
            f"run.root={folder}", "executor=serial", *extra]  # fmt: skip


def records(folder):
    return harness.load(folder).sort_values(["system", "item", "metric"]).reset_index(drop=True)


@pytest.fixture
def data(make_dataset, stubs):
    return make_dataset(["a"] * 9)


def test_joined_shards_are_the_whole_run(data, tmp_path, capsys):
    assert main(words(data, tmp_path / "whole", "run.name=x")) == 0
    for i in (3, 1, 2):
        assert main(words(data, tmp_path / "parts", "run.name=x", f"run.shard={i}/3")) == 0
    assert main(["join", str(tmp_path / "parts" / "x")]) == 0
    assert "36 records of 3 shards" in capsys.readouterr().out
    assert records(tmp_path / "parts" / "x").equals(records(tmp_path / "whole" / "x"))
    one, other = (json.loads((tmp_path / p / "x" / "manifest.json").read_text()) for p in ("whole", "parts"))
    for key in ("plan_digest", "counts", "dataset", "items", "metrics", "status"):
        assert sorted(one[key]) == sorted(other[key]) if key == "items" else one[key] == other[key], key
    assert len(one["outputs"]) == len(other["outputs"])
    assert main(["report", str(tmp_path / "parts" / "x")]) == 0
    # the whole run afterwards finds everything in the store that the shards wrote into
    assert main(words(data, tmp_path / "parts", "run.name=again")) == 0
    assert "scores: 18 of 18 are already there" in capsys.readouterr().err


def test_published_shards_are_joined_from_there(data, tmp_path, capsys):
    place = (tmp_path / "bucket").as_uri()
    for i in (1, 2):
        assert main(words(data, tmp_path / f"machine{i}", "run.name=x", f"run.shard={i}/2", f"run.publish={place}")) == 0
        if i == 1:
            assert main(["join", str(tmp_path / "joined" / "x"), "--from", place]) == 2
            assert "shard 2/2 is missing" in capsys.readouterr().err
    assert main(["join", str(tmp_path / "joined" / "x"), "--from", place]) == 0
    assert len(records(tmp_path / "joined" / "x")) == 36


def test_shards_of_other_runs_are_not_mixed(data, tmp_path, capsys):
    assert main(words(data, tmp_path, "run.name=x", "run.shard=1/2")) == 0
    assert main(words(data, tmp_path, "run.name=x", "run.shard=2/2", "metrics=[stub_peak]")) == 0
    assert main(["join", str(tmp_path / "x")]) == 3
    assert "metrics.si_sdr_db" in capsys.readouterr().err
    assert main(["join", str(tmp_path / "nothing")]) == 2


def test_a_cut_shard_is_noticed(data, tmp_path, capsys):
    for i in (1, 2):
        assert main(words(data, tmp_path, "run.name=x", f"run.shard={i}/2")) == 0
    path = tmp_path / "x.2of2" / "records.parquet"
    path.write_bytes(path.read_bytes()[:-30])
    assert main(["join", str(tmp_path / "x")]) == 1
    assert "run that shard again" in capsys.readouterr().err
    assert not (tmp_path / "x" / "records.parquet").exists()


def altered(folder, change):
    """Changes the manifest of a shard as another machine would have written it."""
    manifest = read_manifest(folder)
    change(manifest)
    write_json(folder / "manifest.json", {k: v for k, v in manifest.items() if k != "checksum"})


ALIKE = {
    "weights": (
        lambda m: m["systems"]["stub_echo"].update(weights_digest="feed"),
        "systems.stub_echo.weights_digest is  there and feed here",
    ),
    "tools": (
        lambda m: m["systems"]["passthrough"].update(tools=[["torch", "0"]]),
        "systems.passthrough.tools.torch is absent there and 0 here",
    ),
    "plug-in's code": (lambda m: m["systems"]["stub_echo"].update(source="cafe"), "systems.stub_echo.source is "),
    "libraries": (lambda m: m["metrics"]["si_sdr_db"]["params"].update(resampler="soxr 0"), "metrics.si_sdr_db.params.resampler is soxr "),
    "harness": (lambda m: m.update(git={"commit": "cafe"}), "code is "),
    "data": (lambda m: m["dataset"].update(rows_digest="cafe"), "dataset.rows_digest is "),
    "device": (lambda m: m["systems"]["stub_echo"].update(device="cuda:0"), "systems.stub_echo.device is cpu there and cuda here"),
}


@pytest.fixture(scope="module")
def two_shards(tmp_path_factory):
    """Two shards with times, made once."""
    folder = tmp_path_factory.mktemp("two")
    root = folder / "data"
    root.mkdir()
    lines = []
    for i in range(6):
        soundfile.write(root / f"{i}.wav", np.random.default_rng(i).uniform(-0.5, 0.5, 8000), 16000)
        lines.append(json.dumps({"id": f"item{i}", "audio": f"{i}.wav", "text": "a", "language": "en"}))
    (root / "manifest.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(STUBS), *sys.path])
        for i in (1, 2):
            assert main(words(root, folder / "runs", "run.name=x", f"run.shard={i}/2", "metrics=[stub_peak,si_sdr_db,rtf]")) == 0
    return folder / "runs"


@pytest.fixture
def shards(two_shards, tmp_path):
    return Path(shutil.copytree(two_shards, tmp_path / "runs"))


@pytest.mark.cases(
    "A5",
    before="shards made with other weights, packages, plug-ins or code were joined without a word",
    after="refused, naming each value that differs in both shards",
)
@pytest.mark.parametrize("what", ALIKE)
def test_shards_made_otherwise_are_refused_by_name(shards, capsys, what):
    change, named = ALIKE[what]
    altered(shards / "x.2of2", change)
    assert main(["join", str(shards / "x")]) == 3
    said = capsys.readouterr().err
    assert "x.2of2 was made otherwise than" in said and named in said
    assert not (shards / "x").exists()


def test_what_each_machine_has_of_its_own_is_no_difference(shards):
    def change(manifest):
        manifest["machine"]["processor"], manifest["created"] = "another", "2027-01-01"
        manifest["systems"]["stub_echo"].update(warmup_s=9.0, config={"family": "stub_echo", "log": "<elsewhere>/log"})
        manifest["packages"]["pandas"] = "0"

    altered(shards / "x.2of2", change)
    assert main(["join", str(shards / "x")]) == 0
    assert set(records(shards / "x")["status"]) == {"ok"}


@pytest.mark.cases(
    "A5",
    before="a copied shard, or one with items of another, was counted twice",
    after="a shard is what its folder says and holds its own items, or it is refused",
)
@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (
            lambda folder: (shutil.rmtree(folder / "x.2of2"), shutil.copytree(folder / "x.1of2", folder / "x.2of2")),
            "2/2 is not in its folder",
        ),
        (lambda folder: shutil.copytree(folder / "x.1of2", folder / "x.01of2"), "are both shard 1"),
        (
            lambda folder: altered(folder / "x.2of2", lambda m: m["items"].update(read_manifest(folder / "x.1of2")["items"])),
            "items of other shards",
        ),
        (lambda folder: altered(folder / "x.2of2", lambda m: m.pop("failures")), "2/2 does not tell its failures"),
    ],
    ids=["copied", "twice", "overlapping", "earlier version"],
)
def test_no_shard_counts_twice_or_lacks_what_is_added_up(shards, capsys, spoil, named):
    spoil(shards)
    assert main(["join", str(shards / "x")]) == 2
    assert named in capsys.readouterr().err


@pytest.mark.cases(
    "A7",
    before="times of shards from several machines were averaged",
    after="they are skipped, with what differed; everything else is joined",
)
def test_times_of_several_machines_make_no_figure(shards, capsys):
    altered(shards / "x.2of2", lambda m: m["timed_with"][0].update(processor="another", threads="64"))
    assert main(["join", str(shards / "x")]) == 0
    told = records(shards / "x")
    times, rest = (told[told["metric"].eq("rtf") == is_time] for is_time in (True, False))
    assert set(times["status"]) == {"skipped_by_policy"} and times["value"].isna().all() and set(rest["status"]) == {"ok"}
    assert "timed under 2 circumstances" in times["reason"].iloc[0] and "threads" in times["reason"].iloc[0]
    assert read_manifest(shards / "x")["counts"] == {"ok": len(rest), "skipped_by_policy": len(times)}


def test_launch_says_what_it_would_run(capsys):
    assert (
        main(["launch", "shards=2", "run.name=big", "suite=codec", "systems=[opus16]", "hydra/launcher=submitit_slurm", "--dry-run"]) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("-m ")[2] for line in lines] == [
        f"harness.cli run --no-report run.name=big suite=codec 'systems=[opus16]' run.shard={i}/2" for i in (1, 2)
    ]
    assert main(["launch", "shards=2", "suite=codec", "--dry-run"]) == 2
    assert main(["launch", "run.name=x", "suite=codec"]) == 2
    assert "shards=N" in capsys.readouterr().err


def environment(*folders):
    path = os.pathsep.join([str(STUBS), str(Path(harness.__file__).parents[1])])
    return {**os.environ, "PYTHONPATH": path, "PATH": os.pathsep.join([*map(str, folders), os.environ["PATH"]])}


@pytest.mark.slow
def test_launched_by_submitit_on_this_machine(data, tmp_path):
    pytest.importorskip("submitit", reason="needs hydra-submitit-launcher")
    result = subprocess.run(
        [sys.executable, "-m", "harness.commands.launch", "shards=2", "hydra/launcher=submitit_local", *words(data, tmp_path / "runs", "run.name=x")[2:]],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert main(["join", str(tmp_path / "runs" / "x")]) == 0
    assert len(records(tmp_path / "runs" / "x")) == 36


@pytest.mark.slow
def test_what_is_handed_to_slurm(data, tmp_path):
    """A stand-in for sbatch keeps the script it is given: an array of as many tasks as shards, in the partition asked for."""
    pytest.importorskip("submitit", reason="needs hydra-submitit-launcher")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sbatch").write_text(f"#!/bin/sh\ncp \"$1\" {tmp_path}/script\necho 'Submitted batch job 12'\n")
    (programs / "srun").write_text("#!/bin/sh\nexit 1\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.commands.launch", "shards=3", "hydra/launcher=submitit_slurm", "hydra.launcher.partition=cpu",
         *words(data, tmp_path / "runs", "run.name=x")[2:]],
        cwd=tmp_path, env=environment(programs), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until = time.monotonic() + 120
    while not (tmp_path / "script").exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(0.2)
    process.kill()
    _, err = process.communicate()
    assert (tmp_path / "script").exists(), err
    script = (tmp_path / "script").read_text()
    assert "#SBATCH --array=0-2" in script
    assert "#SBATCH --partition=cpu" in script
    shutil.rmtree(programs)


@pytest.mark.slow
def test_a_refusal_of_the_scheduler_is_told_without_a_traceback(tmp_path):
    pytest.importorskip("submitit", reason="needs hydra-submitit-launcher")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: gold' >&2\nexit 1\n")
    (programs / "srun").write_text("#!/bin/sh\nexit 1\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    asked = ["shards=2", "hydra/launcher=submitit_slurm", "hydra.launcher.partition=gold", "run.name=x"]
    told = {"cwd": tmp_path, "env": environment(programs), "capture_output": True, "text": True, "timeout": 120}
    result = subprocess.run([sys.executable, "-m", "harness.commands.launch", *asked], **told)
    assert result.returncode == 1
    assert "invalid partition specified: gold" in result.stderr and "hydra.launcher.partition=gold" in result.stderr
    assert "Traceback" not in result.stderr
    result = subprocess.run(
        [sys.executable, "-m", "harness.commands.launch", *asked[:1], "hydra/launcher=submitit_slrum", asked[3]], **told
    )
    assert result.returncode == 2 and "submitit_slrum" in result.stderr and "Traceback" not in result.stderr
