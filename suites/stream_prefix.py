"""SoCodec, Figure 4: mel-cepstral distortion and character errors from the first b streams; suite.counts=[1,2] or all."""

from __future__ import annotations

from dataclasses import replace

from harness.api import Curve
from suites.codebook_sweep import CodebookSweepSuite, every

METRICS = (
    "mcd_db", "log_mel_distance_db", "stoi", "cer", "wer", "dwer", "intelligibility_probe", "sim_o", "emitted_bps", "entropy_bps",
    "codebook_use", "codebook_perplexity", "last_codebook_use",
)  # fmt: skip


class StreamPrefixSuite(CodebookSweepSuite):
    """One prediction per recording and number of streams, each codec decoded from its first b streams only.

    In an ordered codec the first streams carry most and each further one refines; in an unordered one every stream is needed. How a
    codec decodes a prefix is its own affair: missing streams are zeros (product quantization) or a partial sum (residual). ``counts`` is
    as in `CodebookSweepSuite`, but None is every number from 1.
    """

    info = replace(
        CodebookSweepSuite.info,
        name="stream_prefix",
        title="Reconstruction from the first streams",
        systems=("socodec120", "socodec120_pq", "socodec120_rq"),
        metrics=METRICS,
        headline=("mcd_db", "log_mel_distance_db", "cer", "dwer", "sim_o", "codebook_use", "emitted_bps"),
        curves=(
            Curve("Reconstruction from the first b streams", x="settings.codebooks", y=("mcd_db", "cer")),
            Curve("Spectrum, words and voice from the first b streams", x="settings.codebooks", y=("log_mel_distance_db", "dwer", "sim_o")),
            Curve("Reconstruction against bit rate", x="emitted_bps", y=("mcd_db", "cer"), log_x=True),
        ),
    )
    usual = staticmethod(every)
