"""Joules, where the machine counts them: Intel and AMD packages by powercap, NVIDIA devices by NVML."""

from __future__ import annotations

import math
from importlib import util
from pathlib import Path

_POWERCAP = Path("/sys/class/powercap")


class EnergyMeter:
    """Joules that processors or device have used.

    The counters are the machine's, not the process's: on a busy machine they hold the neighbours' share too.

    Args:
        device: "cpu", "cuda:0" ...
        powercap: folder of the processors' counters.
    """

    def __init__(self, device: str, powercap: Path = _POWERCAP) -> None:
        self._device, self._zones = device, _zones(powercap)

    def joules(self) -> float:
        """Since some moment (differences count); NaN where nothing counts them."""
        if self._device.startswith("cuda"):
            return _nvml_joules(self._device)
        return sum(float(zone.read_text(encoding="ascii")) for zone in self._zones) / 1e6 if self._zones else math.nan


def _zones(powercap: Path) -> list[Path]:
    """The packages' counters that may be read; their parts (cores, memory) are in them."""
    found = []
    for zone in sorted(powercap.glob("*:*")):
        counter = zone / "energy_uj"
        if zone.name.count(":") == 1 and counter.exists():
            try:
                counter.read_text(encoding="ascii")
            except PermissionError:
                continue  # most systems show it to root alone
            found.append(counter)
    return found


def _nvml_joules(device: str) -> float:
    if util.find_spec("pynvml") is None:
        return math.nan
    import pynvml

    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(int(device.partition(":")[2] or 0))
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
    except pynvml.NVMLError:
        return math.nan  # older devices do not count
    finally:
        pynvml.nvmlShutdown()
