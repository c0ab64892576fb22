"""SoCodec, Figure 6: words and voice against the delay between streams, each delay a system of its own."""

from __future__ import annotations

from dataclasses import replace

from harness.api import Curve
from suites.zero_shot import METRICS, ZeroShotSuite


class DelaySweepSuite(ZeroShotSuite):
    """One utterance per system, item and seed, of systems that differ in nothing but the delay.

    A delay is learnt and no setting of a run: each is a system of its own, ``<name>_d0``, ``<name>_d2`` ..., beside the plain name with a
    delay of 1, and the claims name them so. The paper trains a model for each; the bundled ones are one model that learnt all four in turn
    (`systems/lm/README.md`). Words (``cer``, ``wer``) are where the delay is expected to show, the voice is not;
    ``rtf`` holds the further steps that a longer pattern takes.
    """

    info = replace(
        ZeroShotSuite.info,
        name="delay_sweep",
        title="Delay between the streams of a language model",
        systems=("socodec120_tts_d0", "socodec120_tts", "socodec120_tts_d2", "socodec120_tts_d3"),
        metrics=METRICS,
        headline=("cer", "wer", "intelligibility_probe", "sim_o", "stopped_by_itself", "rtf"),
        curves=(
            Curve(
                "Words and voice against the delay between streams", x="config.delay", y=("cer", "wer", "intelligibility_probe", "sim_o")
            ),
        ),
    )
