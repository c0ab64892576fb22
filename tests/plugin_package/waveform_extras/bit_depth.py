"""What bits per sample are worth."""

from __future__ import annotations

from collections.abc import Sequence

from harness.api import CodecSpec, Curve, Settings, SuiteInfo, Task


class BitDepthSuite:
    """Waveform codecs against their bit rate."""

    info = SuiteInfo(
        name="bit_depth",
        title="Waveform codecs by bit depth",
        task=Task.RESYNTHESIS,
        systems=("pcm",),
        metrics=("segmental_snr_db", "si_sdr_db", "nominal_bps"),
        headline=("segmental_snr_db", "si_sdr_db", "nominal_bps"),
        curves=(Curve("Fidelity against bit rate", x="nominal_bps", y=("segmental_snr_db",)),),
    )

    def variants(self, spec: CodecSpec | None) -> Sequence[Settings]:
        """Once for every system."""
        return [{}]
