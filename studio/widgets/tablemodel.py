"""A table's model with named columns; what it holds is its subclass's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import QAbstractTableModel, Qt


class TableModel(QAbstractTableModel):
    @property
    def columns(self) -> Sequence[str]:
        """What stands above each."""
        raise NotImplementedError

    def columnCount(self, parent: Any = None) -> int:
        return len(self.columns)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return self.columns[section]
        return None

    def tell_all_changed(self) -> None:
        """Every cell may read otherwise; the rows are the same ones."""
        if self.rowCount():
            last = self.index(self.rowCount() - 1, len(self.columns) - 1)
            self.dataChanged.emit(self.index(0, 0), last)
