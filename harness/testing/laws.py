"""How a broken law is reported, and what two results must share to count as equal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from harness.api import Audio, SystemInfo


class BrokenLaw(AssertionError):
    """A plug-in breaks its contract.

    Args:
        subject: what was checked, its class name usually.
        law: short name of the law ("length", "determinism" ...).
        sentence: what was seen, with figures.
    """

    def __init__(self, subject: str, law: str, sentence: str) -> None:
        super().__init__(f"{subject} breaks the law '{law}': {sentence}")
        self.subject, self.law, self.sentence = subject, law, sentence


@dataclass(frozen=True)
class ContractReport:
    """What a check looked at.

    Args:
        subject: what was checked.
        checked: laws that hold.
        skipped: laws that do not apply here, with the reason.
    """

    subject: str
    checked: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]


class Laws:
    """Collects the laws of one check.

    Args:
        subject: named in every message.
    """

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


def difference(left: Audio, right: Audio) -> float:
    """Largest absolute difference of two waveforms; infinite when rate or shape differ."""
    if left.sample_rate != right.sample_rate or left.samples.shape != right.samples.shape:
        return float("inf")
    return float(np.abs(left.samples - right.samples).max(initial=0.0))


def expect_audio(audio: object, sample_rate: int, what: str) -> Audio:
    """``audio`` if it is mono, finite and at ``sample_rate``."""
    expect(isinstance(audio, Audio), f"{what} should be Audio, got {type(audio).__name__}")
    assert isinstance(audio, Audio)
    expect(audio.sample_rate == sample_rate, f"{what} should be at {sample_rate} Hz, got {audio.sample_rate} Hz")
    expect(audio.num_channels == 1, f"{what} should have one channel, got {audio.num_channels}")
    bad = int(audio.samples.size - np.isfinite(audio.samples).sum())
    expect(bad == 0, f"{what} has {bad} NaN or Inf among {audio.samples.size} samples")
    return audio


def expect_info(info: object) -> SystemInfo:
    """``info`` if it identifies a system."""
    expect(isinstance(info, SystemInfo), f"info should be a SystemInfo, got {type(info).__name__}")
    assert isinstance(info, SystemInfo)
    expect(info.family and info.version, f"info needs a family and a version, got family {info.family!r} and version {info.version!r}")
    expect(info.num_parameters >= 0, f"info.num_parameters is {info.num_parameters}")
    pairs = all(isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(word, str) for word in pair) for pair in info.tools)
    expect(pairs, f"info.tools should be pairs of strings, got {info.tools!r}")
    return info
