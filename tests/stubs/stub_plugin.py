"""A plug-in whose systems and metrics misbehave on request: the fault tests put this folder on the path."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from harness.api import (
    Audio,
    Better,
    Bitstream,
    CodecSpec,
    Evidence,
    MetricInfo,
    MissingOutput,
    Need,
    NotScorable,
    Side,
    Speech,
    SuiteInfo,
    SystemInfo,
    Task,
)


class Echo:
    """A codec that gives back what it got, unless the input is ``at_samples`` long.

    Args:
        fault: "crash", "hang", "raise", "nan", "empty", "half", "silence", "dice" (random gain), "memory" (quieter each time) or "".
        at_samples: length of the inputs that trigger it; -1 for all.
        log: file that gets a line per encoded input.
        sleep_s: before each encoding.
    """

    def __init__(self, fault="", at_samples=-1, log="", sleep_s=0.0):
        self.fault, self.at_samples, self.log, self.sleep_s = fault, at_samples, log, sleep_s
        self.decoded = 0
        self.info = SystemInfo(family="stub_echo", version="1")
        self.spec = CodecSpec(sample_rate=16000, hop_length=320)

    def encode(self, audio):
        time.sleep(self.sleep_s)
        if self.log:
            with Path(self.log).open("a") as file:
                file.write(f"{audio.digest()}\n")
        return Bitstream((audio.samples.tobytes(),), audio.num_samples, 16000)

    def decode(self, encoded):
        samples = np.frombuffer(encoded.packets[0], dtype=np.float32).copy()
        if self.fault and self.at_samples in (-1, encoded.num_samples):
            if self.fault == "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            if self.fault == "hang":
                time.sleep(3600)
            if self.fault == "raise":
                raise RuntimeError("the decoder gave up")
            if self.fault == "nan":
                samples[3] = np.nan
            if self.fault == "empty":
                samples = samples[:0]
            if self.fault == "half":
                samples = samples[: samples.size // 2]
            if self.fault == "silence":
                samples[:] = 0
            if self.fault == "dice":
                samples *= np.random.default_rng().uniform(0.1, 1)
            if self.fault == "memory":
                samples *= 0.5**self.decoded
                self.decoded += 1
        return Audio.mono(samples, 16000)


class Voice:
    """A synthesizer whose speech is a tone: the text sets its length, the seed its pitch."""

    def __init__(self):
        self.info = SystemInfo(family="stub_voice", version="1")
        self.sample_rate = 16000

    def synthesize(self, utterance, seed):
        t = np.arange(1600 * max(1, len(utterance.text))) / 16000
        return Speech(Audio.mono(0.1 * np.sin(2 * np.pi * (200 + seed) * t), 16000))

    def stream(self, utterance, seed):
        audio = self.synthesize(utterance, seed).audio
        for start in range(0, audio.num_samples, 1600):
            yield Audio(audio.samples[:, start : start + 1600], 16000)


class Shelf:
    """Recorded outputs that lie in no file of their own: each is a constant whose level the file at ``place`` states."""

    def __init__(self, place):
        self.info, self._place = SystemInfo(family="stub_shelf", version="1"), Path(place)

    def recall(self, item_id):
        stated = self._place.read_text()
        if stated == "gone":
            raise MissingOutput("nothing on the shelf")
        return Audio.mono(np.full(8000, float(stated), dtype=np.float32), 16000)


class Peak:
    """Largest sample of the output; undefined on silence. Writes a line per measurement to the file named by STUB_LOG, if any."""

    info = MetricInfo("stub_peak", "1", "", Better.HIGHER, frozenset({Need.OUTPUT}), 16000, (0.0, 1.0), "largest sample")

    def measure(self, sample):
        if log := os.environ.get("STUB_LOG"):
            with Path(log).open("a") as file:
                file.write(f"{sample.item.id}/{sample.output.audio.digest()}\n")
        peak = float(np.abs(sample.output.at(16000)).max())
        if peak == 0:
            raise NotScorable(Side.OUTPUT, "silent")
        return Evidence(peak)


class Trouble:
    """Does what the item's text says: "crash", "hang", "raise" or "memory"; else 1."""

    info = MetricInfo("stub_trouble", "1", "", Better.HIGHER, frozenset({Need.OUTPUT, Need.TEXT}), None, (0.0, 1.0), "trouble on request")

    def measure(self, sample):
        wish = sample.item.text
        if wish == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if wish == "hang":
            time.sleep(3600)
        if wish == "raise":
            raise ZeroDivisionError("as asked")
        if wish == "memory":
            raise MemoryError
        return Evidence(1.0)


class SpeechSuite:
    """A synthesis task: every text is spoken, once per seed."""

    info = SuiteInfo("stub_speech", "Stub synthesis", Task.SYNTHESIS, ("stub_voice",), ("stub_peak", "rtf"), ("stub_peak",))

    def variants(self, spec):
        return [{}]
