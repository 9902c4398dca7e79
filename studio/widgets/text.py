"""Labels and buttons in the roles that the theme knows, and text that fits on one line."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel, QPushButton, QSizePolicy

from studio.theme import Theme, set_look


def label(text: str = "", role: str = "", *, wrap: bool = False, select: bool = False) -> QLabel:
    """A plain-text label; `role` is title, heading, label, subtitle, muted, figure or fault."""
    made = QLabel(text)
    made.setTextFormat(Qt.TextFormat.PlainText)
    made.setProperty("role", role)
    made.setWordWrap(wrap)
    if wrap:
        made.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
    if select:
        made.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return made


def one_line(text: str, length: int) -> str:
    """Text without line breaks, cut off behind so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def button(text: str, theme: Theme, icon: str = "", kind: str = "", name: str = "") -> QPushButton:
    """A push button; `kind` is primary, quiet or plain, `name` its object name."""
    made = QPushButton(text)
    made.setProperty("kind", kind)
    made.setObjectName(name)
    made.setAccessibleName(text)
    made.setAutoDefault(True)
    if icon:
        theme.set_icon(made, icon, "on_accent" if kind == "primary" else "muted")
    return made


def emphasize(made: QPushButton, theme: Theme, icon: str, *, primary: bool) -> None:
    """Makes a button the primary one, or an ordinary one again."""
    kind = "primary" if primary else ""
    if made.property("kind") != kind:
        set_look(made, kind=kind)
        theme.set_icon(made, icon, "on_accent" if primary else "muted")
