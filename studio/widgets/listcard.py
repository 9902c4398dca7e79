"""A titled list of things to open, each with a name and a few words; or why there are none."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QAbstractItemView, QListWidget, QListWidgetItem

from studio.theme import SPACE, Theme
from studio.widgets.card import Card
from studio.widgets.text import label


class ListCard(Card):
    """`opened` names the key of an entry that was clicked, or on which Enter was pressed."""

    opened = Signal(str)

    def __init__(self, heading: str, icon: str, nothing: str, theme: Theme) -> None:
        super().__init__(heading)
        self._icon, self._theme = icon, theme
        self.list = QListWidget()
        self.list.setObjectName(f"list:{heading}")
        self.list.setAccessibleName(heading)
        self.list.setProperty("plain", True)
        self.list.setSpacing(SPACE // 4)
        self.list.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.list.itemClicked.connect(self._on_opened)
        self.list.itemActivated.connect(self._on_opened)
        self._nothing = label(nothing, "muted", wrap=True)
        self._nothing.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.body.addWidget(self.list, 1)
        self.body.addWidget(self._nothing, 1)
        self._taken = ""
        theme.changed.connect(self._on_theme_changed)
        self.offer([])

    def offer(self, entries: list[tuple[str, str, str]]) -> None:
        """Entries as key, name and tooltip."""
        self._taken = ""
        self.list.clear()
        for key, name, more in entries:
            item = QListWidgetItem(self._theme.icon(self._icon), name)
            item.setData(Qt.ItemDataRole.UserRole, key)
            item.setToolTip(more)
            self.list.addItem(item)
        self.list.setVisible(bool(entries))
        self._nothing.setVisible(not entries)

    def _on_theme_changed(self) -> None:
        for place in range(self.list.count()):
            self.list.item(place).setIcon(self._theme.icon(self._icon))

    def _on_opened(self, item: QListWidgetItem) -> None:
        key = item.data(Qt.ItemDataRole.UserRole)
        if key != self._taken:  # a double click activates what the first one has opened
            self._taken = key
            self.opened.emit(key)
