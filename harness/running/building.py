"""A system built from its registry family, and the card of what it says of itself."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

from harness.api import Codec, CodecSpec, MissingOutput, Recorded, RecordedFiles, Suite, Synthesizer, SystemInfo
from harness.data.digests import file_digest
from harness.errors import ConfigError, MissingDependency
from harness.foreign import attempt, bounded, loading, message_of, reason_of
from harness.kept import Kept
from harness.running.plan import Card, Entrant
from harness.settings.registry import resolve
from harness.settings.sources import source_digest
from harness.storing.aliases import without_secrets
from harness.torchaudio import ensure_torchaudio

CALIBRATION_INFO = SystemInfo(family="calibration", version="1", description="a recording of the dataset itself")


def build_system(entrant: Entrant) -> Any:
    """The system behind an entrant, None for a calibration row.

    Raises:
        UnknownName, MissingDependency, ConfigError: it cannot be built, and what to do.
        Exception: any other that its constructor raised.
    """
    if entrant.calibration:
        return None
    parameters = dict(entrant.config)
    family = parameters.pop("family", None)
    if family is None:
        raise ConfigError(f"system '{entrant.label}' names no registry family; its YAML wants 'family: NAME'")
    ensure_torchaudio()  # a system's libraries may import it, and systems cannot ask for it themselves
    build = resolve("systems", family)
    loading(f"system '{entrant.label}' ({family})")
    try:
        with Kept(settling=True):
            system, reason = attempt(lambda: _built(build, parameters))
    except (TypeError, ValueError) as error:
        accepted = ", ".join(inspect.signature(build).parameters)
        raise ConfigError(
            f"system '{entrant.label}' ({family}) cannot be built from {without_secrets(parameters)}: {message_of(error)}. It takes: {accepted}"
        ) from error
    if reason:
        raise MissingDependency(f"system '{entrant.label}': {reason}")
    if not attempt(lambda: isinstance(system, (Codec, Synthesizer, Recorded, RecordedFiles))):
        raise ConfigError(
            f"system '{entrant.label}' ({family}) is neither a Codec, a Synthesizer, Recorded nor RecordedFiles (see harness.api)"
        )
    return system


def _built(build: Any, parameters: Mapping[str, Any]) -> tuple[Any, str]:
    """A system; or what it says is missing."""
    missing = getattr(build, "missing", None)
    if missing is not None and (reason := missing(**parameters)):
        return None, bounded(str(reason))
    return build(**parameters), ""


def card_of(label: str, system: Any) -> Card:
    """What a built system (None for a calibration row) says of itself, before anything is asked. Raises ConfigError as `_writable`."""
    if system is None:
        return Card(CALIBRATION_INFO, None, "calibration", ({},))

    def described() -> Card:
        kind = "codec" if isinstance(system, Codec) else "synthesizer" if isinstance(system, Synthesizer) else "recorded"
        return Card(system.info, system.spec if isinstance(system, Codec) else None, kind, (), source=source_digest(system))

    return _writable(label, attempt(described))


def card_for(card: Card, label: str, system: Any, suite: Suite, items: Iterable[str]) -> Card:
    """The card of `card_of` with the variants that a suite asks for, and digests of the files with recorded outputs for these items."""
    if system is None:
        return card

    def described() -> Card:
        files = {item: _file_digest(system, item) for item in items} if isinstance(system, RecordedFiles) else {}
        return replace(card, settings=tuple(suite.variants(card.spec)), files=files)

    return _writable(label, attempt(described))


def _writable(label: str, card: Card) -> Card:
    """The card, which is written to the manifest and is part of every key. Raises ConfigError where that cannot be."""
    try:
        if type(card.info) is not SystemInfo or type(card.spec) not in (CodecSpec, type(None)):
            raise TypeError(f"info is a {type(card.info).__name__}, wanted harness.api.SystemInfo; spec, of a codec, harness.api.CodecSpec")
        written = [asdict(card.info), asdict(card.spec) if card.spec else None, *map(dict, card.settings)]
        json.dumps(written, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"system '{label}' says of itself what cannot be written down: {reason_of(error)}") from error
    return card


def _file_digest(system: RecordedFiles, item: str) -> str:
    """Digest of a recorded output; where there is none, or no one, what is said of it comes when it is asked for."""
    try:
        return file_digest(system.locate(item))
    except MissingOutput:
        return "missing:"
    except ValueError:
        return "unreadable:"
