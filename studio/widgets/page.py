"""The frame of a screen: title, one line under it, actions at the right, content with room."""

from __future__ import annotations

from collections.abc import Iterable

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QDialog, QFrame, QHBoxLayout, QScrollArea, QVBoxLayout, QWidget
from shiboken6 import isValid

from studio.theme import SPACE
from studio.widgets.text import label

WIDEST = 1120
"""Content wider than this is hard to read; the rest is room."""
POLISHED_AT_ONCE = 8


class Page(QWidget):
    """A screen. Subclasses fill `body`; `refresh` is called on the window's clock."""

    def __init__(
        self, title: str, subtitle: str, *, scrolls: bool = True, wide: bool = False
    ) -> None:
        """With `wide` there is no end to the width: for tables and charts, not for text."""
        super().__init__()
        self.setObjectName("page")
        self._lost: QWidget | None = None
        """What had the keyboard's focus until it was disabled or hidden."""
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
        content = _filling(column) if wide else centred(column)
        outer.addWidget(scrolling(content) if scrolls else content)

    def _head(self) -> QHBoxLayout:
        words = QVBoxLayout()
        words.setSpacing(SPACE // 2)
        words.addWidget(self.title)
        words.addWidget(self.subtitle)
        head = QHBoxLayout()
        head.addLayout(words, 1)
        head.addLayout(self.action_row)
        return head

    def focusNextPrevChild(self, forward: bool) -> bool:
        """Moves the focus on Tab, and, since Qt asks for that too, when what has it is disabled or
        hidden: to the title, where keys do nothing. Tab then goes on from what was lost."""
        at = self.window().focusWidget()
        if at is None or not self.isVisible() or not self.isAncestorOf(at):
            return super().focusNextPrevChild(forward)
        if not _takes_keys(at):
            self._lost = at
            self.title.setFocus()
            return True
        lost, self._lost = self._lost, None
        found = self._stop_from(lost, forward) if at is self.title else None
        if found is None:
            return super().focusNextPrevChild(forward)
        found.setFocus(Qt.FocusReason.TabFocusReason)
        return True

    def _stop_from(self, begin: QWidget | None, forward: bool) -> QWidget | None:
        """The first control that Tab leads to from a place of this page, that place included."""
        at = begin if begin is not None and isValid(begin) else None
        while at is not None and not (self.isAncestorOf(at) and _is_tab_stop(at)):
            at = at.nextInFocusChain() if forward else at.previousInFocusChain()
            at = None if at is begin else at
        return at

    def refresh(self) -> None:
        """Called on the window's clock while this page is shown: paint what changed."""

    def receive(self, request: object) -> None:
        """Takes up what another page asks for; called when the page has been shown."""

    def leave(self) -> None:
        """Called once when the window closes."""


def _takes_keys(widget: QWidget) -> bool:
    return widget.isEnabled() and widget.isVisible()


def _is_tab_stop(widget: QWidget) -> bool:
    return _takes_keys(widget) and bool(widget.focusPolicy() & Qt.FocusPolicy.TabFocus)


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


def _filling(column: QVBoxLayout) -> QWidget:
    inner = QWidget()
    inner.setObjectName("scrolled")
    inner.setLayout(column)
    return inner


def centred(column: QVBoxLayout) -> QWidget:
    """A column no wider than can be read."""
    inner = _filling(column)
    inner.setMaximumWidth(WIDEST)
    holder = QWidget()
    holder.setObjectName("scrolled")
    row = QHBoxLayout(holder)
    row.setContentsMargins(0, 0, 0, 0)
    row.addStretch(1)
    row.addWidget(inner, 1000)
    row.addStretch(1)
    return holder


def scrolling(content: QWidget) -> QScrollArea:
    """Content that scrolls where it is higher than its window."""
    area = QScrollArea()
    area.setObjectName("scroll")
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(content)
    return area


def lay_out_dialog(dialog: QDialog, content: Iterable[QWidget], buttons: Iterable[QWidget]) -> None:
    """Fills a dialog with content that scrolls, and with buttons that stay below it."""
    column = QVBoxLayout()
    column.setContentsMargins(3 * SPACE, 2 * SPACE, 3 * SPACE, 2 * SPACE)
    column.setSpacing(2 * SPACE)
    for widget in content:
        column.addWidget(widget)
    column.addStretch(1)
    row = QHBoxLayout()
    row.setContentsMargins(3 * SPACE, SPACE, 3 * SPACE, 2 * SPACE)
    row.addStretch(1)
    for widget in buttons:
        row.addWidget(widget)
    outer = QVBoxLayout(dialog)
    outer.setContentsMargins(0, 0, 0, 0)
    outer.setSizeConstraint(QVBoxLayout.SizeConstraint.SetNoConstraint)  # it scrolls
    outer.addWidget(scrolling(centred(column)), 1)
    outer.addLayout(row)
