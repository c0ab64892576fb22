"""Manifests as other tools write them: quotes, delimiters, words for columns, JSON lists; and what is left out of them is said."""

from __future__ import annotations

import json

import pytest

from harness.errors import ManifestError
from tests.stubs.small_manifests import jsonl, load, sound

# -- quotes ----------------------------------------------------------------------------------------------------------

SENTENCES = ('"Hello," she said.', "Fine.", '"Bye', 'bye"', 'The "end', '"All quoted"')


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.cases(
    "A10",
    before="a TSV of four rows, of which one text opens with a quote and another ends with one, was read as two items, exit 0",
    after="tabs separate without quoting: six items, texts as they stand; a CSV with a quote too many is refused by line",
)
def test_texts_of_a_tsv_may_begin_with_quotes(tmp_path, end, mark):
    rows = ["client_id\tpath\tsentence\tlocale", *(f"c{i}\t{i}.mp3\t{text}\ten" for i, text in enumerate(SENTENCES))]
    (tmp_path / "validated.tsv").write_text(mark + end.join(rows) + end, encoding="utf-8", newline="")
    sound(tmp_path / "clips" / "0.mp3")
    data = load("auto", tmp_path)
    assert [i.text for i in data.items] == list(SENTENCES)
    assert [i.speaker for i in data.items] == [f"c{i}" for i in range(6)]
    assert data.items[5].path == tmp_path / "clips" / "5.mp3"
    assert data.left_out == ()


def test_a_tsv_that_was_quoted_is_read_so(tmp_path):
    (tmp_path / "m.tsv").write_text('id\ttext\na\t"She said ""no"""\nb\tfine\n')
    assert [i.text for i in load("csv", tmp_path).items] == ['She said "no"', "fine"]
    (tmp_path / "m.tsv").write_text('"id"\t"text"\n"a"\t"fine"\n')
    assert [(i.id, i.text) for i in load("csv", tmp_path).items] == [("a", "fine")]
    (tmp_path / "m.tsv").write_text('id\ttext\na\t"two\nlines"\n')
    with pytest.raises(ManifestError, match=r"m\.tsv:3: 1 cells, .*a quote is a character"):
        load("csv", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('id,text\na,"Hello\nb,fine\nc,Bye"\nd,x\n', r"m\.csv:2: a quoted cell runs on to line 4"),
        ('id,text,language\na,"Hello,en\nb,Bye",en\n', r"m\.csv:2: a quoted cell runs on to line 3"),
        ('id;text\na;"Hello\nb;Bye"\n', r"m\.csv:2: a quoted cell runs on to line 3"),
        ('id,text\na,"Hello\nb,fine\n', r"m\.csv:2: not CSV \(a quote that is opened here is never closed\)"),
        ('id,text\na,"Hello" she said\n', r"m\.csv:2: not CSV"),
    ],
)
def test_a_quote_too_many_in_a_csv_merges_no_rows(tmp_path, content, message):
    (tmp_path / "m.csv").write_text(content)
    with pytest.raises(ManifestError, match=message):
        load("csv", tmp_path)


def test_a_table_of_speakers_merges_no_rows_either(tmp_path):
    (tmp_path / "meta_en.lst").write_text("a|P.|p.wav|Text.\n")
    (tmp_path / "manifest.csv").write_text('utt_id,note,speaker\na,"x,s1\nb,y",s2\n')
    with pytest.raises(ManifestError, match=r"manifest\.csv:2: a quoted cell runs on"):
        load("seedtts", tmp_path)


# -- separators and headers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.csv", "id;text\na;x, y\n"),
        ("m.csv", "sep=;\nid;text\na;x, y\n"),
        ("m.csv", "id|text\na|x, y\n"),
        ("m.csv", "id\ttext\na\tx, y\n"),
        ("m.tsv", 'id,text\na,"x, y"\n'),
        ("m.csv", 'ID,Text\na,"x, y"\n'),
    ],
)
def test_what_separates_is_seen_in_the_header(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert [(i.id, i.text) for i in load("auto", tmp_path).items] == [("a", "x, y")]


def test_the_table_of_ljspeech(tmp_path):
    for name in ("LJ001-0001", "LJ001-0002"):
        sound(tmp_path / "wavs" / f"{name}.wav")
    (tmp_path / "metadata.csv").write_text('LJ001-0001|"Dr. A, it is|"Doctor A, it is\nLJ001-0002|two|\n')
    data = load("auto", tmp_path)
    assert [(i.id, i.text) for i in data.items] == [("LJ001-0001", '"Doctor A, it is'), ("LJ001-0002", "two")]
    assert data.items[0].path == tmp_path / "wavs/LJ001-0001.wav"
    (tmp_path / "metadata.csv").write_text("LJ001-0001|a|b\nLJ001-0002|a\n")
    with pytest.raises(ManifestError, match=r"metadata\.csv:2: 2 cells, but the first line has 3"):
        load("auto", tmp_path)


def test_a_missing_header_is_said(tmp_path):
    (tmp_path / "m.csv").write_text("one.wav,hello there\ntwo.wav,bye\n")
    with pytest.raises(ManifestError, match=r"m\.csv:1: no column audio .*columns: one\.wav, hello there\. The first line must name"):
        load("csv", tmp_path)


# -- words for columns -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        {"audio_filepath": "a.wav", "text": "hi", "lang": "en", "speaker_id": "s"},  # NeMo
        {"path": "a.wav", "sentence": "hi", "locale": "en-GB", "client_id": "s"},  # Common Voice
        {"file_name": "a.wav", "transcription": "hi", "language": "en", "speaker": "s"},  # datasets of Hugging Face
        {"wav": "a.wav", "transcript": "hi", "LANGUAGE": "en", "spk": "s"},
        {"Audio Path": "a.wav", "normalized_text": "hi", "lang": "en", "spk-id": "s"},
    ],
)
@pytest.mark.cases(
    "A11",
    before="columns sentence, client_id, locale, transcript were notes: no text, no speaker, nothing said",
    after="the usual words of other tools are understood, the other columns named in one line",
)
def test_words_of_other_tools_are_understood(tmp_path, row):
    jsonl(tmp_path, row)
    data = load("jsonl", tmp_path)
    assert [(i.id, i.path.name, i.text, i.language, i.speaker) for i in data.items] == [("a", "a.wav", "hi", "en", "s")]
    assert data.left_out == ()


def test_words_for_ids_and_prompts(tmp_path):
    (tmp_path / "m.csv").write_text("utt_id,text,prompt_wav,ref_text\nu1,hi,p.wav,well\n")
    (item,) = load("csv", tmp_path).items
    assert (item.id, item.prompt_path, item.prompt_text) == ("u1", tmp_path / "p.wav", "well")
    (tmp_path / "m.csv").write_text("segment,path,text\ns1,a.wav,hi\ns2,a.wav,ho\n")
    assert [i.id for i in load("csv", tmp_path).items] == ["s1", "s2"]
    (tmp_path / "m.csv").write_text("segment,path,text\n,a.wav,hi\n,b.wav,ho\n")
    data = load("csv", tmp_path)
    assert [i.id for i in data.items] == ["a", "b"]
    assert data.left_out == ("columns not read: segment",)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "a", "text": "one", "sentence": "two"}, "both 'text' and 'sentence', which differ"),
        ({"id": "a", "wav": "a.wav", "audio": "b.wav"}, "both 'audio' and 'wav', which differ"),
        ({"id": "a", "text": "one", "lang": "de", "locale": "en-US"}, "both 'lang' and 'locale', which differ"),
        ({"audio_filepath": "a.wav", "text": "x", "offset": 3.25, "duration": 2}, r"'offset' is 3\.25: parts of recordings are not read"),
        ({"id": "a", "text": "x", "deep": json.loads("[" * 60 + "]" * 60)}, "'deep' is nested more than 50 deep"),
    ],
)
def test_columns_that_contradict_are_refused(tmp_path, row, message):
    jsonl(tmp_path, row)
    with pytest.raises(ManifestError, match=rf"manifest\.jsonl:1: {message}"):
        load("jsonl", tmp_path)


def test_columns_that_agree_are_no_fault_and_second_choices_are_named(tmp_path):
    jsonl(
        tmp_path,
        {"id": "a", "text": "Dr. X", "sentence": "Dr. X", "normalized_text": "Doctor X", "lang": "en", "locale": "en_US", "offset": 0.0},
    )
    data = load("jsonl", tmp_path)
    assert (data.items[0].text, data.items[0].language) == ("Dr. X", "en")
    assert data.left_out == ("columns not read: normalized_text, offset",)


# -- JSON ------------------------------------------------------------------------------------------------------------

ROWS = [{"id": "a", "text": "x"}, {"id": "b", "text": "y"}]


@pytest.mark.parametrize("name", ["manifest.json", "manifest.jsonl", "other.json"])
@pytest.mark.parametrize(
    "content",
    [json.dumps(ROWS), "\n" + json.dumps(ROWS, indent=2) + "\n", "".join(json.dumps(r) + "\n" for r in ROWS), "[" + json.dumps(ROWS[0]) + "]\n[" + json.dumps(ROWS[1]) + "]"],
)  # fmt: skip
@pytest.mark.cases("A11", before="a JSON file that is a list was no dataset, and a JSONL line that is one no row", after="both are read")
def test_a_list_of_objects_is_a_manifest(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert [i.id for i in load("jsonl", tmp_path).items] == ["a", "b"]
    if name != "other.json":
        assert [i.id for i in load("auto", tmp_path).items] == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"id": "a", "text": "x"},\n 3]', r"m\.json:2: not a JSON object but int"),
        ('[{"id": "a", "text": "x"}\n {"id": "b", "text": "x"}]', r"m\.json:1: not JSON \(the list is not closed, or lacks a comma"),
        ('[{"id": "a", "text": "x"}', r"m\.json:1: not JSON \(the list is not closed"),
        ('[{"id": "a", "text": "x"},\n\n{"id": "a", "text": "x"}]', r"m\.json:3: id 'a' is already used in m\.json:1"),
        ('[{"id": "a", "text": "x"}] x', "something stands behind the list"),
        ('{\n "data": [{"id": "a", "text": "x"}]\n}', r"m\.json:1: neither a list of objects nor an object on each line"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_list_that_is_none_is_refused_by_line(tmp_path, content, message):
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(ManifestError, match=message):
        load("jsonl", tmp_path)


# -- what is left out ------------------------------------------------------------------------------------------------


@pytest.mark.cases(
    "A11",
    before="a folder of 2 .wav, 3 .m4a, 1 .webm, a linked and a hidden folder: two items, not a word about the rest",
    after="Dataset.left_out names them, the run says so in its first lines, and manifest.json keeps it",
)
def test_files_and_folders_left_out_are_counted(tmp_path):
    root = tmp_path / "root"
    for name in ("a.wav", "sub/b.FLAC", "elsewhere/c.wav", ".cache/d.wav", "sub/._a.wav"):
        sound(root / name)
    (root / "elsewhere").rename(tmp_path / "elsewhere")
    (root / "more").symlink_to(tmp_path / "elsewhere")
    (root / "loop").symlink_to(root)
    for name in ("x.m4a", "y.M4A", "z.webm", "notes.txt", "a.txt"):
        (root / name).write_text("x")
    data = load("folder", root)
    assert [i.id for i in data.items] == ["a", "sub__b"]
    assert data.left_out == (
        "2 .m4a files",
        "1 .txt file without a recording",
        "1 .webm file",
        "1 hidden file",
        "1 hidden folder",
        "2 linked folders",
    )
    assert data.remarks[0] == "left out: " + ", ".join(data.left_out)


def test_an_empty_dataset_says_what_was_there(tmp_path):
    (tmp_path / "x.m4a").write_text("x")
    with pytest.raises(ManifestError, match=r"is empty: .*left out: 1 \.m4a file$"):
        load("folder", tmp_path)


def test_rows_tables_and_columns_left_out_are_counted(tmp_path):
    (tmp_path / "manifest.csv").write_text("id,text,lang,split,age\na,x,en,dev,\nb,x,de,dev,4\nc,x,en,test,4\n")
    (tmp_path / "other.csv").write_text("x")
    data = load("csv", tmp_path, language="en", split="dev")
    assert [i.id for i in data.items] == ["a"]
    assert data.left_out == ("1 item in other languages (1 de)", "1 item of other splits", "1 other table", "columns not read: age")
    assert data.remarks[0].endswith("1 other table; columns not read: age")


def test_what_a_corpus_does_not_name_is_counted(tmp_path):
    root = tmp_path / "LibriSpeech"
    for name in ("test-clean/1/10/1-10-0000.flac", "test-clean/1/10/1-10-0001.mp3", "test-clean/extra/x.flac"):
        sound(root / name)
    (root / "test-clean/2").symlink_to(root / "test-clean/1")
    data = load("librispeech", tmp_path)
    assert len(data.items) == 1
    assert data.left_out == (
        "1 linked folder",
        "1 sound file outside SPEAKER/CHAPTER folders",
        "1 sound file that the layout does not name",
    )
    for name in ("p1/p1_001_mic1.flac", "p1/p1_001_mic2.flac", "p1/take.ogg"):
        sound(tmp_path / "vctk/wav48_silence_trimmed" / name)
    assert load("vctk", tmp_path / "vctk").left_out == ("1 recording of mic2", "1 sound file that the layout does not name")


def test_lists_of_a_seedtts_folder_left_out_are_counted(tmp_path):
    (tmp_path / "meta_en.lst").write_text("a|P.|p.wav|Text.\n")
    (tmp_path / "hard.lst").write_text("b|P.|p.wav|Text.\n")
    assert load("seedtts", tmp_path).left_out == ("1 other list",)


def test_the_embedded_set_leaves_nothing_out():
    assert load("embedded", None).remarks == ()
