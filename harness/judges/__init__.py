"""The models that judge. Families by kind as lazy "module:class" strings: naming them imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping

FAMILIES: Mapping[str, Mapping[str, str]] = {
    "asr": {
        "pocketsphinx": "harness.judges.pocketsphinx:PocketSphinx",
        "closed_vocabulary": "harness.judges.closed_vocabulary:ClosedVocabulary",
        "funasr": "harness.judges.funasr:FunAsr",
        "whisper": "harness.judges.whisper:Whisper",
        "faster_whisper": "harness.judges.faster_whisper:FasterWhisper",
    },
    "speaker": {
        "resemblyzer": "harness.judges.resemblyzer:Resemblyzer",
        "ecapa": "harness.judges.ecapa:Ecapa",
        "wavlm": "harness.judges.wavlm:WavLm",
        "wespeaker": "harness.judges.wespeaker:WeSpeaker",
    },
    "mos": {
        "dnsmos": "harness.judges.dnsmos:DnsMos",
    },
}
