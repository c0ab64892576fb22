"""Resynthesis: quality, intelligibility, voice and bit rate of codecs."""

from __future__ import annotations

from collections.abc import Sequence

from harness.api import CodecSpec, Curve, Settings, SuiteInfo, Task

METRICS = ("pesq_wb", "stoi", "mcd_db", "wer", "cer", "sim_o", "mos", "emitted_bps")
FURTHER = (
    "pesq_nb", "estoi", "si_sdr_db", "si_sdr_aligned_db", "lag_samples", "log_mel_distance_db", "f0_rmse_cents", "voicing_error", "dwer",
    "intelligibility_probe", "level_rms_db", "level_lufs_db", "clipped_samples", "length_ratio", "nominal_bps", "entropy_bps", "side_bps",
    "codebook_use", "codebook_perplexity", "rtf", "rtf_encode", "rtf_decode",
)  # fmt: skip


class CodecSuite:
    """One prediction per codec and recording, measured by what is reported most; ``metrics=full`` measures all that a recording allows."""

    info = SuiteInfo(
        name="codec",
        title="Codec resynthesis",
        task=Task.RESYNTHESIS,
        systems=("passthrough", "opus16", "opus6", "qdac16", "socodec120", "noise"),
        metrics=METRICS,
        further=FURTHER,
        headline=("pesq_wb", "stoi", "mcd_db", "wer", "sim_o", "mos", "emitted_bps"),
        curves=(
            Curve("Quality against bit rate", x="emitted_bps", y=("pesq_wb", "stoi", "mcd_db"), log_x=True),
            Curve("Intelligibility and voice against bit rate", x="emitted_bps", y=("wer", "sim_o"), log_x=True),
        ),
        calibration=("same_speaker", "impostor"),
    )

    def variants(self, spec: CodecSpec | None) -> Sequence[Settings]:
        return [{}]
