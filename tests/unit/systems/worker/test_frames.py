"""The frames of the worker protocol: what was packed comes back, and no other bytes become a message."""

import json
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from systems.worker.bridge import read_hello
from systems.worker.elsewhere import speech_worker as wire
from systems.worker.process import FrameBuffer

SOME = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # other tests use the cores, too
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.dictionaries(st.text(max_size=8).filter(lambda name: name != "arrays"), VALUES, max_size=4)
ARRAYS = st.dictionaries(
    st.text(max_size=8),
    st.sampled_from(wire.DTYPES).flatmap(lambda t: hnp.arrays(t, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))),
    max_size=3,
)


def messages(data, sizes=(1 << 20,)):
    """Everything a buffer makes of ``data`` that comes in pieces of the given sizes, in turn."""
    buffer, found, start, i = FrameBuffer(), [], 0, 0
    while start < len(data):
        buffer.feed(data[start : start + sizes[i % len(sizes)]])
        start += sizes[i % len(sizes)]
        i += 1
        while (message := buffer.take()) is not None:
            found.append(message)
    return found, len(buffer)


def equal(message, fields, arrays):
    assert message.fields == fields
    assert message.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        assert message.arrays[name].dtype == array.dtype
        assert message.arrays[name].shape == array.shape
        assert message.arrays[name].tobytes() == array.tobytes()


@SOME
@given(FIELDS, ARRAYS, st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_what_was_packed_comes_back_however_it_is_cut(fields, arrays, sizes):
    frame = wire.pack(fields, arrays)
    found, left = messages(frame + frame, sizes)
    assert (len(found), left) == (2, 0)
    for message in found:
        equal(message, fields, arrays)


@SOME
@given(st.binary(max_size=200), st.lists(st.integers(1, 60), min_size=1, max_size=3))
def test_random_bytes_are_no_message(data, sizes):
    try:
        found, _ = messages(data, sizes)
    except wire.Malformed:
        return
    assert found == []


@SOME
@given(FIELDS, ARRAYS, st.data())
def test_a_damaged_frame_never_becomes_another_message(fields, arrays, data):
    frame = bytearray(wire.pack(fields, arrays))
    place = data.draw(st.integers(0, len(frame) - 1))
    how = data.draw(st.sampled_from(["flip", "lose", "insert", "cut"]))
    if how == "flip":
        frame[place] ^= data.draw(st.integers(1, 255))
    elif how == "lose":
        del frame[place]
    elif how == "insert":
        frame.insert(place, data.draw(st.integers(0, 255)))
    else:
        del frame[place:]
    try:
        found, left = messages(bytes(frame))
    except wire.Malformed:
        return
    if found:  # a byte inserted that equals its neighbour at the very end would follow a whole frame
        equal(found[0], fields, arrays)
        assert left
    else:
        assert len(frame) == 0 or left == len(frame)  # more is waited for, under the deadline


def sealed(text, data=b""):
    """A frame with a right checksum around any JSON text and data."""
    return wire.HEAD.pack(wire.MAGIC, len(text), len(data), zlib.crc32(text + data)) + text + data


@SOME
@given(VALUES | st.dictionaries(st.sampled_from(["arrays", "op", "id"]), VALUES), st.binary(max_size=30))
def test_well_sealed_nonsense_is_refused_or_harmless(value, data):
    try:
        found, _ = messages(sealed(json.dumps(value).encode(), data))
    except wire.Malformed:
        return
    assert isinstance(found[0].fields, dict)
    assert sum(a.nbytes for a in found[0].arrays.values()) == len(data)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (b"Traceback (most recent call last)", "not a frame: it begins with b'Trace"),
        (b"SWX", "not a frame"),
        (wire.HEAD.pack(wire.MAGIC, 2**21, 0, 0), "at most"),
        (wire.HEAD.pack(wire.MAGIC, 2, 2**29, 0), "at most"),
        (sealed(b"[1]"), "not an object"),
        (sealed(b"{}"), "without a list of arrays"),
        (sealed(b'{"arrays": [], "x": NaN}'), "NaN is not JSON"),
        (sealed(b"[" * 100_000), "without readable JSON"),
        (sealed(b"\xff{}"), "without readable JSON"),
        (sealed(b'{"arrays": []}', b"12"), "carries 2 bytes of data, its arrays take 0"),
        (sealed(b'{"arrays": [{"name": "a", "dtype": "<f4", "shape": [2]}]}', b"1234"), "wants more than the 4 bytes"),
        (sealed(b'{"arrays": [{"name": "a", "dtype": "<f4", "shape": [4611686018427387904, 4]}]}', b"1234"), "wants more"),
        (sealed(b'{"arrays": [{"name": "a", "dtype": "<f4", "shape": [-1]}]}', b"1234"), "has the shape"),
        (sealed(b'{"arrays": [{"name": "a", "dtype": "<f4", "shape": [true]}]}', b"1234"), "has the shape"),
        (sealed(b'{"arrays": [{"name": "a", "dtype": "|O8", "shape": [1]}]}', b"12345678"), "an array it cannot have"),
        (sealed(b'{"arrays": [7]}'), "an array it cannot have"),
    ],
    ids=range(16),
)
def test_what_is_refused_and_how_it_is_said(frame, said):
    with pytest.raises(wire.Malformed) as caught:
        messages(frame)
    assert said in str(caught.value)


def test_what_cannot_travel_is_refused_by_its_sender():
    with pytest.raises(ValueError, match="is of dtype object"):
        wire.pack({}, {"a": np.array([None])})
    with pytest.raises(ValueError, match="at most"):
        wire.pack({"text": "x" * wire.MAX_JSON_BYTES})
    with pytest.raises(ValueError, match="not JSON compliant"):
        wire.pack({"x": float("nan")})


GOOD = {
    "op": "hello", "protocol": 1, "kind": "codec", "name": "n", "version": "1", "description": "", "origin": "none", "weights_digest": "",
    "num_parameters": 0, "training_data": "", "device": "cpu", "precision": "float32", "tools": [["python", "3.9"]], "sample_rate": 16000,
    "spec": {"sample_rate": 16000, "hop_length": 320, "codebook_sizes": [64, 64], "causal": True}, "streams": False,
}  # fmt: skip


def test_a_hello_is_read():
    hello = read_hello(GOOD, "worker_codec")
    assert (hello.kind, hello.sample_rate, hello.spec.codebook_sizes) == ("codec", 16000, (64, 64))
    assert (hello.info.family, hello.info.version, hello.info.device) == ("worker_codec", "1:1", "worker:cpu")
    assert read_hello({**GOOD, "kind": "synthesizer", "sample_rate": 24000}, "worker_synthesizer").sample_rate == 24000


@SOME
@given(st.sampled_from(sorted(GOOD)), VALUES, st.booleans())
def test_no_hello_is_believed_blindly(name, value, within_spec):
    said = {**GOOD, "spec": {**GOOD["spec"], "hop_length": value}} if within_spec else {**GOOD, name: value}
    try:
        hello = read_hello(said, "worker_codec")
    except wire.Malformed:
        return
    assert hello.sample_rate > 0
    assert hello.kind in ("codec", "synthesizer")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"protocol": 2}, "speaks protocol 2, this harness 1"),
        ({"name": ""}, "a name and a version"),
        ({"origin": "trained"}, "names no files of them"),
        ({"origin": "magic"}, "there are none, trained, random"),
        ({"tools": [["a"]]}, "pairs of words"),
        ({"spec": None}, "wants its spec"),
        ({"spec": {**GOOD["spec"], "colour": 1}}, "unknown entries: colour"),
        ({"spec": {**GOOD["spec"], "codebook_sizes": [1]}}, "codebook_sizes"),
        ({"kind": "toaster"}, "there are codec and synthesizer"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_a_hello_may_not_say(change, said):
    with pytest.raises(wire.Malformed, match=said):
        read_hello({**GOOD, **change}, "worker_codec")
