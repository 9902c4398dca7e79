"""What is said to the user in place: an empty state, a banner of three answers, a status pill."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from studio.theme import SPACE, Theme, set_look
from studio.widgets.text import button, label
from workers.protocol.refusal import Refusal

STATUS = {
    "running": ("Running", "accent", "spinner"),
    "waiting": ("Waiting", "warning", "hourglass"),
    "finished": ("Finished", "good", "check-circle"),
    "stopped": ("Stopped", "warning", "stop-circle"),
    "paused": ("Paused", "warning", "pause-circle"),
    "failed": ("Failed", "bad", "x-circle"),
}
"""Status to word, colour and icon: never by colour alone."""


class EmptyState(QWidget):
    """Nothing is here yet: says so, says what to do, and has the button that does it."""

    def __init__(self, icon: str, title: str, text: str, action: str, theme: Theme) -> None:
        super().__init__()
        picture = label()
        picture.setProperty("iconSize", QSize(48, 48))
        theme.set_icon(picture, icon, "faint")
        self.action: QPushButton = button(action, theme, kind="primary", name="empty-action")
        column = QVBoxLayout(self)
        column.setSpacing(SPACE)
        column.addStretch(1)
        words = label(text, "muted", wrap=True)
        words.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        words.setFixedWidth(420)
        for widget in (picture, label(title, "heading")):
            column.addWidget(widget, 0, Qt.AlignmentFlag.AlignHCenter)
        row = QHBoxLayout()  # an alignment in the column would give the words a single line
        row.addStretch(1)
        row.addWidget(words)
        row.addStretch(1)
        column.addLayout(row)
        column.addSpacing(SPACE)
        column.addWidget(self.action, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addStretch(2)


class Banner(QFrame):
    """What happened, the likely cause, what to do now; hidden until told something."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self.setProperty("banner", "bad")
        self.setObjectName("banner")
        self._what = label("", "label", wrap=True, select=True)
        self._cause = label("", "", wrap=True, select=True)
        self._remedy = label("", "", wrap=True, select=True)
        self._picture = label()
        theme.set_icon(self._picture, "warning", "bad")
        words = QVBoxLayout()
        words.setSpacing(SPACE // 2)
        for widget in (self._what, self._cause, self._remedy):
            words.addWidget(widget)
        row = QHBoxLayout(self)
        row.setContentsMargins(2 * SPACE, SPACE + 4, 2 * SPACE, SPACE + 4)
        row.setSpacing(SPACE + 4)
        row.addWidget(self._picture, 0, Qt.AlignmentFlag.AlignTop)
        row.addLayout(words, 1)
        self.hide()

    def tell(self, what: str, cause: str = "", remedy: str = "") -> None:
        self._look("bad", "warning", "bad")
        self._say(what, cause, remedy)

    def refuse(self, refusal: Refusal) -> None:
        """Tells why something could not be done."""
        self.tell(refusal.what, refusal.cause, refusal.remedy)

    def inform(self, what: str, cause: str = "", remedy: str = "") -> None:
        """The same in a calm look: nothing went wrong."""
        self._look("info", "info", "accent")
        self._say(what, cause, remedy)

    def _look(self, look: str, icon: str, tint: str) -> None:
        if self.property("banner") != look:
            self._theme.set_icon(self._picture, icon, tint)
            set_look(self, banner=look)

    def _say(self, what: str, cause: str, remedy: str) -> None:
        parts = ((self._what, what), (self._cause, cause), (self._remedy, remedy))
        for widget, text in parts:
            widget.setText(text)
            widget.setVisible(bool(text))
        self.show()

    @property
    def text(self) -> str:
        return " ".join(w.text() for w in (self._what, self._cause, self._remedy) if w.text())


class StatusPill(QWidget):
    """A job's status as icon and word."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._icon = QLabel()
        self._word = label("", "label")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SPACE // 2)
        row.addWidget(self._icon)
        row.addWidget(self._word)

    def show_status(self, status: str) -> None:
        word, tint, icon = STATUS.get(status, (status, "muted", "circle"))
        self._word.setText(word)
        self._theme.set_icon(self._icon, icon, tint)
        set_look(self._word, role="label")

    @property
    def text(self) -> str:
        return self._word.text()
