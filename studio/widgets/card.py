"""Cards: a framed group, and cards that are chosen like radio buttons or check boxes."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QKeyEvent, QMouseEvent
from PySide6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from studio.theme import SPACE, Theme, set_look
from studio.widgets.text import label


class Card(QFrame):
    """A framed group with room inside; fill `body`."""

    def __init__(self, heading: str = "") -> None:
        super().__init__()
        self.setProperty("card", True)
        self.body = QVBoxLayout(self)
        self.body.setContentsMargins(2 * SPACE, 2 * SPACE, 2 * SPACE, 2 * SPACE)
        self.body.setSpacing(SPACE)
        if heading:
            self.body.addWidget(label(heading, "heading"))


class ChoiceCard(Card):
    """A card with an icon, a title and a sentence, chosen by click, Space or Enter."""

    activated = Signal(str)

    def __init__(
        self, key: str, title: str, text: str, icon: str, theme: Theme, note: str = ""
    ) -> None:
        super().__init__()
        self.key = key
        self.setProperty("chooses", True)
        self.setObjectName(f"choice:{key}")
        self.setAccessibleName(title)
        self.setAccessibleDescription(text)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        picture = label()
        picture.setProperty("iconSize", QSize(22, 22))
        theme.set_icon(picture, icon, "accent")
        head = QHBoxLayout()
        head.setSpacing(SPACE)
        head.addWidget(picture)
        head.addWidget(label(title, "label", wrap=True), 1)
        self.body.addLayout(head)
        if text:
            self.body.addWidget(label(text, "muted", wrap=True))
        self.body.addStretch(1)
        if note:
            self.body.addWidget(label(note, "", wrap=True))

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self.activated.emit(self.key)
        super().mousePressEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Space, Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.activated.emit(self.key)
        else:
            super().keyPressEvent(event)


class Choices(QWidget):
    """Cards in a grid, one or several of them chosen."""

    changed = Signal()
    activated = Signal(str)
    """A card was clicked, also one that was chosen already."""

    def __init__(self, theme: Theme, *, several: bool = False, columns: int = 2) -> None:
        super().__init__()
        self._theme = theme
        self._several = several
        self._columns = columns
        self._cards: dict[str, ChoiceCard] = {}
        self._chosen: list[str] = []
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(SPACE + SPACE // 2)

    def add(self, key: str, title: str, text: str, icon: str, note: str = "") -> ChoiceCard:
        card = ChoiceCard(key, title, text, icon, self._theme, note)
        card.activated.connect(self._on_activated)
        place = len(self._cards)
        self._cards[key] = card
        self._grid.addWidget(card, place // self._columns, place % self._columns)
        self._grid.setColumnStretch(place % self._columns, 1)
        return card

    @property
    def chosen(self) -> list[str]:
        """Keys in the order of the cards."""
        return [key for key in self._cards if key in self._chosen]

    def choose(self, keys: list[str]) -> None:
        self._chosen = list(keys)
        for key, card in self._cards.items():
            set_look(card, chosen=key in self._chosen)
        self.changed.emit()

    def _on_activated(self, key: str) -> None:
        if not self._several:
            self.choose([key])
        elif key in self._chosen:
            self.choose([other for other in self._chosen if other != key])
        else:
            self.choose([*self._chosen, key])
        self.activated.emit(key)
