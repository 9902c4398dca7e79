"""What the audit of a dataset found: how much of it is learnt, how long rows are, what is wrong."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from studio.theme import SPACE, Theme
from studio.widgets.text import label
from workers.protocol.audit import AuditFinding, AuditResult

LEVELS = {
    "alarm": ("bad", "x-circle"),
    "warning": ("warning", "warning"),
    "advice": ("muted", "lightbulb"),
}
"""Level to colour and icon: never by colour alone."""
SHOWN_BAD = 5
"""Bad lines that are written out; the rest is counted."""


class AuditView(QWidget):
    """One result; `show_result` puts another in its place."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self.result: AuditResult | None = None
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(SPACE)

    def show_result(self, result: AuditResult) -> None:
        self.clear()
        self.result = result
        self._column.addWidget(label(headline(result), "label", wrap=True))
        self._column.addWidget(label(figures(result), "muted", wrap=True, select=True))
        for bad in result.bad[:SHOWN_BAD]:
            where = f"{bad.file}, line {bad.line}" if bad.file else f"Line {bad.line}"
            self._line("bad", "x-circle", f"{where} cannot be used.", bad.reason)
        if result.unusable > SHOWN_BAD:
            self._column.addWidget(label(f"And {result.unusable - SHOWN_BAD:,} more.", "muted"))
        for finding in result.findings:
            self._finding(finding)

    def clear(self) -> None:
        self.result = None
        while (item := self._column.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.deleteLater()

    def _finding(self, finding: AuditFinding) -> None:
        colour, icon = LEVELS.get(finding.level, LEVELS["advice"])
        examples = "; ".join(f"row {one.row}: {_short(one.text)}" for one in finding.examples)
        what = f"{finding.meaning} {finding.count} rows, {finding.share:.0%}."
        self._line(
            colour, icon, what, f"{finding.remedy}\n{examples[:1].upper()}{examples[1:]}".strip()
        )

    def _line(self, colour: str, icon: str, what: str, more: str) -> None:
        line = QWidget()
        row = QHBoxLayout(line)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SPACE)
        picture = label()
        picture.setProperty("iconSize", QSize(16, 16))
        self._theme.dress(picture, icon, colour)
        words = QVBoxLayout()
        words.setSpacing(0)
        words.addWidget(label(what, "", wrap=True, select=True))
        words.addWidget(label(more, "muted", wrap=True, select=True))
        row.addWidget(picture, 0, Qt.AlignmentFlag.AlignTop)
        row.addLayout(words, 1)
        self._column.addWidget(line)


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
    """Rows, shape, tokens and what share of them is learnt, as a sentence."""
    told = f"{result.rows:,} rows"
    if result.format:
        told += f" of shape {result.format.replace('_', ' ')}"
    if result.tokens is not None:
        at = result.tokens.percentiles
        told += (
            f", {result.tokens.total:,} tokens of {result.model}; half of the rows are longer than "
            f"{at['p50']} tokens, the longest has {at['p100']}"
        )
    if result.trained_token_share is not None:
        told += f"; {result.trained_token_share:.0%} of the tokens are learnt"
    return f"{told}."


def _short(text: str, width: int = 70) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"
