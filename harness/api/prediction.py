"""What a system produced for one item, before anybody scores it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.api.audio import Audio
from harness.api.codes import Encoded


@dataclass(frozen=True)
class Timing:
    """Wall time of one prediction, warm-up and file reading left out, device synchronised on both sides.

    Args:
        encode_s: codec encoder (0 for a synthesizer).
        decode_s: codec decoder.
        total_s: the whole call; what RTF is made from.
        audio_s: seconds of audio put in (codec) or out (synthesizer).
        threads: CPU threads the system could use.
        device: where it ran.
        precision: of its arithmetic.
        batch: utterances at once; the seconds are those of all of them together.
        figures: everything else that was measured, by name with its unit: "ttfa_s", "stage.lm_s", "laps" ...
        refusal: why this timing is no number (a busy machine, a compilation inside the timed call ...), or "".
        applicable: False where the refusal says that the system cannot do what was asked (a batch, a longer text): no failure of it.
        taken_with: machine, processor, cores, threads, device and versions that the time is of; written by the harness. A time found in
            the store counts only where all of them are the same.
    """

    total_s: float
    audio_s: float
    encode_s: float = 0.0
    decode_s: float = 0.0
    threads: int = 1
    device: str = "cpu"
    precision: str = "float32"
    batch: int = 1
    figures: Mapping[str, float] = field(default_factory=dict)
    refusal: str = ""
    applicable: bool = True
    taken_with: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Prediction:
    """A system's output for one item, as saved in the store.

    Args:
        audio: the output, at the system's own rate.
        encoded: tokens or packets, or None where there are none.
        timing: or None where none was taken (recorded outputs).
        stop_reason: of a synthesizer, else "".
        prompt_resynthesis: the voice prompt through the synthesizer's own codec, or None where it has none.
    """

    audio: Audio
    encoded: Encoded | None = None
    timing: Timing | None = None
    stop_reason: str = ""
    prompt_resynthesis: Audio | None = None
