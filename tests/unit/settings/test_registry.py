"""Every name resolves; plug-ins join by entry points; broken ones are listed with their reason."""

import sys

import pytest

from harness.errors import MissingDependency, UnknownName
from harness.settings import registry


@pytest.mark.parametrize("group", registry.GROUPS)
def test_every_built_in_name_resolves(group):
    for name, entry in registry.entries(group).items():
        if not entry.origin:
            assert callable(registry.resolve(group, name)), name


def test_every_variant_and_option_has_a_description():
    for group in ("systems", "suite", "dataset", "asr", "speaker", "mos", "executor"):
        choices = registry.config_choices(group)
        assert choices, group
        assert all(choices.values()), (group, choices)


def test_an_unknown_name_is_answered_with_near_ones():
    with pytest.raises(UnknownName, match="pesq_wb"):
        registry.resolve("metrics", "pesq_bw")


def test_an_unknown_name_survives_a_process_boundary():
    import pickle

    error = UnknownName("system", "opsu", ["opus", "noise"], "hint")
    back = pickle.loads(pickle.dumps(error))
    assert str(back) == str(error)


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Installs a fake distribution with given entry points and modules."""

    def install(entry_points, **modules):
        info = tmp_path / "thirdparty-1.0.dist-info"
        info.mkdir()
        (info / "entry_points.txt").write_text(entry_points)
        for name, text in modules.items():
            (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
        return tmp_path

    yield install
    for name in ("tp_good", "tp_bad"):
        sys.modules.pop(name, None)


def test_a_plugin_is_found_resolved_and_listed(distribution):
    distribution("[console_scripts]\nx = y:z\n\n[harness.systems]\nmine = tp_good:Mine\n", tp_good="class Mine: pass\n")
    assert registry.resolve("systems", "mine").__name__ == "Mine"
    assert "thirdparty-1.0" in registry.variants()["mine"]
    assert "x" not in registry.entries("systems")
    from harness.settings.config import compose

    assert compose(["systems=[mine]"])["systems"] == {"mine": {"family": "mine"}}


def test_a_broken_plugin_is_named_with_its_reason_and_the_rest_works(distribution):
    distribution(
        "[harness.metrics]\nmy_metric = tp_bad:M\n[harness.systems]\nnoise = tp_bad:N\n", tp_bad="raise OSError('libfoo.so not found')\n"
    )
    with pytest.raises(MissingDependency, match=r"thirdparty-1.0.*libfoo"):
        registry.resolve("metrics", "my_metric")
    broken = {(e.group, e.name): reason for e, reason in registry.broken_plugins().items()}
    assert "libfoo" in broken["metrics", "my_metric"]
    assert "taken by a built-in" in broken["systems", "noise"]
    assert registry.resolve("systems", "noise").__module__.startswith("systems.")


A17 = "a plug-in module that calls sys.exit at import: exit 0, nothing run, nothing said"


@pytest.mark.cases("A17", before=A17, after="listed as broken with its reason, by the doctor too")
@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("import sys\nsys.exit(0)\n", "SystemExit: 0"),
        ("import os\nos._exit(0)\n", r"it ended the process that imported it \(exit code 0\)"),
        ("raise KeyboardInterrupt\n", "KeyboardInterrupt"),
        ("import time\ntime.sleep(3600)\n", "its import did not end within 1 s"),
        ("raise ValueError('bad \\ud800 text' + 'x' * 10**7)\n", r"bad \\ud800 text"),
        ("from harness.errors import StoreError\nraise StoreError('the disk is full, it says')\n", "StoreError: the disk is full"),
        ("M = 1 +\n", "SyntaxError"),
    ],
)
def test_a_module_that_ends_its_process_is_a_broken_plugin(distribution, monkeypatch, module, reason):
    monkeypatch.setattr("harness.foreign.IMPORT_S", 1.0 if "sleep" in module else 60.0)
    distribution("[harness.metrics]\nmy_metric = tp_bad:M\n", tp_bad=module)
    with pytest.raises(MissingDependency, match=rf"thirdparty-1.0.*{reason}") as caught:
        registry.resolve("metrics", "my_metric")
    assert len(str(caught.value)) < 3000
    broken = {(e.group, e.name) for e in registry.broken_plugins()}
    assert broken == {("metrics", "my_metric")}


@pytest.mark.cases(
    "A17",
    before="an installed distribution with a damaged entry_points.txt ended every verb with a traceback",
    after="listed as broken by the doctor, otherwise ignored",
)
@pytest.mark.parametrize("damage", ["utf-8", "folder", "pipe", "line", "target", "large"])
def test_damaged_entry_points_are_ignored_and_listed(tmp_path, monkeypatch, damage):
    import os

    from harness.commands.doctor import _plugins

    info = tmp_path / "damaged-1.0.dist-info"
    info.mkdir()
    path = info / "entry_points.txt"
    if damage == "folder":
        path.mkdir()
    elif damage == "pipe":
        os.mkfifo(path)
    else:
        good = b"[harness.systems]\nfine = tp_good:Mine\n"
        path.write_bytes(
            {"utf-8": b"\xff\xfe" + good, "line": good + b"what is this\n", "target": good + b"x = \n", "large": good * 50_000}[damage]
        )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert ("fine" in registry.entries("systems")) == (damage in ("line", "target"))
    (broken,) = [e for e in registry.broken_plugins() if e.origin == "damaged-1.0" and e.group == "distribution"]
    assert "entry_points.txt" in broken.summary
    (listed,) = [f for f in _plugins() if f.name == "distribution/damaged-1.0"]
    assert not listed.ok
    assert "entry_points.txt" in listed.text
