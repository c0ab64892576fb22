"""The laws of recorded outputs."""

from __future__ import annotations

from collections.abc import Sequence

from harness.api import Audio, MissingOutput, Recorded, RecordedFiles
from harness.data.audio import read_recording
from harness.testing.laws import ContractReport, Laws, expect, expect_info, expect_kind

HOSTILE_IDS = ("", ".", "..", "../outside", "../../etc/passwd", "/etc/passwd", "a\x00b", "a\nb", "*", "{id}", "{0.__class__}", "x" * 300)


def check_recorded(recorded: Recorded | RecordedFiles, item_ids: Sequence[str], absent_id: str = "no-such-item") -> ContractReport:
    """Check every law of a recorded system.

    Args:
        recorded: to check.
        item_ids: ids it has outputs for, at least one.
        absent_id: an id it has none for.

    Raises:
        BrokenLaw: a law is broken.
    """
    if not item_ids:
        raise ValueError("check_recorded needs at least one id with an output")
    laws = Laws(type(recorded).__name__)
    with laws.law("declaration"):
        expect(isinstance(recorded, (Recorded, RecordedFiles)), "a recorded system has info, and recall or locate")
        expect_info(recorded)
    with laws.law("recall"):
        first = {}
        for item in item_ids:
            first[item] = expect_kind(_output(recorded, item), Audio, f"recall('{item}')").digest()
    with laws.law("determinism"):
        for item in reversed(item_ids):
            expect(_output(recorded, item).digest() == first[item], f"recalling '{item}' again gave other audio")
    with laws.law("missing output"):
        _refuses(recorded, absent_id)
    with laws.law("hostile ids"):
        for item in HOSTILE_IDS:
            _refuses(recorded, item)
    return laws.report()


def _output(recorded: Recorded | RecordedFiles, item: str) -> Audio:
    """As the harness takes it."""
    return read_recording(recorded.locate(item)).audio if isinstance(recorded, RecordedFiles) else recorded.recall(item)


def _refuses(recorded: Recorded | RecordedFiles, item: str) -> None:
    try:
        audio = _output(recorded, item)
    except MissingOutput:
        return
    expect(False, f"recall({item[:40]!r}) gave {audio.num_samples} samples instead of raising MissingOutput")
