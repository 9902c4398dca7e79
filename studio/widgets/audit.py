"""What the audit of a dataset found: what is in the loss, how long rows are, what is wrong."""

from __future__ import annotations

from collections.abc import Collection

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from studio.theme import SPACE, Theme
from studio.widgets.text import button, label, one_line
from workers.protocol.audit import AuditFinding, AuditResult

LEVELS = {
    "alarm": ("bad", "x-circle"),
    "warning": ("warning", "warning"),
    "advice": ("muted", "lightbulb"),
}
"""Level to colour and icon: never by colour alone."""
EXAMPLE = 70
"""Characters of an example."""
SHOWN_BAD = 5
"""Reasons of bad lines that are written out; the rest is counted."""
CUT = ("no_trained_tokens", "too_long", "truncated", "answer_cut_off")
"""Findings that a greater max sequence length mends."""
LENGTH_STEP = 64


class AuditView(QWidget):
    """One result; `show_result` puts another in its place.

    `remedies` are those that the owner can carry out at a click: rows, drop, length, skip.
    """

    rows_asked = Signal(object)
    """Rows, from 0, that are to be shown."""
    drop_asked = Signal(object)
    length_asked = Signal(int)
    """The max sequence length, in tokens, with which nothing is truncated."""
    skip_asked = Signal()
    """Bad rows are to be left out by the run."""

    def __init__(self, theme: Theme, remedies: Collection[str] = ()) -> None:
        super().__init__()
        self._theme = theme
        self._remedies = remedies
        self.result: AuditResult | None = None
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(SPACE)

    def show_result(self, result: AuditResult) -> None:
        self.clear()
        self.result = result
        self._column.addWidget(label(headline(result), "label", wrap=True))
        self._column.addWidget(label(figures(result), "muted", wrap=True, select=True))
        groups = result.groups
        for group in groups[:SHOWN_BAD]:
            where = f"{group.where[:1].upper()}{group.where[1:]}"
            self._line("bad", "x-circle", f"{where} cannot be used.", group.reason)
        left = result.unusable - sum(group.count for group in groups[:SHOWN_BAD])
        if left:
            self._column.addWidget(label(f"And {left:,} more.", "muted"))
        if result.proposal is not None:
            self._line("muted", "lightbulb", result.proposal.words,
                       "Take these columns where the first rows are shown.")  # fmt: skip
        if result.bad and "skip" in self._remedies:
            skip = button("Leave out bad rows", self._theme, name="skip-bad-rows")
            skip.clicked.connect(self.skip_asked)
            self._act([skip])
        for finding in result.findings:
            self._finding(finding)

    def clear(self) -> None:
        self.result = None
        while (item := self._column.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.deleteLater()

    def _finding(self, finding: AuditFinding) -> None:
        colour, icon = LEVELS.get(finding.level, LEVELS["advice"])
        what = f"{finding.meaning} {finding.count} rows, {finding.share:.0%}."
        self._line(colour, icon, what, f"{finding.remedy}\n{examples_of(finding)}".strip())
        self._act(self._buttons(finding), self._reservation(finding))

    def _buttons(self, finding: AuditFinding) -> list[QPushButton]:
        """What can be done about a finding at a click, and honestly."""
        made: list[QPushButton] = []
        rows, all_named = self._rows(finding), finding.count == len(finding.examples)
        if rows and "rows" in self._remedies:
            told = "Show rows" if all_named else f"Show {len(rows)} of these rows"
            show = button(told, self._theme, name=f"show-rows:{finding.kind}")
            show.clicked.connect(lambda: self.rows_asked.emit(rows))
            made.append(show)
        if rows and all_named and "drop" in self._remedies:
            drop = button("Drop these rows", self._theme, name=f"drop:{finding.kind}")
            drop.clicked.connect(lambda: self.drop_asked.emit(rows))
            made.append(drop)
        if (length := self._length(finding)) and "length" in self._remedies:
            told = f"Raise max sequence length to {length:,}"
            longer = button(told, self._theme, name=f"raise-length:{finding.kind}")
            longer.clicked.connect(lambda: self.length_asked.emit(length))
            made.append(longer)
        return made

    def _rows(self, finding: AuditFinding) -> list[int]:
        """The rows that a finding names, from 0.

        The check counts usable rows alone, so its numbers are those of the file's rows only where
        all can be used.
        """
        assert self.result is not None
        return [] if self.result.unusable else [one.row - 1 for one in finding.examples]

    def _length(self, finding: AuditFinding) -> int:
        """The length at which nothing is truncated; 0 where length is not the matter."""
        tokens = self.result.tokens if self.result is not None else None
        if tokens is None or finding.kind not in CUT:
            return 0
        longest = -(-tokens.percentiles["p100"] // LENGTH_STEP) * LENGTH_STEP
        return longest if longest > tokens.max_length else 0

    def _reservation(self, finding: AuditFinding) -> str:
        """Why rows of a finding cannot be shown or dropped from here, if so."""
        assert self.result is not None
        if not finding.examples or not {"rows", "drop"} & set(self._remedies):
            return ""
        if self.result.unusable:
            return "Numbers count usable rows alone; mend or drop the bad ones to go to these."
        if finding.count > len(finding.examples):
            return f"{len(finding.examples)} of {finding.count:,} are named; the rest is counted."
        return ""

    def _act(self, buttons: list[QPushButton], words: str = "") -> None:
        if not buttons and not words:
            return
        line = QWidget()
        column = QVBoxLayout(line)
        column.setContentsMargins(3 * SPACE, 0, 0, SPACE)
        column.setSpacing(SPACE // 2)
        for made in buttons:
            column.addWidget(made, 0, Qt.AlignmentFlag.AlignLeft)
        if words:
            column.addWidget(label(words, "muted", wrap=True))
        self._column.addWidget(line)

    def _line(self, colour: str, icon: str, what: str, more: str) -> None:
        line = QWidget()
        row = QHBoxLayout(line)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SPACE)
        picture = label()
        picture.setProperty("iconSize", QSize(16, 16))
        self._theme.set_icon(picture, icon, colour)
        words = QVBoxLayout()
        words.setSpacing(0)
        words.addWidget(label(what, "", wrap=True, select=True))
        words.addWidget(label(more, "muted", wrap=True, select=True))
        row.addWidget(picture, 0, Qt.AlignmentFlag.AlignTop)
        row.addLayout(words, 1)
        self._column.addWidget(line)


def examples_of(finding: AuditFinding) -> str:
    """The rows that are named, each with its text; rows of one text together."""
    rows: dict[str, list[str]] = {}
    for one in finding.examples:
        rows.setdefault(one_line(one.text, EXAMPLE), []).append(str(one.row))
    told = "; ".join(
        f"{'rows' if len(at) > 1 else 'row'} {', '.join(at)}{f': {text}' if text else ''}"
        for text, at in rows.items()
    )
    return f"{told[:1].upper()}{told[1:]}"


def headline(result: AuditResult) -> str:
    """The verdict in a few words."""
    grave = [finding for finding in result.findings if finding.level != "advice"]
    if result.rows == 0:
        return "No row of it can be used."
    if not grave and not result.bad:
        return "Nothing is wrong with it."
    parts = [f"{result.unusable:,} bad lines"] if result.bad else []
    parts += [f"{len(grave)} findings to look at"] if grave else []
    return f"{' and '.join(parts).capitalize()}."


def figures(result: AuditResult) -> str:
    """Rows, shape, tokens and what share of them is in the loss, as a sentence."""
    told = result.counted
    if result.format:
        told += f" of shape {result.format.replace('_', ' ')}"
    if result.tokens is not None:
        at = result.tokens.percentiles
        told += (
            f", {result.tokens.total:,} tokens of {result.model}; half of the rows are longer than "
            f"{at['p50']} tokens, the longest has {at['p100']}"
        )
    if result.trained_token_share is not None:
        told += f"; {result.trained_token_share:.0%} of the tokens are in the loss"
    return f"{told}."
