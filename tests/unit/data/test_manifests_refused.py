"""Broken and hostile manifests: every offence is named by its line, and any bytes load or are refused."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.data.digests import item_digest
from harness.errors import ManifestError
from tests.stubs.small_manifests import GOOD, jsonl, load, sound


@pytest.fixture(autouse=True, scope="module")
def without_lazy_modules():
    """Hypothesis looks at every loaded module for constants; those of speechbrain import more when looked at, which it takes for flakiness."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in sys.modules if n.partition(".")[0] == "speechbrain"]:
            patch.delitem(sys.modules, name)
        yield


# -- refusals --------------------------------------------------------------------------------------------------------

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


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(lines=st.lists(_line, max_size=4))
def test_any_bytes_as_jsonl_load_or_raise_manifest_error(tmp_path, lines):
    _survives(tmp_path / "m.jsonl", b"\n".join(lines))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(lines=st.lists(_line, max_size=4), header=st.sampled_from([b"id,text\n", b"audio,text,language\n", b"path\n", b""]))
def test_any_bytes_as_csv_load_or_raise_manifest_error(tmp_path, lines, header):
    _survives(tmp_path / "m.csv", header + b"\n".join(lines))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
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
