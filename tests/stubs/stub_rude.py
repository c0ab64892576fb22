"""The part of the stub plug-in that hurts others: it writes into what it is lent, changes the process and raises what nobody expects."""

import os
import random
import signal
import subprocess
import sys
import time
import warnings

import numpy as np

from harness.api import Audio, Better, CodecSpec, Codes, Evidence, MetricInfo, Need, NotScorable, SystemInfo
from harness.errors import StoreError


def write_plainly(sample):
    sample.output.audio.samples[:] *= 0.5


def write_after_a_flag(sample):
    sample.output.audio.samples.flags.writeable = True
    sample.output.audio.samples[:] *= 0.5


def write_through_the_base(sample):
    array = sample.output.audio.samples.base
    array.flags.writeable = True
    array[:] *= 0.5


def write_through_torch(sample):
    import torch

    for signal_ in (sample.output, sample.reference):
        torch.from_numpy(signal_.audio.samples).mul_(0.5 if signal_ is sample.output else 0.1)
        torch.from_numpy(signal_.at(8000)).zero_()


def replace_the_audio(sample):
    object.__setattr__(sample.output, "audio", Audio.mono(np.zeros(9000), 16000))


def poison_what_is_derived(sample):
    sample.reference.derive(("at", 16000), lambda: np.zeros(8000, np.float32))


def change_the_item(sample):
    object.__setattr__(sample.item, "text", "quite another")


def change_the_process(sample):
    import torch

    np.seterr(all="raise")
    np.random.seed(0)
    random.seed(0)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    os.chdir("/")
    os.environ["LC_ALL"] = "xx"
    warnings.simplefilter("error")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdout = None


class UnspeakableError(Exception):
    def __str__(self):
        raise RuntimeError("no")


class LocalError(Exception):
    def __init__(self, one, two):
        super().__init__(one)

    def __reduce__(self):
        raise TypeError("no pickle")


class Endless(BaseException):
    pass


def throw(error):
    def deed(sample):
        raise error

    return deed


def give(make):
    def deed(sample):
        return make()

    return deed


DEEDS = {
    "write": write_plainly,
    "flag": write_after_a_flag,
    "base": write_through_the_base,
    "torch": write_through_torch,
    "replace": replace_the_audio,
    "poison": poison_what_is_derived,
    "item": change_the_item,
    "process": change_the_process,
    "exit": throw(SystemExit(0)),
    "ctrl-c": throw(KeyboardInterrupt()),
    "generator": throw(GeneratorExit()),
    "stop": throw(StopIteration()),
    "base exception": throw(Endless("own")),
    "store": throw(StoreError("the disk is full, it says")),
    "surrogate": throw(ValueError("bad \ud800 text\0")),
    "long": throw(ValueError("x" * 50_000_000)),
    "unspeakable": throw(UnspeakableError()),
    "local": throw(LocalError(1, 2)),
    "undefined": throw(NotScorable("nobody", "bad \ud800 text")),
    "float": give(lambda: 1.0),
    "none": give(lambda: None),
    "array": give(lambda: Evidence(np.ones(2))),
    "object": give(lambda: Evidence(1.0, detail={"x": object()})),
    "nan": give(lambda: Evidence(1.0, counts={"x": float("nan")})),
    "words": give(lambda: Evidence(1.0, detail={"heard": "bad \ud800 text\0"})),
    "long words": give(lambda: Evidence(1.0, detail={"heard": "x" * 50_000_000})),
    "many words": give(lambda: Evidence(1.0, detail={f"word {i}": "x" * 1000 for i in range(2000)})),
    "numpy": give(
        lambda: Evidence(
            np.float32(1.0),
            np.array(2.0),
            {"n": np.int64(3), "b": np.bool_(True)},
            {"ok": np.bool_(True), "n": np.int64(3), "w": np.str_("x")},
        )
    ),
    "closerange": lambda sample: os.closerange(3, 4096),
    "closerange and sleep": lambda sample: (os.closerange(0, 4096), time.sleep(3600)),
    "close stdout": lambda sample: sys.stdout.close(),
    "close 1 and 2": lambda sample: os.closerange(1, 3),
    "close a duplicate": lambda sample: os.close(os.dup(1)),
    "child": lambda sample: subprocess.Popen(["sleep", "3600"]) and None,
    "child of its own session": lambda sample: subprocess.Popen(["sleep", "3600"], start_new_session=True) and None,
    "child and crash": lambda sample: (subprocess.Popen(["sleep", "3600"], start_new_session=True), os.kill(os.getpid(), signal.SIGSEGV)),
    "child and hang": lambda sample: (subprocess.Popen(["sleep", "3600"], start_new_session=True), time.sleep(3600)),
    "leave": lambda sample: os._exit(0),
}


class Rude:
    """Does what the item's text says; then it gives the level of the output."""

    info = MetricInfo("stub_rude", "1", "", Better.HIGHER, frozenset({Need.OUTPUT, Need.TEXT}), None, (0.0, 1.0), "harm on request")

    def measure(self, sample):
        level = float(np.abs(sample.output.audio.samples).max())
        found = DEEDS[sample.item.text](sample) if sample.item.text in DEEDS else None
        return Evidence(level) if found is None and sample.item.text != "none" else found


class RudeCodec:
    """Gives back what it got; ``deed`` says what it does besides.

    Args:
        deed: "write" into the audio and the codes through torch, "buffer" (one output buffer for all), "object" side information,
            "type" (no audio), "process", "store", or "" for a good one.
    """

    def __init__(self, deed=""):
        self.deed = deed
        self.info = SystemInfo(family="stub_rude_codec", version=f"1 {deed}")
        self.spec = CodecSpec(sample_rate=16000, hop_length=np.int64(1), codebook_sizes=(65536,))
        self.buffer = np.zeros(1 << 20, np.float32)

    def encode(self, audio):
        if self.deed == "store":
            raise StoreError("the disk is full, it says")
        if self.deed == "process":
            change_the_process(None)
        indices = np.round(audio.samples * 32767).astype(np.int64) + 32768
        if self.deed == "write":
            import torch

            torch.from_numpy(audio.samples).mul_(0.5)
        side = {"x": np.array([object()], dtype=object)} if self.deed == "object" else {}
        return Codes(indices, self.spec, np.int64(audio.num_samples), side)

    def decode(self, encoded):
        if self.deed == "type":
            return encoded.indices
        made = (encoded.indices[0] - 32768).astype(np.float32) / 32767
        if self.deed == "write":
            import torch

            torch.from_numpy(encoded.indices).zero_()
        out = self.buffer[: made.size]
        out[:] = made
        return Audio.mono(out, 16000)
