"""Corpus trees, SeedTTS folders and guessing what a folder is."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from harness.data.layouts import guess
from harness.data.manifests import DatasetConfig, load_dataset
from harness.errors import ConfigError, ManifestError


def load(kind, root, **options):
    return load_dataset(DatasetConfig("set", kind, root, **options))


def put(root, **files):
    """Files by path ("__" is a slash); text, or None for a short sound."""
    for name, text in files.items():
        write(root / name.replace("__", "/"), text)
    return root


def write(path, text=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    if text is None:
        soundfile.write(path, np.full(160, 0.1), 16000)
    else:
        path.write_text(text, encoding="utf-8")


def by_id(data):
    return {i.id: i for i in data.items}


# -- folder ----------------------------------------------------------------------------------------------------------


def test_folder_takes_every_sound_sorted_with_its_text(tmp_path):
    for name in ("b.wav", "a.FLAC", "sub/c.ogg", "sub/.hidden.wav", ".git/d.wav"):
        write(tmp_path / name)
    write(tmp_path / "b.txt", "\ufeffHello\n")
    write(tmp_path / "notes.txt", "not of a sound")
    data = load("folder", tmp_path, language="en")
    assert [(i.id, i.text, i.language) for i in data.items] == [("a", "", "en"), ("b", "Hello", "en"), ("sub__c", "", "en")]
    assert data.items[2].path == tmp_path / "sub/c.ogg"
    assert [i.id for i in load("folder", tmp_path, split="sub").items] == ["sub__c"]
    with pytest.raises(ManifestError, match="no such folder"):
        load("folder", tmp_path, split="sup")


def test_folder_refuses_two_sounds_of_one_name_and_links_to_outside(tmp_path):
    root = tmp_path / "root"
    write(root / "a.wav")
    write(root / "a.flac")
    write(tmp_path / "outside.wav")
    write(tmp_path / "outside.txt", "secret")
    (root / "link.wav").symlink_to(tmp_path / "outside.wav")
    write(root / "t.wav")
    (root / "t.txt").symlink_to(tmp_path / "outside.txt")
    with pytest.raises(ManifestError, match="3 problems") as caught:
        load("folder", root)
    assert "a.wav: id 'a' is already used in a.flac" in str(caught.value)
    assert "link.wav: path 'link.wav' leaves" in str(caught.value)
    assert "t.txt: leaves" in str(caught.value)


def test_folder_names_transcripts_that_are_not_utf8(tmp_path):
    write(tmp_path / "a.wav")
    (tmp_path / "a.txt").write_bytes(b"fine\n\xff\n")
    with pytest.raises(ManifestError, match=r"a\.txt:2: not UTF-8"):
        load("folder", tmp_path)


def test_empty_folder(tmp_path):
    with pytest.raises(ManifestError, match=r"is empty: no items of kind folder .*an empty folder"):
        load("folder", tmp_path)


# -- corpora ---------------------------------------------------------------------------------------------------------


def librispeech_tree(root):
    lines = {"1-10": ["ONE A", "ONE B", "ONE C"], "1-11": ["ONE D"], "2-20": ["TWO A"]}
    for chapter, texts in lines.items():
        folder = root / "test-clean" / chapter.replace("-", "/")
        write(folder / f"{chapter}.trans.txt", "".join(f"{chapter}-{n:04d} {t}\n" for n, t in enumerate(texts)))
        for n in range(len(texts)):
            write(folder / f"{chapter}-{n:04d}.flac")
    write(root / "dev-clean/3/30/3-30-0000.flac")
    write(root / "dev-clean/3/30/3-30.trans.txt", "3-30-0000 THREE\n")
    return root


def test_librispeech(tmp_path):
    root = librispeech_tree(tmp_path / "LibriSpeech")
    data = load("librispeech", root, split="test-clean")
    assert [i.id for i in data.items] == ["1-10-0000", "1-10-0001", "1-10-0002", "1-11-0000", "2-20-0000"]
    first, last, lone = data.items[0], data.items[3], data.items[4]
    assert (first.text, first.language, first.speaker) == ("ONE A", "en", "1")
    assert first.path == root / "test-clean/1/10/1-10-0000.flac"
    assert (first.prompt_path, first.prompt_text) == (root / "test-clean/1/10/1-10-0001.flac", "ONE B")
    assert last.prompt_path == first.path
    assert lone.prompt_path is None
    assert "CC BY" in data.licence
    assert len(load("librispeech", root).items) == 6
    for other in (tmp_path, root / "test-clean"):
        assert [i.id for i in load("librispeech", other, split="test-clean").items] == [i.id for i in data.items]
    limited = load("librispeech", root, split="test-clean", limit=3)
    assert all(i == by_id(data)[i.id] for i in limited.items)  # the limit takes no prompts away
    with pytest.raises(ManifestError, match=r"no such folder; saw dev-clean/, test-clean/"):
        load("librispeech", root, split="test-claen")


def test_librispeech_keeps_lines_without_sounds_and_sounds_without_lines(tmp_path):
    root = librispeech_tree(tmp_path)
    (root / "test-clean/1/10/1-10-0001.flac").unlink()
    write(root / "test-clean/2/20/2-20-0009.flac")
    items = by_id(load("librispeech", root))
    assert items["1-10-0001"].path == root / "test-clean/1/10/1-10-0001.flac"
    assert items["2-20-0009"].text == ""


def test_librispeech_transcript_faults_are_named(tmp_path):
    root = librispeech_tree(tmp_path)
    write(root / "test-clean/2/20/2-20.trans.txt", "2-20-0000 X\n\n2-20-0000 Y\n")
    with pytest.raises(ManifestError, match=r"2-20\.trans\.txt:3: id '2-20-0000' is already used in line 1"):
        load("librispeech", root)


def test_libritts(tmp_path):
    for n, text in enumerate(["Dr. Who?", "Two.", "Two."]):
        stem = f"LibriTTS/dev-clean/84/121123/84_121123_000007_00000{n}"
        write(tmp_path / f"{stem}.wav")
        write(tmp_path / f"{stem}.original.txt", text)
        write(tmp_path / f"{stem}.normalized.txt", text.replace("Dr.", "Doctor") + "\n")
    data = load("libritts", tmp_path, split="dev-clean")
    assert [(i.id[-1], i.text, i.speaker, i.prompt_text) for i in data.items] == [
        ("0", "Doctor Who?", "84", "Two."),
        ("1", "Two.", "84", "Doctor Who?"),  # the next utterance says the same, so it is passed over
        ("2", "Two.", "84", "Doctor Who?"),
    ]


def test_vctk_of_both_releases(tmp_path):
    new, old = tmp_path / "new", tmp_path / "old"
    for speaker in ("p225", "s5"):
        for n in (1, 2):
            write(old / f"wav48/{speaker}/{speaker}_00{n}.wav")
            write(old / f"txt/{speaker}/{speaker}_00{n}.txt", f"Sentence {n}.\n")
            for mic in (1, 2):
                write(new / f"wav48_silence_trimmed/{speaker}/{speaker}_00{n}_mic{mic}.flac")
            if speaker == "p225":
                write(new / f"txt/{speaker}/{speaker}_00{n}.txt", f"Sentence {n}.\n")
    one, two = load("vctk", new), load("vctk", new, split="mic2")
    assert [i.id for i in one.items] == [i.id for i in two.items] == ["p225_001", "p225_002", "s5_001", "s5_002"]
    assert (one.items[0].path.name, two.items[0].path.name) == ("p225_001_mic1.flac", "p225_001_mic2.flac")
    assert two.items[0].prompt_path.name == "p225_002_mic2.flac"
    assert [i.text for i in one.items] == ["Sentence 1.", "Sentence 2.", "", ""]
    assert [i.speaker for i in one.items] == ["p225", "p225", "s5", "s5"]
    assert [i.text for i in load("vctk", old).items] == ["Sentence 1.", "Sentence 2."] * 2
    with pytest.raises(ManifestError, match="no microphone"):
        load("vctk", new, split="mic3")


def test_aishell(tmp_path):
    top = tmp_path / "data_aishell"
    write(top / "transcript/aishell_transcript_v0.8.txt", "BAC009S0002W0122 而 对 楼市\nBAC009S0002W0123 你 好\nBAC009S0764W0121 甚至\n")
    for name in (
        "train/S0002/BAC009S0002W0122",
        "train/S0002/BAC009S0002W0123",
        "train/S0002/BAC009S0002W0999",
        "test/S0764/BAC009S0764W0121",
    ):
        write(top / f"wav/{name}.wav")
    data = load("aishell", tmp_path, split="train")
    assert [(i.text, i.speaker, i.language) for i in data.items] == [
        ("而对楼市", "S0002", "zh"),
        ("你好", "S0002", "zh"),
        ("", "S0002", "zh"),
    ]
    assert data.items[0].prompt_text == "你好"
    assert len(load("aishell", top).items) == 4
    with pytest.raises(ManifestError, match="saw test/, train/"):
        load("aishell", top, split="dev")


# -- SeedTTS ---------------------------------------------------------------------------------------------------------


def test_official_seedtts_folder(tmp_path):
    write(tmp_path / "en/meta.lst", "a-1|Prompt one.|prompt-wavs/p1.wav|Say one.\r\na-2|Prompt one.|prompt-wavs/p1.wav|Say two.\r\n")
    write(tmp_path / "en/non_para_reconstruct_meta.lst", "a-1|Prompt one.|prompt-wavs/p1.wav|Say one.|wavs/a-1.wav\n")
    write(tmp_path / "en/wavs/a-1.wav")
    write(tmp_path / "zh/meta.lst", "z-1|提示|prompt-wavs/q.wav|你好\n")
    write(tmp_path / "zh/hardcase.lst", "h-1|提示|prompt-wavs/q.wav|四是四\n")
    items = load("seedtts", tmp_path).items
    assert [(i.id, i.language, i.text) for i in items] == [("a-1", "en", "Say one."), ("a-2", "en", "Say two."), ("z-1", "zh", "你好")]
    assert items[0].path == tmp_path / "en/wavs/a-1.wav"
    assert items[1].path is None  # no recording of this one
    assert items[0].prompt_path == tmp_path / "en/prompt-wavs/p1.wav"
    assert (items[0].prompt_text, items[0].notes["list"]) == ("Prompt one.", "en/meta.lst")
    assert items[0].speaker == items[1].speaker == "prompt-wavs/p1.wav"
    assert [i.id for i in load("seedtts", tmp_path, language="zh").items] == ["z-1"]
    assert [i.id for i in load("seedtts", tmp_path, split="hard").items] == ["h-1"]
    assert load("seedtts", tmp_path, split="hardcase").items[0].language == "zh"
    assert [i.id for i in load("seedtts", tmp_path, split="non_para_reconstruct_meta").items] == ["a-1"]
    assert [i.id for i in load("seedtts", tmp_path, manifest="zh/hardcase.lst").items] == ["h-1"]
    with pytest.raises(ConfigError, match=r"split 'soft'.*lists there: en/meta\.lst"):
        load("seedtts", tmp_path, split="soft")


def test_lists_beside_each_other_with_a_table_of_speakers(tmp_path):
    put(
        tmp_path,
        **{
            "meta_en.lst": "a|P.|p.wav|Text.|a.wav\nb|P.|p.wav|Text two.|b.wav\n",
            "meta_zh_hard.lst": "c|提|q.wav|文\n",
            "manifest.csv": "utt_id,speaker,gender,licence\na,SPK1,F,CC0\nc,SPK2,,CC0\n",
        },
    )
    items = by_id(load("seedtts", tmp_path))
    assert {k: (i.language, i.speaker) for k, i in items.items()} == {"a": ("en", "SPK1"), "b": ("en", "p.wav"), "c": ("zh", "SPK2")}
    assert items["a"].notes == {"list": "meta_en.lst", "gender": "F", "licence": "CC0"}
    assert items["a"].path == tmp_path / "a.wav"
    assert load("seedtts", tmp_path).licence == "CC0"
    assert [i.id for i in load("seedtts", tmp_path, split="hard").items] == ["c"]
    assert load("auto", tmp_path).items == load("seedtts", tmp_path).items


def test_a_list_whose_name_states_no_language_takes_the_configured_one(tmp_path):
    write(tmp_path / "mine.lst", "a|P.|p.wav|Text.\n")
    alone = load_dataset(DatasetConfig("pgc_hard", "seedtts", manifest=str(tmp_path / "mine.lst"), language="en"))
    assert (alone.items[0].language, alone.items[0].dataset) == ("en", "pgc_hard")
    with pytest.raises(ConfigError, match=r"no list \(meta\*\.lst\) in .*lists there: mine\.lst"):
        load("seedtts", tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a|b|c", "3 fields; wanted id|"),
        ("a|b|c.wav|d|e.wav|f", "6 fields"),
        ("a|b||d", "empty prompt_wav"),
        ("a|b|c.wav|", "empty text"),
        ("|b|c.wav|d", "id is empty"),
        ("ok|b|c.wav|d", "already used in meta_en.lst:1"),
        ("OK|b|c.wav|d", "differs only in case"),
        ("a|b|/etc/passwd|d", "prompt: path '/etc/passwd' is absolute"),
        ("a|b|c.wav|d|../../etc/passwd", "leaves the dataset's root"),
        ("../../x|b|c.wav|d", "looks like a path"),
    ],
)
def test_bad_lines_of_a_list_are_named(tmp_path, line, message):
    write(tmp_path / "meta_en.lst", f"ok|P.|p.wav|Text.\n\n{line}\n")
    with pytest.raises(ManifestError, match=r"meta_en\.lst:3: ") as caught:
        load("seedtts", tmp_path)
    assert message in str(caught.value)


def test_a_list_in_a_subfolder_may_point_into_its_root_only(tmp_path):
    root = tmp_path / "root"
    write(root / "en/meta.lst", "a|P.|../shared/p.wav|Text.\n")
    assert load("seedtts", root).items[0].prompt_path == root / "en/../shared/p.wav"
    with pytest.raises(ManifestError, match="leaves"):
        load("seedtts", root / "en")


# -- guessing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"meta_en.lst": "a|P.|p.wav|T.\n", "manifest.csv": "utt_id,speaker\n"}, "seedtts"),
        ({"zh/meta.lst": "a|P.|p.wav|T.\n"}, "seedtts"),
        ({"wav48_silence_trimmed/p225/p225_001_mic1.flac": None}, "vctk"),
        ({"data_aishell/wav/test/S1/a.wav": None, "data_aishell/transcript/t.txt": "a 你\n"}, "aishell"),
        ({"test-clean/1/2/1-2.trans.txt": "1-2-0000 A\n"}, "librispeech"),
        ({"1/2/1-2.trans.txt": "1-2-0000 A\n"}, "librispeech"),
        ({"LibriTTS/dev-clean/1/2/1_2_0_0.normalized.txt": "A\n"}, "libritts"),
        ({"manifest.jsonl": '{"id": "a", "text": "x"}\n', "other.csv": "id,text\n", "a.wav": None}, "jsonl"),
        ({"list.tsv": "id\ttext\na\tb\n"}, "csv"),
        ({"deep/er/a.flac": None}, "folder"),
    ],
)
def test_auto_recognises_every_layout(tmp_path, files, kind):
    for name, text in files.items():
        write(tmp_path / name, text)
    assert guess(tmp_path) == kind
    data = load("auto", tmp_path)
    assert data.items
    assert data.description.startswith(f"{kind} in ")


def test_auto_says_what_it_saw_when_it_cannot_tell(tmp_path):
    put(tmp_path, **{"readme.md": "x", "one.csv": "x", "two.csv": "x", "sub__x.py": "x"})
    with pytest.raises(ConfigError, match=r"saw one\.csv, readme\.md, sub/, two\.csv\. Give dataset\.kind, one of embedded, jsonl"):
        load("auto", tmp_path)
