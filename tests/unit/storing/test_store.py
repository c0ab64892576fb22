"""The store: keys, whole predictions, checksummed outcomes, compaction."""

import json
import multiprocessing
import os
import signal
import zlib
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.api import Audio, Bitstream, CodecSpec, Codes, Prediction, Status, Timing
from harness.errors import StoreError
from harness.storing.files import boot, read_json, write_json
from harness.storing.outcomes import Lookup, Outcome, SegmentReader, SegmentWriter, abandoned
from harness.storing.store import Store, key_of

SPEC = CodecSpec(16000, 320, (8, 8), prefix_decodable=True)


def prediction(seed=0, encoded=None):
    noise = np.random.default_rng(seed).normal(0, 0.1, 1600).astype(np.float32)
    return Prediction(Audio.mono(noise, 16000), encoded, Timing(0.5, 0.1, 0.2, 0.3), "end")


@pytest.mark.parametrize(
    "encoded",
    [
        None,
        Bitstream((b"abc", b"", b"\x00\xff"), 1600, 16000),
        Codes(np.array([[1, 7, 0], [3, 3, 3]]), SPEC, 900, {"voice": np.arange(4, dtype=np.float32)}),
    ],
)
def test_a_prediction_comes_back_bit_for_bit(tmp_path, encoded):
    store, original = Store(tmp_path), prediction(encoded=encoded)
    store.save_prediction("ab12", original, ["clipped"])
    back = store.load_prediction("ab12")
    assert np.array_equal(back.audio.samples, original.audio.samples)
    assert back.timing == original.timing
    assert back.stop_reason == "end"
    assert (back.encoded.digest() if back.encoded else None) == (encoded.digest() if encoded else None)
    assert store.describe_prediction("ab12")["flags"] == ["clipped"]


def test_a_resynthesised_prompt_travels_with_its_prediction(tmp_path):
    store, plain = Store(tmp_path), prediction()
    with_prompt = replace(plain, prompt_resynthesis=Audio.mono(np.linspace(-1, 1, 500), 8000))
    digests = [store.save_prediction("ab12", plain), store.save_prediction("ab13", with_prompt)]
    assert digests[0] != digests[1]
    assert store.load_prediction("ab12").prompt_resynthesis is None
    assert store.load_prediction("ab13").prompt_resynthesis.digest() == with_prompt.prompt_resynthesis.digest()
    (tmp_path / "predictions/ab/ab13/prompt.wav").unlink()
    with pytest.raises(StoreError, match="altered"):
        store.load_prediction("ab13")


def test_codes_once_more_travel_with_their_prediction(tmp_path):
    store, plain = Store(tmp_path), prediction()
    codes = Codes(np.arange(12).reshape(2, 6), CodecSpec(16000, 320, (16, 16)), 1900)
    again = {"output": replace(codes, indices=codes.indices[:, ::-1]), "shifted": codes}
    with_more = replace(plain, encoded=codes, encoded_again=again)
    without = store.save_prediction("ab12", replace(plain, encoded=codes))
    assert store.save_prediction("ab13", with_more) != without and "encoded_again" not in store.describe_prediction("ab12")
    assert store.load_prediction("ab12").encoded_again == {}
    back = store.load_prediction("ab13").encoded_again
    assert {name: c.digest() for name, c in back.items()} == {name: c.digest() for name, c in again.items()}
    (tmp_path / "predictions/ab/ab13/shifted.npz").unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        store.load_prediction("ab13")


def test_saving_twice_keeps_the_first_and_leaves_no_rubbish(tmp_path):
    store = Store(tmp_path)
    first = store.save_prediction("ab12", prediction(0))
    assert store.save_prediction("ab12", prediction(1)) == first
    assert [p.name for p in (tmp_path / "predictions").iterdir()] == ["ab"]


def test_an_altered_prediction_is_refused(tmp_path):
    store = Store(tmp_path)
    store.save_prediction("ab12", prediction(0))
    path = store.audio_path("ab12")
    data = bytearray(path.read_bytes())
    data[-10] ^= 0x40
    path.write_bytes(bytes(data))
    with pytest.raises(StoreError, match="altered"):
        store.load_prediction("ab12")


def test_keys_depend_on_every_part_and_not_on_order():
    assert key_of("score", {"a": 1, "b": 2}) == key_of("score", {"b": 2, "a": 1})
    assert len({key_of("score", {"a": 1}), key_of("score", {"a": 2}), key_of("score", {"a": "1"}), key_of("prediction", {"a": 1})}) == 4


def write(store, pairs):
    writer = store.outcomes.writer()
    for key, outcome in pairs:
        writer.append(key, outcome)
    writer.close()


OK = Outcome(Status.OK, 1.5, 1.0, counts={"hits": 3}, detail={"text": "naïve 你好"})
FAILED = Outcome(Status.FAILED, side="output", reason="boom")


def test_outcomes_survive_compaction_unchanged(tmp_path):
    store = Store(tmp_path)
    write(store, [("k1", OK), ("k2", FAILED)])
    before = store.outcomes.find(["k1", "k2", "k3"])
    assert store.compact() == 2
    assert not list((tmp_path / "outcomes").glob("*.seg"))
    assert store.outcomes.find(["k1", "k2", "k3"]) == before == Lookup({"k1": OK, "k2": FAILED})


def test_a_failure_never_replaces_a_success_and_a_success_replaces_a_failure(tmp_path):
    store = Store(tmp_path)
    write(store, [("k1", OK), ("k2", FAILED)])
    store.compact()
    write(store, [("k1", FAILED), ("k2", OK)])
    assert store.outcomes.find(["k1", "k2"]).found == {"k1": OK, "k2": OK}
    store.compact()
    assert store.outcomes.find(["k1", "k2"]).found == {"k1": OK, "k2": OK}


@pytest.mark.parametrize("damage", ["torn", "flipped", "garbage", "other schema"])
def test_a_damaged_record_is_dropped_and_counted(tmp_path, damage):
    store = Store(tmp_path)
    write(store, [(f"k{i}", OK) for i in range(5)])
    (path,) = (tmp_path / "outcomes").glob("*.seg")
    lines = path.read_bytes().splitlines(keepends=True)
    if damage == "torn":
        lines[4] = lines[4][:-7]
    elif damage == "flipped":
        lines[2] = lines[2].replace(b'"value":1.5', b'"value":9.5')
    elif damage == "garbage":
        lines[1] = b"\x00\xff not a record\n"
    else:
        lines[3] = line({"schema": 99, "key": "k3", "outcome": {"status": "ok", "value": 9.5}})
    path.write_bytes(b"".join(lines))
    lookup = store.outcomes.find([f"k{i}" for i in range(5)])
    assert (lookup.damaged, lookup.others) == ((0, 1) if damage == "other schema" else (1, 0))
    assert len(lookup.found) == 4
    assert all(o.value == 1.5 for o in lookup.found.values())


def test_a_truncated_part_is_passed_over_and_counted(tmp_path):
    store = Store(tmp_path)
    write(store, [("k1", OK)])
    store.compact()
    write(store, [("k2", OK)])
    (part,) = (tmp_path / "outcomes").glob("*.parquet")
    part.write_bytes(part.read_bytes()[:-40])
    assert store.outcomes.find(["k1", "k2"]) == Lookup({"k2": OK}, damaged=1)


def line(entry):
    body = json.dumps(entry).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


@pytest.mark.cases("D5", before="a compaction deleted the records of a newer schema", after="they are kept, line by line, and counted")
@pytest.mark.parametrize(
    "newer",
    [
        {"schema": 99, "key": "k9", "outcome": {"status": "ok", "value": 9.5}},
        {"schema": 1, "key": "k9", "outcome": {"status": "ok", "value": 9.5, "a field of tomorrow": 1}},
        {"schema": 1, "key": "k9", "outcome": {"status": "a status of tomorrow"}},
        {"schema": 1, "what": "has no key"},
        ["no mapping"],
    ],
)
def test_records_of_another_version_outlive_compactions(tmp_path, newer):
    store = Store(tmp_path)
    write(store, [("k1", OK)])
    (path,) = (tmp_path / "outcomes").glob("*.seg")
    path.write_bytes(path.read_bytes() + line(newer))
    assert store.outcomes.find(["k1", "k9"]) == Lookup({"k1": OK}, others=1)
    assert store.compact() == 1
    (kept,) = (tmp_path / "outcomes").glob("*.seg")
    assert kept.read_bytes() == line(newer)
    assert store.compact() == 0
    assert kept.read_bytes() == line(newer)
    assert store.outcomes.find(["k1", "k9"]) == Lookup({"k1": OK}, others=1)


@pytest.mark.cases("D5", before="parts of another layout were read as they came", after="kept, not read, counted")
def test_parts_of_another_version_are_kept_and_not_read(tmp_path):
    store = Store(tmp_path)
    write(store, [("k1", OK)])
    pq.write_table(
        pa.table({"key": ["k1", "k2"], "outcome": ['{"status": "ok", "value": 9.5}'] * 2}), tmp_path / "outcomes" / "0ld.parquet"
    )
    assert store.outcomes.find(["k1", "k2"]) == Lookup({"k1": OK}, others=2)
    assert store.compact() == 1
    assert (tmp_path / "outcomes" / "0ld.parquet").exists()
    assert store.outcomes.find(["k1", "k2"]) == Lookup({"k1": OK}, others=2)


@pytest.mark.cases("D5", before="a newer prediction was read as if it were ours", after="set aside as it is, and named")
def test_a_prediction_of_another_version_is_set_aside_whole(tmp_path):
    store = Store(tmp_path)
    store.save_prediction("ab12", prediction(0))
    path = store.prediction_path("ab12") / "prediction.json"
    description = {**read_json(path), "schema": 99}
    write_json(path, description)
    with pytest.raises(StoreError, match="another version"):
        store.load_prediction("ab12")
    assert store.check_prediction("ab12") == "written by another version of the harness"
    (aside,) = (tmp_path / "predictions").glob("damaged-ab12-*")
    assert read_json(aside / "prediction.json") == description
    assert not store.has_prediction("ab12")


@pytest.mark.cases("A6", before="a flipped digit in a prediction's timing gave another RTF", after="damaged, set aside, made again")
@pytest.mark.parametrize("change", [(b"0.5", b"0.6"), (b'"end"', b'"eos"'), (b'"clipped"', b'"flipped"'), (b'"checksum"', b'"checkbum"')])
def test_every_field_of_a_description_is_checked(tmp_path, change):
    store = Store(tmp_path)
    store.save_prediction("ab12", prediction(0), ["clipped"])
    described = store.describe_prediction("ab12")
    path = store.prediction_path("ab12") / "prediction.json"
    path.write_bytes(path.read_bytes().replace(*change))
    if change[0] == b'"checksum"':  # then nothing else is altered
        assert {**described, **store.describe_prediction("ab12")}.items() >= described.items()
        return
    with pytest.raises(StoreError, match="checksum"):
        store.describe_prediction("ab12")
    assert store.check_prediction("ab12") == "damaged"


def test_of_a_damaged_part_the_intact_rows_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.storing.outcomes.ROWS_AT_ONCE", rows := 2000)
    store = Store(tmp_path)
    outcomes = {f"k{i:05d}": replace(OK, value=i + 0.5) for i in range(2 * rows)}
    write(store, outcomes.items())
    assert store.compact() == len(outcomes)
    (part,) = (tmp_path / "outcomes").glob("*.parquet")
    data = bytearray(part.read_bytes())
    data[len(data) // 4] ^= 1
    part.write_bytes(data)
    lookup = store.outcomes.find(outcomes)
    assert lookup.damaged == 1 and len(lookup.found) == rows
    assert all(outcomes[key] == found for key, found in lookup.found.items())
    assert store.compact() == rows
    assert store.outcomes.find(outcomes) == replace(lookup, damaged=0)
    assert [p.name for p in (tmp_path / "outcomes").glob("*.damaged")] == [part.with_suffix(".damaged").name]


@pytest.mark.parametrize("name", ["x.seg", "v2-x.parquet"])
def test_a_folder_or_a_pipe_among_the_records_is_said(tmp_path, name):
    store = Store(tmp_path)
    write(store, [("k1", OK)])
    (tmp_path / "outcomes" / name).mkdir()
    with pytest.raises(StoreError, match="a folder"):
        store.outcomes.find(["k1"])
    (tmp_path / "outcomes" / name).rmdir()
    os.mkfifo(tmp_path / "outcomes" / name)
    with pytest.raises(StoreError, match="not a file"):
        store.outcomes.find(["k1"])


def test_strict_json_only(tmp_path):
    writer = SegmentWriter(tmp_path)
    with pytest.raises(ValueError, match="JSON"):
        writer.append({"value": float("nan")})
    writer.append({"value": 1.0})
    writer.close()
    assert list(SegmentReader().read(writer.path)) == [{"schema": 1, "value": 1.0}]


def _append_until_killed(folder):
    writer = SegmentWriter(folder)
    for i in range(10**9):
        writer.append({"i": i})


def test_kill_9_loses_nothing_that_was_appended_but_a_torn_tail(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=_append_until_killed, args=(tmp_path,))
    process.start()
    while not (segments := list(tmp_path.glob("*.seg"))) or segments[0].stat().st_size < 20_000:
        assert process.is_alive()
    assert list(abandoned(tmp_path)) == []  # its writer lives
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert list(abandoned(tmp_path)) == segments
    reader = SegmentReader()
    entries = [e["i"] for e in reader.read(segments[0])]
    assert entries == list(range(len(entries)))
    assert len(entries) > 300
    assert reader.dropped <= 1


def test_compaction_leaves_living_segments_alone(tmp_path):
    store = Store(tmp_path)
    living = store.outcomes.writer()
    living.append("k1", OK)
    write(store, [("k2", OK)])
    assert store.compact() == 1
    assert set(store.outcomes.find(["k1", "k2"]).found) == {"k1", "k2"}
    living.close()
    assert store.compact() == 1


def test_an_unwritable_folder_is_said_so(tmp_path):
    (tmp_path / "outcomes").write_text("a file in the way")
    with pytest.raises(StoreError, match="cannot write"):
        Store(tmp_path).outcomes.writer()


@pytest.mark.cases(
    "D13",
    before="a save that failed left its tmp-* folder for ever",
    after="a failed save leaves nothing; what killed processes left is taken away at compaction, once it is old and its owner dead",
)
def test_half_stored_predictions_of_dead_processes_are_taken_away(tmp_path, monkeypatch):
    def refuses(path, audio):
        path.write_bytes(b"half")
        raise ValueError("more than 4 GiB")

    store = Store(tmp_path)
    monkeypatch.setattr("harness.storing.store.write_audio", refuses)
    with pytest.raises(ValueError, match="4 GiB"):
        store.save_prediction("ab12", prediction())
    assert not list(tmp_path.glob("predictions/tmp-*"))
    store.outcomes.writer().close()
    folder = tmp_path / "predictions"
    mine, dead, young = (folder / f"tmp-{boot()}-{pid}-x" for pid in (os.getpid(), 2**22 + 1, 2**22 + 2))
    for left in (mine, dead, young, folder / "tmp-old"):
        left.mkdir(parents=True)
        if left is not young:
            os.utime(left, (0, 0))
    store.compact()
    assert sorted(p.name for p in folder.glob("tmp-*")) == sorted([mine.name, young.name])
