"""Synthetic speech to train on: ``python -m harness.data.training_speech OUT --english FILE [--mandarin FILE]``.

Transcribed human speech is scarce where nothing can be downloaded; Debian's ``flite`` and ``espeak-ng`` speak any text. Many speakers
are made from few voices: the program is asked for another mean F0 and another tempo, and its output is then resampled, which moves the
whole envelope (a longer or shorter vocal tract) and the F0 with it; tempo and F0 are asked for so that both end where the speaker's
should be. Unlike analysis and resynthesis by a vocoder this costs no quality and next to no time.

Held out: flite's voice `rms` and the espeak-ng voices of the embedded set, as a whole; the sentences of the embedded set. The same
programs, texts and seed give the same corpus.
"""

from __future__ import annotations

import argparse
import csv
import math
import random
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.data import embedded_set
from harness.data.audio import resample
from harness.data.embedded_set import SAMPLE_RATE, program_versions, spoken_by, write_flac
from harness.errors import HarnessError, UsageError

FLITE_F0_HZ = {"slt": 170.0, "awb": 130.0, "kal16": 105.0}
"""flite's voices and about where their speakers' F0 lies; `rms` is held out."""
ESPEAK_ENGLISH = ("en-us", "en-gb", "en-gb-x-gbclan", "en-029")
ESPEAK_VARIANTS = ("m2", "m4", "m5", "m6", "m7", "f1", "f5")
MANDARIN = "cmn-latn-pinyin"
UTTERANCE_S = (1.0, 11.0)
_EXAMPLE = re.compile(r'"([^"]+)"')


@dataclass(frozen=True)
class Speaker:
    """One speaker that does not exist."""

    tool: str  # "flite" or "espeak-ng"
    voice: str  # as the tool knows it
    language: str  # ISO 639-1 code
    f0: float  # mean F0 over the voice's own
    envelope: float  # frequencies of the envelope over the voice's own; above 1 is a shorter vocal tract
    tempo: float  # speech rate over the voice's own

    @property
    def name(self) -> str:
        voice = re.sub(r"[^a-z0-9]+", "-", self.voice)
        return f"{self.tool.partition('-')[0]}-{voice}-{self.f0:.2f}-{self.envelope:.2f}-{self.tempo:.2f}"

    @property
    def settings(self) -> list[str]:
        """Words of the program's command line for F0 and tempo, before the envelope is moved."""
        stretch, f0 = self.envelope / self.tempo, self.f0 / self.envelope
        if self.tool == "flite":
            asked = f"int_f0_target_mean={FLITE_F0_HZ[self.voice] * f0:.1f}", f"duration_stretch={stretch:.3f}"
            return [word for setting in asked for word in ("--setf", setting)]
        # espeak-ng's pitch 0..99 is 50 by default and moves the F0 by about a factor of 2 to either side; its rate is in words a minute.
        pitch = min(max(round(50 + 50 * math.log2(f0)), 0), 99)
        return ["-p", str(pitch), "-s", str(round(175 / stretch))]


def speakers(count: int, language: str, tool: str, seed: int) -> tuple[Speaker, ...]:
    """``count`` different speakers of one tool, drawn by seed."""
    draw = random.Random(f"{seed}-{tool}-{language}")
    if tool == "flite":
        voices = list(FLITE_F0_HZ)
    else:
        taken = {row["voice"] for row in embedded_set.rows()}
        bases = ESPEAK_ENGLISH if language == "en" else (MANDARIN,)
        voices = [name for base in bases for variant in ESPEAK_VARIANTS if (name := f"{base}+{variant}") not in taken]
    return tuple(
        Speaker(
            tool,
            voices[i % len(voices)],
            language,
            round(math.exp(draw.uniform(-0.30, 0.35)), 3),
            round(math.exp(draw.uniform(-0.15, 0.15)), 3),
            round(math.exp(draw.uniform(-0.12, 0.12)), 3),
        )
        for i in range(count)
    )


def wordnet_examples(folder: Path) -> list[str]:
    """The example sentences of WordNet's glosses (Debian: wordnet-base, in /usr/share/wordnet), 4 to 16 words each.

    Raises:
        UsageError: no such files.
    """
    files = sorted(folder.glob("data.*"))
    if not files:
        raise UsageError(f"{folder} has no WordNet files data.noun, data.verb ...; on Debian: apt install wordnet-base")
    found: dict[str, None] = {}
    for file in files:
        for line in file.read_text(encoding="ascii", errors="replace").splitlines():
            for example in _EXAMPLE.findall(line.partition("|")[2]):
                words = example.replace("`", "").split()
                if 4 <= len(words) <= 16 and re.fullmatch(r"[A-Za-z ,.?!;:'-]+", " ".join(words)):
                    found.setdefault(" ".join(words))
    return list(found)


def mandarin_phrases(count: int, seed: int) -> list[str]:
    """``count`` strings of 2 to 4 entries of pypinyin's dictionary of phrases: every syllable in company, no sense."""
    from pypinyin.phrases_dict import phrases_dict

    phrases = sorted(phrase for phrase in phrases_dict if 2 <= len(phrase) <= 4 and re.fullmatch(r"[\u4e00-\u9fff]+", phrase))
    draw = random.Random(seed)
    return ["".join(draw.sample(phrases, draw.randint(2, 4))) for _ in range(count)]


def utterances(sentences: Sequence[str], count: int, joint: float, seed: int) -> Iterator[str]:
    """Texts to speak: every sentence once before one comes again, a ``joint`` share of them two at a time.

    Two are what a prompt and its continuation look like.
    """
    draw = random.Random(seed)
    left: list[str] = []
    for _ in range(count):
        parts = []
        for _ in range(2 if draw.random() < joint else 1):
            if not left:
                left = list(sentences)
                draw.shuffle(left)
            parts.append(_closed(left.pop()))
        yield " ".join(parts)


def _closed(sentence: str) -> str:
    if sentence[-1] in "。？！":
        return sentence
    sentence = sentence.rstrip(" .,;:!?-")
    if re.search(r"[\u4e00-\u9fff]", sentence):
        return sentence + "。"
    return sentence[0].upper() + sentence[1:] + "."


def speak(speaker: Speaker, text: str, file: Path) -> float | None:
    """Speaks into a FLAC file at 16 kHz.

    Returns:
        Its length in seconds; None where it would be shorter or longer than `UTTERANCE_S`, and no file is written.

    Raises:
        HarnessError: the program failed.
    """
    audio = spoken_by(speaker.tool, speaker.voice, text, speaker.settings)
    samples = resample(audio.samples[0], round(audio.sample_rate * speaker.envelope), SAMPLE_RATE)
    duration_s, peak = samples.size / SAMPLE_RATE, float(np.abs(samples).max(initial=0.0))
    if not UTTERANCE_S[0] <= duration_s <= UTTERANCE_S[1] or peak == 0.0:
        return None
    write_flac(file, samples * min(1.0, 0.95 / peak), 32767, 0.2)
    return duration_s


Job = tuple[Speaker, str]
"""Who speaks what."""


def dealt(groups: Sequence[tuple[Sequence[Speaker], Sequence[str]]]) -> list[Job]:
    """Texts dealt out to the speakers of each group in turn; sentences of the embedded set are left out."""
    held_out = {row[key] for row in embedded_set.rows() for key in ("text", "prompt_text")}
    return [
        (group[i % len(group)], text)
        for group, texts in groups
        for i, text in enumerate(texts)
        if not any(sentence in text for sentence in held_out)
    ]


def make(out: Path, jobs: Sequence[Job], workers: int = 2) -> int:
    """Writes ``out/manifest.csv`` and its FLAC files, ``workers`` programs at a time; how many recordings there are.

    Raises:
        HarnessError: a program failed.
        MissingDependency: flite or espeak-ng is not installed.
    """
    tools = program_versions()
    out.mkdir(parents=True, exist_ok=True)

    def one(job: tuple[int, Job]) -> dict[str, str] | None:
        number, (speaker, text) = job
        name = f"{speaker.name}/{number:06d}.flac"
        duration_s = speak(speaker, text, out / name)
        if duration_s is None:
            return None
        return {
            "path": name,
            "speaker": speaker.name,
            "language": speaker.language,
            "text": text,
            "duration": f"{duration_s:.4f}",
            "source_repo": tools[speaker.tool],
            "synthetic": "true",
        }

    with ThreadPoolExecutor(workers) as pool:
        rows = [row for row in pool.map(one, enumerate(jobs)) if row]
    with (out / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["path", "speaker", "language", "text", "duration", "source_repo", "synthetic"])
        writer.writeheader()
        writer.writerows(rows)
    return len(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; ``--help`` tells its words."""
    parser = argparse.ArgumentParser(prog="python -m harness.data.training_speech", description=str(__doc__).partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--english", type=Path, help="sentences, one a line")
    parser.add_argument("--wordnet", type=Path, help="or WordNet's folder: the examples of its glosses (Debian: /usr/share/wordnet)")
    parser.add_argument("--mandarin", type=Path, help="sentences, one a line; by default random phrases of pypinyin's dictionary")
    parser.add_argument("--flite", type=int, default=8000, metavar="N", help="English utterances by flite (%(default)s)")
    parser.add_argument("--espeak", type=int, default=1000, metavar="N", help="English utterances by espeak-ng (%(default)s)")
    parser.add_argument("--espeak-mandarin", type=int, default=1500, metavar="N", help="Mandarin utterances by espeak-ng (%(default)s)")
    parser.add_argument("--per-speaker", type=int, default=32, metavar="N", help="utterances of a speaker (%(default)s)")
    parser.add_argument("--joint", type=float, default=0.5, metavar="SHARE", help="of the utterances have two sentences (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args(arguments)
    try:
        english = wordnet_examples(words.wordnet) if words.wordnet else _lines(words.english)
        mandarin = _lines(words.mandarin) or mandarin_phrases(words.espeak_mandarin, words.seed)
        if not english and words.flite + words.espeak:
            raise UsageError("nothing to speak in English: give --english FILE or --wordnet DIR, or --flite 0 --espeak 0")
        groups = []
        for tool, language, sentences, count in (
            ("flite", "en", english, words.flite),
            ("espeak-ng", "en", english, words.espeak),
            ("espeak-ng", "zh", mandarin, words.espeak_mandarin),
        ):
            if sentences and count:
                people = speakers(max(1, count // words.per_speaker), language, tool, words.seed)
                groups.append((people, list(utterances(sentences, count, words.joint, words.seed))))
        print(f"{make(words.out, dealt(groups))} recordings in {words.out}")
    except HarnessError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _lines(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read as text in UTF-8: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
