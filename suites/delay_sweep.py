"""How far the streams of a language model should lie apart: the delay between them, from none to three frames (SoCodec, Figure 6)."""

from __future__ import annotations

from collections.abc import Sequence

from harness.api import CodecSpec, Curve, Settings, SuiteInfo, Task
from suites.synthesis import CALIBRATION, METRICS


class DelaySweepSuite:
    """One utterance per system, item and seed, of systems that differ in nothing but the delay.

    A delay is learnt and no setting of a run: each is a system of its own, ``<name>_d0``, ``<name>_d2`` ..., beside the plain name with a
    delay of 1, and the claims name them so. The paper trains a model for each; the bundled ones are one model that learnt all four in turn
    (`systems/lm/README.md`). Words (``cer``, ``wer``) are where the delay is expected to show, the voice is not;
    ``rtf`` holds the further steps that a longer pattern takes.
    """

    @property
    def info(self) -> SuiteInfo:
        return SuiteInfo(
            name="delay_sweep",
            title="Delay between the streams of a language model",
            task=Task.SYNTHESIS,
            systems=("socodec120_tts_d0", "socodec120_tts", "socodec120_tts_d2", "socodec120_tts_d3"),
            metrics=METRICS,
            headline=("cer", "wer", "intelligibility_probe", "sim_o", "stopped_by_itself", "rtf"),
            curves=(
                Curve(
                    "Words and voice against the delay between streams",
                    x="config.delay",
                    y=("cer", "wer", "intelligibility_probe", "sim_o"),
                ),
            ),
            calibration=CALIBRATION,
        )

    def variants(self, spec: CodecSpec | None) -> Sequence[Settings]:
        return [{}]
