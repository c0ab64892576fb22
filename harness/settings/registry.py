"""Every name a user can type, as lazy ``"module:attr"`` strings; nothing is imported until it is used.

Built-in families and metrics stand below; a suite is a file of the package ``suites`` (`suites`). A third party joins by entry points in
the groups ``harness.systems``, ``harness.suites`` and ``harness.metrics``. *Variants* of systems are YAML files in
``systems/conf``; a plug-in family without one is its own variant.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from configparser import ConfigParser
from configparser import Error as NoEntryPoints
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import Any

from harness.data.documents import MIB, YAML_BYTES, read_text
from harness.errors import MissingDependency, UnknownName

CONF_DIR = Path(__file__).resolve().parents[1] / "conf"
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


@dataclass(frozen=True)
class Entry:
    """A registered name.

    Args:
        group: "systems", "suites" or "metrics".
        name: as typed.
        target: "module:attr".
        summary: one line, "" for plug-ins.
        origin: "" for built-in, else the distribution that brought it.
    """

    group: str
    name: str
    target: str
    summary: str = ""
    origin: str = ""


def entries(group: str) -> dict[str, Entry]:
    """All names of a group, built-in first. A plug-in cannot replace a built-in name; such a clash is listed by `broken_plugins`."""
    if group == "systems":
        found = {name: Entry(group, name, target) for name, target in SYSTEMS.items()}
    elif group == "metrics":
        found = {name: Entry(group, name, *about) for name, about in METRICS.items()}
    else:
        found = {name: Entry(group, name, f"suites.{name}:{name.title().replace('_', '')}Suite") for name in config_files("suite")}
    for plugin in _plugins(tuple(sys.path)):
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
    from pkgutil import resolve_name

    from harness.foreign import attempt, loading, reason_of, tried
    from harness.kept import Kept

    entry = known[name]
    what = f"{group} '{name}' ({f'plug-in {entry.origin}' if entry.origin else 'built-in'}, {entry.target})"
    if not entry.origin:
        try:
            return attempt(lambda: resolve_name(entry.target))
        except Exception as error:
            raise MissingDependency(f"{what} cannot be imported: {reason_of(error)}") from error
    loading(what)
    if fault := tried(entry.target.partition(":")[0]):
        raise MissingDependency(f"{what} cannot be imported: {fault}")
    try:
        with Kept(settling=True):
            return attempt(lambda: resolve_name(entry.target))
    except Exception as error:  # a plug-in may raise anything at import: it is reported, never hidden
        raise MissingDependency(f"{what} cannot be imported: {reason_of(error)}") from error


def metric_class(key: str) -> Any:
    """The class of a metric; those that need no backend are built without arguments."""
    return resolve("metrics", key)


def broken_plugins() -> dict[Entry, str]:
    """Plug-ins that cannot be used, and distributions whose entry points cannot be read, with the reason.

    Imports every plug-in; for `harness doctor`.
    """
    broken = {}
    for plugin in _plugins(tuple(sys.path)):
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
    """Options of a config group (``dataset``, ``asr``, ...) with the first line of each file that describes it."""
    return {name: _description(path) for name, path in config_files(group, extra_dir).items()}


def config_names(group: str, extra_dir: Path | None = None) -> list[str]:
    """Options of a config group, without opening their files."""
    return list(config_files(group, extra_dir))


def config_files(group: str, extra_dir: Path | None = None) -> dict[str, Path]:
    """The file of every option of a config group: suites are Python, systems describe themselves in folders of their own package."""
    if group == "suite":
        found = _installed("suites", "[!_]*.py")
    elif group == "systems":
        found = _installed("systems", "conf/**/*.yaml")
    else:
        found = _named(CONF_DIR / group, "*.yaml")
    return found if extra_dir is None else found | _named(extra_dir / group, "*.yaml")


def _installed(package: str, pattern: str) -> dict[str, Path]:
    """Files of a package by the name of each, found without importing it."""
    spec = find_spec(package)
    folders = spec.submodule_search_locations or () if spec else ()
    return {name: path for folder in folders for name, path in _named(Path(folder), pattern).items()}


def _named(folder: Path, pattern: str) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob(pattern), key=lambda path: path.name)}


def _description(path: Path) -> str:
    """The first line of a module's docstring, or the first of YAML's leading comments that is no directive of Hydra's."""
    try:
        lines = read_text(path, YAML_BYTES).splitlines()
    except (OSError, ValueError) as problem:
        return f"cannot be read: {problem}"
    if path.suffix == ".py":
        return lines[0].strip('"').rstrip(".") if lines else ""
    comments = (line.lstrip("# ").strip() for line in takewhile(lambda line: line.startswith("#"), lines))
    return next((text for text in comments if text and not text.startswith("@package")), "")


@cache
def _plugins(path: tuple[str, ...]) -> list[Entry]:
    """Entry points of the three groups in every distribution on the search path; one installed while a process runs it does not notice.

    `importlib.metadata` would find them too, at five times the price, but opens whatever lies under the name ``entry_points.txt``: a named pipe would hold every
    verb for ever, and a file that is no text end it.
    """
    folders = (Path(directory or ".") for directory in dict.fromkeys(path))
    # A folder may hold bytes in its name that are no text; a search path may name zip files and folders that are not there.
    places = [place for folder in folders for suffix in ("dist-info", "egg-info") for place in sorted(folder.glob(f"*.{suffix}"))]
    return [entry for place in places for entry in _scan(place)]


def _scan(place: Path) -> Iterator[Entry]:
    """The entries of our groups in one distribution; a line that cannot be one makes it a broken one, and the other lines are used."""
    origin = place.stem.encode("utf-8", "backslashreplace").decode()
    parser = ConfigParser(delimiters=("=",), comment_prefixes=("#", ";"), allow_no_value=True, strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names as they are typed
    try:
        text = read_text(place / "entry_points.txt", MIB)  # a thousand times more than a usual file has
        if "[harness." in text:
            parser.read_string(text)
    except (FileNotFoundError, NotADirectoryError):
        return  # most distributions have none
    except (OSError, ValueError, NoEntryPoints) as error:
        yield Entry("distribution", origin, "", f"its entry_points.txt cannot be read, so nothing of it is used: {error}", origin)
        return
    for group in GROUPS:
        for name, value in parser.items(f"harness.{group}") if parser.has_section(f"harness.{group}") else ():
            target = (value or "").split("[")[0].strip()  # extras are of no matter here
            module, _, attr = target.partition(":")
            if all(part.isidentifier() for part in f"{module}.{attr}".split(".")):
                yield Entry(group, name, target, origin=origin)
            else:
                line = f"{name} = {value}" if value is not None else name
                reason = f"its entry_points.txt has a line that is no entry point (name = module:attribute): {line[:80]!r}"
                yield Entry("distribution", origin, "", reason, origin)
