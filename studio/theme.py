"""Colours, spacing, type and icons as data; the one place where looks are decided.

Knows Qt, no page and no job. Widgets take a `Theme` and follow its `changed`.
"""

from __future__ import annotations

import weakref
from string import Template
from typing import Literal

import msgspec
import qtawesome
from PySide6.QtCore import QObject, QSize, Qt, Signal
from PySide6.QtGui import QColor, QFont, QFontDatabase, QIcon, QPalette
from PySide6.QtWidgets import QAbstractButton, QApplication, QLabel, QStyleFactory, QWidget

from workers.protocol.assets import assets_folder

Appearance = Literal["system", "light", "dark"]

SPACE = 8
"""The grid, in pixels: every gap is a multiple of half of it."""
RADIUS = 8
ICON = QSize(18, 18)


class Palette(msgspec.Struct, frozen=True):
    """Colours by their task, as hex."""

    window: str
    sidebar: str
    surface: str
    raised: str
    border: str
    text: str
    muted: str
    faint: str
    accent: str
    accent_hover: str
    on_accent: str
    accent_soft: str
    good: str
    warning: str
    bad: str
    bad_soft: str
    thought: str
    thought_soft: str


LIGHT = Palette(
    window="#f7f7f9", sidebar="#efeff3", surface="#ffffff", raised="#f3f3f6", border="#dcdce3",
    text="#1b1b22", muted="#5f5f6d", faint="#b9b9c4", accent="#4655d4", accent_hover="#3846bd",
    on_accent="#ffffff", accent_soft="#e6e8fb", good="#1a7f4b", warning="#946200",
    bad="#c0362c", bad_soft="#fcebe9", thought="#8b3fae", thought_soft="#f5e9fb",
)  # fmt: skip
DARK = Palette(
    window="#17171c", sidebar="#121216", surface="#1f1f26", raised="#292932", border="#33333e",
    text="#ececf2", muted="#a1a1b0", faint="#565664", accent="#8b98ff", accent_hover="#a3adff",
    on_accent="#14141a", accent_soft="#2a2d4a", good="#5bc98c", warning="#e0b050",
    bad="#ff8a7d", bad_soft="#3a2222", thought="#d79bf5", thought_soft="#3a2746",
)  # fmt: skip

_STYLE = Template("""
* { outline: none; }
QWidget { color: $text; }
QMainWindow, QDialog, QWidget#page, QScrollArea#scroll, QWidget#scrolled { background: $window; }
QFrame#sidebar { background: $sidebar; border: none; border-right: 1px solid $border; }
QFrame[card="true"] {
    background: $surface; border: 1px solid $border; border-radius: ${radius}px;
}
QFrame[card="true"][chosen="true"] { border: 1px solid $accent; background: $accent_soft; }
QFrame[card="true"][chooses="true"]:hover { border-color: $accent; }
QFrame[card="true"][chooses="true"]:focus { border: 2px solid $accent; }
QFrame[banner="bad"] {
    background: $bad_soft; border: 1px solid $bad; border-radius: ${radius}px;
}
QFrame[banner="info"] {
    background: $accent_soft; border: 1px solid $border; border-radius: ${radius}px;
}
QFrame[bubble="user"] { background: $accent_soft; border: none; border-radius: 12px; }
QFrame[bubble="assistant"] {
    background: $surface; border: 1px solid $border; border-radius: 12px;
}
QLabel { background: transparent; border: none; }
QLabel[role="title"] { font-size: 22px; font-weight: 600; }
QLabel[role="heading"] { font-size: 15px; font-weight: 600; }
QLabel[role="label"] { font-weight: 600; }
QLabel[role="figure"] { font-size: 20px; font-weight: 600; }
QLabel[role="muted"], QLabel[role="subtitle"] { color: $muted; }
QLabel[role="fault"] { color: $bad; }
QLabel[role="good"] { color: $good; font-weight: 600; }
QLabel[role="bad"] { color: $bad; font-weight: 600; }
QPushButton {
    background: $surface; border: 1px solid $border; border-radius: 6px; padding: 6px 14px;
    min-height: 20px;
}
QPushButton:hover { background: $raised; }
QPushButton:pressed { background: $border; }
QPushButton:focus { border: 1px solid $accent; }
QPushButton:disabled { color: $faint; }
QPushButton[kind="primary"] {
    background: $accent; color: $on_accent; border: 1px solid $accent; font-weight: 600;
}
QPushButton[kind="primary"]:hover { background: $accent_hover; }
QPushButton[kind="primary"]:focus { border: 1px solid $text; }
QPushButton[kind="primary"]:disabled { background: $raised; color: $faint; border-color: $border; }
QPushButton[kind="quiet"] { background: transparent; border: 1px solid transparent; }
QPushButton[kind="quiet"]:hover { background: $raised; }
QPushButton[kind="quiet"]:focus { border: 1px solid $accent; }
QPushButton[kind="nav"] {
    background: transparent; border: 1px solid transparent; text-align: left; padding: 7px 10px;
    color: $muted;
}
QPushButton[kind="nav"]:hover { background: $raised; color: $text; }
QPushButton[kind="nav"]:checked { background: $accent_soft; color: $text; font-weight: 600; }
QPushButton[kind="nav"]:focus { border: 1px solid $accent; }
QPushButton[kind="chip"] {
    background: $raised; color: $muted; border: 1px solid $border; border-radius: 11px;
    padding: 2px 10px; min-height: 16px;
}
QPushButton[kind="chip"]:hover { color: $text; }
QPushButton[kind="chip"]:checked {
    background: $accent_soft; color: $text; border-color: $accent;
}
QPushButton[kind="chip"]:focus { border-color: $text; }
QPushButton[kind="step"] {
    background: transparent; border: none; border-bottom: 2px solid $border; border-radius: 0;
    color: $muted; padding: 6px 2px; text-align: left;
}
QPushButton[kind="step"]:checked {
    color: $text; border-bottom: 2px solid $accent; font-weight: 600;
}
QPushButton[kind="step"]:focus { color: $accent; }
QLineEdit, QPlainTextEdit, QTextEdit, QComboBox {
    background: $surface; border: 1px solid $border; border-radius: 6px; padding: 5px 8px;
    selection-background-color: $accent; selection-color: $on_accent; min-height: 20px;
}
QLineEdit:focus, QPlainTextEdit:focus, QTextEdit:focus, QComboBox:focus { border-color: $accent; }
QLineEdit[faulty="true"] { border-color: $bad; }
QComboBox::drop-down { border: none; width: 28px; }
QComboBox::down-arrow { image: url($icons/caret-down.svg); width: 14px; height: 14px; }
QComboBox QAbstractItemView {
    background: $surface; border: 1px solid $border; selection-background-color: $accent_soft;
    selection-color: $text;
}
QCheckBox, QRadioButton { spacing: 8px; background: transparent; }
QRadioButton::indicator {
    width: 12px; height: 12px; border: 1px solid $muted; border-radius: 7px; background: $surface;
}
QRadioButton::indicator:checked {
    width: 6px; height: 6px; border: 4px solid $accent; border-radius: 7px;
}
QProgressBar {
    background: $raised; border: none; border-radius: 3px; max-height: 6px; min-height: 6px;
}
QProgressBar::chunk { background: $accent; border-radius: 3px; }
QTableView {
    background: $surface; border: 1px solid $border; border-radius: ${radius}px;
    gridline-color: transparent; selection-background-color: $accent_soft;
    selection-color: $text; alternate-background-color: $surface;
}
QTableView::item { padding: 6px 8px; border-bottom: 1px solid $raised; }
QHeaderView { background: transparent; }
QHeaderView::section {
    background: $surface; color: $muted; border: none; border-bottom: 1px solid $border;
    padding: 6px 8px; font-weight: 600;
}
QTabWidget::pane { border: 1px solid $border; border-radius: ${radius}px; background: $surface; }
QTabBar { background: transparent; }
QTabBar::tab {
    background: transparent; color: $muted; padding: 7px 12px; border: none;
    border-bottom: 2px solid transparent;
}
QTabBar::tab:selected { color: $text; border-bottom: 2px solid $accent; font-weight: 600; }
QTabBar::tab:focus { color: $accent; }
QTabWidget QPlainTextEdit, QTabWidget QListWidget { border: none; background: $surface; }
QListWidget { background: $surface; border: 1px solid $border; border-radius: 6px; }
QListWidget[plain="true"] { border: none; padding: 0; }
QScrollBar:vertical { background: transparent; width: 10px; margin: 0; }
QScrollBar::handle { background: $border; border-radius: 4px; margin: 1px; }
QScrollBar::handle:vertical { min-height: 32px; }
QScrollBar:horizontal { background: transparent; height: 10px; margin: 0; }
QScrollBar::handle:horizontal { min-width: 32px; }
QScrollBar::add-line, QScrollBar::sub-line { width: 0; height: 0; }
QScrollBar::add-page, QScrollBar::sub-page { background: transparent; }
QScrollArea { border: none; background: transparent; }
QSplitter::handle { background: transparent; }
QToolTip { background: $raised; color: $text; border: 1px solid $border; padding: 4px 6px; }
QMenu { background: $surface; border: 1px solid $border; padding: 4px; }
QMenu::item { padding: 6px 20px; border-radius: 4px; }
QMenu::item:selected { background: $accent_soft; }
QMenu::item:disabled { color: $faint; }
""")


class Theme(QObject):
    """The present palette, and how widgets hear that it changed."""

    changed = Signal()

    def __init__(self, app: QApplication, appearance: Appearance = "system") -> None:
        super().__init__(app)
        self._app = app
        self._appearance: Appearance = appearance
        self._icons: weakref.WeakKeyDictionary[QWidget, tuple[str, str]] = (
            weakref.WeakKeyDictionary()
        )
        app.setStyle(QStyleFactory.create("Fusion"))
        app.styleHints().colorSchemeChanged.connect(self._on_scheme_changed)
        self._apply()

    @property
    def appearance(self) -> Appearance:
        return self._appearance

    @property
    def dark(self) -> bool:
        if self._appearance == "system":
            return self._app.styleHints().colorScheme() == Qt.ColorScheme.Dark
        return self._appearance == "dark"

    @property
    def palette(self) -> Palette:
        return DARK if self.dark else LIGHT

    def choose(self, appearance: Appearance) -> None:
        self._appearance = appearance
        self._apply()

    def icon(self, name: str, tint: str = "muted") -> QIcon:
        """An icon of the Phosphor set in one of the palette's colours."""
        return qtawesome.icon(f"ph.{name}", color=getattr(self.palette, tint))

    def set_icon(self, widget: QAbstractButton | QLabel, icon: str, tint: str = "muted") -> None:
        """Gives a button or label an icon that follows the palette."""
        self._icons[widget] = (icon, tint)
        self._put_on(widget, icon, tint)

    def _put_on(self, widget: QWidget, icon: str, tint: str) -> None:
        drawn = self.icon(icon, tint)
        if isinstance(widget, QAbstractButton):
            widget.setIcon(drawn)
            widget.setIconSize(ICON)
        elif isinstance(widget, QLabel):
            widget.setPixmap(drawn.pixmap(widget.property("iconSize") or ICON))

    def _on_scheme_changed(self) -> None:
        if self._appearance == "system":
            self._apply()

    def _apply(self) -> None:
        colours = msgspec.structs.asdict(self.palette)
        self._app.setPalette(_qt_palette(self.palette))
        icons = (assets_folder() / "icons").as_posix()
        self._app.setStyleSheet(_STYLE.substitute(colours, radius=RADIUS, icons=icons))
        for widget, (icon, tint) in list(self._icons.items()):
            self._put_on(widget, icon, tint)
        self.changed.emit()


def _qt_palette(colours: Palette) -> QPalette:
    role = QPalette.ColorRole
    tasks = {
        role.Window: colours.window, role.WindowText: colours.text, role.Base: colours.surface,
        role.AlternateBase: colours.raised, role.Text: colours.text, role.Button: colours.surface,
        role.ButtonText: colours.text, role.Highlight: colours.accent,
        role.HighlightedText: colours.on_accent, role.PlaceholderText: colours.muted,
        role.ToolTipBase: colours.raised, role.ToolTipText: colours.text,
        role.Link: colours.accent, role.Mid: colours.border, role.Accent: colours.accent,
    }  # fmt: skip
    palette = QPalette()
    for task, colour in tasks.items():
        palette.setColor(task, QColor(colour))
    for task in (role.Text, role.WindowText, role.ButtonText):
        palette.setColor(QPalette.ColorGroup.Disabled, task, QColor(colours.faint))
    return palette


def fixed_font() -> QFont:
    """The system's monospaced font, for logs and tokens."""
    return QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont)


def set_look(widget: QWidget, **properties: object) -> None:
    """Sets dynamic properties that the style sheet looks at, and restyles the widget."""
    for name, value in properties.items():
        widget.setProperty(name, value)
    widget.style().unpolish(widget)
    widget.style().polish(widget)
