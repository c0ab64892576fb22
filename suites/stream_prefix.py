"""What the first b streams carry: ordered, unordered and residual quantization beside each other (SoCodec, Figure 4)."""

from __future__ import annotations

from collections.abc import Sequence

from harness.api import CodecSpec, Curve, Settings, SuiteInfo, Task
from suites.prefixes import Counts, checked_counts, every, prefix_variants


class StreamPrefixSuite:
    """One prediction per recording and number of streams, each codec decoded from its first b streams only.

    In an ordered codec the first streams carry most and each further one refines; in an unordered one every stream is needed. How a
    codec decodes a prefix is its own affair: missing streams are zeros (product quantization) or a partial sum (residual).

    Args:
        counts: numbers of streams; those a codec does not have are left out. "all" or None is every number from 1.

    Raises:
        ValueError: ``counts`` is neither, or holds something else than whole numbers from 1.
    """

    def __init__(self, counts: Counts = None) -> None:
        self._counts = checked_counts(counts)

    @property
    def info(self) -> SuiteInfo:
        return SuiteInfo(
            name="stream_prefix",
            title="Reconstruction from the first streams",
            task=Task.RESYNTHESIS,
            systems=("socodec120", "socodec120_pq", "socodec120_rq"),
            metrics=(
                "mcd_db",
                "log_mel_distance_db",
                "stoi",
                "cer",
                "wer",
                "dwer",
                "intelligibility_probe",
                "sim_o",
                "emitted_bps",
                "entropy_bps",
                "codebook_use",
                "codebook_perplexity",
                "last_codebook_use",
            ),
            headline=("mcd_db", "log_mel_distance_db", "cer", "dwer", "sim_o", "codebook_use", "emitted_bps"),
            curves=(
                Curve("Reconstruction from the first b streams", x="settings.codebooks", y=("mcd_db", "cer")),
                Curve(
                    "Spectrum, words and voice from the first b streams", x="settings.codebooks", y=("log_mel_distance_db", "dwer", "sim_o")
                ),
                Curve("Reconstruction against bit rate", x="emitted_bps", y=("mcd_db", "cer"), log_x=True),
            ),
        )

    def variants(self, spec: CodecSpec | None) -> Sequence[Settings]:
        return prefix_variants(spec, self._counts, every)
