"""A blind listening test of a run: one self-contained page that knows no names, and a key that stays with whoever made it.

The page holds clips by number and sends nothing; its answers are downloaded as CSV and read with the key by `reports.listening.ratings`.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import combinations
from pathlib import Path
from typing import Any

from harness.errors import DamagedFile, UnknownName, UsageError
from harness.storing.files import read_json, sealed
from harness.storing.frame import OpenedRun
from reports.statistics.records import parsed_settings
from reports.writing.blocks import Heading, Markup, Text
from reports.writing.clips import Clip, encoded
from reports.writing.html import page

SCRIPTS = ("tables.js", "clips.js", "spectrogram.js", "players.js", "listening.js")
REFERENCE = "reference"
"""What the key calls the recording itself."""
MOST_SAMPLES = 9
"""Samples of one trial: more than these nobody holds in mind, and a digit plays each."""


class Design(StrEnum):
    """What a listener is asked.

    RATING: each output from 0 to 100 beside the recording, the recording hidden among them. AB: which of two outputs is better, or
    neither. ABX: whether X is A or B, where it is one of the two.
    """

    RATING = "rating"
    AB = "ab"
    ABX = "abx"


QUESTIONS = {
    Design.RATING: "How close is each sample to the reference, from 0 (nothing alike) to 100 (no difference to be heard)? "
    "The reference itself is hidden among the samples.",
    Design.AB: "Which sample sounds better?",
    Design.ABX: "Is X the same recording as A or as B?",
}
ALONE = "How good does each sample sound, from 0 (bad) to 100 (excellent)?"
"""The question of a rating where there are no recordings to compare with."""


@dataclass(frozen=True)
class Trial:
    """One question.

    Args:
        item: id.
        samples: label of each sample, in the order they are shown: a system with its settings, or "reference".
        reference: whether the recording may be heard openly.
    """

    item: str
    samples: tuple[str, ...]
    reference: bool


@dataclass(frozen=True)
class Session:
    """A listening test as its maker knows it; this is the key, and is not in the page.

    Args:
        name: 8 hex digits; answers carry it, so that no other key reads them.
        run: folder name.
        design: what is asked.
        seed: of the order.
        trials: in the order they are asked.
    """

    name: str
    run: str
    design: Design
    seed: int
    trials: tuple[Trial, ...]

    def as_json(self) -> str:
        return sealed(json.dumps(asdict(self), indent=1, ensure_ascii=True))


def read_key(path: Path) -> Session:
    """A session from its key file.

    Raises:
        UsageError: not a key.
    """
    try:
        data = read_json(path)
        trials = tuple(Trial(str(t["item"]), tuple(map(str, t["samples"])), bool(t["reference"])) for t in data["trials"])
        return Session(str(data["name"]), str(data["run"]), Design(data["design"]), int(data["seed"]), trials)
    except (OSError, ValueError, KeyError, TypeError, DamagedFile) as problem:
        raise UsageError(
            f"{path} is not the key of a listening test ({problem}); `harness listen RUN` writes one beside its page"
        ) from problem


def arrange(run: OpenedRun, design: Design, systems: Sequence[str] = (), num_trials: int = 10, seed: int = 0) -> Session:
    """The questions of a test: items drawn, samples in random order, the same again for the same seed.

    Args:
        run: as read.
        design: what is asked.
        systems: to hear; none for all that are under test.
        num_trials: asked; for AB and ABX each pair of systems shares them as evenly as they divide.
        seed: of every draw.

    Raises:
        UsageError: an unknown system, or nothing that could be asked about.
    """
    paths = audible(run)
    names = sorted({name for name, _ in paths if name != REFERENCE})
    if not names:
        raise UsageError(f"{run.path} has no saved audio to listen to; run it again with this command: {run.manifest.get('command', '')}")
    chosen = list(dict.fromkeys(systems)) or [n for n in names if n.split(" ")[0] not in (run.manifest.get("calibration") or ())]
    with_recording = any(name == REFERENCE for name, _ in paths)
    known = [*names, REFERENCE] if with_recording else names
    for name in chosen:
        if name not in known:
            raise UnknownName("system with audio in this run", name, known)
    if num_trials < 1:
        raise UsageError(f"a listening test wants at least one trial, got {num_trials}")
    if design is not Design.RATING and len(chosen) < 2:
        # One system alone is told apart from the recording.
        chosen.append(REFERENCE)
    hidden = design is Design.RATING and with_recording and REFERENCE not in chosen
    samples = [*chosen, *([REFERENCE] if hidden else [])]
    if len(samples) > MOST_SAMPLES and design is Design.RATING:
        raise UsageError(
            f"{len(samples)} samples in one trial are too many to compare (at most {MOST_SAMPLES}); name some: --systems A,B,C"
        )
    draw = random.Random(f"{seed} {design} {samples}")
    groups = [tuple(samples)] if design is Design.RATING else list(combinations(samples, 2))
    trials = []
    for i, group in enumerate(groups):
        wanted = len(range(i, num_trials, len(groups)))
        items = [item for item in dict.fromkeys(item for _, item in paths) if all((name, item) in paths for name in group)]
        for item in draw.sample(items, min(wanted, len(items))):
            order = draw.sample(group, len(group))
            if design is Design.ABX:
                order.append(draw.choice(order))
            open_reference = design is not Design.ABX and (REFERENCE, item) in paths
            trials.append(Trial(item, tuple(order), open_reference))
    if not trials:
        raise UsageError(f"no item of {run.path} has audio of all of {', '.join(samples)}; name fewer systems: --systems A,B")
    draw.shuffle(trials)
    identity = json.dumps([run.manifest.get("plan_digest", run.path.name), design, seed, [asdict(t) for t in trials]])
    return Session(hashlib.blake2b(identity.encode(), digest_size=4).hexdigest(), run.path.name, design, seed, tuple(trials))


def audible(run: OpenedRun) -> Mapping[tuple[str, str], Path]:
    """Audio by (label, item): of each output the first seed, and the recordings as "reference"."""
    found: dict[tuple[str, str], Path] = {(REFERENCE, item): path for item, path in run.references.items()}
    for (system, settings, item, _), path in sorted(run.outputs.items(), key=lambda pair: pair[0][3]):
        variant = ", ".join(f"{k}={v}" for k, v in parsed_settings(settings).items())
        found.setdefault((f"{system} {variant}".rstrip(), item), path)
    return found


def render(run: OpenedRun, session: Session) -> Iterator[str]:
    """The page in parts.

    Nothing in it names an item or a system, and no two samples share a clip. Samples keep their sample rate, level and length, by which
    a system may still be recognised.

    Raises:
        UsageError: a sample cannot be played.
    """
    paths = audible(run)
    clips: list[str] = []

    def sample(label: str, item: str) -> Mapping[str, Any]:
        clip: Clip = encoded(paths[label, item], run.digests.get(item, "") if label == REFERENCE else "")
        if clip.problem:
            raise UsageError(f"{paths[label, item]} {clip.problem}; leave its system out: --systems A,B")
        clips.append(clip.flac)
        return {"clip": len(clips) - 1, "rate": clip.sample_rate, "s": round(clip.duration_s, 3)}

    trials = [
        {
            "reference": sample(REFERENCE, trial.item) if trial.reference else None,
            "samples": [sample(label, trial.item) for label in trial.samples],
        }
        for trial in session.trials
    ]
    open_reference = any(trial.reference for trial in session.trials)
    question = QUESTIONS[session.design] if open_reference or session.design is not Design.RATING else ALONE
    how = (
        "Use headphones in a quiet room and set the level once, before you begin. Samples play from the start as often as you like; the digits "
        "play them too. Nothing is sent anywhere: at the end, download your answers and return the file."
    )
    return page(
        title=f"Listening test {session.name}",
        header=[Heading("Listening test", 1), Text(question, ""), Text(how)],
        main=[Markup('<div id="test"></div><noscript>The test needs JavaScript.</noscript>')],
        scripts=SCRIPTS,
        data={"session": session.name, "design": session.design, "trials": trials},
        clips=clips,
    )
