"""What semantic features bring, decoded or spoken through: mel input, HuBERT input, HuBERT input and target (SoCodec, Table 2)."""

from __future__ import annotations

from collections.abc import Sequence

from harness.api import CodecSpec, Curve, Settings, SuiteInfo, Task
from suites.resynthesis import METRICS as RESYNTHESIS
from suites.synthesis import CALIBRATION
from suites.synthesis import METRICS as SYNTHESIS


class SemanticAblationSuite:
    """One prediction per codec and recording, of codecs that differ in input features and semantic loss.

    Codec-1 takes the mel spectrogram and Codec-2 the semantic features, neither with the semantic loss; SoCodec has both. The
    table's other half is `SemanticAblationTtsSuite`.
    """

    @property
    def info(self) -> SuiteInfo:
        return SuiteInfo(
            name="semantic_ablation",
            title="Semantic features and loss in analysis-synthesis",
            task=Task.RESYNTHESIS,
            systems=("socodec120_codec1", "socodec120_codec2", "socodec120"),
            metrics=RESYNTHESIS,
            headline=("mcd_db", "cer", "sim_o", "dwer", "mos", "codebook_use", "emitted_bps"),
            curves=(Curve("Words against voice", x="sim_o", y=("cer", "mcd_db")),),
            calibration=("same_speaker", "impostor"),
        )

    def variants(self, spec: CodecSpec | None) -> Sequence[Settings]:
        return [{}]


class SemanticAblationTtsSuite:
    """One utterance per system, item and seed, of language models trained alike on the codes of Codec-1, Codec-2 and SoCodec."""

    @property
    def info(self) -> SuiteInfo:
        return SuiteInfo(
            name="semantic_ablation_tts",
            title="Semantic features and loss under a language model",
            task=Task.SYNTHESIS,
            systems=("socodec120_codec1_tts", "socodec120_codec2_tts", "socodec120_tts"),
            metrics=SYNTHESIS,
            headline=("cer", "wer", "intelligibility_probe", "sim_o", "stopped_by_itself"),
            curves=(Curve("Words against voice", x="sim_o", y=("cer", "wer")),),
            calibration=CALIBRATION,
        )

    def variants(self, spec: CodecSpec | None) -> Sequence[Settings]:
        return [{}]
