"""What listeners answered, read with the key of their test (`reports.listening.page`): means, preferences, shares of right answers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from harness.data.documents import read_text
from harness.errors import UsageError
from reports.listening.page import Design, Session
from reports.statistics.intervals import IntervalSettings, Range
from reports.statistics.jackknife import interval
from reports.writing.blocks import Block, Entry, Head, Line, Table, Text, words
from reports.writing.wording import percent, plural

COLUMNS = ("session", "listener", "design", "trial", "sample", "answer", "plays", "seconds")
"""Of the file that the page gives out."""
LETTERS = "ABCDEFGHIJ"


@dataclass(frozen=True)
class Answer:
    """One line of an answers file.

    Args:
        listener: as they named themselves.
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
        label: system, or pair of systems.
        words: what the value is.
        value: a mean rating, or a share from 0 to 1.
        low, high: bounds of the interval, None where there is none.
        n: answers.
        p: two-sided (AB) or one-sided (ABX) exact binomial probability of a share this far from one half; None for ratings.
        detail: counts in words.
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
