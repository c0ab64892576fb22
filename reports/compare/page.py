"""A comparison as one self-contained page: the table, and of each metric the items that changed most, with players of both runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from reports.compare.differences import Change, Comparison, Conclusion, ItemChange
from reports.compare.pairing import Half
from reports.compare.text import WORDS, advice_words, cells, heads, notes, remark, title
from reports.statistics.records import Row
from reports.writing.clips import Clip, encoded
from reports.writing.markup import END, clip_blocks, document, json_block, shown, table
from reports.writing.wording import signed

TAGS = {
    Conclusion.WORSE: "bad", Conclusion.BETTER: "good", Conclusion.EQUIVALENT: "good", Conclusion.IDENTICAL: "good", Conclusion.TOO_FEW: "", Conclusion.UNRANKED: "warn",
    Conclusion.INCOMPARABLE: "warn",
}  # fmt: skip


@dataclass
class _Clips:
    """Clips embedded so far, each file once, never more than ``limit`` bytes."""

    limit: int
    used: int = 0
    full: bool = False
    texts: list[str] = field(default_factory=list)
    numbers: dict[Path, tuple[int, Clip]] = field(default_factory=dict)

    def player(self, path: Path | None, words: str, digest: str = "") -> str:
        """The place of a player, which the script fills; words where there is none. ``digest`` as in `reports.writing.clips.encoded`."""
        if path is None:
            return ""
        if path not in self.numbers:
            if self.full:
                return ""
            clip = encoded(path, digest)
            if clip.problem:
                return f'<span class="soft small">{shown(words)}: {shown(clip.problem)}</span>'
            if self.used + clip.num_bytes > self.limit:
                self.full = True
                return ""
            self.used += clip.num_bytes
            self.numbers[path] = len(self.texts), clip
            self.texts.append(clip.flac)
        number, clip = self.numbers[path]
        return f'<button type="button" class="act play" data-clip="{number}" data-rate="{clip.sample_rate}">▶ {shown(words)}</button> '


def render(comparison: Comparison, audio_limit_mb: float = 24.0) -> Iterator[str]:
    """The page in parts, the audio last.

    Args:
        comparison: shown.
        audio_limit_mb: of embedded audio, in 10^6 bytes of base64.
    """
    clips = _Clips(int(audio_limit_mb * 1e6))
    items = "".join(_change(c, comparison, clips) for c in comparison.changes if c.changed)
    limit = (
        f'<p class="soft small">The limit of {audio_limit_mb:g} MB of audio is reached; the other items have no players.</p>'
        if clips.full
        else ""
    )
    main = [
        '<h2 id="results">Differences</h2>',
        _table(comparison),
        '<ul class="notes">' + "".join(f"<li>{shown(note)}</li>" for note in notes(comparison)) + "</ul>",
        f"<h2>Items that changed</h2>{limit}{items}" if items else "",
        _provenance(comparison),
    ]
    yield document(title(comparison), _header(comparison), "\n".join(filter(None, main)), json_block({}), ["clips.js", "comparison.js"])
    yield from clip_blocks(clips.texts)
    yield END


def _header(comparison: Comparison) -> str:
    parts = [f"<h1>{shown(title(comparison))}</h1>"]
    for warning in dict.fromkeys(w for h in (comparison.left, comparison.right) for w in h.summary.warnings):
        parts.append(f'<strong class="banner warn" role="note">{shown(warning)}</strong>')
    facts = {
        "suite": comparison.right.summary.suite,
        "measured": comparison.right.summary.counted,
        "left": _about(comparison.left),
        "right": _about(comparison.right),
    }
    return "\n".join(
        [*parts, '<dl class="facts">' + "".join(f"<div><dt>{k}</dt><dd>{shown(v)}</dd></div>" for k, v in facts.items()) + "</dl>"]
    )


def _about(side: Half) -> str:
    git = side.run.manifest.get("git") or {}
    code = str(git.get("commit", ""))[:12] + (" with changes" if git.get("changed") else "")
    return ", ".join(filter(None, (side.name, side.summary.created.replace("T", " ").replace("+00:00", " UTC"), code)))


def _table(comparison: Comparison) -> str:
    rows = []
    for change in comparison.changes:
        label, metric, outcome, *figures = cells(change)
        remarks = "<br>".join(shown(words) for words in (remark(change), _also(change)) if words)
        rows.append(
            f'<tr><th scope="row"><span class="name">{shown(label)}</span></th><td class="left">{shown(metric)}</td>'
            f'<td class="left"><span class="tag {TAGS.get(change.outcome, "")}">{shown(outcome)}</span></td>'
            + "".join(f"<td>{shown(figure)}</td>" for figure in figures)
            + f'<td class="left soft small">{remarks}</td></tr>'
        )
    top = [f'<th scope="col"{" class=left" if i < WORDS else ""}>{shown(h)}</th>' for i, h in enumerate(heads(comparison))]
    top.append('<th scope="col" class="left">remark</th>')
    return table("Differences", top, f"<tbody>{''.join(rows)}</tbody>", classes="comparison")


def _also(change: Change) -> str:
    """The advice where the remark does not hold it."""
    words = advice_words(change)
    return "" if words in remark(change) else words


def _change(change: Change, comparison: Comparison, clips: _Clips) -> str:
    lists = [("worst", "Became worse, the worst first", change.worst), ("changed", "Changed most", change.changed)]
    # Where everything moved one way the two lists are one.
    if [i.item for i in change.worst] == [i.item for i in change.changed]:
        lists = lists[:1]
    body = "".join(f"<h4>{words}</h4>{_items(found, change, comparison, clips)}" for _, words, found in lists if found)
    opened = " open" if change.outcome is Conclusion.WORSE else ""
    return (
        f"<details{opened}><summary>{shown(change.label)}, {shown(change.column.name)}: {shown(change.outcome)}</summary>{body}</details>"
    )


def _items(found: tuple[ItemChange, ...], change: Change, comparison: Comparison, clips: _Clips) -> str:
    rows = []
    for each in found:
        about: dict[str, Any] = dict(comparison.right.items.get(each.item) or {})
        words = " · ".join(filter(None, (str(about.get("speaker") or ""), str(about.get("text") or ""))))
        run = comparison.right.run
        reference = run.references.get(each.item)
        players = [
            clips.player(reference if reference is not None and reference.exists() else None, "recording", run.digests.get(each.item, "")),
            clips.player(_output(comparison.left, change.left_row, each.item), "left"),
            clips.player(_output(comparison.right, change.right_row, each.item), "right"),
        ]
        rows.append(
            f'<tr><th scope="row"><span class="name">{shown(each.item)}</span></th><td>{change.column.shown(each.left)}</td>'
            f"<td>{change.column.shown(each.right)}</td><td>{signed(each.difference * change.column.factor)}</td>"
            f'<td class="left">{"".join(players)}<div class="soft small">{shown(words)}</div></td></tr>'
        )
    top = ['<th scope="col" class="left">item</th>', *(f'<th scope="col">{h}</th>' for h in ("left", "right", "right − left")), "<th></th>"]
    return table(f"Items, {change.column.name}", top, f"<tbody>{''.join(rows)}</tbody>", classes="items")


def _output(side: Half, row: Row, item: str) -> Path | None:
    """The audio of one item, of its first seed."""
    label, settings = row.facts.label, row.settings
    found = sorted((seed, path) for (who, how, what, seed), path in side.run.outputs.items() if (who, how, what) == (label, settings, item))
    return found[0][1] if found else None


def _provenance(comparison: Comparison) -> str:
    signatures = {c.column.name: c.column.signature for c in comparison.changes}
    listed = "".join(f"<li><code>{shown(s)}</code></li>" for s in signatures.values())
    commands = "".join(f"<p><code>{escape(h.summary.command)}</code></p>" for h in (comparison.left, comparison.right) if h.summary.command)
    return f"<h2>Provenance</h2>{commands}<details><summary>Signatures of the metrics</summary><ul>{listed}</ul></details>"
