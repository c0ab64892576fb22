"""Manifests: what is read from their tables, how a dataset is configured, and the measured data."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest

from harness.api import Item
from harness.data.manifests import KINDS, DatasetConfig, load_dataset
from harness.errors import ConfigError, ManifestError, UnknownName
from tests.stubs.small_manifests import GOOD, jsonl, load

SHARED = Path(__file__).resolve().parents[3] / "../shared/data"
CONF = Path(__file__).resolve().parents[3] / "harness/conf/dataset"


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
    assert "(1 row runs over several lines)" in load("csv", tmp_path).description


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
    assert [i.id for i in load("jsonl", tmp_path, items=("utt9", "utt4")).items] == ["utt4", "utt9"]
    (one,) = load("jsonl", tmp_path, items=("utt9", "utt4"), limit=1).items
    assert one.id in ("utt4", "utt9")
    assert "2 of 30 items" in load("jsonl", tmp_path, items=("utt9", "utt4")).description
    with pytest.raises(UnknownName, match=r"no item named 'ut2'\. Did you mean") as caught:
        load("jsonl", tmp_path, items=("utt1", "ut2", "nope"))
    assert "utt2" in caught.value.suggestions
    assert "nope" in str(caught.value)


@pytest.mark.cases(
    "B8",
    before="dataset.limit=6 took the first six rows: one voice, one language, and its interval was said of all",
    after="a limit is spread over languages and speakers, fixed by the names; few voices are said at the start",
)
def test_a_limit_is_spread_over_languages_and_speakers(tmp_path):
    rows = [
        {"id": f"{lang}{s}-{n}", "text": "x", "language": lang, "speaker": f"{lang}{s}"}
        for lang in ("en", "zh")
        for s in range(5)
        for n in range(9)
    ]
    jsonl(tmp_path, *rows)
    taken = {limit: load("jsonl", tmp_path, limit=limit).items for limit in (1, 2, 4, 6, 10, 11, 40, 90, 200)}
    assert [len(items) for items in taken.values()] == [1, 2, 4, 6, 10, 11, 40, 90, 90]
    for smaller, larger in pairwise(taken.values()):
        assert {i.id for i in smaller} <= {i.id for i in larger}
    for items in taken.values():
        assert [i.id for i in items] == [r["id"] for r in rows if r["id"] in {i.id for i in items}]
    assert [len({i.speaker for i in taken[n]}) for n in (1, 2, 4, 6, 10)] == [1, 2, 4, 6, 10]
    assert {i.language for i in taken[2]} == {"en"}  # so that each is the other's impostor
    assert sorted(i.language for i in taken[4]) == ["en", "en", "zh", "zh"]
    assert {n for i in taken[10] for n in i.id[-1:]} != {"0"}  # not the first of each
    jsonl(tmp_path, *rows, *({**r, "id": r["id"] + "x"} for r in rows[-9:]))
    assert {i.id for i in load("jsonl", tmp_path, limit=10).items if i.speaker != "zh4"} == {i.id for i in taken[10] if i.speaker != "zh4"}


def test_few_voices_are_said(tmp_path):
    rows = [{"id": f"a{n}", "text": "x", "speaker": f"s{n % 7}"} for n in range(14)]
    jsonl(tmp_path, *rows)
    assert load("jsonl", tmp_path).remarks == ()
    assert load("jsonl", tmp_path, limit=3).remarks == ("3 voices in 3 items: intervals over so few speakers are wide",)
    assert load("jsonl", tmp_path, items=("a0", "a7")).remarks == ("one voice in 2 items: nothing is learnt of other speakers",)
    assert load("jsonl", tmp_path, limit=6).remarks == ()


def test_loading_time_grows_with_the_rows_and_no_faster(tmp_path):
    row = '{{"id": "utt{0:06d}", "audio": "part{1}/utt{0:06d}.flac", "text": "a line of text", "language": "en", "speaker": "s{1}"}}\n'
    seconds = {}
    for count in (4_000, 40_000):
        root = tmp_path / str(count)
        root.mkdir()
        (root / "m.jsonl").write_text("".join(row.format(i, i % 100) for i in range(count)))
        start = time.process_time()
        assert len(load("jsonl", root).items) == count
        seconds[count] = time.process_time() - start
    assert seconds[40_000] < 30 * seconds[4_000]  # tenfold when linear, a hundredfold when quadratic


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
    usual, own = (yaml.safe_load(part) for part in ((CONF / "_settings.yaml").read_text(encoding="utf-8"), text))
    assert own.pop("defaults", ["_settings", "_self_"]) == ["_settings", "_self_"]
    config = DatasetConfig.from_mapping({**usual, **own})
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
