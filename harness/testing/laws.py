"""How a broken law is reported, and what is expected of every result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from harness.api import Audio, SystemInfo

T = TypeVar("T")


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
