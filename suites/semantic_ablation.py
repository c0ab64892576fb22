"""SoCodec, Table 2: semantic features and semantic loss in analysis-synthesis."""

from __future__ import annotations

from dataclasses import replace

from harness.api import Curve
from suites.codec import CodecSuite
from suites.quantizer_ablation import QuantizerAblationSuite


class SemanticAblationSuite(CodecSuite):
    """One prediction per codec and recording, of codecs that differ in input features and semantic loss.

    Codec-1 takes the mel spectrogram and Codec-2 the semantic features, neither with the semantic loss; SoCodec has both. The
    table's other half is `suites.semantic_ablation_tts`.
    """

    info = replace(
        QuantizerAblationSuite.info,
        name="semantic_ablation",
        title="Semantic features and loss in analysis-synthesis",
        systems=("socodec120_codec1", "socodec120_codec2", "socodec120"),
        headline=("mcd_db", "cer", "sim_o", "dwer", "mos", "codebook_use", "emitted_bps"),
        curves=(Curve("Words against voice", x="sim_o", y=("cer", "mcd_db")),),
        calibration=("same_speaker", "impostor"),
    )
