"""Checkpoints that are not what they should be: refused by name before anything runs, and no code in them is ever executed."""

import json
import pickle
import zipfile

import pytest

from harness.cli import main
from systems.bundled import located

fault = pytest.mark.fault
torch = pytest.importorskip("torch")


class Bomb:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return (open, (str(self.canary), "w"))


def changed(change):
    def make(path, tensors, metadata):
        from safetensors.torch import save_file

        change(tensors, metadata)
        save_file({k: t.contiguous() for k, t in tensors.items()}, path, metadata)

    return make


def without_one(tensors, metadata):
    del tensors[sorted(tensors)[0]]


def with_one_more(tensors, metadata):
    tensors["extra.weight"] = torch.zeros(3)


def of_another_shape(tensors, metadata):
    name = next(n for n in sorted(tensors) if tensors[n].ndim == 1 and not n.endswith(":scale"))
    tensors[name] = torch.zeros(tensors[name].shape[0] + 1)


def with_nan(tensors, metadata):
    name = next(n for n in sorted(tensors) if tensors[n].is_floating_point() and not n.endswith(":scale"))
    tensors[name] = torch.full_like(tensors[name], float("nan"))


def of_another_family(tensors, metadata):
    metadata["family"] = "socodec"


def with_a_target(tensors, metadata):
    metadata["config"] = json.dumps({"_target_": "os.system", **json.loads(metadata["config"])})


def a_pickle(path, tensors, metadata):
    path.write_bytes(pickle.dumps(Bomb(path.with_name("canary"))))


def a_torch_pickle(path, tensors, metadata):
    torch.save({"state_dict": Bomb(path.with_name("canary"))}, path)


def a_zip_that_lies(path, tensors, metadata):
    torch.save({"w": torch.zeros(4)}, path)
    with zipfile.ZipFile(path) as archive:
        data = {n: archive.read(n) for n in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in data.items():
            archive.writestr(name, content.replace(b"K\x04", b"J\xff\xff\xff\x7f") if name.endswith("data.pkl") else content)


def half_a_file(path, tensors, metadata):
    changed(lambda t, m: None)(path, tensors, metadata)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def a_header_that_lies(path, tensors, metadata):
    path.write_bytes((2**62).to_bytes(8, "little") + b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}' + bytes(4))


CASES = [
    (changed(without_one), "missing: ", "F27", "tensor missing"),
    (changed(with_one_more), "unexpected: extra.weight", "F27", "tensor too many"),
    (changed(of_another_shape), "misshapen: ", "F27", "tensor of another shape"),
    (changed(with_nan), "not finite", "F27", "NaN weights"),
    (changed(of_another_family), "family='socodec'", "F27", "another system's weights"),
    (changed(with_a_target), "_target_", "F26", "_target_ in the checkpoint's configuration"),
    (a_pickle, "safetensors", "F26", "malicious pickle"),
    (a_torch_pickle, "safetensors", "F26", "malicious torch checkpoint"),
    (a_zip_that_lies, "safetensors", "F26", "zip whose storage size lies"),
    (half_a_file, "safetensors", "F27", "truncated checkpoint"),
    (a_header_that_lies, "safetensors", "F27", "header that declares 2**62 bytes"),
]


@pytest.mark.parametrize(
    ("make", "said"),
    [pytest.param(make, said, id=what, marks=fault(name, f"checkpoint: {what}", "exit 2 naming what is wrong; canary absent")) for make, said, name, what in CASES],
)  # fmt: skip
def test_a_checkpoint_that_is_refused(tmp_path, monkeypatch, capsys, make, said):
    from safetensors import safe_open

    monkeypatch.chdir(tmp_path)
    with safe_open(located("qdac16"), framework="pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118
    path = tmp_path / "weights.safetensors"
    make(path, tensors, metadata)
    code = main(["run", "--no-report", "systems=[qdac16]", f"systems.qdac16.checkpoint={path}", "dataset.limit=1", "metrics=[si_sdr_db]",
                 "executor=serial"])  # fmt: skip
    err = capsys.readouterr().err
    assert code == 2, err
    assert said in err
    assert "Traceback" not in err
    assert not (tmp_path / "canary").exists()
