"""What a worker says of its system when it has started."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from harness.api import CodecSpec, SystemInfo, Weights
from systems.worker.elsewhere.speech_worker import PROTOCOL, Malformed

_TEXTS = ("name", "version", "description", "origin", "weights_digest", "training_data", "device", "precision")
_LONGEST = 500


@dataclass(frozen=True)
class Hello:
    """The identity of a system in a worker.

    Args:
        kind: "codec" or "synthesizer".
        info: for tables and keys.
        sample_rate: of its audio, in Hz.
        spec: of a codec, else None.
        streams: a synthesizer speaks in pieces too.
    """

    kind: str
    info: SystemInfo
    sample_rate: int
    spec: CodecSpec | None
    streams: bool


def read_hello(said: Mapping[str, Any], family: str) -> Hello:
    """The checked content of a hello.

    Args:
        said: the JSON object.
        family: of the adapter, in the registry.

    Raises:
        Malformed: another protocol, a field is absent or of the wrong type.
    """
    if said.get("protocol") != PROTOCOL:
        raise Malformed(f"it speaks protocol {said.get('protocol')!r}, this harness {PROTOCOL}: use the speech_worker.py of this harness")
    for name in _TEXTS:
        if not isinstance(said.get(name), str) or len(said[name]) > _LONGEST:
            raise Malformed(f"its hello wants '{name}' as text of at most {_LONGEST} characters, got {str(said.get(name))[:100]!r}")
    if not said["name"] or not said["version"]:
        raise Malformed("its hello wants a name and a version")
    if said["origin"] not in set(Weights):
        raise Malformed(f"its hello says origin={said['origin']!r}; there are {', '.join(Weights)}")
    if said["origin"] != Weights.NONE and not said["weights_digest"]:
        raise Malformed(
            f"its weights are '{said['origin']}' but it names no files of them (About.weights), so outputs could not be keyed by them"
        )
    kind = said.get("kind")
    if kind not in ("codec", "synthesizer"):
        raise Malformed(f"its hello says kind={kind!r}; there are codec and synthesizer")
    info = SystemInfo(
        family=family,
        version=f"{PROTOCOL}:{said['version']}",
        description=f"{said['name']} {said['version']} in an environment of its own"
        + (f": {said['description']}" if said["description"] else ""),
        weights=Weights(said["origin"]),
        weights_digest=said["weights_digest"],
        num_parameters=_count(said, "num_parameters"),
        training_data=said["training_data"],
        # Not a device of this process: whoever times a call must not synchronise it here. A worker answers with bytes, so it has ended.
        device=f"worker:{said['device']}",
        precision=said["precision"],
        tools=_tools(said.get("tools")),
    )
    spec = _spec(said.get("spec")) if kind == "codec" else None
    rate = spec.sample_rate if spec is not None else _count(said, "sample_rate")
    if rate <= 0:
        raise Malformed(f"its hello says sample_rate={rate}")
    return Hello(kind, info, rate, spec, said.get("streams") is True)


def _count(said: Mapping[str, Any], name: str) -> int:
    value = said.get(name)
    if type(value) is not int or value < 0:
        raise Malformed(f"its hello wants '{name}' as a whole number, got {str(value)[:100]!r}")
    return value


def _tools(said: Any) -> tuple[tuple[str, str], ...]:
    pairs = isinstance(said, list) and all(isinstance(p, list) and len(p) == 2 and all(isinstance(w, str) for w in p) for p in said)
    if not pairs or len(str(said)) > 10 * _LONGEST:
        raise Malformed(f"its hello wants tools as a list of pairs of words, got {str(said)[:100]!r}")
    return tuple((name, version) for name, version in said)


def _spec(said: Any) -> CodecSpec:
    if not isinstance(said, dict):
        raise Malformed(f"a codec's hello wants its spec, got {str(said)[:100]!r}")
    if unknown := set(said) - {f.name for f in fields(CodecSpec)}:
        raise Malformed(f"its spec has unknown entries: {', '.join(sorted(unknown))[:200]}")
    sizes = said.get("codebook_sizes", [])
    if not isinstance(sizes, list) or any(type(v) is not int or v < 2 for v in sizes) or len(sizes) > 1024:
        raise Malformed(f"its spec says codebook_sizes={str(sizes)[:100]}")
    for name in ("sample_rate", "hop_length"):
        if type(said.get(name)) is not int or said[name] <= 0:
            raise Malformed(f"its spec says {name}={str(said.get(name))[:100]!r}")
    for name, kind in (("causal", bool), ("prefix_decodable", bool), ("lookahead", int), ("delay", int)):
        if type(said.get(name, kind())) is not kind or not math.isfinite(said.get(name, 0)):
            raise Malformed(f"its spec says {name}={str(said[name])[:100]!r}")
    return CodecSpec(**{**said, "codebook_sizes": tuple(sizes)})
