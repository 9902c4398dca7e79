"""What the health coach noticed: what holds now as a strip, everything as a list to read."""

from __future__ import annotations

from typing import NamedTuple

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QScrollArea, QVBoxLayout, QWidget

from studio.theme import SPACE, Theme, set_look
from studio.widgets.text import button, label

LEVELS = {
    "alarm": ("Alarm", "warning-octagon", "bad"),
    "warning": ("Warning", "warning", "warning"),
    "advice": ("Advice", "info", "accent"),
}
"""Level to word, icon and colour, the gravest first: never by colour alone."""
HEALTHY = "Nothing to worry about so far"
WATCHED = (
    "The coach looks at every step: at the entropy, the distance from the start, the length of "
    "the answers, the spread of the rewards and the gradient. What it notices appears here."
)


class Finding(NamedTuple):
    """One thing noticed; `until` is None while it holds."""

    kind: str
    level: str
    metric: str
    since: int
    until: int | None
    meaning: str
    remedy: str

    @property
    def when(self) -> str:
        if self.until is None:
            return f"Since step {self.since}"
        return f"Steps {self.since} to {self.until}, passed"


def gravest(findings: list[Finding]) -> list[Finding]:
    """Those that hold, alarms first, the newest of each level first."""
    order = list(LEVELS)
    held = [finding for finding in findings if finding.until is None]
    return sorted(held, key=lambda f: (_rank(f.level, order), -f.since))


def _rank(level: str, order: list[str]) -> int:
    return order.index(level) if level in order else len(order)


class HealthStrip(QFrame):
    """The gravest finding that holds now; hidden while all is well."""

    more_asked = Signal()

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._present: tuple[str, str, str, int, int] | None = None
        self.setObjectName("health-strip")
        self._picture = label()
        self._meaning = label("", "label", wrap=True, select=True)
        self._remedy = label("", "", wrap=True, select=True)
        self.more = button("Health", theme, kind="quiet", name="show-health")
        self.more.setToolTip("Everything that the health coach noticed in this run")
        self.more.clicked.connect(self.more_asked)
        words = QVBoxLayout()
        words.setSpacing(SPACE // 2)
        words.addWidget(self._meaning)
        words.addWidget(self._remedy)
        row = QHBoxLayout(self)
        row.setContentsMargins(2 * SPACE, SPACE + 4, SPACE, SPACE + 4)
        row.setSpacing(SPACE + 4)
        row.addWidget(self._picture, 0, Qt.AlignmentFlag.AlignTop)
        row.addLayout(words, 1)
        row.addWidget(self.more, 0, Qt.AlignmentFlag.AlignVCenter)
        self.hide()

    def show_findings(self, findings: list[Finding]) -> None:
        """Shows the gravest of those that hold, and how many more there are."""
        held = gravest(findings)
        if not held:
            self.hide()
            return
        first, others = held[0], len(held) - 1
        present = (first.meaning, first.level, first.remedy, first.since, others)
        if present != self._present:
            self._present = present
            _, icon, tint = LEVELS.get(first.level, LEVELS["advice"])
            self._theme.set_icon(self._picture, icon, tint)
            set_look(self, banner="bad" if first.level == "alarm" else "info")
            self._meaning.setText(first.meaning)
            self._remedy.setText(f"{first.when}.  {first.remedy}")
            self.more.setText(f"{others} more" if others else "Health")
        self.show()

    @property
    def text(self) -> str:
        return " ".join(w.text() for w in (self._meaning, self._remedy))


class FindingList(QScrollArea):
    """Every finding of a run, those that hold first; or that there is nothing to worry about."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self.shown: list[Finding] | None = None
        self._words: list[QLabel] = []
        self.setObjectName("health")
        self.setAccessibleName("Health")
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.viewport().setAutoFillBackground(False)
        self.show_findings([])

    def show_findings(self, findings: list[Finding]) -> None:
        if findings == self.shown:
            return
        self.shown, self._words = list(findings), []
        holder = QWidget()
        column = QVBoxLayout(holder)
        column.setContentsMargins(2 * SPACE, 2 * SPACE, 2 * SPACE, 2 * SPACE)
        column.setSpacing(2 * SPACE)
        passed = [finding for finding in findings if finding.until is not None]
        for finding in [*gravest(findings), *reversed(passed)]:
            column.addLayout(self._entry(finding))
        if not findings:
            column.addLayout(self._nothing())
        column.addStretch(1)
        self.setWidget(holder)
        holder.setAutoFillBackground(False)

    def _entry(self, finding: Finding) -> QHBoxLayout:
        level, icon, tint = LEVELS.get(finding.level, LEVELS["advice"])
        passed = finding.until is not None
        head = f"{level}  ·  {finding.when}"
        words = [
            label(head, "muted"),
            label(finding.meaning, "" if passed else "label", wrap=True, select=True),
            label(finding.remedy, "muted" if passed else "", wrap=True, select=True),
        ]
        return self._row("check-circle" if passed else icon, "muted" if passed else tint, words)

    def _nothing(self) -> QHBoxLayout:
        words = [label(HEALTHY, "label"), label(WATCHED, "muted", wrap=True)]
        return self._row("check-circle", "good", words)

    def _row(self, icon: str, tint: str, words: list[QLabel]) -> QHBoxLayout:
        picture = label()
        self._theme.set_icon(picture, icon, tint)
        column = QVBoxLayout()
        column.setSpacing(SPACE // 2)
        self._words += words
        for widget in words:
            column.addWidget(widget)
        row = QHBoxLayout()
        row.setSpacing(SPACE + 4)
        row.addWidget(picture, 0, Qt.AlignmentFlag.AlignTop)
        row.addLayout(column, 1)
        return row

    @property
    def text(self) -> str:
        """All its words, from top to bottom."""
        return "\n".join(words.text() for words in self._words)
