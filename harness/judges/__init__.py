"""The models that judge: from a configuration ``{"family": ..., **parameters}`` to one, or to one sentence saying what it lacks.

Families by kind are lazy "module:class" strings: naming them imports nothing heavy.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from harness.errors import ConfigError, UnknownName

FAMILIES: Mapping[str, Mapping[str, str]] = {
    "asr": {
        "pocketsphinx": "harness.judges.pocketsphinx:PocketSphinx",
        "closed_vocabulary": "harness.judges.pocketsphinx:ClosedVocabulary",
        "funasr": "harness.judges.recognisers:FunAsr",
        "whisper": "harness.judges.recognisers:Whisper",
        "faster_whisper": "harness.judges.recognisers:FasterWhisper",
        "whisper_ct2": "harness.judges.whisper_ct2:WhisperCt2",
        "hubert_ctc": "harness.judges.recognisers:HubertCtc",
        "qwen3_asr": "harness.judges.recognisers:Qwen3Asr",
    },
    "speaker": {
        "campplus": "harness.judges.campplus:CamPlusPlus",
        "resemblyzer": "harness.judges.speakers:Resemblyzer",
        "ecapa": "harness.judges.speakers:Ecapa",
        "wavlm": "harness.judges.speakers:WavLm",
        "wavlm_large": "harness.judges.wavlm_large:WavLmLarge",
        "wespeaker": "harness.judges.speakers:WeSpeaker",
    },
    "mos": {
        "distillmos": "harness.judges.opinions.distillmos:DistillMos",
        "dnsmos": "harness.judges.opinions.dnsmos:DnsMos",
        "nisqa": "harness.judges.opinions.nisqa:Nisqa",
        "scoreq": "harness.judges.opinions.scoreq:Scoreq",
        "squim": "harness.judges.opinions.squim:SquimObjective",
        "squim_mos": "harness.judges.opinions.squim:SquimSubjective",
        "utmos": "harness.judges.opinions.utmos:Utmos",
        "utmosv2": "harness.judges.opinions.utmosv2:UtmosV2",
    },
    "features": {"whisper": "harness.judges.features:WhisperEncoder", "ssl": "harness.judges.features:SelfSupervised"},
    "emotion": {"emotion2vec": "harness.judges.features:Emotion2Vec"},
}

Config = Mapping[str, Any]


class NoSpeechError(ValueError):
    """A judge found nothing in the audio that it could judge (its own voice activity detection left nothing, say)."""


def build(kind: str, config: Config) -> Any:
    """The judge a configuration describes, loaded and ready.

    Args:
        kind: "asr", "speaker", "mos", "features" or "emotion".
        config: ``family`` and the keyword arguments of its class.

    Raises:
        UnknownName: no such kind or family.
        ConfigError: an argument the family does not take.
        MissingDependency: a package or checkpoint is not here.
        CheckpointError: the weights do not fit.
    """
    cls, params = _resolve(kind, config)
    return cls(**params)


def missing(kind: str, config: Config) -> str | None:
    """None if `build` can be expected to succeed, else one sentence: what is missing and how to get it. Imports nothing heavy.

    Raises:
        UnknownName, ConfigError: as in `build`.
    """
    cls, params = _resolve(kind, config)
    reason: str | None = cls.missing(**params)
    return reason


def downloads(kind: str, config: Config) -> tuple[Any, ...]:
    """What `harness fetch` gets for it: `harness.hub.HubFiles` and `harness.judges.weights.Weights`, whether they are here or not.

    Raises:
        UnknownName, ConfigError: as in `build`.
    """
    cls, params = _resolve(kind, config)
    found: tuple[Any, ...] = cls.downloads(**params)
    return found


def _resolve(kind: str, config: Config) -> tuple[Any, dict[str, Any]]:
    if kind not in FAMILIES:
        raise UnknownName("kind of judge", kind, FAMILIES)
    if "family" not in config:
        raise ConfigError(f"a judge of kind '{kind}' needs a 'family', got the keys {sorted(config)}; families: {sorted(FAMILIES[kind])}")
    family = str(config["family"])
    if family not in FAMILIES[kind]:
        raise UnknownName(f"{kind} judge", family, FAMILIES[kind])
    module, attribute = FAMILIES[kind][family].split(":")
    cls = getattr(importlib.import_module(module), attribute)
    params = {str(key): value for key, value in config.items() if key != "family"}
    accepted = [name for name in inspect.signature(cls).parameters if name != "self"]
    if unknown := sorted(set(params) - set(accepted)):
        raise ConfigError(f"{kind} judge '{family}' takes {accepted}, got {unknown}")
    return cls, params
