"""How the embedded set is made: ``python -m harness.data.embedded_recipe OUT``.

Needs Debian's ``flite`` and ``espeak-ng`` on the PATH. Every sentence is our own. Nothing is trimmed or levelled afterwards:
flite's 16-kHz, 16-bit samples are stored as they come; espeak-ng speaks at amplitude 80, because at its default of 100 some peaks
pass full scale once resampled, and its 22.05 kHz are resampled by the harness and rounded to 16 bits. Its voice for Mandarin is
cmn-latn-pinyin: in version 1.51 plain cmn spells the pinyin of most characters as if it were English. The same programs give the
same bytes; each line of the manifest states voice, tool, processing and SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.data.audio import read_audio, resample
from harness.errors import HarnessError, MissingDependency, UsageError

SAMPLE_RATE = 16000


@dataclass(frozen=True)
class Voice:
    """One synthetic voice with what it says.

    Args:
        tool: "flite" or "espeak-ng".
        name: as the tool knows it.
        language: ISO 639-1 code.
        prompts: sentences for its prompts, used in turn.
        sentences: for its items.
    """

    tool: str
    name: str
    language: str
    prompts: tuple[str, ...]
    sentences: tuple[str, ...]

    @property
    def speaker(self) -> str:
        return f"{self.tool.partition('-')[0]}-{re.sub(r'[^a-z0-9]+', '-', self.name)}"


VOICES = (
    Voice(
        "flite", "slt", "en",
        (
            "My neighbor keeps three grey geese and a very patient donkey.",
            "Please leave the blue folder beside the printer before lunch.",
        ),
        (
            "Heavy clouds drifted over the harbor while the fishermen mended their nets.",
            "She ordered two cups of ginger tea and a slice of walnut bread.",
            "The museum closes at five, so we should hurry across the bridge.",
            "Nobody noticed the yellow bicycle leaning against the chapel wall.",
            "Forty six runners finished the race before the thunder began.",
            "A gentle voice on the radio announced the weather for Thursday.",
            "Could you measure the width of this shelf once more?",
            "The twins painted their garage a shocking shade of purple.",
            "Fresh snow had covered every path between the old stone houses.",
            "His uncle repairs violins in a narrow workshop above the bakery.",
        ),
    ),
    Voice(
        "flite", "rms", "en",
        (
            "The ferry to the island leaves twice a day in winter.",
            "We found an empty jar of honey under the porch.",
        ),
        (
            "Turn left at the lighthouse and follow the gravel road uphill.",
            "Our train was delayed for ninety minutes outside the city.",
            "The judge asked both witnesses to speak a little louder.",
            "Wild mushrooms grow thickly beneath the beech trees in October.",
            "I would rather walk home than wait for another crowded bus.",
            "The engineer checked each valve before opening the main gate.",
            "Seven hundred tickets were sold within the first hour.",
            "A small brown dog chased its own shadow along the beach.",
            "You should never pour cold water into a hot glass.",
            "Their youngest daughter is studying the history of medicine.",
        ),
    ),
    Voice(
        "flite", "awb", "en",
        (
            "The clock in the kitchen is always four minutes fast.",
            "Every spring the swallows return to the same wooden barn.",
        ),
        (
            "The gardener planted a row of cherry trees behind the school.",
            "Our guide explained why the river changes color in August.",
            "Put the heavier boxes at the bottom of the van.",
            "A flash of lightning showed the outline of the castle.",
            "They argued about the map until the candle burned out.",
            "The choir rehearses on Monday evenings in the town hall.",
            "Thirteen wooden chairs stood in a circle around the stove.",
            "Frost had drawn strange feathers on the bedroom window.",
            "The baker gave us a warm roll and refused our money.",
            "She wrote the address carefully on the back of a postcard.",
        ),
    ),
    Voice(
        "flite", "kal16", "en",
        (
            "The elevator stops on every floor except the ninth.",
            "A quiet hum came from the machine in the corner.",
        ),
        (
            "Check the oil and the tires before a long journey.",
            "The library bought a hundred and twenty new novels this year.",
            "He measured the flour, the sugar and a pinch of salt.",
            "Both pilots saw the runway lights through the thin fog.",
            "The path becomes steep and slippery after the second bridge.",
            "Her cousin collects stamps from countries that no longer exist.",
            "Please switch off the projector when the meeting is over.",
            "A large ship was unloading bananas at the northern dock.",
            "The children built a fort out of pillows and blankets.",
            "Most of the survey can be finished by early July.",
        ),
    ),
    Voice(
        "espeak-ng", "en-us", "en",
        ("The post office moved to the other side of the square.",),
        (
            "The mechanic found a loose wire under the dashboard.",
            "Fifteen geese flew over the frozen lake at sunrise.",
        ),
    ),
    Voice(
        "espeak-ng", "en-us+f3", "en",
        ("I usually read for half an hour before I fall asleep.",),
        (
            "My sister bakes rye bread on the first Sunday of each month.",
            "The curtain rose and the whole theatre became silent.",
        ),
    ),
    Voice(
        "espeak-ng", "en-gb+m3", "en",
        ("The farmer stores his apples in a cool, dark cellar.",),
        (
            "We had a picnic by the canal and watched the narrow boats.",
            "The old tower leans slightly towards the market place.",
        ),
    ),
    Voice(
        "espeak-ng", "en-gb-scotland", "en",
        ("There is a small café above the flower shop.",),
        (
            "The hills were purple with heather as far as we could see.",
            "Bring a thick jumper, for the evenings are rather cold.",
        ),
    ),
    Voice(
        "espeak-ng", "en-gb-x-rp+f2", "en",
        ("The doctor will see you shortly in room twenty two.",),
        (
            "Could somebody open the window and let in some fresh air?",
            "The choice between the two candidates was unusually difficult.",
        ),
    ),
    Voice(
        "espeak-ng", "cmn-latn-pinyin", "zh",
        ("窗台上的那盆花已经开了三天。",),
        (
            "今天早上图书馆门口排了很长的队。",
            "请把红色的箱子放在门后面。",
        ),
    ),
    Voice(
        "espeak-ng", "cmn-latn-pinyin+f2", "zh",
        ("奶奶每天傍晚都去河边散步。",),
        (
            "明天下午我们一起去公园划船吧。",
            "这家小店的豆浆又香又浓。",
        ),
    ),
    Voice(
        "espeak-ng", "cmn-latn-pinyin+f4", "zh",
        ("老师让大家先把课文读两遍。",),
        (
            "山上的雪到四月才慢慢融化。",
            "她用三个星期学会了骑自行车。",
        ),
    ),
    Voice(
        "espeak-ng", "cmn-latn-pinyin+m3", "zh",
        ("楼下新开了一家修鞋的铺子。",),
        (
            "火车晚点了四十分钟才进站。",
            "弟弟把旧报纸折成了一条小船。",
        ),
    ),
    Voice(
        "espeak-ng", "cmn-latn-pinyin+m1", "zh",
        ("院子里的两棵枣树今年结满了果。",),
        (
            "听说北方昨天夜里下了一场大雪。",
            "桌上那杯茶放久了已经凉了。",
        ),
    ),
)  # fmt: skip

PROCESSING = {
    "flite": "none: 16-kHz, 16-bit samples as the program wrote them",
    "espeak-ng": "amplitude 80 of 100; resampled from 22.05 kHz (soxr VHQ) and rounded to 16 bits; pauses as the program made them",
}


def make(out: Path) -> int:
    """Write ``out/manifest.jsonl`` and the FLAC files it names.

    Args:
        out: folder, made if need be; must be empty.

    Returns:
        Number of items.

    Raises:
        UsageError: ``out`` is not empty.
        MissingDependency: flite or espeak-ng is not installed.
        HarnessError: a program failed, or its speech is not 2 to 6 s long or is clipped.
    """
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise UsageError(f"{out} is not empty; give a new folder")
    tools = tool_versions()
    rows: list[tuple[int, dict[str, object]]] = []
    for voice in VOICES:
        (out / voice.speaker).mkdir()
        prompts = [_speak(out, voice, f"prompt{i + 1}", text) for i, text in enumerate(voice.prompts)]
        for i, text in enumerate(voice.sentences):
            item, turn = _speak(out, voice, f"{i + 1:02d}", text), i % len(prompts)
            row: dict[str, object] = {
                "id": f"{voice.speaker}-{i + 1:02d}",
                "audio": item.name,
                "text": text,
                "language": voice.language,
                "speaker": voice.speaker,
                "prompt_audio": prompts[turn].name,
                "prompt_text": voice.prompts[turn],
                "synthetic": True,
                "voice": voice.name,
                "tool": tools[voice.tool],
                "processing": PROCESSING[voice.tool],
                "duration_s": item.duration_s,
                "bytes": item.size,
                "sha256": item.sha256,
                "prompt_duration_s": prompts[turn].duration_s,
                "prompt_bytes": prompts[turn].size,
                "prompt_sha256": prompts[turn].sha256,
            }
            rows.append((i, row))
    # The voices take turns, so that the first few items (dataset.limit) are already spoken by several.
    rows.sort(key=lambda numbered: numbered[0])
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for _, row in rows]
    (out / "manifest.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")
    return len(rows)


def tool_versions() -> dict[str, str]:
    """Name and version of each speech program.

    Raises:
        MissingDependency: one is not installed.
    """
    found = {}
    for tool, pattern in (("flite", r"version: flite-(\S+)"), ("espeak-ng", r"eSpeak NG text-to-speech: (\S+)")):
        if shutil.which(tool) is None:
            raise MissingDependency(f"the embedded set is made with {tool}, which is not on the PATH; on Debian: apt install {tool}")
        said = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False)
        match = re.search(pattern, said.stdout + said.stderr)
        found[tool] = f"{tool} {match[1] if match else 'of unknown version'}"
    return found


@dataclass(frozen=True)
class _Spoken:
    name: str
    duration_s: float
    size: int
    sha256: str


def _speak(out: Path, voice: Voice, stem: str, text: str) -> _Spoken:
    import soundfile

    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "speech.wav"
        if voice.tool == "flite":
            command, said = ["flite", "-voice", voice.name, "-t", text, "-o", str(raw)], ""
        else:
            command, said = ["espeak-ng", "-v", voice.name, "-a", "80", "--stdin", "-b", "1", "-w", str(raw)], text
        done = subprocess.run(command, input=said, capture_output=True, text=True, encoding="utf-8", check=False)
        if done.returncode or not raw.is_file():
            raise HarnessError(f"{' '.join(command)} failed with {done.returncode}: {done.stderr.strip()}")
        audio = read_audio(raw)
    samples = resample(audio.samples[0], audio.sample_rate, SAMPLE_RATE)
    duration_s, peak = samples.size / SAMPLE_RATE, float(np.abs(samples).max())
    if not 2 <= duration_s <= 6 or peak >= 1:
        raise HarnessError(f"{voice.speaker} {stem}: {duration_s:.2f} s with peak {peak:.3f}; wanted 2 to 6 s and no clipping ({text})")
    file = out / voice.speaker / f"{stem}.flac"
    soundfile.write(file, np.round(samples * 32768).astype(np.int16), SAMPLE_RATE, format="FLAC", subtype="PCM_16", compression_level=1.0)
    data = file.read_bytes()
    return _Spoken(f"{voice.speaker}/{file.name}", round(duration_s, 4), len(data), hashlib.sha256(data).hexdigest())


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: one argument, the folder to write."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if len(words) != 1 or words[0].startswith("-"):
        print("usage: python -m harness.data.embedded_recipe OUT", file=sys.stderr)
        return 2
    try:
        for version in tool_versions().values():
            print(version)
        print(f"{make(Path(words[0]))} items in {words[0]}")
    except HarnessError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
