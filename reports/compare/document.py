"""A comparison as blocks: the table, and of each metric the items that changed most, in the page with players of both runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.compare.differences import Change, Comparison, Conclusion, ItemChange
from reports.compare.pairing import Half
from reports.run.output import made
from reports.statistics.intervals import FEWEST
from reports.statistics.jackknife import METHOD
from reports.statistics.records import Row
from reports.statistics.significance import POWER
from reports.writing import html, terminal
from reports.writing import markdown as md
from reports.writing.blocks import Banner, Block, Bullets, Code, Entry, Facts, Folded, Head, Heading, Line, Player, Table, Text, Tone, words
from reports.writing.clips import Clip, Shelf, encoded
from reports.writing.wording import ABSENT, percent, shortened, signed, significant, unit_beside, with_unit

if TYPE_CHECKING:
    from rich.console import Console

TONES: dict[Conclusion, Tone] = {
    Conclusion.WORSE: "bad", Conclusion.BETTER: "good", Conclusion.EQUIVALENT: "good", Conclusion.IDENTICAL: "good", Conclusion.TOO_FEW: "soft",
    Conclusion.UNRANKED: "warn", Conclusion.INCOMPARABLE: "warn",
}  # fmt: skip
REASON_LIMIT = 300


@dataclass
class _Players:
    """Players of the page, each file taken along once."""

    shelf: Shelf
    known: dict[Path, tuple[int, Clip]] = field(default_factory=dict)

    def of(self, path: Path | None, words: str, digest: str = "") -> Iterator[Player]:
        """None where there is no file or no more room; ``digest`` as in `reports.writing.clips.encoded`."""
        if path is not None and path not in self.known and not self.shelf.full:
            clip = encoded(path, digest)
            if clip.problem:
                yield Player(words, problem=clip.problem)
            elif self.shelf.take([clip]):
                self.known[path] = self.shelf.place(clip), clip
        if path in self.known:
            number, clip = self.known[path]
            yield Player(words, number, clip.sample_rate, clip.duration_s)


def print_comparison(comparison: Comparison, console: Console) -> None:
    """To a terminal or a pipe."""
    terminal.write([Heading(title(comparison), 1), table(comparison), Bullets(notes(comparison))], console, terminal.WIDE)


def markdown(comparison: Comparison) -> str:
    """The comparison as GitHub-flavoured Markdown."""
    return md.render(
        [*_header(comparison), table(comparison), Bullets(notes(comparison)), *_changes(comparison, _Players(Shelf(0, full=True)))]
    )


def page(comparison: Comparison, audio_limit_mb: float = 24.0) -> Iterator[str]:
    """The comparison as one self-contained page, with so much audio at the most, in 10^6 bytes of base64."""
    shelf = Shelf(int(audio_limit_mb * 1e6))
    items = list(_changes(comparison, _Players(shelf)))
    main: list[Block] = [Heading("Differences", id="results"), table(comparison), Bullets(notes(comparison))]
    if items:
        limit = f"The limit of {audio_limit_mb:g} MB of audio is reached; the other items have no players."
        main += [Heading("Items that changed"), *([Text(limit)] if shelf.full else []), *items]
    signatures = list(dict.fromkeys(c.column.signature for c in comparison.changes))
    commands = [Code(half.summary.command) for half in (comparison.left, comparison.right) if half.summary.command]
    main += [Heading("Provenance"), *commands, Folded("Signatures of the metrics", [Bullets(signatures)])]
    return html.page(
        title(comparison), _header(comparison), main, ("tables.js", "clips.js", "players.js", "comparison.js"), {}, shelf.clips
    )


def title(comparison: Comparison) -> str:
    """``runs/b against runs/a``: the new one first, as one asks."""
    left, right = comparison.left.name, comparison.right.name
    return f"{right} against {left}" if left != right else f"Systems of {right}"


def _header(comparison: Comparison) -> list[Block]:
    halves = comparison.left, comparison.right
    left, right = (", ".join(filter(None, (half.name, *made(half.run, half.summary).values()))) for half in halves)
    facts = {"suite": halves[1].summary.suite, "measured": halves[1].summary.counted, "left": left, "right": right}
    banners = [Banner(warning) for warning in dict.fromkeys(w for half in halves for w in half.summary.warnings)]
    return [Heading(title(comparison), 1), *banners, Facts(facts)]


def table(comparison: Comparison) -> Table:
    """All differences; the confidence as it was asked for."""
    figures = (
        Head(name) for name in ("left", "right", "right − left", f"{percent(comparison.settings.how.confidence)} interval", "p (Holm)", "n")
    )
    heads = (*words("system", "metric", "outcome"), *figures, Head("remark", words=True, wide=True, place="below"))
    return Table("Differences", heads, tuple(_line(change) for change in comparison.changes))


def _line(change: Change) -> Line:
    column, told = change.column, remark(change)
    entries = [Entry(change.label), Entry(with_unit(column.name, unit_beside(column.name, column.shown_unit)))]
    entries.append(Entry(tag=change.outcome, tone=TONES.get(change.outcome, "")))
    if change.found is None:
        entries += [*(Entry(ABSENT) for _ in range(5)), Entry()]
    else:
        low, difference, high = (
            None if v is None else v * column.factor for v in (change.found.low, change.found.value, change.found.high)
        )
        span = ABSENT if low is None or high is None else f"[{signed(low)}, {signed(high)}]"
        p = ABSENT if change.adjusted is None else "<.001" if change.adjusted < 0.001 else f"{change.adjusted:.3f}"
        entries += [Entry(column.shown(v), key=v) for v in (change.left, change.right)]
        entries += [Entry(signed(difference or 0.0), key=difference), Entry(span, key=low), Entry(p, key=change.adjusted)]
        entries.append(Entry(str(change.found.n), key=change.found.n))
    advised = advice_words(change)
    return Line((*entries, Entry(shortened(told, REASON_LIMIT), below=() if advised in told else (advised,))))


def remark(change: Change) -> str:
    """What stands beside a change: why nothing more can be said, and how many items would say more; "" for nothing."""
    parts = [change.reason, *change.notes]
    if change.seed_spread is not None:
        parts.append(f"SD over seeds {significant(change.seed_spread * change.column.factor)}")
    if change.advice is not None and (change.advised or change.outcome is Conclusion.UNDECIDED):
        parts.append(advice_words(change))
    return "; ".join(filter(None, parts))


def advice_words(change: Change) -> str:
    """``to see 0.1 MOS takes 73 items of 14 speakers (80 % power); these 129 show 0.07``; "" without advice."""
    advice, margin, found = change.advice, change.margin, change.found
    if advice is None or margin is None or found is None:
        return ""
    factor, unit = change.column.factor, f" {change.column.shown_unit}".rstrip()
    units = "" if found.clusters == found.n else f" of {advice.clusters:,} speakers" if advice.clusters else ""
    needed = "more recordings than there are" if advice.items is None else f"{advice.items:,} items{units}"
    now = "" if advice.visible is None else f"; these {found.n} show {significant(advice.visible * factor)}{unit}"
    return f"to see {significant(margin * factor)}{unit} takes {needed} ({percent(POWER)} power){now}"


def notes(comparison: Comparison) -> list[str]:
    """How it was made, and what a reader must know, the latter first."""
    clusters = max((c.found.clusters for c in comparison.changes if c.found), default=0)
    tests = sum(c.p is not None for c in comparison.changes)
    return [
        *comparison.notes,
        f"Paired over the items that both scored; {METHOD}, {clusters} of them; two-sided tests of any difference, corrected by Holm for "
        f"{tests}. A gate asks by the same rule, one-sided, for more than its tolerance.",
        f"'no difference' is said only where the interval lies within the margin that matters, and nothing at all of fewer than {FEWEST} "
        "speakers (or items).",
    ]


def _changes(comparison: Comparison, players: _Players) -> Iterator[Folded]:
    """Of each change the items that became worst and that changed most."""
    for change in comparison.changes:
        lists = {"Became worse, the worst first": change.worst, "Changed most": change.changed}
        # Where everything moved one way the two lists are one.
        if [i.item for i in change.worst] == [i.item for i in change.changed]:
            del lists["Changed most"]
        blocks = [b for name, found in lists.items() if found for b in (Heading(name, 4), _items(found, change, comparison, players))]
        if blocks:
            yield Folded(f"{change.label}, {change.column.name}: {change.outcome}", blocks, open=change.outcome is Conclusion.WORSE)


def _items(found: Sequence[ItemChange], change: Change, comparison: Comparison, players: _Players) -> Table:
    run, lines = comparison.right.run, []
    for each in found:
        about: dict[str, Any] = dict(comparison.right.items.get(each.item) or {})
        said = " · ".join(filter(None, (str(about.get("speaker") or ""), str(about.get("text") or ""))))
        reference = run.references.get(each.item)
        sounds = (
            *players.of(reference if reference is not None and reference.exists() else None, "recording", run.digests.get(each.item, "")),
            *players.of(_output(comparison.left, change.left_row, each.item), "left"),
            *players.of(_output(comparison.right, change.right_row, each.item), "right"),
        )
        figures = [Entry(change.column.shown(v), key=v) for v in (each.left, each.right)]
        moved = Entry(signed(each.difference * change.column.factor), key=each.difference)
        lines.append(Line((Entry(each.item), *figures, moved, Entry(below=(said,), players=sounds))))
    heads = (*words("item"), *map(Head, ("left", "right", "right − left")), Head("utterance", words=True, wide=True))
    return Table(f"Items, {change.column.name}", heads, tuple(lines))


def _output(side: Half, row: Row, item: str) -> Path | None:
    """The audio of one item, of its first seed."""
    label, settings = row.facts.label, row.settings
    found = sorted((seed, path) for (who, how, what, seed), path in side.run.outputs.items() if (who, how, what) == (label, settings, item))
    return found[0][1] if found else None
