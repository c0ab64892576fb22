"""Where a number comes from: code, packages, machine, and the manifest of a run that says so."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api.libraries import version_of
from harness.storing.aliases import command
from harness.storing.runfolder import SCHEMA

if TYPE_CHECKING:
    from harness.api import SuiteInfo
    from harness.data.manifests import Dataset
    from harness.running.metric_set import MetricCards
    from harness.running.plan import Card
    from harness.settings.config import Config
    from harness.storing.aliases import Aliases

PACKAGES = (
    "torch", "torchaudio", "numpy", "scipy", "soundfile", "soxr", "pesq", "pystoi", "jiwer", "pyworld-prebuilt", "pandas", "pyarrow", "hydra-core",
    "funasr", "speechbrain", "pocketsphinx", "resemblyzer", "speechmos", "distillmos", "onnxruntime", "av", "transformers", "librosa", "numba", "matplotlib",
)  # fmt: skip


def now() -> str:
    """UTC time, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def git() -> dict[str, Any]:
    """Commit of the harness's own checkout and whether it was changed; its version when it is installed without one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return {"version": version_of("speech-systems-harness")}
    ask = partial(subprocess.run, capture_output=True, text=True, check=True, cwd=root)
    try:
        commit, changes = (ask(["git", *words]).stdout.strip() for words in (("rev-parse", "HEAD"), ("status", "--porcelain")))
        return {"commit": commit, "changed": bool(changes)}
    except (OSError, subprocess.CalledProcessError) as error:
        return {"unknown": str(error)}


def packages() -> dict[str, str]:
    """Versions of the packages that can move a number."""
    return {name: version_of(name) for name in PACKAGES}


def machine() -> dict[str, Any]:
    """Processor, cores, memory, operating system, Python and the load."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_1min": round(os.getloadavg()[0], 2),
    }


@cache
def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def timed_with(threads: int, device: str) -> dict[str, str]:
    """What a time depends on beside what is timed: ``machine`` (a hash, of no use but to tell machines apart), processor, cores ...

    Versions of what a system computes with (its `SystemInfo.tools`) are in its key already.
    """
    found = {
        "machine": _machine_hash(),
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "threads": str(threads),
        "device": device,
        "python": platform.python_version(),
        "numpy": version_of("numpy"),
        "torch": version_of("torch"),
    }
    torch = sys.modules.get("torch")
    if device.startswith("cuda") and torch is not None:
        found["device"] = f"{device} {torch.cuda.get_device_name(device)}"
    return found


def timed_elsewhere(taken_with: Mapping[str, str], here: Sequence[Mapping[str, str]]) -> str:
    """In what the circumstances of a time differ from the nearest of this run's, for a message; the machine itself stays unnamed."""
    if not taken_with:
        return "by a version that did not say where"
    apart = [{k: (v, other.get(k, "?")) for k, v in taken_with.items() if other.get(k) != v} for other in here]
    nearest = min(apart, key=len, default={})
    words = ", ".join(f"{name} {there}, here {now}" for name, (there, now) in sorted(nearest.items()) if name != "machine")
    return words or "another machine of the same kind"


@cache
def _machine_hash() -> str:
    try:
        ident = Path("/etc/machine-id").read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        ident = ""  # a container or another system: the name is what there is
    return hashlib.blake2b(f"{ident} {platform.node()}".encode(), digest_size=8).hexdigest()


def describe_run(
    config: Config, typed: str, suite: SuiteInfo, dataset: Dataset, cards: Mapping[str, Card], metrics: MetricCards, aliases: Aliases
) -> dict[str, Any]:
    """The manifest of a run that is about to start: everything its numbers depend on, without secrets and folders of this machine."""
    systems = {}
    for label, card in cards.items():
        if card.kind == "calibration":
            continue
        described = asdict(card.info)
        if card.spec is not None:
            described.update(asdict(card.spec), nominal_bps=_finite(card.spec.nominal_bps))
        if card.source:
            described["source"] = card.source
        systems[label] = {**described, "kind": card.kind, "config": dict(config["systems"][label])}
    sections: dict[str, Any] = {
        "schema": SCHEMA,
        "status": "partial",
        "suite": {**asdict(suite), "task": str(suite.task)},
        "created": now(),
        "command": command(typed),
        "git": git(),
        "packages": packages(),
        "machine": machine(),
        "config": config,
        "dataset": {
            "name": dataset.name,
            "description": dataset.description,
            "licence": dataset.licence,
            "digest": dataset.digest,
            "rows_digest": dataset.rows_digest,
            "num_items": len(dataset.items),
            "synthetic": dataset.synthetic,
            "left_out": list(dataset.left_out),
        },
        "systems": systems,
        "calibration": [label for label, card in cards.items() if card.kind == "calibration"],
        "metrics": {
            k: {**asdict(m), "needs": sorted(m.needs), "bounds": [_finite(b) for b in m.bounds], "signature": m.signature()}
            for k, m in metrics.metrics.items()
        },
        "absent_metrics": metrics.absent,
    }
    items = {
        i.id: {
            "text": i.text,
            "language": i.language,
            "speaker": i.speaker,
            "synthetic": i.synthetic,
            "prompt_text": i.prompt_text,
            "path": aliases.path(i.path) if i.path else None,
            # A page plays a recording only if it is the one that was measured, wherever the aliases say that it lies.
            **dataset.contents[i.id].told(),
        }
        for i in dataset.items
    }
    # Metrics and systems are called by names that hide nothing: token_consistency is no setting.
    named = {section: {name: aliases.cleaned(told) for name, told in sections[section].items()} for section in ("systems", "metrics")}
    return {**aliases.cleaned(sections), **named, "items": items}


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None
