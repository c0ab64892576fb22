"""How a synthesizer came to its end."""

from __future__ import annotations

from dataclasses import dataclass

from harness.api import Better, Evidence, MetricInfo, Need, NotApplicable, Sample

ENDED = "end"
"""The stop reason of a model that ended itself (`harness.api.Speech`)."""


@dataclass(frozen=True)
class StoppedByItself:
    """Share of outputs that the model ended itself. The others are runaways cut at the limit ("length"), or stopped by a word of the system's own.

    A runaway is still an output: it is heard and scored, and shows in the error rates as insertions.
    """

    @property
    def info(self) -> MetricInfo:
        return MetricInfo(
            name="stopped_by_itself",
            version="1",
            unit="%",
            better=Better.HIGHER,
            needs=frozenset({Need.STOP_REASON}),
            sample_rate=None,
            bounds=(0.0, 100.0),
            description="share of outputs that the model ended itself, the others were cut at a limit",
            worst=0.0,
            counted=True,
        )

    def measure(self, sample: Sample) -> Evidence:
        """100 or 0, counted by reason; a reason other than the end is kept.

        Raises:
            NotApplicable: nothing was synthesised, so nothing stopped.
        """
        reason = sample.stop_reason
        if not reason:
            raise NotApplicable("the system gives no stop reason")
        ended = reason == ENDED
        return Evidence(100.0 if ended else 0.0, counts={f"stop_{reason}": 1.0}, detail={} if ended else {"stop_reason": reason})
