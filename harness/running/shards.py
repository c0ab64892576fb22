"""A run cut into shards for several machines, and the shards' records put together again.

Every machine gets the same command with its own ``run.shard=I/N``. All of them may write into one shared folder: predictions and scores
go into the one content-keyed store, records of shard 3 of 16 of the run ``big`` into ``big.3of16``. Where there is no shared folder,
each machine publishes its shard to an object store or any other place that fsspec names (``run.publish=s3://bucket/prefix``). The join
reads the shards' records in small batches, so its memory does not grow with the number of records.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api import Status
from harness.data.digests import Contents, contents_digest
from harness.errors import ConfigError, DamagedFile, Incomparable, MissingDependency, StoreError, UsageError
from harness.running.stages import RunResult, warning_list
from harness.settings.schema import JUDGES
from harness.storing.aliases import without_secrets
from harness.storing.files import write_json
from harness.storing.runfolder import MANIFEST, RECORDS, parsed_manifest, record_batches, records_file

if TYPE_CHECKING:
    from harness.data.manifests import Dataset

SHARED = ("schema", "systems", "metrics", "absent_metrics", "dataset", "suite", "code", "config", "plan_digest")
"""What the manifests of all shards of a run say alike: systems as they were built (weights, tools, a plug-in's code), metrics with the
libraries in their signatures, the data, the harness's own code; then what was asked, for naming it where only the plan's digest differs."""
ASKED = ("suite", "systems", "metrics", *JUDGES, "also", "seeds")
"""Of the configuration; where a run and its data lie and how it is executed may differ from shard to shard."""
ADDED_UP = ("config", "counts", "dataset", "failures", "outputs", "warnings")
"""Sections of the shards' manifests that the whole run's is made of."""
SHOWN = 4
"""Differences that a refusal names; the others are counted."""


@dataclass(frozen=True)
class Shard:
    """Part ``index`` (from 1) of ``count``: of a thousand items, each shard of ten has about a hundred.

    An item belongs to a shard by the hash of its id, so that neither its place in the manifest nor items added later move it.
    """

    index: int = 1
    count: int = 1

    @classmethod
    def parsed(cls, text: str | None) -> Shard:
        """From ``run.shard``: "3/16", or None for everything. Raises ConfigError: not I/N with 1 <= I <= N."""
        if text is None:
            return cls()
        found = re.fullmatch(r"(\d+)/(\d+)", str(text))
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ConfigError(f"run.shard={text}: write I/N with I from 1 to N, e.g. run.shard=3/16")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def described(self) -> str:
        """Words for messages, as " (shard 3/16)"; nothing where it is everything."""
        return f" (shard {self})" if self.count > 1 else ""

    def named(self, run: str) -> str:
        """The name of this shard's folder."""
        return f"{run}.{self.index}of{self.count}" if self.count > 1 else run

    def holds(self, item: str) -> bool:
        """Whether the item of that id is in this shard."""
        number = int.from_bytes(hashlib.blake2b(item.encode(), digest_size=8).digest(), "big")
        return number % self.count == self.index - 1

    def of(self, dataset: Dataset) -> Dataset:
        """The dataset with this shard's items only, in their order; name and digest stay the whole's. Raises ConfigError: there are none."""
        if self.count == 1:
            return dataset
        if not (mine := tuple(i for i in dataset.items if self.holds(i.id))):
            raise ConfigError(f"run.shard={self}: none of the {len(dataset.items)} items falls into this shard; use fewer shards")
        return replace(dataset, items=mine)


def publish(folder: Path, url: str) -> str:
    """Copies records and manifest of a run or shard to ``url/<its name>/``, the manifest last: where it lies, the records are whole.

    The URL is of a folder, as fsspec names it: s3://..., gs://..., /mnt/... Says where they lie now. Raises MissingDependency: fsspec needs
    a package for this kind of place; StoreError: it cannot be written.
    """
    files, root = _filesystem(url)
    place = f"{root}/{folder.name}"
    try:
        files.makedirs(place, exist_ok=True)
        for name in (RECORDS, MANIFEST):
            files.put_file(str(folder / name), f"{place}/{name}")
    except Exception as error:  # every kind of place has errors of its own
        what = without_secrets(f"{folder} to {url}: {type(error).__name__}: {error}")
        raise StoreError(f"cannot publish {what}; it is complete here") from error
    return place


def join(run: Path, source: str | None = None) -> RunResult:
    """Puts the shards of a run together: ``runs/big.1of16`` ... become ``runs/big``, as if it had been one run.

    Args:
        run: folder of the whole run, to be written.
        source: where the shards were published; beside ``run`` by default.

    Raises:
        UsageError: shards are missing or unfinished, all of them named.
        Incomparable: they are not of one run.
        StoreError: not readable or not writable.
    """
    files, root = _filesystem(source or str(run.absolute().parent))
    manifests = _manifests(files, root, run.name)
    first = next(iter(manifests.values()))
    for place, manifest in manifests.items():
        same_plan = manifest.get("plan_digest") == first.get("plan_digest")
        if other := list(_differences(_shared(first, same_plan), _shared(manifest, same_plan))):
            rest = f" and {len(other) - SHOWN} more" if len(other) > SHOWN else ""
            raise Incomparable(
                f"{place} was made otherwise than {next(iter(manifests))} and cannot be joined with it: {'; '.join(other[:SHOWN])}{rest}. "
                "Run it again as the others were"
            )
    mixed = _mixed_times(manifests.values())
    timing = [key for key, about in first["metrics"].items() if "timing" in about.get("needs", ())] if mixed else []
    counts: Counter[str] = Counter()
    items: dict[str, Any] = {}
    outputs: list[Any] = []
    warnings: Counter[tuple[str, str, str]] = Counter()
    failures = 0
    run.mkdir(parents=True, exist_ok=True)
    with records_file(run) as out:
        for place, manifest in manifests.items():
            rows = 0
            for batch in _batches(files, f"{place}/{RECORDS}", manifest):
                if strangers := set(batch["item"].unique().to_pylist()) - manifest["items"].keys():
                    raise StoreError(f"{place}/{RECORDS} holds records of {min(strangers)!r}, which is no item of that shard; run it again")
                kept = _without_times(batch, timing, mixed) if timing else batch
                out.writer.write_batch(kept)
                rows += batch.num_rows
                counts.update({c["values"]: c["counts"] for c in kept["status"].value_counts().to_pylist()})
            if rows != sum(manifest["counts"].values()):
                raise StoreError(f"{place}/{RECORDS} holds {rows} records, its manifest says {sum(manifest['counts'].values())}")
            failures += manifest["failures"]
            items.update(manifest["items"])
            outputs += manifest["outputs"]
            warnings.update({(w["system"], w.get("side", ""), w["flag"]): w["items"] for w in manifest["warnings"]})
    digest = {}
    if "rows_digest" in first["dataset"]:  # else of an earlier version, whose digest is the whole's
        contents = {i: Contents(about["digest"], about["prompt_digest"]) for i, about in items.items()}
        digest["digest"] = contents_digest(first["dataset"]["rows_digest"], contents)
    whole = {
        **first,
        "shard": "1/1",
        "shards": {
            place.rpartition("/")[2]: {k: m.get(k) for k in ("created", "finished", "machine", "git")} for place, m in manifests.items()
        },
        "dataset": {**first["dataset"], "num_items": len(items), **digest},
        "items": items,
        "records": out.section,
        "counts": dict(counts),
        "failures": failures,
        "outputs": outputs,
        "warnings": warning_list(warnings),
    }
    write_json(run / MANIFEST, whole)
    allowed = (first["config"].get("run") or {}).get("max_failures", 0)
    return RunResult(run, counts, failures, int(allowed), shards=len(manifests))


def _shared(manifest: Mapping[str, Any], same_plan: bool) -> dict[str, Any]:
    """What must be alike, of the manifest of a shard."""
    config, git = manifest.get("config") or {}, manifest.get("git") or {}
    return {
        **{key: manifest.get(key) for key in SHARED},
        "systems": {label: _built(about) for label, about in manifest.get("systems", {}).items()},
        "dataset": {key: value for key, value in manifest["dataset"].items() if key != "description"},  # which may say where it lies
        # Of the same plan it is the same but for the names that machines have for folders.
        "config": None if same_plan else {key: config.get(key) for key in ASKED},
        "code": git.get("commit") or git.get("version"),  # a checkout that was changed is known by its commit only
    }


def _built(about: Mapping[str, Any]) -> dict[str, Any]:
    """A system without what each machine has of its own: the time of its first call, the number of its GPU, where its files lie."""
    kept = {key: value for key, value in about.items() if key not in ("warmup_s", "config")}
    kept["tools"] = dict(about.get("tools") or ())
    if str(kept.get("device", "")).startswith("cuda"):
        kept["device"] = "cuda"
    return kept


def _differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """Each value that differs, by its place in the manifest."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys([*one, *other]):
            yield from _differences(one.get(key), other.get(key), f"{where}.{key}" if where else str(key))
    elif one != other:
        yield f"{where} is {_brief(one)} there and {_brief(other)} here"


def _brief(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _mixed_times(manifests: Iterable[Mapping[str, Any]]) -> str:
    """Why times of several shards make no figure together, or ""."""
    per_device: dict[str, list[Mapping[str, str]]] = {}
    for one in (one for manifest in manifests for one in manifest.get("timed_with", ())):
        several = per_device.setdefault(one.get("device", ""), [])
        if one not in several:
            several.append(one)
    for several in per_device.values():
        if len(several) > 1:
            apart = sorted({key for one in several for key in one if one[key] != several[0].get(key)})
            values = "; ".join(f"{key} {', '.join(sorted({str(one.get(key)) for one in several}))}" for key in apart)
            return f"the shards were timed under {len(several)} circumstances ({values}): their times make no figure together"
    return ""


def _without_times(batch: Any, metrics: Sequence[str], reason: str) -> Any:
    """Records with those of timing metrics skipped for a reason."""
    import pyarrow as pa
    import pyarrow.compute as pc

    timed = pc.and_(pc.is_in(batch["metric"], value_set=pa.array(metrics)), pc.equal(batch["status"], Status.OK.value))
    skipped = {"status": Status.SKIPPED_BY_POLICY.value, "reason": reason, "value": None, "weight": None, "counts": "{}", "detail": "{}"}
    columns = [
        pc.if_else(timed, pa.scalar(skipped[name], batch.schema.field(name).type), batch[name]) if name in skipped else batch[name]
        for name in batch.schema.names
    ]
    return pa.record_batch(columns, schema=batch.schema)


def _manifests(files: Any, root: str, name: str) -> dict[str, dict[str, Any]]:
    """Manifest of each shard by its place, in order."""
    found: dict[int, str] = {}
    sizes = set()
    named = re.compile(rf"{re.escape(name)}\.(\d+)of(\d+)")
    for path in sorted(files.ls(root, detail=False)) if files.exists(root) else []:
        place = str(path).rstrip("/")
        if match := named.fullmatch(place.rpartition("/")[2]):
            index, size = map(int, match.groups())
            if index in found:
                raise UsageError(f"{found[index]} and {place} are both shard {index} of the run {name}; move one of them away")
            found[index] = place
            sizes.add(size)
    if len(sizes) != 1:
        what = f"cuts of several sizes ({', '.join(map(str, sorted(sizes)))})" if sizes else f"no shards ({name}.1ofN ...)"
        raise UsageError(f"{root} holds {what} of the run {name}; run them with run.name={name} run.shard=I/N")
    manifests, unfit, count = {}, [], sizes.pop()
    for shard in (Shard(index, count) for index in range(1, count + 1)):
        place = found.get(shard.index, "")
        if not place or not files.exists(f"{place}/{MANIFEST}"):
            unfit.append(f"{shard} is missing")
            continue
        manifest = parsed_manifest(files.cat_file(f"{place}/{MANIFEST}"), f"{place}/{MANIFEST}")
        if manifest.get("status") != "complete":
            unfit.append(f"{shard} is not finished")
        elif lacking := [section for section in ADDED_UP if section not in manifest]:
            unfit.append(f"{shard} does not tell its {', '.join(lacking)} (made by an earlier version?)")
        elif manifest.get("shard") != str(shard):
            unfit.append(f"{shard} is not in its folder, which holds {manifest.get('shard')} (a copy?)")
        elif strays := sum(not shard.holds(item) for item in manifest["items"]):
            unfit.append(f"{shard} holds {strays} items of other shards")
        for own in ("num_items", "digest") if "rows_digest" in manifest["dataset"] else ("num_items",):
            manifest["dataset"].pop(own, None)  # its own, not the run's
        manifests[place] = manifest
    if unfit:
        raise UsageError(f"the run {name} cannot be joined: shard {'; '.join(unfit)}. Run these with run.shard=I/{count} first")
    return manifests


def _batches(files: Any, path: str, manifest: Mapping[str, Any]) -> Iterator[Any]:
    try:
        with files.open(path, "rb") as file:
            yield from record_batches(file, path, manifest)
    except (OSError, DamagedFile) as error:
        raise StoreError(f"cannot read {path}: {error}; run that shard again") from error


def _filesystem(url: str) -> tuple[Any, str]:
    try:
        files, root = import_module("fsspec.core").url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise MissingDependency(f"{url} cannot be reached: {error}") from error
    return files, str(root).rstrip("/")
