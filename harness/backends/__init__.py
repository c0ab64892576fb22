"""The models that judge. Families by kind as lazy "module:class" strings: naming them imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping

FAMILIES: Mapping[str, Mapping[str, str]] = {
    "asr": {
        "pocketsphinx": "harness.backends.pocketsphinx:PocketSphinx",
        "closed_vocabulary": "harness.backends.closed_vocabulary:ClosedVocabulary",
        "funasr": "harness.backends.funasr:FunAsr",
        "whisper": "harness.backends.whisper:Whisper",
        "faster_whisper": "harness.backends.faster_whisper:FasterWhisper",
    },
    "speaker": {
        "resemblyzer": "harness.backends.resemblyzer:Resemblyzer",
        "ecapa": "harness.backends.ecapa:Ecapa",
        "wavlm": "harness.backends.wavlm:WavLm",
        "wespeaker": "harness.backends.wespeaker:WeSpeaker",
    },
    "mos": {
        "dnsmos": "harness.backends.dnsmos:DnsMos",
    },
}
