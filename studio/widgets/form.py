"""A form that follows from declared options: label, editor, unit, help, fault and reset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from PySide6.QtCore import Signal
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLineEdit,
    QPlainTextEdit,
    QVBoxLayout,
    QWidget,
)

from studio.theme import SPACE, Theme, set_look
from studio.widgets.check import CheckBox
from studio.widgets.combo import ComboBox
from studio.widgets.text import button, label
from workers.protocol.options import Option

if TYPE_CHECKING:
    from superqt import QCollapsible

UNSET = "not set"
"""What the empty choice is called."""
Check = Callable[[Any], str]
"""Says what is wrong with a value of the right kind, or nothing."""


class Field(QWidget):
    """One option. `value` is of the option's kind; `fault` says why what is typed is not.

    An option without a default has to be filled in.
    """

    changed = Signal()

    def __init__(
        self,
        option: Option,
        theme: Theme,
        editor: QPlainTextEdit | None = None,
        check: Check | None = None,
    ) -> None:
        super().__init__()
        self.option = option
        self._theme = theme
        self.needed = option.default is msgspec.NODEFAULT
        self._default = "" if self.needed else option.default
        self._check = check
        self._editor = self._use(editor) if editor is not None else self._make_editor()
        self._editor.setObjectName(f"field:{option.path}")
        self._editor.setAccessibleName(option.label)
        self._editor.setToolTip(option.help)
        self._fault = label("", "fault", wrap=True)
        self._fault.hide()
        self._reset = button("Reset", theme, kind="quiet", name=f"reset:{option.path}")
        self._reset.clicked.connect(self._on_reset)
        self._lay_out()
        self._reset.setToolTip(f"Back to {option.text_of(self._default)}")
        self.set_value(self._default)

    def _lay_out(self) -> None:
        line = QHBoxLayout()
        line.setSpacing(SPACE)
        line.addWidget(self._editor, 1)
        if self.option.unit:
            line.addWidget(label(self.option.unit, "muted"))
        line.addWidget(self._reset)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE // 2)
        column.addWidget(label(self.option.label, "label"))
        column.addLayout(line)
        column.addWidget(self._fault)
        column.addWidget(label(self.option.help, "muted", wrap=True))
        column.addStretch(1)

    def _use(self, editor: QPlainTextEdit) -> QPlainTextEdit:
        editor.textChanged.connect(self._on_edited)
        return editor

    def _make_editor(self) -> QLineEdit | QComboBox | QCheckBox:
        if self.option.choices:
            box = ComboBox()
            for choice in self.option.choices:
                box.addItem(choice or UNSET, self.option.value_of(choice))
            box.currentTextChanged.connect(self._on_edited)
            return box
        if self.option.kind is bool:
            check = CheckBox("On", self._theme)
            check.toggled.connect(self._on_edited)
            return check
        edit = QLineEdit()
        edit.textChanged.connect(self._on_edited)
        return edit

    @property
    def value(self) -> Any:
        if isinstance(self._editor, QComboBox):
            return self._editor.currentData()
        if isinstance(self._editor, QCheckBox):
            return self._editor.isChecked()
        if isinstance(self._editor, QPlainTextEdit):
            return self._editor.toPlainText()
        return self.option.value_of(self._editor.text().strip())

    def set_value(self, value: Any) -> None:
        if isinstance(self._editor, QComboBox):
            self._editor.setCurrentText(self.option.text_of(value) or UNSET)
        elif isinstance(self._editor, QCheckBox):
            self._editor.setChecked(bool(value))
        elif isinstance(self._editor, QPlainTextEdit):
            self._editor.setPlainText(str(value))
        else:
            self._editor.setText(self.option.text_of(value))
        self._on_edited()

    def set_default(self, value: Any) -> None:
        """Falls back on another value; the one that is shown stays."""
        if value != self._default:
            self._default = value
            self._reset.setToolTip(f"Back to {self.option.text_of(value)}")
            self._show_state()

    def show_value(self, value: Any) -> None:
        """Shows a value that was set elsewhere; what is typed stays where it means the same."""
        if self.fault or self.value != value:
            self.set_value(value)

    @property
    def fault(self) -> str:
        try:
            value = self.value
        except ValueError:
            return "A whole number is needed." if self.option.kind is int else "A number is needed."
        if self.option.kind in (int, float):
            low, high = self.option.minimum, self.option.maximum
            if low is not None and value < low:
                return f"At least {low:g}."
            if high is not None and value > high:
                return f"At most {high:g}."
        if self.needed and not str(value).strip():
            return "This is needed."
        return self._check(value) if self._check else ""

    def _on_edited(self, *_: object) -> None:
        self._show_state()
        self.changed.emit()

    def _show_state(self) -> None:
        fault = self.fault
        if fault != self._fault.text():
            self._fault.setText(fault)
            self._fault.setVisible(bool(fault))
            if isinstance(self._editor, QLineEdit):
                set_look(self._editor, faulty=bool(fault))
        changed = bool(fault) or self.value != self._default
        self._reset.setVisible(changed and not self.needed)

    def _on_reset(self) -> None:
        self.set_value(self._default)


MORE = "More settings"
"""What the first group of advanced options is called."""


class OptionForm(QWidget):
    """Fields for many options: the usual ones in two columns, the others folded away by groups.

    `editors` and `checks` go by key: a text editor to use for it, and what to say of its value.
    """

    changed = Signal()

    def __init__(
        self,
        options: Iterable[Option],
        theme: Theme,
        editors: Mapping[str, QPlainTextEdit] | None = None,
        checks: Mapping[str, Check] | None = None,
    ) -> None:
        super().__init__()
        editors, checks = editors or {}, checks or {}
        self.fields = {
            option.path: Field(option, theme, editors.get(option.key), checks.get(option.key))
            for option in options
        }
        self._wide = {path for path, f in self.fields.items() if f.option.key in editors}
        self._left_out: set[str] | None = None
        self._usual = QWidget()
        _make_grid(self._usual)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2 * SPACE)
        column.addWidget(self._usual)
        rare = [field.option.group for field in self.fields.values() if field.option.advanced]
        self._holders = {group: QWidget() for group in ("", *dict.fromkeys(rare))}
        self.groups = {
            group: _folded(group or MORE, holder) for group, holder in self._holders.items()
        }
        for group in self.groups.values():
            column.addWidget(group)
        self._theme = theme
        theme.changed.connect(self._show_arrows)
        self._show_arrows()
        self.folded = self.groups[""]
        for field in self.fields.values():
            field.changed.connect(self.changed)
        self.leave_out(())

    def _show_arrows(self) -> None:
        """In the theme's colour, which the groups would keep as it was when they were made."""
        for group in self.groups.values():
            group.setExpandedIcon(self._theme.icon("caret-down"))
            group.setCollapsedIcon(self._theme.icon("caret-right"))

    def leave_out(self, paths: Iterable[str]) -> None:
        """Shows all fields but these; what is out of sight keeps its value."""
        left_out = set(paths)
        if left_out == self._left_out:
            return
        self._left_out = left_out
        shown = [field for path, field in self.fields.items() if path not in left_out]
        for path in left_out & set(self.fields):
            self.fields[path].hide()
            self.fields[path].setParent(self)
        self._place(self._usual, [field for field in shown if not field.option.advanced])
        rare = [field for field in shown if field.option.advanced]
        for name, group in self.groups.items():
            mine = [field for field in rare if field.option.group == name]
            self._place(self._holders[name], mine)
            group.setVisible(bool(mine))

    def _place(self, holder: QWidget, fields: list[Field], columns: int = 2) -> None:
        """Fields from left to right; one with an editor of its own takes a whole row."""
        grid = holder.layout()
        assert isinstance(grid, QGridLayout)
        while grid.count():
            grid.takeAt(0)
        place = 0
        for field in fields:
            if field.option.path in self._wide:
                row = -(-place // columns)
                grid.addWidget(field, row, 0, 1, columns)
                place = (row + 1) * columns
            else:
                grid.addWidget(field, place // columns, place % columns)
                place += 1
            field.show()

    @property
    def values(self) -> dict[str, Any]:
        """Key path to value; only when nothing is at fault."""
        return {path: field.value for path, field in self.fields.items()}

    @property
    def faults(self) -> dict[str, str]:
        return {path: field.fault for path, field in self.fields.items() if field.fault}

    def set_values(self, values: dict[str, Any]) -> None:
        for path, value in values.items():
            if path in self.fields:
                self.fields[path].set_value(value)


def _folded(title: str, holder: QWidget) -> QCollapsible:
    """A group that is folded away, and unfolds to what the holder shows in a grid."""
    from superqt import QCollapsible  # 0.1 s, which the first window need not wait for

    group = QCollapsible(title)
    group.setDuration(0)
    _make_grid(holder)
    group.addWidget(holder)
    return group


def _make_grid(holder: QWidget, columns: int = 2) -> None:
    grid = QGridLayout(holder)
    grid.setContentsMargins(0, 0, 0, 0)
    grid.setHorizontalSpacing(4 * SPACE)
    grid.setVerticalSpacing(2 * SPACE)
    for number in range(columns):
        grid.setColumnStretch(number, 1)
