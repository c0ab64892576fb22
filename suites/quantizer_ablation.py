"""SoCodec, Figure 5: ordered, plain product and residual quantization in analysis-synthesis."""

from __future__ import annotations

from harness.api import Curve, SuiteInfo, Task
from suites.codec import CodecSuite

METRICS = (
    "mcd_db", "log_mel_distance_db", "stoi", "f0_rmse_cents", "cer", "wer", "dwer", "intelligibility_probe", "sim_o", "mos",
    "emitted_bps", "entropy_bps", "codebook_use", "codebook_perplexity",
)  # fmt: skip
"""Distortion, words, voice, opinion, and what the codes are used for."""


class QuantizerAblationSuite(CodecSuite):
    """One prediction per codec and recording, of codecs that differ in nothing but the quantizer.

    The figure also holds frames of 240 ms; those codecs join by name: ``systems=[socodec120,...,socodec240,...]``. Its other half is
    `suites.quantizer_ablation_tts`.
    """

    info = SuiteInfo(
        name="quantizer_ablation",
        title="Quantizers in analysis-synthesis",
        task=Task.RESYNTHESIS,
        systems=("socodec120", "socodec120_pq", "socodec120_rq"),
        metrics=METRICS,
        headline=("mcd_db", "cer", "dwer", "sim_o", "mos", "codebook_use", "emitted_bps"),
        curves=(
            Curve("Distortion and words against bit rate", x="emitted_bps", y=("mcd_db", "cer")),
            Curve("Distortion against the entropy of the codes", x="entropy_bps", y=("mcd_db", "cer")),
        ),
    )
