"""Which quantizer is best: ordered, plain product and residual, decoded whole or spoken through by a language model (SoCodec, Figure 5)."""

from __future__ import annotations

from collections.abc import Sequence

from harness.api import CodecSpec, Curve, Settings, SuiteInfo, Task
from suites.resynthesis import METRICS as RESYNTHESIS
from suites.synthesis import CALIBRATION
from suites.synthesis import METRICS as SYNTHESIS


class QuantizerAblationSuite:
    """One prediction per codec and recording, of codecs that differ in nothing but the quantizer.

    The figure also holds frames of 240 ms; those codecs join by name: ``systems=[socodec120,...,socodec240,...]``. Its other half is
    `QuantizerAblationTtsSuite`.
    """

    @property
    def info(self) -> SuiteInfo:
        return SuiteInfo(
            name="quantizer_ablation",
            title="Quantizers in analysis-synthesis",
            task=Task.RESYNTHESIS,
            systems=("socodec120", "socodec120_pq", "socodec120_rq"),
            metrics=RESYNTHESIS,
            headline=("mcd_db", "cer", "dwer", "sim_o", "mos", "codebook_use", "emitted_bps"),
            curves=(
                Curve("Distortion and words against bit rate", x="emitted_bps", y=("mcd_db", "cer")),
                Curve("Distortion against the entropy of the codes", x="entropy_bps", y=("mcd_db", "cer")),
            ),
        )

    def variants(self, spec: CodecSpec | None) -> Sequence[Settings]:
        return [{}]


class QuantizerAblationTtsSuite:
    """One utterance per system, item and seed, of language models trained alike on the codes of codecs that differ in the quantizer.

    Each is asked twice: as the paper samples ("w/ SS": temperature, top-k, top-p, repetition penalty), and from the plain distribution
    (``<name>_plain``), where a codec whose later streams are harder to predict has nothing to lean on. Small models are guided by the text
    and read monotonically both times (`systems/lm/README.md`).
    """

    @property
    def info(self) -> SuiteInfo:
        trained = ("socodec120_tts", "socodec120_pq_tts", "socodec120_rq_tts")
        return SuiteInfo(
            name="quantizer_ablation_tts",
            title="Quantizers under a language model",
            task=Task.SYNTHESIS,
            systems=(*trained, *(f"{name}_plain" for name in trained)),
            metrics=SYNTHESIS,
            headline=("cer", "wer", "intelligibility_probe", "sim_o", "stopped_by_itself"),
            curves=(Curve("Words against voice", x="sim_o", y=("cer", "wer")),),
            calibration=CALIBRATION,
        )

    def variants(self, spec: CodecSpec | None) -> Sequence[Settings]:
        return [{}]
