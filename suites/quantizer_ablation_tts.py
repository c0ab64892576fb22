"""SoCodec, Figure 5, under language models, with and without the paper's sampling; two of its three have to be trained first (systems/lm)."""

from __future__ import annotations

from dataclasses import replace

from harness.api import Curve
from suites.zero_shot import METRICS, ZeroShotSuite

TRAINED = ("socodec120_tts", "socodec120_pq_tts", "socodec120_rq_tts")


class QuantizerAblationTtsSuite(ZeroShotSuite):
    """One utterance per system, item and seed, of language models trained alike on the codes of codecs that differ in the quantizer.

    Each is asked twice: as the paper samples ("w/ SS": temperature, top-k, top-p, repetition penalty), and from the plain distribution
    (``<name>_plain``), where a codec whose later streams are harder to predict has nothing to lean on. Small models are guided by the text
    and read monotonically both times. The language models over plain product and residual codes do not come with the harness:
    `systems/lm/README.md` says how they are trained, `systems/LOG.md` what was measured.
    """

    info = replace(
        ZeroShotSuite.info,
        name="quantizer_ablation_tts",
        title="Quantizers under a language model",
        systems=(*TRAINED, *(f"{name}_plain" for name in TRAINED)),
        metrics=METRICS,
        headline=("cer", "wer", "intelligibility_probe", "sim_o", "stopped_by_itself"),
        curves=(Curve("Words against voice", x="sim_o", y=("cer", "wer")),),
    )
