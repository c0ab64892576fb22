"""Whatever a worker answers in well-formed frames, the adapters give audio or codes, or one of the errors that cost the item only."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.api import Audio, Bitstream, Codes, MissingOutput, Speech, Utterance
from systems.worker import bridge
from systems.worker.adapters import WorkerCodec, WorkerSynthesizer
from systems.worker.elsewhere import speech_worker as wire

SOME = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # other tests use the cores, too
ABOUT = {
    "op": "hello", "protocol": 1, "name": "n", "version": "1", "description": "", "origin": "none", "weights_digest": "", "num_parameters": 0,
    "training_data": "", "device": "cpu", "precision": "float32", "tools": [], "sample_rate": 16000, "streams": True,
    "spec": {"sample_rate": 16000, "hop_length": 4, "codebook_sizes": [8, 8]},
}  # fmt: skip


class Parrot:
    """In the place of a worker process: says hello, then what `answers` holds, the last of it again and again."""

    kind = "synthesizer"
    answers = ()
    name = "parrot"

    def __init__(self, launch):
        self.left = list(type(self).answers)

    def exchange(self, frame, timeout_s, doing):
        if frame:
            self.asked = wire.unpack(wire.read_head(frame), frame[wire.HEAD.size :]).fields
        if self.asked["op"] == "hello":
            return wire.Message({**ABOUT, "kind": self.kind, "id": self.asked["id"]}, {})
        fields, arrays = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        return wire.Message({"id": self.asked["id"], **fields}, arrays)

    def require_idle(self): ...
    def refuse_unasked(self): ...
    def kill(self): ...
    def close(self): ...
    def last_words(self):
        return ""


def adapter(kind, answers):
    patch = pytest.MonkeyPatch()
    patch.setattr(bridge, "WorkerProcess", type("Told", (Parrot,), {"kind": kind.kind, "answers": answers}))
    return SimpleNamespace(system=kind(python=sys.executable, worker="mulaw"), undo=patch.undo)


WORDS = st.text(max_size=5) | st.integers() | st.none()
ARRAY = st.sampled_from(wire.DTYPES).flatmap(lambda t: hnp.arrays(t, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)))
NAMES = st.sampled_from(["audio", "indices", "packets", "packet_bytes", "side:voice", "other"])
ANSWER = st.tuples(
    st.fixed_dictionaries(
        {"op": st.sampled_from(["speech", "piece", "end", "encoded", "error", "missing"]) | WORDS},
        optional={"id": WORDS, "message": WORDS, "type": WORDS, "trace": WORDS, "stop_reason": WORDS},
    ),
    st.dictionaries(NAMES, ARRAY, max_size=3),
)
COSTS_THE_ITEM = (RuntimeError, MissingOutput, ValueError)


@SOME
@given(ANSWER)
def test_any_answer_to_a_synthesis(answer):
    told = adapter(WorkerSynthesizer, [answer])
    try:
        speech = told.system.synthesize(Utterance("hello", "en"), 0)
        assert isinstance(speech, Speech)
        assert speech.audio.sample_rate == 16000
        assert isinstance(speech.stop_reason, str)
    except COSTS_THE_ITEM as error:
        assert str(error) or answer[0]["op"] == "missing"
    finally:
        told.undo()


@SOME
@given(st.lists(ANSWER, min_size=1, max_size=3))
def test_any_answers_to_a_stream(answers):
    told = adapter(WorkerSynthesizer, [*answers, ({"op": "end"}, {})])
    try:
        for audio in told.system.stream(Utterance("hello", "en"), 0):
            assert audio.num_channels == 1
    except COSTS_THE_ITEM:
        pass
    finally:
        told.undo()


@SOME
@given(ANSWER, st.sampled_from(["encode", "decode"]))
def test_any_answer_to_a_codec_request(answer, request_):
    told = adapter(WorkerCodec, [answer])
    codec = told.system
    try:
        if request_ == "encode":
            encoded = codec.encode(Audio.mono(np.zeros(16), 16000))
            assert isinstance(encoded, (Codes, Bitstream))
            assert encoded.num_samples == 16
        else:
            codes = Codes(np.zeros((2, 4), int), codec.spec, 16)
            assert codec.decode(codes).sample_rate == 16000
    except COSTS_THE_ITEM:
        pass
    finally:
        told.undo()
