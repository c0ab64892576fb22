"""What every suite of text-to-speech measures; they differ in whom they ask."""

from __future__ import annotations

METRICS = ("wer", "cer", "intelligibility_probe", "sim_o", "sim_r", "mos", "stopped_by_itself", "length_ratio", "rtf")
CALIBRATION = ("ground_truth", "impostor")
