"""Peaks of memory: of this process, and of the device."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Peaks:
    """The most memory at any moment.

    Args:
        host_bytes: resident memory of this process; None where the system does not tell.
        device_bytes: allocated by torch on the device; None on the CPU.
    """

    host_bytes: int | None
    device_bytes: int | None


def begin_peaks(device: str) -> None:
    """Forgets the peaks so far."""
    if _CLEAR.exists():
        with contextlib.suppress(PermissionError):  # some containers forbid it: the peak is then that of the process, an upper bound
            _CLEAR.write_text("5", encoding="ascii")  # resets the high-water mark of resident memory
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(torch.device(device))


def peaks(device: str) -> Peaks:
    """Since `begin_peaks`."""
    host = None
    if _STATUS.exists():
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                host = int(line.split()[1]) * 1024
    allocated = None
    if device.startswith("cuda"):
        import torch

        allocated = int(torch.cuda.max_memory_allocated(torch.device(device)))
    return Peaks(host, allocated)
