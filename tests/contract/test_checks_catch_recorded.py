"""The check of recorded outputs: a sound one passes, and for every law there is a broken one that it catches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from harness.api import Audio, MissingOutput, SystemInfo
from harness.testing import BrokenLaw, check_recorded


class SoundRecorded:
    info = SystemInfo(family="recorded", version="1")

    def recall(self, item_id: str) -> Audio:
        if item_id not in ("a", "b"):
            raise MissingOutput(item_id)
        return Audio.mono(np.full(10, ord(item_id) / 200), 16000)


class GivesSilence(SoundRecorded):
    def recall(self, item_id: str) -> Audio:
        return super().recall(item_id) if item_id in ("a", "b") else Audio.mono(np.zeros(10), 16000)


class LeaksKeyError(SoundRecorded):
    def recall(self, item_id: str) -> Audio:
        if "\x00" in item_id:
            raise ValueError("embedded null byte")
        return super().recall(item_id)


class RecallsAnother(SoundRecorded):
    calls = 0

    def recall(self, item_id: str) -> Audio:
        self.calls += 1
        return super().recall("ab"[self.calls % 2] if item_id in ("a", "b") else item_id)


@pytest.mark.parametrize(
    ("broken", "law"), [(GivesSilence, "missing output"), (LeaksKeyError, "hostile ids"), (RecallsAnother, "determinism")]
)
def test_a_broken_recorded_system_is_caught(broken: Callable[[], SoundRecorded], law: str) -> None:
    with pytest.raises(BrokenLaw) as caught:
        check_recorded(broken(), ["a", "b", "a"])
    assert caught.value.law == law, str(caught.value)


def test_a_sound_recorded_system_passes() -> None:
    assert "hostile ids" in check_recorded(SoundRecorded(), ["a", "b"]).checked
