"""A blind listening test of a run: one self-contained page that knows no names, and a key that stays with whoever made it.

The page holds clips by number and sends nothing; its answers are downloaded as CSV and read with the key by `reports.listening`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import combinations
from pathlib import Path
from typing import Any

from harness.data.documents import read_text
from harness.errors import DamagedFile, UnknownName, UsageError
from harness.storing.files import read_json, sealed
from harness.storing.runfolder import OpenedRun
from reports.statistics.intervals import IntervalSettings, Range
from reports.statistics.jackknife import interval
from reports.statistics.records import parsed_settings
from reports.writing.blocks import Block, Entry, Head, Heading, Line, Markup, Table, Text, words
from reports.writing.clips import Clip, encoded
from reports.writing.html import page
from reports.writing.wording import percent, plural

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
    """One question: labels of its samples in the order they are shown, and whether the recording may be heard openly."""

    item: str
    samples: tuple[str, ...]
    reference: bool


@dataclass(frozen=True)
class Session:
    """A listening test as its maker knows it: the key. Answers carry its name, 8 hex digits, so that no other key reads them."""

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
        systems: to hear; none for all that are under test.
        num_trials: asked; for AB and ABX each pair of systems shares them as evenly as they divide.

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


COLUMNS = ("session", "listener", "design", "trial", "sample", "answer", "plays", "seconds")
"""Of the file that the page gives out."""
LETTERS = "ABCDEFGHIJ"


@dataclass(frozen=True)
class Answer:
    """One line of an answers file.

    Args:
        trial: position in the session, from 0.
        sample: letter, "" where the answer is about the whole trial.
        value: as given: a number, "A", "B" or "neither".
    """

    listener: str
    trial: int
    sample: str
    value: str


@dataclass(frozen=True)
class Result:
    """A line of the result.

    Args:
        value: a mean rating, or a share from 0 to 1.
        low, high: bounds of the interval, None where there is none.
        p: two-sided (AB) or one-sided (ABX) exact binomial probability of a share this far from one half; None for ratings.
    """

    label: str
    words: str
    value: float
    low: float | None
    high: float | None
    n: int
    p: float | None = None
    detail: str = ""


def read_answers(paths: Iterable[Path], session: Session) -> tuple[Answer, ...]:
    """All answers of some files.

    Raises:
        UsageError: not a file of answers, of another session, about a question that was not asked, or an answer given twice.
    """
    found: dict[tuple[str, int, str], Answer] = {}
    for path in paths:
        try:
            rows = list(csv.DictReader(io.StringIO(read_text(path), newline="")))
        except (OSError, ValueError, csv.Error) as problem:
            raise UsageError(f"{path} cannot be read: {problem}") from problem
        if not rows or any(c not in rows[0] for c in COLUMNS[:6]):
            raise UsageError(f"{path} is not a file of answers: the first line must name {', '.join(COLUMNS)}, and an answer must follow")
        for number, row in enumerate(rows, 2):
            answer = _checked(row, session, f"{path}, line {number}")
            key = answer.listener, answer.trial, answer.sample
            if key in found:
                raise UsageError(f"{path}, line {number}: '{answer.listener}' has answered this before; give each file once")
            found[key] = answer
    return tuple(found.values())


def _checked(row: Mapping[str, str | None], session: Session, where: str) -> Answer:
    text = {k: str(row.get(k) or "").strip() for k in COLUMNS}
    if text["session"] != session.name:
        raise UsageError(f"{where}: of session '{text['session']}', the key is of {session.name}")
    if not text["trial"].isdecimal() or not 1 <= int(text["trial"]) <= len(session.trials):
        raise UsageError(f"{where}: no trial '{text['trial']}', there are 1 to {len(session.trials)}")
    trial = session.trials[int(text["trial"]) - 1]
    letters = list(LETTERS[: len(trial.samples)]) if session.design is Design.RATING else [""]
    if text["sample"] not in letters:
        raise UsageError(f"{where}: no sample '{text['sample']}' in this trial, there are {', '.join(letters) or 'none to name'}")
    allowed = {Design.AB: ("A", "B", "neither"), Design.ABX: ("A", "B")}.get(session.design)
    good = text["answer"] in allowed if allowed else text["answer"].isdecimal() and int(text["answer"]) <= 100
    if not good:
        raise UsageError(
            f"{where}: '{text['answer']}' is no answer; wanted {', '.join(allowed) if allowed else 'a whole number from 0 to 100'}"
        )
    return Answer(text["listener"], int(text["trial"]) - 1, text["sample"], text["answer"])


def results(session: Session, answers: Sequence[Answer], how: IntervalSettings | None = None) -> tuple[Result, ...]:
    """What the answers say, a line for each system or pair.

    Ratings: the mean, with an interval over listeners, over items where there is one listener. AB: the share of those with a
    preference who prefer the first named. ABX: the share of right answers; one half is guessing. Shares have exact (Clopper-Pearson)
    intervals, which take answers for independent; several answers of one listener are not quite.
    """
    how = how or IntervalSettings()
    if session.design is Design.RATING:
        return tuple(sorted(_ratings(session, answers, how), key=lambda f: (-f.value, f.label)))
    names = sorted({name for trial in session.trials for name in trial.samples})
    pairs = [(a, b) for a, b in combinations(names, 2) if any({a, b} == set(t.samples[:2]) for t in session.trials)]
    count = _preferences if session.design is Design.AB else _right
    return tuple(f for pair in pairs if (f := count(session, answers, pair, how.confidence)) is not None)


def _ratings(session: Session, answers: Sequence[Answer], how: IntervalSettings) -> Iterable[Result]:
    by_system: dict[str, list[Answer]] = {}
    for answer in answers:
        by_system.setdefault(session.trials[answer.trial].samples[LETTERS.index(answer.sample)], []).append(answer)
    several = len({a.listener for a in answers}) > 1
    for system, given in by_system.items():
        clusters = [a.listener if several else session.trials[a.trial].item for a in given]
        found = interval([float(a.value) for a in given], [1.0] * len(given), clusters, how.confidence, Range((0.0, 100.0)))
        detail = f"{found.clusters} {'listeners' if several else 'items'}"
        yield Result(system, "mean rating", found.value, found.low, found.high, len(given), detail=detail)


def _preferences(session: Session, answers: Sequence[Answer], pair: tuple[str, str], confidence: float) -> Result | None:
    counts = dict.fromkeys((*pair, "neither"), 0)
    for answer in answers:
        samples = session.trials[answer.trial].samples
        if set(samples) == set(pair):
            counts["neither" if answer.value == "neither" else samples[LETTERS.index(answer.value)]] += 1
    detail = ", ".join(f"{name} {count}" for name, count in counts.items())
    return _share(f"{pair[0]} over {pair[1]}", "preferred", (counts[pair[0]], counts[pair[0]] + counts[pair[1]]), confidence, detail)


def _right(session: Session, answers: Sequence[Answer], pair: tuple[str, str], confidence: float) -> Result | None:
    asked = [(session.trials[a.trial].samples, a.value) for a in answers if set(session.trials[a.trial].samples[:2]) == set(pair)]
    right = sum(samples[LETTERS.index(value)] == samples[2] for samples, value in asked)
    return _share(f"{pair[0]} told from {pair[1]}", "right", (right, len(asked)), confidence, f"{right} of {len(asked)}", "greater")


def _share(label: str, words: str, counts: tuple[int, int], confidence: float, detail: str, side: str = "two-sided") -> Result | None:
    from scipy.stats import binomtest

    successes, n = counts
    if not n:
        return None
    bounds = binomtest(successes, n).proportion_ci(confidence, method="exact")
    p = float(binomtest(successes, n, alternative=side).pvalue)
    return Result(label, words, successes / n, float(bounds.low), float(bounds.high), n, p, detail)


def blocks(session: Session, found: Sequence[Result], num_listeners: int, confidence: float = 0.95) -> list[Block]:
    """The results as a table."""
    lines = []
    for f in found:
        value, low, high = ("" if v is None else f"{100 * v:.0f} %" if f.p is not None else f"{v:.1f}" for v in (f.value, f.low, f.high))
        figure = Entry(f"{value} {f.words}", span=f"[{low}, {high}]" if low and high else "")
        p = "" if f.p is None else f"{f.p:.2g}"
        lines.append(Line((Entry(f.label), figure, Entry(str(f.n)), Entry(p), Entry(f.detail))))
    title = f"Listening test {session.name} ({session.design}) of {session.run}: {len(session.trials)} trials, {plural(num_listeners, 'listener')}"
    heads = (*words("heard"), Head("figure", f"{percent(confidence)} interval"), Head("n"), Head("p"), *words("counts"))
    return [Text(title, ""), Table("Answers", heads, tuple(lines))]
