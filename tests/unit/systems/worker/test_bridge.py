"""The bridge to a worker, with real processes: what travels, what is refused, how it is ended."""

import gc
import os
import select
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.api import Audio, Bitstream, Codes, MissingOutput, Utterance
from harness.testing import check_codec, check_synthesizer, speechlike
from systems.worker.adapters import WorkerCodec, WorkerSynthesizer
from systems.worker.bridge import WorkerError
from systems.worker.elsewhere import speech_worker as wire
from systems.worker.process import WORKERS, WorkerLost

SPEAKER = '''
import os
import numpy as np
import speech_worker

class Speaker:
    """A tone as long as the text, at a pitch of the seed's generator, as loud as the prompt."""
    sample_rate = 16000

    def __init__(self, weights="", noisy=False):
        origin = "trained" if weights else "none"
        self.about = speech_worker.About("speaker", "3", weights=(weights,) if weights else (), origin=origin, num_parameters=7)
        self.noisy = noisy

    def stream(self, request):
        if self.noisy:
            print("printed")
            os.system("echo shouted by a child")
        if request.text == "environment":
            yield np.array([len(os.environ.get(n, "")) for n in ("OMP_NUM_THREADS", "MARK", "PYTHONHOME", "SPEECH_WORKER_FDS")], float)
            return
        loud = float(np.abs(request.prompt).max()) if request.prompt is not None else 0.1
        tone = loud * np.sin(np.arange(1600 * len(request.text.split())) * np.random.default_rng(np.random.randint(9)).uniform(0.1, 0.2))
        for start in range(0, tone.size, 1600):
            yield tone[start : start + 1600]

    def synthesize(self, request):
        return speech_worker.Speech(np.concatenate(list(self.stream(request))), "end")

speech_worker.serve(Speaker)
'''

BYTES = """
import numpy as np
import speech_worker

class Halves:
    spec = {"sample_rate": 16000, "hop_length": 160}

    def __init__(self, side=False):
        self.side = side
        self.about = speech_worker.About("halves", "1", origin="none")
        if side:
            self.spec = {"sample_rate": 16000, "hop_length": 160, "codebook_sizes": [4]}

    def encode(self, samples):
        if self.side:
            return speech_worker.Codes(np.zeros((1, -(-samples.size // 160)), int), {"voice": samples.astype("<f8")})
        data = samples.astype("<f2").tobytes()
        return speech_worker.Bitstream([data[i : i + 320] for i in range(0, len(data), 320)])

    def decode(self, encoded, num_samples):
        if self.side:
            return encoded.side["voice"]
        return np.frombuffer(b"".join(encoded.packets), "<f2")

speech_worker.serve(Halves)
"""

RAW = """
import os, sys, time
import numpy as np
import speech_worker as wire

reading, writing = map(int, os.environ["SPEECH_WORKER_FDS"].split(","))
pipe = os.fdopen(reading, "rb", buffering=0)

def asked():
    head = wire.read_head(pipe.read(16))
    left, body = head.json_bytes + head.data_bytes, b""
    while len(body) < left:
        body += pipe.read(left - len(body))
    return wire.unpack(head, body).fields

def answer(fields, audio=np.ones(100, np.float32), more=b"", name="audio"):
    os.write(writing, wire.pack(fields, {name: audio} if "piece" in fields["op"] or "speech" in fields["op"] else {}) + more)

hello = asked()
wish, log = hello["parameters"]["wish"], hello["parameters"]["log"]
starts = open(log, "a+")
starts.write("x"); starts.flush(); starts.seek(0)
first = len(starts.read()) == 1
version = "1" if wish != "another" or first else "2"
if wish == "silent":
    time.sleep(3600)
answer({"op": "hello", "id": hello["id"], "protocol": 1, "kind": "synthesizer", "name": "raw", "version": version, "description": "",
        "origin": "none", "weights_digest": "", "num_parameters": 0, "training_data": "", "device": "cpu", "precision": "float32",
        "tools": [], "sample_rate": 16000, "spec": None, "streams": True})
if wish == "deaf":
    time.sleep(3600)
while True:
    fields = asked()
    if fields["text"] == "good":
        answer({"op": "speech", "id": fields["id"]})
    elif wish == "surplus":
        answer({"op": "speech", "id": fields["id"]}, more=b"extra")
    elif wish == "number":
        answer({"op": "speech", "id": 12345})
    elif wish == "op":
        answer({"op": "dance", "id": fields["id"]})
    elif wish == "nameless":
        answer({"op": "speech", "id": fields["id"]}, name="sound")
    elif wish == "double":
        answer({"op": "speech", "id": fields["id"]}, audio=np.ones((2, 50)))
    elif wish == "afterwards":
        answer({"op": "speech", "id": fields["id"]})
        if first:
            time.sleep(0.2)
            os.write(writing, b"Done.")
    elif wish == "another":
        sys.exit(4)
    elif wish == "child":  # the pipe stays open in a child when the worker dies
        if os.fork():
            os._exit(5)
        time.sleep(3600)
"""


@pytest.fixture
def built(tmp_path, monkeypatch):
    """Builds an adapter around a script and ends it after the test."""
    monkeypatch.setattr("systems.worker.process._POLITE_S", 0.5)  # deaf workers are no sooner ended for being waited for
    made = []

    def build(kind, script, **options):
        path = tmp_path / "it_worker.py"
        path.write_text(script)
        made.append(kind(python=sys.executable, worker=str(path), **options))
        return made[-1]

    yield build
    for system in made:
        system.close()


def say(system, text, prompt=None, seed=0):
    return system.synthesize(Utterance(text, "en", prompt), seed)


def test_a_synthesizer_keeps_the_laws_and_streams(built):
    system = built(WorkerSynthesizer, SPEAKER)
    report = check_synthesizer(system, factory=lambda: built(WorkerSynthesizer, SPEAKER))
    assert {"determinism", "fresh instance", "stream"} <= set(report.checked)
    assert len(list(system.stream(Utterance("one two three", "en"), 0))) == 3
    assert say(system, "one", seed=1).audio.digest() != say(system, "one", seed=3).audio.digest()
    stereo = Audio(np.stack([np.full(100, 0.5), np.full(100, 0.1)]), 8000)
    assert np.abs(say(system, "one", stereo).audio.samples).max() == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("side", [False, True])
def test_packets_and_side_information_travel(built, side):
    codec = built(WorkerCodec, BYTES, parameters={"side": side})
    check_codec(codec, audios=[speechlike(0.2, 16000, 1), speechlike(0.15, 16000, 2)], tolerance=1e-3)
    encoded = codec.encode(Audio.mono(np.zeros(0), 16000))
    assert encoded.side["voice"].dtype == np.float64 if side else encoded.packets == ()
    assert isinstance(encoded, Codes if side else Bitstream)


def test_the_bundled_codec_runs_as_it_is():
    codec = WorkerCodec(python=sys.executable, worker="mulaw", parameters={"sample_rate": 8000})
    check_codec(codec, audios=[speechlike(0.2, 8000, 1), speechlike(0.15, 8000, 2)])
    with pytest.raises(ValueError, match="wants 8000 Hz, got 16000"):
        codec.encode(speechlike(0.1, 16000))
    assert codec.spec.nominal_bps == 64000
    codec.close()


def test_an_abandoned_stream_leaves_nothing_behind(built):
    system = built(WorkerSynthesizer, SPEAKER)
    pieces = system.stream(Utterance("one two three four", "en"), 0)
    next(pieces)
    pieces.close()
    assert say(system, "one").audio.num_samples == 1600


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ("surplus", "sent 5 bytes unasked: b'extra'; it was started again"),
        ("number", "answered request 12345, asked was"),
        ("op", "answered synthesize with 'dance'"),
        ("another", "ended with exit code 4 during synthesize; started again it was another system, so it was ended"),
        ("child", "ended with exit code 5"),
    ],
)
def test_a_worker_that_breaks_the_protocol_is_replaced(built, tmp_path, wish, said):
    system = built(WorkerSynthesizer, RAW, parameters={"wish": wish, "log": str(tmp_path / "starts")}, timeout_s=5)
    assert say(system, "good").audio.num_samples == 100
    with pytest.raises(WorkerLost, match=said):
        say(system, "bad")
    if wish != "another":
        assert say(system, "good").audio.num_samples == 100


@pytest.mark.parametrize("wish", ["nameless", "double"])
def test_an_answer_without_audio_is_an_error_of_its_item(built, tmp_path, wish):
    system = built(WorkerSynthesizer, RAW, parameters={"wish": wish, "log": str(tmp_path / "starts")})
    with pytest.raises(WorkerError, match="without audio of float32"):
        say(system, "bad")
    assert say(system, "good").audio.num_samples == 100
    assert (tmp_path / "starts").read_text() == "x"


def test_what_comes_unasked_between_requests_is_noticed_before_the_next(built, tmp_path):
    system = built(WorkerSynthesizer, RAW, parameters={"wish": "afterwards", "log": str(tmp_path / "starts")})
    say(system, "bad")
    assert select.select([system._bridge._held[0]._from_worker], [], [], 20)[0]
    with pytest.raises(WorkerLost, match=r"unasked: b'Done\.'"):
        say(system, "good")
    assert say(system, "good").audio.num_samples == 100


def test_a_worker_that_does_not_read_or_never_says_hello_is_not_waited_for(built, tmp_path):
    parameters = {"wish": "deaf", "log": str(tmp_path / "starts")}
    system = built(WorkerSynthesizer, RAW, parameters=parameters, timeout_s=0.5)
    with pytest.raises(WorkerLost, match=r"did not read its request within 0\.5 s"):
        say(system, "long", Audio.mono(np.zeros(1_000_000), 48000))
    with pytest.raises(WorkerLost, match=r"did not answer within 0\.5 s of hello"):
        built(WorkerSynthesizer, RAW, parameters={**parameters, "wish": "silent"}, start_timeout_s=0.5)


def test_what_is_printed_never_reaches_the_protocol(built):
    for via in ([], ["env"]):  # pipes of its own; standard streams
        system = built(WorkerSynthesizer, SPEAKER, parameters={"noisy": True}, via=via)
        assert say(system, "one two").audio.num_samples == 3200
        assert [piece.num_samples for piece in system.stream(Utterance("one two", "en"), 0)] == [1600, 1600]


def test_a_banner_on_the_standard_output_is_shown(built):
    with pytest.raises(WorkerLost, match="not a frame: it begins with b'Welcome to the cluster"):
        built(WorkerSynthesizer, SPEAKER, via=["sh", "-c", 'echo Welcome to the cluster; exec "$0" "$@"'])


def test_another_version_of_the_protocol_is_refused(built, tmp_path):
    (tmp_path / "speech_worker.py").write_text((WORKERS / "speech_worker.py").read_text().replace("PROTOCOL = 1", "PROTOCOL = 2"))
    with pytest.raises(WorkerLost, match="speaks protocol 2, the harness 1: copy the harness's file"):
        built(WorkerSynthesizer, SPEAKER)


def test_the_other_environment_is_its_own(built, monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    system = built(WorkerSynthesizer, SPEAKER, environment={"MARK": "four"})
    assert list(say(system, "environment").audio.samples[0]) == [1, 4, 0, 0]


def test_outputs_are_keyed_by_script_and_weights(built, tmp_path):
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "a.bin").write_bytes(b"1")
    first = built(WorkerSynthesizer, SPEAKER, parameters={"weights": str(weights)}).info
    (weights / "a.bin").write_bytes(b"2")
    second = built(WorkerSynthesizer, SPEAKER, parameters={"weights": str(weights)}).info
    third = built(WorkerSynthesizer, SPEAKER + "# changed\n", parameters={"weights": str(weights)}).info
    assert len({(i.weights_digest, i.tools) for i in (first, second, third)}) == 3
    assert (first.num_parameters, first.weights, first.device) == (7, "trained", "worker:cpu")
    assert (second.weights_digest, second.version) == (third.weights_digest, "1:3")


def test_the_worker_goes_with_its_system(tmp_path):
    system = WorkerCodec(python=sys.executable, worker="mulaw")
    pid = system._bridge._held[0]._process.pid
    del system
    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_worker_ends_over_words_that_are_no_frames(tmp_path):
    import subprocess

    command = [sys.executable, str(WORKERS / "mulaw_worker.py")]
    for said in (b"hello?\n" * 10, wire.pack({"op": "hello"})[:30], b""):
        done = subprocess.run(command, input=said, capture_output=True, timeout=30)
        assert done.stdout == b""
        assert (b"the harness sent what is no frame" in done.stderr) == bool(said)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"python": None, "worker": "xtts"}, "a Python environment of its own"),
        ({"python": "/no/such/python", "worker": "xtts"}, "is not a program"),
        ({"python": sys.executable, "worker": None}, "no worker"),
        ({"python": sys.executable, "worker": "nobody"}, "come with the harness: cosyvoice, f5tts, mulaw, valle, xtts"),
        ({"python": sys.executable, "worker": "mulaw", "via": ["no-such-program"]}, "first word of via"),
        ({"python": sys.executable, "worker": "mulaw", "via": "ssh host"}, "a list of words"),
    ],
    ids=range(6),
)
def test_what_cannot_be_started_is_said_without_starting_it(options, said):
    assert said in WorkerCodec.missing(**options)
    with pytest.raises(RuntimeError):
        WorkerCodec(**options)


def test_impossible_times_are_refused():
    with pytest.raises(ValueError, match="positive"):
        WorkerCodec(python=sys.executable, worker="mulaw", timeout_s=0)


def test_a_refusal_is_no_failure_of_the_worker(built):
    script = SPEAKER.replace("    def synthesize(self, request):\n", "    def synthesize(self, request):\n        request.prompt_file()\n")
    system = built(WorkerSynthesizer, script)
    with pytest.raises(MissingOutput, match="no voice prompt"):
        say(system, "one")
    assert say(system, "one", speechlike(0.1, 16000)).stop_reason == "end"
    folder = Path(system._bridge._held[0]._folder.name)
    assert folder.is_dir()
    assert list(folder.iterdir()) == []  # the prompt's file goes with its request
    system.close()
    assert not folder.exists()
