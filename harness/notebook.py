"""The harness from Python: the same runs, checks and messages as the command line, which is a user of this module.

>>> import harness
>>> done = harness.run(suite="codec", systems=["passthrough", "opus6"], metrics=["stoi"], limit=2, executor="serial", run_root=folder)
>>> done.table()[["system", "metric", "value", "n_ok", "n_total"]].round(2)
        system metric  value  n_ok  n_total
0  passthrough   stoi   1.00     2        2
1        opus6   stoi   0.92     2        2
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.api import Audio, Item, MissingOutput, Synthesizer, System, SystemInfo
from harness.data.audio import read_recording, write_audio
from harness.data.digests import file_digest
from harness.data.manifests import Dataset, DatasetConfig, load_dataset
from harness.errors import ConfigError
from harness.settings import registry
from harness.settings.config import SINGLE_GROUPS, Config, compose
from harness.settings.schema import JUDGES, shown
from harness.storing.aliases import typed

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from harness.running.stages import RunResult
    from harness.storing.runfolder import OpenedRun
    from reports.run.output import ReportFiles
    from reports.run.summary import Summary

ItemLike = Mapping[str, Any] | Sequence[Any]
"""An item: a mapping with the columns of a manifest, or ``(id, audio, text, speaker, language)`` of which the end may be left out."""
SECTIONS = ("run", "dataset", "executor", "report", "suite", *JUDGES)
ITEM_COLUMNS = ("id", "audio", "text", "speaker", "language")


@dataclass(frozen=True)
class Run:
    """A finished run, or one of an earlier day: ``Run("runs/codec-1a2b3c4d")``.

    Args:
        folder: of the run: records, manifest and what `report` writes.
        result: what it came to, where it was carried out here.
    """

    folder: Path
    result: RunResult | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))

    def table(self) -> pd.DataFrame:
        """The pooled figures, a row per system, settings and metric.

        Among its columns: ``system``, ``settings`` (JSON text), ``calibration`` (of a calibration row), ``metric``, ``name``,
        ``unit``, ``better``, ``value`` with its interval ``low`` to ``high`` at ``confidence``, ``n_ok`` scored of ``n_total`` that
        could be, ``reason`` why there is no value, and ``signature``. A metric that does not apply to a row has none there.

        Raises:
            Incomparable: the run mixes signatures.
        """
        import pandas as pd

        from reports.run.output import FIELDS, result_lines

        return (
            pd.DataFrame([dict(line) for line in result_lines(self.summary)], columns=list(FIELDS))
            .query("n_ok + n_total + n_excluded + n_missing > 0")
            .reset_index(drop=True)
        )

    def records(self) -> pd.DataFrame:
        """Every measurement, a row per system, settings, item, seed and metric; see `load`."""
        return load(self.folder)

    @property
    def failures(self) -> pd.DataFrame:
        """The records that a run must not end well with, each with its ``status``, ``side`` and ``reason``: see `harness.running.stages.fails`."""
        from harness.running.stages import fails

        manifest, found = self.opened.manifest, self.records()
        untested = {*manifest["calibration"], *(label for label, info in manifest["systems"].items() if info["anchor"])}
        rows: Any = found.itertuples()
        return found[[fails(row, untested) for row in rows]]

    def report(self, path: str | PathLike[str] | None = None, audio_limit_mb: float | None = None) -> ReportFiles:
        """Writes ``report.html`` (the page), Markdown, LaTeX, CSV and figures.

        Args:
            path: folder to write to; the run's own unless told.
            audio_limit_mb: of audio inside the page; as the run was asked for unless told.

        Returns:
            Where each lies, the page as ``html``.

        Raises:
            StoreError: a file cannot be written.
        """
        from reports.run.output import AUDIO_LIMIT_MB, write_report

        if audio_limit_mb is None:
            told = ((self.opened.manifest.get("config") or {}).get("report") or {}).get("audio_limit_mb")
            # A folder that somebody else wrote may not say it.
            audio_limit_mb = float(told) if isinstance(told, int | float) else AUDIO_LIMIT_MB
        return write_report(self.opened, None if path is None else Path(path), audio_limit_mb=audio_limit_mb, summary=self.summary)

    def check(self) -> None:
        """Raises Incomplete where more failed than ``run.max_failures`` allows; nothing else here does."""
        if self.result is not None:
            self.result.check()

    @property
    def opened(self) -> OpenedRun:
        """Manifest, records and where the audio lies; of a very large run, the records of its first items only."""
        return self._read[0]

    @property
    def summary(self) -> Summary:
        """The tables as values."""
        return self._read[1]

    @cached_property
    def _read(self) -> tuple[OpenedRun, Summary]:
        from reports.run.summarise import read_summary

        return read_summary(self.folder)


def load(run: str | PathLike[str]) -> pd.DataFrame:
    """The records of a run, one row a measurement.

    Args:
        run: a run folder, finished or not.

    Returns:
        Columns as in `harness.api.Record`, among them ``metric`` (its key, ``mos`` say) and ``name`` (what the judge in use measures,
        ``dnsmos_overall`` say); ``counts`` and ``detail`` are dicts, and ``value`` and ``weight`` NaN unless ``status`` is "ok".

    Raises:
        UsageError: the folder is not a run.

    >>> frame = harness.load(done.folder)
    >>> frame.loc[frame["metric"] == "stoi", ["system", "item", "status"]].head(2)
            system             item status
    0  passthrough   flite-kal16-07     ok
    1  passthrough  hibari-heart-09     ok
    """
    from harness.storing.runfolder import open_run

    frame = open_run(Path(run)).frame
    return frame.assign(**{column: [json.loads(text or "{}") for text in frame[column]] for column in ("counts", "detail")})


def run(
    suite: str = "codec",
    systems: str | Sequence[str] | Mapping[str, Mapping[str, Any]] = (),
    dataset: str | PathLike[str] | Mapping[str, Any] | Sequence[ItemLike] = "embedded",
    metrics: Sequence[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    config_dir: str | PathLike[str] | None = None,
    **more: Any,
) -> Run:
    """Carries out a run as ``harness run`` does; the same call again continues an interrupted one and computes nothing twice.

    Args:
        suite: what is asked; ``harness list suites``.
        systems: who is asked: names, or names with their parameters ``{"opus16": {}, "recorded": {"root": "outputs"}}``; the suite's own
            where there are none.
        dataset: a name (``harness list datasets``), a folder or manifest, settings ``{"name": "seedtts", "root": "data"}``, or a list of
            items: mappings with the columns of a manifest, or ``(id, audio, text, speaker, language)`` of which the end may be left out.
            Audio is a path, ``(samples, sample_rate)`` with samples [N] or [C, N], or a `harness.api.Audio`; arrays are written to a
            folder under ``run.root``.
        metrics: instead of the suite's usual ones; ``["full"]`` is all that it can measure.
        overrides: any setting by its full name: ``{"dataset.limit": 4, "executor.workers": 2}``; `harness run --show-config` prints all.
        config_dir: folder with YAML of your own.
        more: the same as words: ``limit=4`` is ``dataset.limit``, ``run_root="runs"`` is ``run.root``, ``executor_workers=2``,
            ``suite_counts=[1, 2]``, ``seeds=[0, 1]``, ``asr="basic"``, ``executor="serial"`` ...

    Returns:
        The finished run. Failures are no errors: `Run.failures` lists them, `Run.check` raises.

    Raises:
        UsageError: it cannot be carried out and nothing was run; the messages are those of the command line.
    """
    return _carried_out(None, suite, systems, {"dataset": dataset, "metrics": metrics, **more}, overrides, config_dir)


def evaluate(
    system: Any,
    dataset: str | PathLike[str] | Mapping[str, Any] | Sequence[ItemLike] = "embedded",
    metrics: Sequence[str] | None = None,
    name: str = "",
    suite: str = "",
    **more: Any,
) -> Run:
    """Measures an object as it is, in this process: a codec or synthesizer in the making, or a function from audio to audio.

    An object may not fit through the door to another process, so ``executor=serial`` carries it out. Nothing tells whether it is still
    what it was at an earlier call, so each call has a key of its own in the store: its outputs are made anew and later calls never find
    them. Numbers are kept by the content of the outputs, so the same output is not scored twice.

    Args:
        system: a `harness.api.Codec`, `Synthesizer`, `Recorded` or `RecordedFiles`, or ``function(samples, sample_rate)``: float32 [N]
            of a recording at its own rate; it returns the samples at that rate, or ``(samples, sample_rate)``. A function has no codes,
            so nothing is said of its bit rate and no time is taken.
        dataset, metrics: as in `run`.
        name: its label in the tables; the name of its class or function unless told.
        suite: what is asked; "zero_shot" of a synthesizer, else "codec".
        more: as in `run`, ``systems=["opus16"]`` beside it and ``overrides=`` too.

    Raises:
        UsageError: as `run`; also where ``system`` is none of these.

    >>> def quiet(samples, sample_rate):
    ...     return samples / 2
    >>> done = harness.evaluate(quiet, metrics=["level_rms_db"], limit=2, run_root=folder)
    >>> done.table()[["system", "metric", "value"]].round(1)
      system        metric  value
    0  quiet  level_rms_db   -6.0
    """
    label = name or re.sub(r"\W+", "_", getattr(system, "__name__", type(system).__name__)).strip("_") or "system"
    made = system() if isinstance(system, type) else system
    if not isinstance(made, System) and not callable(made):
        raise ConfigError(
            f"{type(made).__name__} is neither a Codec, a Synthesizer, Recorded nor RecordedFiles (see harness.api), nor a function"
        )
    suite = suite or ("zero_shot" if isinstance(made, Synthesizer) else "codec")
    overrides, config_dir = more.pop("overrides", None), more.pop("config_dir", None)
    more = {"dataset": dataset, "metrics": metrics, "executor": "serial", **more}
    return _carried_out((label, made), suite, more.pop("systems", []), more, overrides, config_dir)


def composed(words: Sequence[str], config_dir: Path | None, given: Mapping[str, Any] | None = None) -> Config:
    """The configuration of the words and of what is given as values; a suite's own systems where none are named.

    Raises:
        UsageError: as `harness.settings.config.compose`.
    """
    from harness.running.runner import default_systems

    if config_dir is not None and not config_dir.is_dir():
        raise ConfigError(f"--config-dir {config_dir} is not a folder")
    words, given = list(words), dict(given or {})
    if not any(word.startswith("systems=") for word in words):
        general = compose(
            [w for w in words if not w.startswith("systems.")], config_dir, {k: v for k, v in given.items() if not k.startswith("systems.")}
        )
        words.append(f"systems=[{','.join(default_systems(general))}]")
    return compose(words, config_dir, given)


def carried_out(config: Config, command: str, dataset: Dataset | None = None) -> Run:
    """Runs a configuration, with progress on standard error; arguments as of `harness.running.runner.run`."""
    from harness.running import runner
    from harness.running.progress import Progress

    with Progress(_so_far, partial(import_module, "reports.run.output")) as progress:
        if config["run"]["fetch"]:
            from harness.fetching import fetch_for_run

            fetch_for_run(config, progress.note)
        result = runner.run(config, command, progress, dataset)
    return Run(result.folder, result)


def _so_far(folder: Path, heading: str, console: Console) -> None:
    """Prints the figures of a run that goes on."""
    from reports.run.document import print_so_far

    print_so_far(Run(folder).summary, heading, console)


def _carried_out(
    lent: tuple[str, Any] | None,
    suite: str,
    systems: str | Sequence[str] | Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, Any],
    overrides: Mapping[str, Any] | None,
    config_dir: str | PathLike[str] | None,
) -> Run:
    """What `run` and `evaluate` share: keyword arguments as words and values, and an object that is lent under a label."""
    given = {_setting(name): value for name, value in settings.items() if value is not None} | dict(overrides or {})
    groups = {"suite": suite, **_dataset(given)}
    groups |= {key: str(given.pop(key)) for key in SINGLE_GROUPS if key in given}
    words = [f"{key}={name}" for key, name in groups.items()]
    if lent or systems:
        words.append(f"systems=[{systems if isinstance(systems, str) else ','.join(map(str, systems))}]")
    if isinstance(systems, Mapping):
        given |= {f"systems.{name}.{key}": value for name, section in systems.items() for key, value in section.items()}
    config = composed(words, None if config_dir is None else Path(config_dir), given)
    if lent is None:
        return carried_out(config, f"harness run {typed([*words, *(f'{key}={shown(value)}' for key, value in given.items())])}")
    if config["executor"]["kind"] != "serial":
        raise ConfigError(
            f"executor={config['executor']['kind']}: an object is measured in this process; leave it out, or executor='serial'"
        )
    (label, made), family = lent, f"object-{uuid.uuid4().hex}"
    dataset = load_dataset(DatasetConfig.from_mapping(config["dataset"]))
    system = made if isinstance(made, System) else _Function(label, made, dataset.items)
    config["systems"] = {label: {"family": family}, **config["systems"]}
    registry.LENT[family] = lambda: system
    try:
        return carried_out(config, f"harness.evaluate({label})", dataset)
    finally:
        del registry.LENT[family]


def _setting(name: str) -> str:
    """``limit`` and ``run_root`` as ``dataset.limit`` and ``run.root``; a name that is none is refused where all are checked."""
    section, _, rest = name.partition("_")
    return "dataset.limit" if name == "limit" else f"{section}.{rest}" if section in SECTIONS and rest else name


def _dataset(given: dict[str, Any]) -> dict[str, str]:
    """The group of the dataset; what else it says goes to ``given``."""
    dataset = given.pop("dataset", "embedded")
    if isinstance(dataset, Mapping):
        section = {"kind": "auto", **dataset} if "name" not in dataset else dict(dataset)
        name = str(section.pop("name", "folder"))
        given |= {f"dataset.{key}": value for key, value in section.items()}
        return {"dataset": name}
    if isinstance(dataset, str) and (dataset in registry.config_names("dataset") or ("/" not in dataset and not Path(dataset).exists())):
        return {"dataset": dataset}
    if isinstance(dataset, str | PathLike):
        given |= {"dataset.root": str(dataset), "dataset.kind": "auto"}
        return {"dataset": "folder"}
    given["dataset.root"] = str(_written(dataset, Path(given.get("run.root", "runs"))))
    return {"dataset": "jsonl"}


def _written(items: Iterable[ItemLike], root: Path) -> Path:
    """A folder of these items with their manifest, named by what they are."""
    rows = [dict(item) if isinstance(item, Mapping) else dict(zip(ITEM_COLUMNS, item, strict=False)) for item in items]
    sounds: dict[str, Audio | Path] = {}
    for row in rows:
        for column in ("audio", "prompt_audio"):
            if row.get(column) is not None:
                try:
                    name, sound = _sound(row[column])
                except (TypeError, ValueError, OSError) as error:
                    raise ConfigError(f"dataset: {column} of item {row.get('id')!r} cannot be taken: {error}") from error
                row[column], sounds[name] = name, sound
    manifest = "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
    folder = root / f"items-{hashlib.blake2b(manifest.encode(), digest_size=8).hexdigest()}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, sound in sounds.items():
        if not (folder / name).exists():
            shutil.copyfile(sound, folder / name) if isinstance(sound, Path) else write_audio(folder / name, sound)
    (folder / "manifest.jsonl").write_text(manifest, encoding="utf-8")
    return folder


def _sound(given: Any) -> tuple[str, Audio | Path]:
    """A recording, and a name that its content gives it."""
    if isinstance(given, str | PathLike):
        path = Path(given).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"{path} is no file")
        return f"{file_digest(path).replace(':', '_')}{path.suffix}", path
    audio = given if isinstance(given, Audio) else _audio(*given)
    return f"{audio.digest()}.wav", audio


def _audio(samples: Any, sample_rate: int) -> Audio:
    array = np.asarray(samples)
    return Audio.mono(array, sample_rate) if array.ndim == 1 else Audio(array, sample_rate)


class _Function:
    """A function from audio to audio as recorded outputs are: asked for each item's recording."""

    def __init__(self, name: str, function: Callable[..., Any], items: Iterable[Item]) -> None:
        self.info = SystemInfo(family="function", version="1", description=f"the function {name}")
        self._function, self._items = function, {item.id: item for item in items}

    def recall(self, item_id: str) -> Audio:
        """What the function makes of the item's recording."""
        item = self._items[item_id]
        if item.path is None:
            raise MissingOutput("a function is given the item's recording, and it has none")
        heard = read_recording(item.path, item.channel).audio
        made = self._function(heard.samples.mean(axis=0), heard.sample_rate)
        return made if isinstance(made, Audio) else _audio(*made) if isinstance(made, tuple) else _audio(made, heard.sample_rate)
