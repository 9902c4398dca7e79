"""The frame of a screen: title, one line under it, actions at the right, content with room."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QFrame, QHBoxLayout, QScrollArea, QVBoxLayout, QWidget
from shiboken6 import isValid

from studio.theme import SPACE
from studio.widgets.text import label

WIDEST = 1120
"""Content wider than this is hard to read; the rest is room."""
POLISHED_AT_ONCE = 8


class Page(QWidget):
    """A screen. Subclasses fill `body`; `hear` gets the news, `refresh` the window's clock."""

    def __init__(self, title: str, subtitle: str, *, scrolls: bool = True) -> None:
        super().__init__()
        self.setObjectName("page")
        self.title = label(title, "title")
        self.subtitle = label(subtitle, "subtitle", wrap=True)
        self.action_row = QHBoxLayout()
        self.action_row.setSpacing(SPACE)
        self.body = QVBoxLayout()
        self.body.setSpacing(2 * SPACE)
        column = QVBoxLayout()
        column.setContentsMargins(4 * SPACE, 3 * SPACE, 4 * SPACE, 3 * SPACE)
        column.setSpacing(2 * SPACE)
        column.addLayout(self._head())
        column.addLayout(self.body, 1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scrolling(column) if scrolls else _centred(column))

    def _head(self) -> QHBoxLayout:
        words = QVBoxLayout()
        words.setSpacing(SPACE // 2)
        words.addWidget(self.title)
        words.addWidget(self.subtitle)
        head = QHBoxLayout()
        head.addLayout(words, 1)
        head.addLayout(self.action_row)
        return head

    def hear(self, news: list[Any]) -> None:
        """What jobs said since the last tick."""

    def refresh(self) -> None:
        """Called on the window's clock while this page is shown: paint what changed."""

    def leave(self) -> None:
        """Called once when the window closes."""


def polish_ahead(widget: QWidget) -> None:
    """Styles what is still out of sight, a little at a time, so that showing it is quick."""
    waiting = [widget, *widget.findChildren(QWidget)]

    def some() -> None:
        for made in waiting[:POLISHED_AT_ONCE]:
            if isValid(made):
                made.ensurePolished()
        del waiting[:POLISHED_AT_ONCE]
        if waiting:
            QTimer.singleShot(0, widget, some)

    QTimer.singleShot(0, widget, some)


def _centred(column: QVBoxLayout) -> QWidget:
    inner = QWidget()
    inner.setObjectName("scrolled")
    inner.setLayout(column)
    inner.setMaximumWidth(WIDEST)
    holder = QWidget()
    holder.setObjectName("scrolled")
    row = QHBoxLayout(holder)
    row.setContentsMargins(0, 0, 0, 0)
    row.addStretch(1)
    row.addWidget(inner, 1000)
    row.addStretch(1)
    return holder


def scrolling(column: QVBoxLayout) -> QScrollArea:
    """A column that scrolls where it is higher than its window, no wider than can be read."""
    area = QScrollArea()
    area.setObjectName("scroll")
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(_centred(column))
    return area
