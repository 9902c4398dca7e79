"""A form that follows from declared options: label, editor, unit, help, fault and reset."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from studio.theme import SPACE, Theme, set_look
from studio.widgets.text import button, label
from workers.protocol.options import Option


class Field(QWidget):
    """One option. `value` is of the option's kind; `fault` says why what is typed is not."""

    changed = Signal()

    def __init__(self, option: Option, theme: Theme) -> None:
        super().__init__()
        self.option = option
        self._editor = self._make_editor()
        self._editor.setObjectName(f"field:{option.path}")
        self._editor.setAccessibleName(option.label)
        self._editor.setToolTip(option.help)
        self._fault = label("", "fault", wrap=True)
        self._fault.hide()
        self._reset = button("Reset", theme, kind="quiet", name=f"reset:{option.path}")
        self._reset.setToolTip(f"Back to {_text(option.default)}")
        self._reset.clicked.connect(self._on_reset)
        self._lay_out()
        self.set_value(option.default)

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

    def _make_editor(self) -> QLineEdit | QComboBox | QCheckBox:
        if self.option.choices:
            box = QComboBox()
            box.addItems(list(self.option.choices))
            box.currentTextChanged.connect(self._on_edited)
            box.wheelEvent = lambda event: event.ignore()  # a passing wheel must not change it
            return box
        if self.option.kind is bool:
            check = QCheckBox("On")
            check.toggled.connect(self._on_edited)
            return check
        edit = QLineEdit()
        edit.textChanged.connect(self._on_edited)
        return edit

    @property
    def value(self) -> Any:
        if isinstance(self._editor, QComboBox):
            return self._editor.currentText()
        if isinstance(self._editor, QCheckBox):
            return self._editor.isChecked()
        text = self._editor.text().strip()
        return text if self.option.kind is str else self.option.kind(text)

    def set_value(self, value: Any) -> None:
        if isinstance(self._editor, QComboBox):
            self._editor.setCurrentText(str(value))
        elif isinstance(self._editor, QCheckBox):
            self._editor.setChecked(bool(value))
        else:
            self._editor.setText(_text(value))
        self._on_edited()

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
        return ""

    def _on_edited(self, *_: object) -> None:
        fault = self.fault
        self._fault.setText(fault)
        self._fault.setVisible(bool(fault))
        if isinstance(self._editor, QLineEdit):
            set_look(self._editor, faulty=bool(fault))
        self._reset.setVisible(bool(fault) or self.value != self.option.default)
        self.changed.emit()

    def _on_reset(self) -> None:
        self.set_value(self.option.default)


class OptionForm(QWidget):
    """Fields for many options: the usual ones in two columns, the others folded away."""

    changed = Signal()

    def __init__(self, options: list[Option], theme: Theme) -> None:
        super().__init__()
        self.fields = {option.path: Field(option, theme) for option in options}
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2 * SPACE)
        column.addWidget(_grid([f for f in self.fields.values() if not f.option.advanced]))
        rare = [field for field in self.fields.values() if field.option.advanced]
        if rare:
            self.folded = QCollapsible("More settings")
            self.folded.setDuration(0)
            self.folded.addWidget(_grid(rare))
            column.addWidget(self.folded)
        for field in self.fields.values():
            field.changed.connect(self.changed)

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


def _grid(fields: list[Field], columns: int = 2) -> QWidget:
    holder = QWidget()
    grid = QGridLayout(holder)
    grid.setContentsMargins(0, 0, 0, 0)
    grid.setHorizontalSpacing(4 * SPACE)
    grid.setVerticalSpacing(2 * SPACE)
    for place, field in enumerate(fields):
        grid.addWidget(field, place // columns, place % columns)
    for number in range(columns):
        grid.setColumnStretch(number, 1)
    return holder


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
