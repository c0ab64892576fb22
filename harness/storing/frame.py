"""A run as its readers see it: one DataFrame row a measurement, and where the audio lies."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "suite", "system", "settings", "item", "seed", "metric", "name", "unit", "better", "signature", "status", "side", "reason", "value", "weight",
    "dataset", "language", "speaker", "synthetic", "counts", "detail",
)  # fmt: skip
"""``counts`` and ``detail`` are JSON text; ``value`` and ``weight`` are NaN unless ``status`` is "ok"."""

OutputKey = tuple[str, str, str, int]
"""(system, settings, item, seed)."""


@dataclass(frozen=True, eq=False)
class OpenedRun:
    """A run folder, read.

    Args:
        path: the folder.
        manifest: what ran, where and with what (`harness.running.provenance`).
        frame: a row per measurement, columns `COLUMNS`.
        references: item id to its recording, for items that have one; none where the run was sent here without its store.
        outputs: saved audio of each prediction that succeeded.
        digests: item id to blake2b (32 hex digits) of the recording that was measured.
    """

    path: Path
    manifest: Mapping[str, Any]
    frame: pd.DataFrame
    references: Mapping[str, Path]
    outputs: Mapping[OutputKey, Path]
    digests: Mapping[str, str] = field(default_factory=dict)


def open_run(path: str | Path, metrics: Collection[str] | None = None, items: Collection[str] | None = None) -> OpenedRun:
    """Reads a run folder.

    Args:
        path: of the folder.
        metrics, items: records of these only, for a run too large to be held at once; memory grows with what is kept.

    Raises:
        UsageError: not a run, or a run that was killed before its records were joined.
        DamagedFile: manifest or records are not what was written.
    """
    import pandas as pd

    from harness.storing.aliases import places
    from harness.storing.runfolder import read_manifest, read_records
    from harness.storing.store import Store

    folder = Path(path)
    manifest = read_manifest(folder)
    store = Store(folder.parent / "store")
    wanted = {name: values for name, values in (("metric", metrics), ("item", items)) if values is not None}
    frame = read_records(folder, manifest, wanted).to_pandas(ignore_metadata=True)  # which may tell other kinds of columns
    declared = manifest["metrics"]
    which, keys = pd.factorize(frame["metric"])  # once: mapping a column of strings three times takes half of reading a large run
    for column in ("name", "unit", "better"):
        told = pd.Series([declared[key][column] if key in declared else None for key in keys], dtype=frame["metric"].dtype)
        frame[column] = told.array.take(which)
    frame = frame.loc[:, list(COLUMNS)]
    aliases = places(store.root, str(manifest.get("plan_digest", "")))
    digests = {name: str(item["digest"]) for name, item in manifest["items"].items() if item.get("digest")}
    located = (
        (name, aliases.located(str(item["path"]))) for name, item in manifest["items"].items() if name in digests and item.get("path")
    )
    references = {name: path for name, path in located if path is not None}
    outputs = {
        (o["label"], o["settings"], o["item"], o["seed"]): store.audio_path(o["key"])
        for o in manifest.get("outputs", [])
        # A link in a store that was sent leads to a file of this machine.
        if o["stored"]
        and store.has_prediction(o["key"])
        and not any(p.is_symlink() for p in (store.prediction_path(o["key"]), store.audio_path(o["key"])))
    }
    return OpenedRun(folder, manifest, frame, references, outputs, digests)
