"""Manifests: what is read, what is refused, and that every offence is named by its line."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.api import Item
from harness.data.manifests import KINDS, DatasetConfig, item_digest, load_dataset
from harness.errors import ConfigError, ManifestError, UnknownName

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
CONF = Path(__file__).resolve().parents[2] / "harness/conf/dataset"


@pytest.fixture(autouse=True, scope="module")
def without_lazy_modules():
    """Hypothesis looks at every loaded module for constants; those of speechbrain import more when looked at, which it takes for flakiness."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in sys.modules if n.partition(".")[0] == "speechbrain"]:
            patch.delitem(sys.modules, name)
        yield


def sound(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).normal(0, 0.1, 1600), 16000)
    return path


def load(kind, root=None, **options):
    return load_dataset(DatasetConfig("set", kind, root, **options))


def jsonl(folder, *rows, name="manifest.jsonl"):
    (folder / name).write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")
    return folder


# -- tables ----------------------------------------------------------------------------------------------------------


def test_jsonl_columns_become_items_in_order(tmp_path):
    row = {
        "id": "b", "audio": "x/b.wav", "text": "Hello there", "language": "en-US", "speaker": 7, "prompt_audio": "x/p.wav",
        "prompt_text": "Well", "synthetic": True, "take": 3, "mood": "calm", "empty": None,
    }  # fmt: skip
    data = load(
        "jsonl",
        jsonl(tmp_path, row, "", {"id": "a", "path": "a.wav"}, {"audio": "x/y/c.d.flac"}, {"id": 12, "text": "nur Text", "language": "de"}),
    )
    assert data.items[0] == Item(
        id="b", dataset="set", path=tmp_path / "x/b.wav", text="Hello there", language="en", speaker="7", prompt_path=tmp_path / "x/p.wav",
        prompt_text="Well", synthetic=True, notes={"take": "3", "mood": "calm", "empty": ""},
    )  # fmt: skip
    assert [i.id for i in data.items] == ["b", "a", "x__y__c.d", "12"]
    assert data.items[3].path is None
    assert data.synthetic is True
    assert "4 items" in data.description
    assert "(2 unstated, 1 de, 1 en)" in data.description
    assert data.licence == "not stated"


def test_csv_says_the_same_as_jsonl(tmp_path):
    rows = [{"id": "a", "audio": "a.wav", "text": 'She said, "no"', "language": "en", "speaker": "s", "synthetic": "true", "mood": "x"}]
    rows += [{"id": "b", "audio": "b.wav", "text": "zwei\nZeilen", "language": "de", "speaker": "", "synthetic": "false", "mood": "y"}]
    jsonl(tmp_path, *({**r, "synthetic": r["synthetic"] == "true"} for r in rows))
    import csv

    with (tmp_path / "m.csv").open("w", encoding="utf-8-sig", newline="") as file:  # byte order mark and CRLF
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert b"\r\n" in (tmp_path / "m.csv").read_bytes()
    assert load("csv", tmp_path).items == load("jsonl", tmp_path).items


def test_jsonl_with_byte_order_mark_and_crlf(tmp_path):
    (tmp_path / "m.jsonl").write_bytes('\ufeff{"id": "a", "text": "ü"}\r\n\r\n{"id": "b", "text": "x"}\r\n'.encode())
    assert [i.text for i in load("jsonl", tmp_path).items] == ["ü", "x"]


def test_tsv_is_separated_by_tabs(tmp_path):
    (tmp_path / "m.tsv").write_text("id\ttext\nq\ta, b\n")
    assert load("csv", tmp_path).items[0].text == "a, b"


def test_default_language_and_filter(tmp_path):
    jsonl(tmp_path, {"id": "a", "text": "x"}, {"id": "b", "text": "x", "language": "zh"}, {"id": "c", "text": "x", "language": "cmn"})
    assert [(i.id, i.language) for i in load("jsonl", tmp_path, language="zh").items] == [("a", "zh"), ("b", "zh"), ("c", "zh")]
    assert [i.id for i in load("jsonl", tmp_path, language="EN").items] == ["a"]
    jsonl(tmp_path, {"id": "b", "text": "x", "language": "zh"})
    with pytest.raises(ManifestError, match="no item in language 'en'; there are: 1 zh"):
        load("jsonl", tmp_path, language="en")


def test_split_column(tmp_path):
    jsonl(tmp_path, {"id": "a", "text": "x", "split": "dev"}, {"id": "b", "text": "x", "split": "test"})
    assert [i.id for i in load("jsonl", tmp_path, split="test").items] == ["b"]
    with pytest.raises(ManifestError, match="no row has split 'tset'; there are: 1 dev, 1 test"):
        load("jsonl", tmp_path, split="tset")


def test_licence_is_taken_from_the_rows(tmp_path):
    jsonl(tmp_path, {"id": "a", "text": "x", "licence": "CC0"}, {"id": "b", "text": "x", "licence": "CC BY 4.0"})
    assert load("jsonl", tmp_path).licence == "CC BY 4.0; CC0"


def test_limit_and_items(tmp_path):
    jsonl(tmp_path, *({"id": f"utt{i}", "text": "x"} for i in range(30)))
    assert [i.id for i in load("jsonl", tmp_path, limit=3).items] == ["utt0", "utt1", "utt2"]
    assert [i.id for i in load("jsonl", tmp_path, items=("utt9", "utt4")).items] == ["utt4", "utt9"]
    assert [i.id for i in load("jsonl", tmp_path, items=("utt9", "utt4"), limit=1).items] == ["utt4"]
    assert "2 of 30 items" in load("jsonl", tmp_path, items=("utt9", "utt4")).description
    with pytest.raises(UnknownName, match=r"no item named 'ut2'\. Did you mean") as caught:
        load("jsonl", tmp_path, items=("utt1", "ut2", "nope"))
    assert "utt2" in caught.value.suggestions
    assert "nope" in str(caught.value)


def test_loading_time_grows_with_the_rows_and_no_faster(tmp_path):
    row = '{{"id": "utt{0:06d}", "audio": "part{1}/utt{0:06d}.flac", "text": "a line of text", "language": "en", "speaker": "s{1}"}}\n'
    seconds = {}
    for count in (10_000, 100_000):
        root = tmp_path / str(count)
        root.mkdir()
        (root / "m.jsonl").write_text("".join(row.format(i, i % 100) for i in range(count)))
        start = time.process_time()
        assert len(load("jsonl", root).items) == count
        seconds[count] = time.process_time() - start
    assert seconds[100_000] < 30 * seconds[10_000]  # tenfold when linear, a hundredfold when quadratic


# -- refusals --------------------------------------------------------------------------------------------------------

GOOD = {"id": "ok", "text": "fine"}

BAD_ROWS = [
    ({"id": "", "text": "x"}, "id is empty"),
    ({"id": "x" * 201, "text": "x"}, "201 characters; at most 200"),
    ({"id": "a\0b", "text": "x"}, r"'a\\x00b' has control characters"),
    ({"id": "a\nb", "text": "x"}, "line break"),
    ({"id": "a\x7fb", "text": "x"}, "control characters"),
    ({"id": "a\u2028b", "text": "x"}, "control characters or a line break"),
    ({"id": "../b", "text": "x"}, "looks like a path"),
    ({"id": "..", "text": "x"}, "looks like a path"),
    ({"id": "a\\b", "text": "x"}, "looks like a path"),
    ({"id": " a", "text": "x"}, "white space"),
    ({"id": "a", "text": "x", "language": "english"}, "'english' is not an ISO 639 code"),
    ({"id": "a"}, "nothing can be measured"),
    ({"id": "a", "audio": "/etc/passwd"}, "absolute"),
    ({"id": "a", "audio": "../../etc/passwd"}, "leaves the dataset's root"),
    ({"id": "a", "audio": "x/../../y.wav"}, "leaves the dataset's root"),
    ({"id": "a", "audio": "x/.."}, "names no file"),
    ({"id": "a", "audio": "x/"}, "names no file"),
    ({"id": "a", "audio": "touch canary |"}, "is a command"),
    ({"id": "a", "audio": "| touch canary"}, "is a command"),
    ({"id": "a", "audio": "a\0.wav"}, "control characters"),
    ({"id": "a", "text": "x", "prompt_audio": "/etc/passwd"}, "prompt: path '/etc/passwd' is absolute"),
    ({"id": "a", "audio": "a.wav", "path": "b.wav"}, "both 'audio' and 'path'"),
    ({"id": "a", "text": 5}, "'text' wants text, got int"),
    ({"id": True, "text": "x"}, "'id' wants text, got bool"),
    ({"id": "a", "text": "x", "synthetic": 1}, "'synthetic' wants true or false, got int"),
    ({"id": "a", "text": "x", "synthetic": "maybe"}, "'synthetic' wants true or false, got 'maybe'"),
    ({"id": "a", "text": "\ud800"}, "half surrogate"),
    ({"text": "x"}, "no 'id'"),
    ('{"id": "a", "id": "b", "text": "x"}', "key 'id' twice"),
    ('{"id": "a", "text": "x"', "not JSON"),
    ("[1, 2]", "not a JSON object but list"),
    ("[" * 100_000, "not JSON"),
    ('{"id": ' + "9" * 5000 + ', "text": "x"}', "not JSON"),
]


@pytest.mark.parametrize(("row", "message"), BAD_ROWS)
def test_a_bad_row_is_refused_with_its_line(tmp_path, monkeypatch, row, message):
    monkeypatch.chdir(tmp_path)
    jsonl(tmp_path, GOOD, "", row)
    with pytest.raises(ManifestError, match=rf"manifest\.jsonl:3: .*{message}"):
        load("jsonl", tmp_path)
    assert not (tmp_path / "canary").exists()


def test_every_offence_is_reported_at_once(tmp_path):
    jsonl(tmp_path, GOOD, {"id": "ok", "text": "x"}, {"id": "OK", "text": "x"}, {"id": "a/b", "audio": "/x"}, "{")
    with pytest.raises(ManifestError) as caught:
        load("jsonl", tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[0] == "dataset 'set': 5 problems"
    assert "manifest.jsonl:2: id 'ok' is already used in manifest.jsonl:1" in str(caught.value)
    assert "manifest.jsonl:3: id 'OK' differs only in case or composition from 'ok' in manifest.jsonl:1" in str(caught.value)
    assert sum("manifest.jsonl:4:" in line for line in lines) == 2
    assert sum("manifest.jsonl:5:" in line for line in lines) == 1


def test_ids_that_differ_only_in_unicode_composition_clash(tmp_path):
    jsonl(tmp_path, {"id": "caf\u00e9", "text": "x"}, {"id": "cafe\u0301", "text": "x"})
    with pytest.raises(ManifestError, match="composition"):
        load("jsonl", tmp_path)


def test_very_many_offences_are_counted(tmp_path):
    jsonl(tmp_path, *({"id": "", "text": "x"} for _ in range(500)))
    with pytest.raises(ManifestError, match="500 problems") as caught:
        load("jsonl", tmp_path)
    assert str(caught.value).endswith("... and 400 more")


def test_invalid_utf8_is_named_by_line(tmp_path):
    (tmp_path / "m.jsonl").write_bytes(b'{"id": "a", "text": "x"}\n{"id": "b", "text": "caf\xe9"}\n\n{"id": "c", "text": "\xff"}\n')
    with pytest.raises(ManifestError) as caught:
        load("jsonl", tmp_path)
    assert "m.jsonl:2: not UTF-8: byte 0xe9 at column 25" in str(caught.value)
    assert "m.jsonl:4: not UTF-8" in str(caught.value)


def test_symlinks_may_not_leave_the_root(tmp_path):
    outside, root = tmp_path / "outside", tmp_path / "root"
    sound(outside / "secret.wav")
    sound(root / "real.wav")
    (root / "file.wav").symlink_to(outside / "secret.wav")
    (root / "folder").symlink_to(outside)
    (root / "inner.wav").symlink_to(root / "real.wav")
    (root / "loop.wav").symlink_to(root / "loop.wav")
    jsonl(
        root,
        {"id": "a", "audio": "file.wav"},
        {"id": "b", "audio": "folder/secret.wav"},
        {"id": "c", "audio": "inner.wav"},
        {"id": "d", "audio": "loop.wav"},
    )
    with pytest.raises(ManifestError, match="2 problems") as caught:
        load("jsonl", root)
    assert "manifest.jsonl:1: path 'file.wav' leaves" in str(caught.value)
    assert "manifest.jsonl:2: path 'folder/secret.wav' leaves" in str(caught.value)
    (tmp_path / "linked_root").symlink_to(root)
    jsonl(root, {"id": "c", "audio": "inner.wav"}, {"id": "x", "audio": "x/../real.wav"})
    assert len(load("jsonl", tmp_path / "linked_root").items) == 2


def test_missing_and_broken_recordings_are_no_manifest_errors(tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"RIFFxxxx")
    jsonl(tmp_path, {"id": "a", "audio": "missing/a.wav"}, {"id": "b", "audio": "broken.wav"}, {"id": "c", "audio": "x" * 300 + ".wav"})
    assert len(load("jsonl", tmp_path).items) == 3


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_an_empty_dataset_is_an_error(tmp_path, content):
    (tmp_path / "m.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(ManifestError, match="is empty"):
        load("jsonl", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,text,id\na,b,c\n", r"m\.csv:1: column names must be unique"),
        ("id,text,\na,b,c\n", r"m\.csv:1: column names must be unique and not empty"),
        ("id,words\na,b\n", r"m\.csv:1: no column audio \(or path\) and no text; columns: id, words"),
        ("id,text\na,b\nc,d,e\n", r"m\.csv:3: 3 cells, but the header names 2 columns"),
        ('id,text\na,"two\nlines"\nc\n', r"m\.csv:4: 1 cells"),
        ('id,text\na,b\nc,"open\n\n', r"m\.csv:3: not CSV"),
        ("id,text,synthetic\na,b,perhaps\n", r"m\.csv:2: 'synthetic' wants true or false"),
    ],
)
def test_bad_csv_is_named_by_line(tmp_path, content, message):
    (tmp_path / "m.csv").write_text(content)
    with pytest.raises(ManifestError, match=message):
        load("csv", tmp_path)


_text = st.text(st.characters(), max_size=12)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _text,
    lambda c: st.lists(c, max_size=2) | st.dictionaries(_text, c, max_size=2),
)
_rows = st.dictionaries(
    st.sampled_from(["id", "audio", "path", "text", "language", "speaker", "prompt_audio", "prompt_text", "synthetic", "x"]) | _text,
    _values,
)
_line = st.binary(max_size=60) | _rows.map(lambda r: json.dumps(r).encode()) | _text.map(lambda t: t.encode("utf-8", "surrogatepass"))
_cells = st.lists(_text, min_size=3, max_size=6)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(_line, max_size=4))
def test_any_bytes_as_jsonl_load_or_raise_manifest_error(tmp_path, lines):
    _survives(tmp_path / "m.jsonl", b"\n".join(lines))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(_line, max_size=4), header=st.sampled_from([b"id,text\n", b"audio,text,language\n", b"path\n", b""]))
def test_any_bytes_as_csv_load_or_raise_manifest_error(tmp_path, lines, header):
    _survives(tmp_path / "m.csv", header + b"\n".join(lines))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(_line | _cells.map(lambda c: "|".join(c).encode("utf-8", "surrogatepass")), max_size=4))
def test_any_bytes_as_lst_load_or_raise_manifest_error(tmp_path, lines):
    _survives(tmp_path / "meta_en.lst", b"\n".join(lines))


def _survives(path, content):
    path.write_bytes(content)
    try:
        data = load("auto", path)
    except ManifestError as error:
        assert path.name in str(error) or "is empty" in str(error)
    else:
        assert all(item_digest(i) and i.id for i in data.items)


# -- configuration ---------------------------------------------------------------------------------------------------


def test_config_errors_say_what_to_do(tmp_path):
    with pytest.raises(UnknownName, match=r"no dataset kind named 'seedtss'\. Did you mean seedtts"):
        load("seedtss", tmp_path)
    with pytest.raises(ConfigError, match=r"dataset\.root=FOLDER"):
        load("librispeech")
    with pytest.raises(ConfigError, match="no such folder"):
        load("folder", tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="no such file"):
        load("jsonl", manifest=str(tmp_path / "nothing.jsonl"))
    with pytest.raises(ConfigError, match="positive number"):
        load("jsonl", tmp_path, limit=0)
    with pytest.raises(ConfigError, match="ISO 639"):
        load("jsonl", tmp_path, language="english")
    with pytest.raises(ConfigError, match=r"0 manifests .*an empty folder"):
        load("jsonl", tmp_path)
    with pytest.raises(ConfigError, match="folder tree"):
        jsonl(tmp_path, GOOD)
        load("vctk", tmp_path, manifest="manifest.jsonl")
    with pytest.raises(ConfigError, match="inside the package"):
        load("embedded", tmp_path)


def test_from_mapping_takes_plain_values(tmp_path):
    jsonl(tmp_path, GOOD)
    section = {
        "name": "n",
        "kind": "jsonl",
        "root": str(tmp_path),
        "manifest": None,
        "language": "",
        "split": None,
        "limit": None,
        "items": [],
    }
    assert DatasetConfig.from_mapping(section) == DatasetConfig("n", "jsonl", tmp_path)
    assert load_dataset(DatasetConfig.from_mapping({**section, "items": ["ok"]})).items[0].id == "ok"
    with pytest.raises(ConfigError, match="no key 'rot'; there are: name, kind, root"):
        DatasetConfig.from_mapping({**section, "rot": "x"})
    with pytest.raises(ConfigError, match="list of ids"):
        DatasetConfig.from_mapping({**section, "items": "ok"})
    with pytest.raises(ConfigError, match=r"dataset\.split must be text, got 1"):
        DatasetConfig.from_mapping({**section, "split": 1})
    with pytest.raises(ConfigError, match="positive number"):
        DatasetConfig.from_mapping({**section, "limit": "5"})


@pytest.mark.parametrize(
    "name", ["embedded", "seedtts", "librispeech", "libritts", "vctk", "aishell", "folder", "jsonl", "csv", "pgc_hard"]
)
def test_every_dataset_of_the_configuration_is_valid(name):
    import yaml

    text = (CONF / f"{name}.yaml").read_text(encoding="utf-8")
    config = DatasetConfig.from_mapping(yaml.safe_load(text))
    assert config.name == name
    assert config.kind in KINDS
    first = text.splitlines()[0]
    assert first.startswith("# ")
    assert len(first) > 20


def test_manifest_and_root_go_together(tmp_path):
    jsonl(tmp_path / "" if tmp_path.is_dir() else tmp_path, GOOD)
    (tmp_path / "lists").mkdir()
    jsonl(tmp_path / "lists", {"id": "z", "audio": "sounds/z.wav"}, name="dev.jsonl")
    assert load("jsonl", tmp_path, manifest="lists/dev.jsonl").items[0].path == tmp_path / "sounds/z.wav"
    assert load("jsonl", manifest=str(tmp_path / "lists/dev.jsonl")).items[0].path == tmp_path / "lists/sounds/z.wav"
    assert load("jsonl", tmp_path / "manifest.jsonl").items[0].id == "ok"
    with pytest.raises(ConfigError, match="outside"):
        load("jsonl", tmp_path / "lists", manifest="../manifest.jsonl")


# -- digests ---------------------------------------------------------------------------------------------------------


def test_item_digest_follows_content_and_nothing_else(tmp_path):
    a, b, copy = sound(tmp_path / "a.wav", 1), sound(tmp_path / "b.wav", 2), sound(tmp_path / "sub/copy.wav", 1)
    base = Item("a", "set", a, "text", "en", "spk", b, "prompt")
    digest = item_digest(base)
    assert len(digest) == 32
    assert int(digest, 16) >= 0
    assert item_digest(Item("other id", "other", copy, "text", "en", "other", b, "prompt", True, {"x": "y"})) == digest
    others = [
        Item("a", "set", b, "text", "en", "spk", b, "prompt"),
        Item("a", "set", a, "text", "en", "spk", a, "prompt"),
        Item("a", "set", b, "text", "en", "spk", a, "prompt"),
        Item("a", "set", None, "text", "en", "spk", b, "prompt"),
        Item("a", "set", tmp_path / "missing.wav", "text", "en", "spk", b, "prompt"),
        Item("a", "set", tmp_path, "text", "en", "spk", b, "prompt"),
        Item("a", "set", a, "texte", "n", "spk", b, "prompt"),
        Item("a", "set", a, "text", "zh", "spk", b, "prompt"),
        Item("a", "set", a, "text", "en", "spk", b, "prompts"),
    ]
    assert len({digest, *map(item_digest, others)}) == len(others) + 1


def test_changed_bytes_under_the_same_path_change_the_digest(tmp_path):
    path = sound(tmp_path / "a.wav", 1)
    before, status, size = item_digest(Item("a", "set", path)), path.stat(), path.stat().st_size
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    time.sleep(0.02)  # the resolution of the file system's clock
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # same size, same modification time
    assert path.stat().st_size == size
    assert item_digest(Item("a", "set", path)) != before


def test_file_digests_are_read_once(tmp_path, monkeypatch):
    path = sound(tmp_path / "a.wav", 1)
    item = Item("a", "set", path)
    first = item_digest(item)
    monkeypatch.setattr("pathlib.Path.open", lambda *a, **k: pytest.fail("read again"))
    assert item_digest(item) == first


def test_dataset_digest_is_of_the_content_wherever_it_lies(tmp_path):
    rows = [{"id": "a", "audio": "a.wav", "text": "x"}, {"id": "b", "text": "y"}]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = (load("jsonl", jsonl(tmp_path / n, *rows)).digest for n in ("one", "two"))
    assert one == two
    changes = [
        rows[::-1],
        rows[:1],
        [{**rows[0], "text": "z"}, rows[1]],
        [{**rows[0], "audio": "c.wav"}, rows[1]],
        [{**rows[0], "mood": "x"}, rows[1]],
    ]
    assert len({one, *(load("jsonl", jsonl(tmp_path / "one", *c)).digest for c in changes)}) == 6


# -- the measured data -----------------------------------------------------------------------------------------------


@pytest.mark.skipif(not (SHARED / "eval").is_dir(), reason="no shared/data beside the checkout")
def test_the_shared_evaluation_set_loads_as_it_stands():
    from harness.data.audio import read_audio

    for kind in ("seedtts", "auto"):
        data = load(kind, SHARED / "eval")
        assert len(data.items) == 69
        assert [sum(i.language == code for i in data.items) for code in ("en", "zh")] == [54, 15]
    assert len({i.speaker for i in data.items if i.language == "en"}) > 5
    assert all(i.speaker.startswith(("LS-", "AISHELL-")) for i in data.items)
    assert all(i.path and i.path.is_file() and i.prompt_path and i.prompt_path.is_file() and i.path != i.prompt_path for i in data.items)
    assert "CC BY 4.0" in data.licence
    assert len(load("seedtts", SHARED / "eval", language="zh").items) == 15
    assert len(load("seedtts", SHARED / "eval", split="meta_en").items) == 54
    assert read_audio(data.items[0].path).duration_s == pytest.approx(15.0)
