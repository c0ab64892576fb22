"""How a broken law is reported, what is expected of every result, and test signals that sound enough like speech."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from harness.api import Audio, Signal, SystemInfo

T = TypeVar("T")


class BrokenLaw(AssertionError):
    """A plug-in breaks its contract: ``law`` is the short name ("length"), ``sentence`` what was seen of ``subject``, with figures."""

    def __init__(self, subject: str, law: str, sentence: str) -> None:
        super().__init__(f"{subject} breaks the law '{law}': {sentence}")
        self.subject, self.law, self.sentence = subject, law, sentence


@dataclass(frozen=True)
class ContractReport:
    """What a check looked at."""

    subject: str
    checked: tuple[str, ...]  # laws that hold
    skipped: tuple[tuple[str, str], ...]  # laws that do not apply here, with the reason


class Laws:
    """Collects the laws of one check of ``subject``, which every message names."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self._checked: list[str] = []
        self._skipped: list[tuple[str, str]] = []

    @contextmanager
    def law(self, name: str) -> Iterator[None]:
        """The block must run through: any exception inside is a breach of this law, with the exception in the sentence."""
        try:
            yield
        except BrokenLaw:
            raise
        except _Unmet as unmet:
            raise BrokenLaw(self.subject, name, str(unmet)) from None
        except Exception as error:
            raise BrokenLaw(self.subject, name, f"{type(error).__name__}: {error}") from error
        self._checked.append(name)

    def skip(self, name: str, reason: str) -> None:
        """Note that a law was not looked at."""
        self._skipped.append((name, reason))

    def report(self) -> ContractReport:
        return ContractReport(self.subject, tuple(self._checked), tuple(self._skipped))


class _Unmet(Exception):
    pass


def expect(condition: object, sentence: str) -> None:
    """Inside ``with laws.law(...)``: fail it with a sentence unless the condition holds."""
    if not condition:
        raise _Unmet(sentence)


def expect_kind(found: object, kind: type[T], what: str) -> T:
    """``found`` if it is of a class."""
    expect(isinstance(found, kind), f"{what} should be {kind.__name__}, got {type(found).__name__}")
    assert isinstance(found, kind)
    return found


def expect_alike(wanted: Audio, found: Audio, tolerance: float, what: str) -> None:
    """Two waveforms of one rate and shape that nowhere differ by more than ``tolerance``."""
    same = wanted.sample_rate == found.sample_rate and wanted.samples.shape == found.samples.shape
    worst = float(np.abs(wanted.samples - found.samples).max(initial=0.0)) if same else float("inf")
    expect(worst <= tolerance, f"{what} differs by {worst:.3g} (allowed {tolerance:g})")


def expect_audio(found: object, sample_rate: int, what: str, num_samples: int | None = None) -> Audio:
    """``found`` if it is Audio, mono, finite, at ``sample_rate`` and, where one is asked for, of a length."""
    audio = expect_kind(found, Audio, what)
    expect(audio.sample_rate == sample_rate, f"{what} should be at {sample_rate} Hz, got {audio.sample_rate} Hz")
    expect(audio.num_channels == 1, f"{what} should have one channel, got {audio.num_channels}")
    bad = int(audio.samples.size - np.isfinite(audio.samples).sum())
    expect(bad == 0, f"{what} has {bad} NaN or Inf among {audio.samples.size} samples")
    wanted = audio.num_samples if num_samples is None else num_samples
    expect(audio.num_samples == wanted, f"{wanted} samples went in, {audio.num_samples} came out ({what})")
    return audio


def expect_info(system: Any) -> None:
    """The ``info`` of a system, if it identifies it."""
    info = expect_kind(system.info, SystemInfo, "info")
    expect(info.family and info.version, f"info needs a family and a version, got family {info.family!r} and version {info.version!r}")
    expect(info.num_parameters >= 0, f"info.num_parameters is {info.num_parameters}")
    pairs = all(isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(word, str) for word in pair) for pair in info.tools)
    expect(pairs, f"info.tools should be pairs of strings, got {info.tools!r}")
    expect(system.info == info, "info should be the same at every look")


# -- signals: voiced pulses through formants, fricatives and pauses; seeded, numpy only ---------------------------------------------

_VOWELS_HZ = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410), (660, 1720, 2410))
"""First three formants of six vowels, rounded means of men's voices as commonly tabulated (Peterson and Barney, 1952)."""


def speechlike(duration_s: float = 1.5, sample_rate: int = 16000, seed: int = 0, rms: float = 0.07) -> Audio:
    """A babble of syllables: 110-200 Hz glottal pulses with a moving pitch, six vowels, fricative bursts, pauses.

    Args:
        duration_s: of the whole, at least 0.
        sample_rate: in Hz, 8000 or more.
        seed: same seed, same signal.
        rms: level of the whole, full scale 1.
    """
    rng = np.random.default_rng(seed)
    count = round(duration_s * sample_rate)
    out = np.zeros(count)
    at = round(0.05 * sample_rate)
    while at < count:
        if rng.random() < 0.4:
            at = _add(out, at, _fricative(rng, sample_rate))
        at = _add(out, at, _vowel(rng, sample_rate))
        if rng.random() < 0.25:
            at += round(rng.uniform(0.08, 0.2) * sample_rate)
    level = float(np.sqrt(np.mean(out**2))) if count else 0.0
    # A faint noise floor, as any recording has: digital silence between the syllables is an input of its own.
    out = out * (rms / level if level else 0.0) + rng.normal(0.0, 1e-4, count)
    return Audio.mono(out, sample_rate)


def noisy(audio: Audio, snr_db: float, seed: int = 0) -> Audio:
    """``audio`` with white noise at ``snr_db`` below its RMS level."""
    level = float(np.sqrt(np.mean(np.square(audio.samples, dtype=np.float64))))
    noise = np.random.default_rng(seed).normal(0.0, level * 10 ** (-snr_db / 20), audio.samples.shape)
    return Audio((audio.samples + noise).astype(np.float32), audio.sample_rate)


def silence(num_samples: int, sample_rate: int) -> Audio:
    """Digital silence."""
    return Audio(np.zeros((1, num_samples), dtype=np.float32), sample_rate)


def signal(audio: Audio) -> Signal:
    """``audio`` as metrics see it, with the harness's resampler."""
    from harness.data.audio import resample

    return Signal(audio, resample)


def _add(out: npt.NDArray[np.float64], at: int, part: npt.NDArray[np.float64]) -> int:
    room = max(0, min(part.size, out.size - at))
    out[at : at + room] += part[:room]
    return at + part.size


def _vowel(rng: np.random.Generator, sample_rate: int) -> npt.NDArray[np.float64]:
    count = round(rng.uniform(0.09, 0.22) * sample_rate)
    pitch_hz = np.linspace(rng.uniform(110, 200), rng.uniform(110, 200), count)
    phase = np.cumsum(pitch_hz / sample_rate)
    pulses = np.diff(np.floor(phase), prepend=0.0)
    seconds = np.arange(round(0.04 * sample_rate)) / sample_rate
    formants = _VOWELS_HZ[int(rng.integers(len(_VOWELS_HZ)))]
    response = sum(
        gain * np.exp(-np.pi * width * seconds) * np.sin(2 * np.pi * hz * seconds)
        for hz, width, gain in zip(formants, (80.0, 110.0, 160.0), (1.0, 0.5, 0.25), strict=True)
    )
    envelope = np.sin(np.pi * np.linspace(0, 1, count)) ** 0.5
    return np.convolve(pulses, np.asarray(response))[:count] * envelope * rng.uniform(0.5, 1.0)


def _fricative(rng: np.random.Generator, sample_rate: int) -> npt.NDArray[np.float64]:
    count = round(rng.uniform(0.05, 0.1) * sample_rate)
    hiss = np.diff(rng.normal(0.0, 1.0, count + 1))  # a first difference tilts white noise towards the top
    return hiss * np.sin(np.pi * np.linspace(0, 1, count)) * 0.06
