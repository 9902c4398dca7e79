"""A conversation: bubbles, the last one growing as tokens come. Text stays text, never HTML."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLayoutItem, QScrollArea, QVBoxLayout, QWidget

from studio.theme import SPACE, Theme
from studio.widgets.text import button, label

WIDEST = 680


class Bubble(QFrame):
    """One turn, with a small line under it for figures, and labels where it may be rated."""

    rated = Signal(bool)

    def __init__(self, role: str, text: str) -> None:
        super().__init__()
        self.role = role
        self.setProperty("bubble", role)
        self.setMaximumWidth(WIDEST)
        self._text = label(text, "", wrap=True, select=True)
        self._note = label("", "muted")
        self._note.hide()
        column = QVBoxLayout(self)
        column.setContentsMargins(2 * SPACE, SPACE + 4, 2 * SPACE, SPACE + 4)
        self._foot = QHBoxLayout()
        self._foot.setSpacing(SPACE // 2)
        self._foot.addWidget(self._note, 1)
        column.addWidget(self._text)
        column.addLayout(self._foot)

    @property
    def text(self) -> str:
        return self._text.text()

    def set_text(self, text: str) -> None:
        self._text.setText(text)

    def note(self, text: str) -> None:
        self._note.setText(text)
        self._note.setVisible(bool(text))

    def offer_labels(self, theme: Theme) -> None:
        """Two buttons; the one that was pressed last is filled."""
        labels = {True: ("thumbs-up", "Good answer"), False: ("thumbs-down", "Bad answer")}
        made = {
            good: button("", theme, icon, kind="quiet", name=icon)
            for good, (icon, _) in labels.items()
        }
        for good, (_, words) in labels.items():
            made[good].setToolTip(words)
            made[good].setAccessibleName(words)
            made[good].clicked.connect(lambda _=False, good=good: press(good))
            self._foot.addWidget(made[good])

        def press(good: bool) -> None:
            for which, (icon, _) in labels.items():
                pressed = which is good
                theme.set_icon(made[which], f"{icon}-fill" if pressed else icon,
                            "accent" if pressed else "muted")  # fmt: skip
            self.rated.emit(good)


class Bubbles(QScrollArea):
    """All turns, oldest first; `paint` shows what was streamed since the last time."""

    rated = Signal(int, bool)
    """A turn, by its place, got a label: desirable (true) or undesirable."""

    def __init__(self, hint: str, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self.setObjectName("scroll")
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.turns: list[Bubble] = []
        self._streamed = ""
        self._growing: Bubble | None = None
        inner = QWidget()
        inner.setObjectName("scrolled")
        self._column = QVBoxLayout(inner)
        self._column.setContentsMargins(0, 0, SPACE, 0)
        self._column.setSpacing(SPACE + 4)
        self._column.addStretch(1)
        self.hint = label(hint, "muted", wrap=True)
        self.hint.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._column.insertWidget(0, self.hint, 1)
        self.setWidget(inner)
        self.verticalScrollBar().rangeChanged.connect(self._on_range_changed)

    def add(self, role: str, text: str) -> Bubble:
        bubble = Bubble(role, text)
        self.hint.hide()
        row = QHBoxLayout()
        if role == "user":
            row.addStretch(1)
        row.addWidget(bubble, 3)
        if role != "user":
            row.addStretch(1)
        self._column.addLayout(row)
        self.turns.append(bubble)
        return bubble

    def begin_answer(self) -> None:
        self._streamed = ""
        self._growing = self.add("assistant", "…")

    def stream(self, piece: str) -> None:
        self._streamed += piece

    def end_answer(self, text: str, note: str, *, rateable: bool = False) -> None:
        """Settles the growing answer; `rateable` offers labels on it."""
        if self._growing is not None:
            self._growing.set_text(text or "(no words)")
            self._growing.note(note)
            if rateable:
                self._growing.offer_labels(self._theme)
                place = self.turns.index(self._growing)
                self._growing.rated.connect(lambda good: self.rated.emit(place, good))
        self._growing = None

    def paint(self) -> None:
        if self._growing is not None and self._streamed and self._growing.text != self._streamed:
            self._growing.set_text(self._streamed)

    def clear(self) -> None:
        self.turns, self._growing = [], None
        self.hint.show()
        while self._column.count() > 2:
            _empty(self._column.takeAt(2))

    def _on_range_changed(self, _: int, maximum: int) -> None:
        self.verticalScrollBar().setValue(maximum)


def _empty(row: QLayoutItem | None) -> None:
    """Takes a row's widgets away."""
    layout = row.layout() if row is not None else None
    while layout is not None and layout.count():
        item = layout.takeAt(0)
        if item is not None and (widget := item.widget()) is not None:
            widget.deleteLater()
