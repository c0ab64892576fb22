"""Every name a user can type, as lazy ``"module:attr"`` strings; nothing is imported until it is used.

Built-in families stand below. A third party joins by entry points in the groups ``harness.systems``, ``harness.suites`` and
``harness.metrics``. *Variants* of systems are YAML files in ``conf/systems``; a plug-in family without one is its own variant.

``harness --help`` and ``harness list`` stand on this module, so it imports nothing that takes milliseconds: no dataclasses, typing
or pathlib.
"""

from __future__ import annotations

import os
import sys

from harness.data.documents import YAML_BYTES, read_text
from harness.errors import MissingDependency, UnknownName

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import Any

CONF_DIR = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "conf")
GROUPS = ("systems", "suites", "metrics")

SYSTEMS = {
    "passthrough": "systems.classical.passthrough:Passthrough",
    "noise": "systems.classical.noise:Noise",
    "resampled": "systems.classical.resampled:Resampled",
    "ffmpeg": "systems.classical.ffmpeg:FFmpegCodec",
    "gsm": "systems.classical.gsm:Gsm",
    "codec2": "systems.classical.codec2:Codec2",
    "encodec": "systems.published.encodec:Encodec",
    "dac": "systems.published.dac:Dac",
    "mimi": "systems.published.mimi:Mimi",
    "xcodec": "systems.published.xcodec:XCodec",
    "xcodec2": "systems.published.xcodec2:XCodec2",
    "speechtokenizer": "systems.published.speechtokenizer:SpeechTokenizer",
    "recorded": "systems.classical.recorded:RecordedFolder",
    "espeak": "systems.classical.espeak:Espeak",
    "flite": "systems.classical.flite:Flite",
    "qdac": "systems.qdac.adapter:QdacCodec",
    "mel_vocoder": "systems.vocoder.adapter:MelVocoder",
    "socodec": "systems.socodec.adapter:SocodecCodec",
    "qtts": "systems.tts.qtts:Qtts",
    "socodec_tts": "systems.tts.socodec_tts:SocodecTts",
    "worker_codec": "systems.worker.codec:WorkerCodec",
    "worker_synthesizer": "systems.worker.synthesizer:WorkerSynthesizer",
}

SUITES = {
    "codec": ("suites.codec:CodecSuite", "resynthesis: quality, intelligibility, voice and bit rate of codecs"),
    "codebook_sweep": ("suites.codebook_sweep:CodebookSweepSuite", "resynthesis from the first b codebooks, for every b"),
    "stream_prefix": ("suites.stream_prefix:StreamPrefixSuite", "SoCodec, Figure 4: the first b streams of ordered and other quantizers"),
    "quantizer_ablation": ("suites.quantizer_ablation:QuantizerAblationSuite", "SoCodec, Figure 5: quantizers in analysis-synthesis"),
    "quantizer_ablation_tts": (
        "suites.quantizer_ablation:QuantizerAblationTtsSuite",
        "SoCodec, Figure 5: quantizers under a language model",
    ),
    "zero_shot": ("suites.zero_shot:ZeroShotSuite", "synthesis: words, voice, opinion and speed of text-to-speech with voice prompts"),
    "delay_sweep": ("suites.delay_sweep:DelaySweepSuite", "SoCodec, Figure 6: words and voice against the delay between streams"),
    "speed": ("suites.speed:SpeedSuite", "real-time factors, first output, stages and floors of codecs and text-to-speech"),
    "semantic_ablation": (
        "suites.semantic_ablation:SemanticAblationSuite",
        "SoCodec, Table 2: semantic features and loss in analysis-synthesis",
    ),
    "semantic_ablation_tts": ("suites.semantic_ablation:SemanticAblationTtsSuite", "SoCodec, Table 2: the same under a language model"),
}

METRICS = {
    "pesq_wb": ("harness.metrics.perceptual:PesqWb", "wide-band PESQ, ITU-T P.862.2 MOS-LQO at 16 kHz"),
    "pesq_nb": ("harness.metrics.perceptual:PesqNb", "narrow-band PESQ, ITU-T P.862.1 MOS-LQO at 16 kHz, of 8-kHz recordings at 8 kHz"),
    "stoi": ("harness.metrics.perceptual:Stoi", "short-time objective intelligibility"),
    "estoi": ("harness.metrics.perceptual:Estoi", "extended STOI"),
    "si_sdr_db": ("harness.metrics.waveform:SiSdr", "scale-invariant signal-to-distortion ratio, means removed"),
    "si_sdr_aligned_db": ("harness.metrics.waveform:SiSdrAligned", "SI-SDR after removing the estimated lag"),
    "lag_samples": ("harness.metrics.waveform:Lag", "delay of the output, cross-correlation peak at 16 kHz"),
    "mcd_db": ("harness.metrics.spectral:Mcd", "mel-cepstral distortion, WORLD envelope up to 7 kHz, c0 excluded, no DTW"),
    "mcd_dtw_db": ("harness.metrics.spectral:McdDtw", "mel-cepstral distortion after dynamic time warping (for TTS)"),
    "log_mel_distance_db": ("harness.metrics.spectral:LogMelDistance", "root-mean-square distance of 80-band log-mel spectra"),
    "f0_rmse_cents": ("harness.metrics.pitch:F0Rmse", "pitch error over frames voiced on both sides"),
    "voicing_error": ("harness.metrics.pitch:VoicingError", "share of frames whose voicing differs"),
    "f0_correlation": ("harness.metrics.pitch:F0Correlation", "correlation of log F0 over frames voiced on both sides"),
    "level_rms_db": ("harness.metrics.level:LevelRms", "level of the output minus the reference, dB RMS"),
    "level_lufs_db": ("harness.metrics.level:LevelLufs", "loudness of the output minus the reference, BS.1770"),
    "clipped_samples": ("harness.metrics.level:ClippedSamples", "samples of the output at full scale"),
    "length_ratio": ("harness.metrics.level:LengthRatio", "duration of the output over the reference"),
    "nominal_bps": ("harness.metrics.tokens:NominalBps", "frame rate times the sum of log2 codebook sizes"),
    "emitted_bps": ("harness.metrics.tokens:EmittedBps", "bits of the codes really emitted, per second"),
    "entropy_bps": ("harness.metrics.tokens:EntropyBps", "first-order entropy of the codes, per second, corrected for few tokens"),
    "side_bps": ("harness.metrics.tokens:SideBps", "side information (utterance embedding), per second"),
    "codebook_use": ("harness.metrics.tokens:CodebookUse", "share of codebook entries used"),
    "codebook_perplexity": (
        "harness.metrics.tokens:CodebookPerplexity",
        "perplexity of the codes, mean over codebooks, corrected for few tokens",
    ),
    "last_codebook_use": ("harness.metrics.tokens:LastCodebookUse", "share of entries used of the last codebook decoded"),
    "last_codebook_entropy_bits": ("harness.metrics.tokens:LastCodebookEntropy", "entropy per token of the last codebook decoded"),
    "phone_accuracy": ("harness.metrics.phones:PhoneAccuracy", "phones that a linear probe tells from the last codebook's tokens"),
    "phone_chance": ("harness.metrics.phones:PhoneChance", "phone_accuracy without tokens: the commonest phone"),
    "rtf": ("harness.metrics.speed:Rtf", "real-time factor, sum of wall time over sum of audio"),
    "rtf_encode": ("harness.metrics.speed:RtfEncode", "real-time factor of encoding"),
    "rtf_decode": ("harness.metrics.speed:RtfDecode", "real-time factor of decoding"),
    "rtf_batched": ("harness.metrics.speed:RtfBatched", "real-time factor of several utterances at once"),
    "rtf_prefill": ("harness.metrics.speed:RtfPrefill", "real-time factor of reading text and prompt, of a synthesizer"),
    "rtf_lm": ("harness.metrics.speed:RtfLm", "real-time factor of the language model's steps"),
    "rtf_codec": ("harness.metrics.speed:RtfCodec", "real-time factor of a synthesizer's codec decoder"),
    "rtf_vocoder": ("harness.metrics.speed:RtfVocoder", "real-time factor of a synthesizer's vocoder"),
    "ttft_token_ms": ("harness.metrics.speed:FirstToken", "time to the first token"),
    "ttf_frame_ms": ("harness.metrics.speed:FirstFrame", "time to every codebook of the first frame"),
    "ttfc_ms": ("harness.metrics.speed:FirstChunk", "time to the first chunk of audio; a silent one is refused"),
    "ttfa_ms": ("harness.metrics.speed:FirstAudible", "time to the first sample above -40 dBFS"),
    "underrun_0_ms": ("harness.metrics.speed:Underrun0", "standstill of a player without a buffer"),
    "underrun_100_ms": ("harness.metrics.speed:Underrun100", "standstill of a player with 100 ms of buffer"),
    "underrun_200_ms": ("harness.metrics.speed:Underrun200", "standstill of a player with 200 ms of buffer"),
    "codebook_tokens_per_s": ("harness.metrics.speed:CodebookTokens", "codebook tokens a second, prefill included"),
    "floor_share_encode": ("harness.metrics.speed:FloorShareEncode", "floor of encoding over its time"),
    "floor_share_decode": ("harness.metrics.speed:FloorShareDecode", "floor of decoding over its time"),
    "floor_share_prefill": ("harness.metrics.speed:FloorSharePrefill", "floor of the prefill over its time"),
    "floor_share_lm": ("harness.metrics.speed:FloorShareLm", "floor of the language model's steps over their time"),
    "floor_rtf": ("harness.metrics.speed:FloorRtf", "real-time factor of the floors: weights and cache read, operations done"),
    "host_peak_mib": ("harness.metrics.speed:HostPeak", "peak of resident memory while it was timed"),
    "device_peak_mib": ("harness.metrics.speed:DevicePeak", "peak of memory on the device while it was timed"),
    "kv_cache_mib": ("harness.metrics.speed:KvCache", "memory of the key-value cache"),
    "load_audio_per_s": ("harness.metrics.speed:LoadAudio", "seconds of speech a second under load, all requests together"),
    "load_ttfa_p50_ms": ("harness.metrics.speed:LoadAudibleP50", "median time to the first audible sample under load"),
    "load_ttfa_p90_ms": ("harness.metrics.speed:LoadAudibleP90", "p90 of the time to the first audible sample under load"),
    "load_ttfa_p95_ms": ("harness.metrics.speed:LoadAudibleP95", "p95 of the time to the first audible sample under load"),
    "load_ttfa_p99_ms": (
        "harness.metrics.speed:LoadAudibleP99",
        "p99 of the time to the first audible sample under load, from 459 requests",
    ),
    "load_latency_p50_ms": ("harness.metrics.speed:LoadLatencyP50", "median time from a request to the end of its speech under load"),
    "load_latency_p95_ms": ("harness.metrics.speed:LoadLatencyP95", "p95 of the time from a request to the end of its speech under load"),
    "joules_per_s": ("harness.metrics.speed:Joules", "energy per second of speech, where the machine counts it"),
    "wer": ("harness.metrics.text:Wer", "word error rate under the asr= preset"),
    "cer": ("harness.metrics.text:Cer", "character error rate under the asr= preset"),
    "dwer": ("harness.metrics.text:DWer", "word error rate against the transcript of the reference audio"),
    "intelligibility_probe": ("harness.metrics.text:IntelligibilityProbe", "closed-vocabulary recogniser's word errors; not a WER"),
    "sim_o": ("harness.metrics.speaker:SpeakerSimilarity", "speaker similarity to the original recording or prompt (speaker= backend)"),
    "sim_r": ("harness.metrics.speaker:ResynthesisSimilarity", "speaker similarity to the codec's resynthesis of the prompt"),
    "stopped_by_itself": ("harness.metrics.stopping:StoppedByItself", "share of syntheses that ended by themselves, no runaways"),
    "mos": ("harness.metrics.mos:PredictedMos", "predicted MOS (mos= backend)"),
}


class Entry:
    """A registered name.

    Args:
        group: "systems", "suites" or "metrics".
        name: as typed.
        target: "module:attr".
        summary: one line, "" for plug-ins.
        origin: "" for built-in, else the distribution that brought it.
    """

    def __init__(self, group: str, name: str, target: str, summary: str = "", origin: str = "") -> None:
        self.group, self.name, self.target, self.summary, self.origin = group, name, target, summary, origin


def entries(group: str) -> dict[str, Entry]:
    """All names of a group, built-in first. A plug-in cannot replace a built-in name; such a clash is listed by `broken_plugins`."""
    tables: dict[str, Any] = {"systems": SYSTEMS, "suites": SUITES, "metrics": METRICS}
    builtin: Mapping[str, Any] = tables[group]
    found = {name: Entry(group, name, *((v,) if isinstance(v, str) else v)) for name, v in builtin.items()}
    for plugin in _plugins():
        if plugin.group == group:
            found.setdefault(plugin.name, plugin)
    return found


def resolve(group: str, name: str) -> Any:
    """The class or factory behind a name, imported now.

    Raises:
        UnknownName: not registered.
        MissingDependency: its import fails; the reason is in the message.
    """
    known = entries(group)
    if name not in known:
        raise UnknownName({"systems": "system family"}.get(group, group.rstrip("s")), name, known)
    from harness.foreign import Kept, attempt, loading, reason_of, tried

    entry = known[name]
    what = f"{group} '{name}' ({f'plug-in {entry.origin}' if entry.origin else 'built-in'}, {entry.target})"
    if not entry.origin:
        try:
            return attempt(lambda: _imported(entry))
        except Exception as error:
            raise MissingDependency(f"{what} cannot be imported: {reason_of(error)}") from error
    loading(what)
    if fault := tried(entry.target.partition(":")[0]):
        raise MissingDependency(f"{what} cannot be imported: {fault}")
    try:
        with Kept(settling=True):
            return attempt(lambda: _imported(entry))
    except Exception as error:  # a plug-in may raise anything at import: it is reported, never hidden
        raise MissingDependency(f"{what} cannot be imported: {reason_of(error)}") from error


def _imported(entry: Entry) -> Any:
    import importlib

    module, _, attr = entry.target.partition(":")
    found: Any = importlib.import_module(module)
    for part in attr.split("."):
        found = getattr(found, part)
    return found


def metric_class(key: str) -> Any:
    """The class of a metric; those that need no backend are built without arguments."""
    return resolve("metrics", key)


def broken_plugins() -> dict[Entry, str]:
    """Plug-ins that cannot be used, and distributions whose entry points cannot be read, with the reason.

    Imports every plug-in; for `harness doctor`.
    """
    broken = {}
    for plugin in _plugins():
        if plugin.group not in GROUPS:
            broken[plugin] = plugin.summary
            continue
        known = entries(plugin.group)[plugin.name]
        if (known.target, known.origin) != (plugin.target, plugin.origin):
            broken[plugin] = f"the name '{plugin.name}' is taken by {known.origin or 'a built-in'}"
            continue
        try:
            resolve(plugin.group, plugin.name)
        except MissingDependency as error:
            broken[plugin] = str(error)
    return broken


def variants(extra_dir: Path | None = None) -> dict[str, str]:
    """Names accepted by ``systems=[...]`` with their one-line descriptions: the YAML files, then plug-in families without one."""
    found = config_choices("systems", extra_dir)
    for name, entry in entries("systems").items():
        if entry.origin and name not in found:
            found[name] = f"plug-in from {entry.origin}"
    return found


def config_choices(group: str, extra_dir: Path | None = None) -> dict[str, str]:
    """Options of a config group (``dataset``, ``asr``, ...) with the first descriptive comment line of each YAML."""
    return {name: _description(path) for name, path in _yaml_files(group, extra_dir).items()}


def config_names(group: str, extra_dir: Path | None = None) -> list[str]:
    """Options of a config group, without opening their files."""
    return list(_yaml_files(group, extra_dir))


def _yaml_files(group: str, extra_dir: Path | None) -> dict[str, str]:
    found = {}
    for root in (CONF_DIR, extra_dir):
        folder = os.path.join(root, group) if root else ""
        if os.path.isdir(folder):
            for name in sorted(os.listdir(folder)):
                if name.endswith(".yaml"):
                    found[name.removesuffix(".yaml")] = os.path.join(folder, name)
    return found


def _description(path: str) -> str:
    try:
        lines = read_text(path, YAML_BYTES).splitlines()
    except (OSError, ValueError) as problem:
        return f"cannot be read: {problem}"
    for line in lines:
        if not line.startswith("#"):
            break
        text = line.lstrip("# ").strip()
        if text and not text.startswith("@package"):
            return text
    return ""


_SCANNED: dict[tuple[str, ...], list[Entry]] = {}  # by search path: installing a plug-in while a process runs is not noticed by it


def _plugins() -> list[Entry]:
    path = tuple(sys.path)
    if path not in _SCANNED:
        _SCANNED[path] = list(_scan())
    return _SCANNED[path]


def _scan() -> Iterator[Entry]:
    """Entry points of the three groups in every installed distribution.

    Reads the files of the entry-points specification itself (2 ms for 140 distributions): importing importlib.metadata takes 20 ms,
    more than the rest of ``harness list`` together.
    """
    for directory in dict.fromkeys(sys.path):
        try:
            names = sorted(n for n in os.listdir(directory or ".") if n.endswith((".dist-info", ".egg-info")))
        except OSError:
            continue  # sys.path may name zip files and folders that are not there
        for name in names:
            # A file name may hold bytes that are no text.
            origin = name.rpartition(".")[0].encode("utf-8", "backslashreplace").decode()
            path = os.path.join(directory, name, "entry_points.txt")
            try:
                text = read_text(path, LARGEST_ENTRY_POINTS)
            except (FileNotFoundError, NotADirectoryError):
                continue  # most distributions have none
            except (OSError, ValueError) as error:
                yield Entry("distribution", origin, "", f"its entry_points.txt cannot be read, so nothing of it is used: {error}", origin)
                continue
            if "[harness." in text:
                yield from _parse_entry_points(text, origin)


LARGEST_ENTRY_POINTS = 1 << 20
"""Bytes; a thousand times more than a usual file has."""


def _parse_entry_points(text: str, origin: str) -> Iterator[Entry]:
    """The entries of our groups; a line that cannot be one makes the distribution a broken one, and the other lines are used."""
    group = ""
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("["):
            group = line.strip("[] ").removeprefix("harness.") if line.startswith("[harness.") else ""
        elif line and line[0] not in "#;" and group in GROUPS:
            name, _, target = (part.strip() for part in line.partition("="))
            target = target.split("[")[0].strip()
            module, _, attr = target.partition(":")
            if name and all(part.isidentifier() for part in f"{module}.{attr}".split(".")):
                yield Entry(group, name, target, origin=origin)
            else:
                reason = f"its entry_points.txt has a line that is no entry point (name = module:attribute): {line[:80]!r}"
                yield Entry("distribution", origin, "", reason, origin)
