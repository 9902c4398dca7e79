"""An editor of a chat template: its text, a row as it makes it, and what is wrong with it."""

from __future__ import annotations

from PySide6.QtCore import QRect, Qt, Signal
from PySide6.QtGui import QColor, QResizeEvent, QTextCharFormat, QTextCursor
from PySide6.QtWidgets import (
    QDialog,
    QHBoxLayout,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QSplitter,
    QTextEdit,
    QVBoxLayout,
    QWidget,
)

from studio.theme import SPACE, Theme
from studio.widgets.code import CodeEditor
from studio.widgets.templates import TemplateBox
from studio.widgets.text import button, label
from studio.widgets.tokens import Legend, TokenText, counted
from workers.protocol.browse import TemplateFinding, TokenView

SIZE = (1120, 760)
SIGNS = {"error": "✗", "warning": "⚠", "info": "·"}
LINE = Qt.ItemDataRole.UserRole
HIGHEST_LIST = 20 * SPACE


class TemplateEditor(QDialog):
    """Says what it needs by signals; nothing is rendered or written here."""

    text_asked = Signal(str)
    """The name of a template whose text is to be edited."""
    edited = Signal(str)
    """The text, after every change."""
    save_asked = Signal(str, str)
    """A name and the text."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Chat template")
        self.setObjectName("template-editor")
        self.resize(*SIZE)
        self._theme = theme
        self.start = TemplateBox("template-start")
        self.row = label("", "muted")
        self.code = CodeEditor(theme, lines=12, language="jinja")
        self.code.setObjectName("template-code")
        self.code.setAccessibleName("The template as Jinja")
        self.code.setLineWrapMode(CodeEditor.LineWrapMode.WidgetWidth)  # many are one long line
        self.reason = label("", "fault", wrap=True, select=True)
        self.counts = label("", "label", wrap=True)
        self.tokens = TokenText(theme)
        self.findings = QListWidget()
        self.findings.setObjectName("template-findings")
        self.findings.setAccessibleName("What is wrong with the template")
        self.findings.setWordWrap(True)
        self.findings.setSpacing(SPACE // 4)
        self.words = label("", "muted", wrap=True, select=True)
        self._make_foot(theme)
        self._lay_out(theme)
        self.start.chosen.connect(self.text_asked)
        self.code.textChanged.connect(self._on_edited)
        self.findings.itemClicked.connect(self._on_finding)
        self.findings.itemActivated.connect(self._on_finding)
        self.show_tried([], "", 0, [])

    def _make_foot(self, theme: Theme) -> None:
        self.undo = button("Undo", theme, "arrow-u-up-left", kind="quiet", name="template-undo")
        self.redo = button("Redo", theme, "arrow-u-up-right", kind="quiet", name="template-redo")
        self.undo.clicked.connect(self.code.undo)
        self.redo.clicked.connect(self.code.redo)
        for made, ready in ((self.undo, self.code.undoAvailable),
                            (self.redo, self.code.redoAvailable)):  # fmt: skip
            made.setEnabled(False)
            made.setAutoDefault(False)
            ready.connect(made.setEnabled)
        self.name = QLineEdit()
        self.name.setObjectName("template-name")
        self.name.setAccessibleName("Name of the template")
        self.name.setPlaceholderText("Name")
        self.name.setMaximumWidth(24 * SPACE)
        self.save = button("Save and use", theme, "floppy-disk", kind="primary",
                           name="template-save")  # fmt: skip
        self.leave = button("Close", theme, name="template-close")
        self.leave.setAutoDefault(False)
        self.save.clicked.connect(lambda: self.save_asked.emit(self.name.text().strip(), self.text))
        self.leave.clicked.connect(self.close)

    def _lay_out(self, theme: Theme) -> None:
        head, foot = QHBoxLayout(), QHBoxLayout()
        for row in (head, foot):
            row.setSpacing(SPACE)
        head.addWidget(label("Start from", "muted"))
        head.addWidget(self.start, 1)
        head.addStretch(1)
        head.addWidget(self.row)
        for widget in (self.undo, self.redo):
            foot.addWidget(widget)
        foot.addWidget(self.words, 1)
        for widget in (self.name, self.save, self.leave):
            foot.addWidget(widget)
        column = QVBoxLayout(self)
        column.setContentsMargins(3 * SPACE, 2 * SPACE, 3 * SPACE, 2 * SPACE)
        column.setSpacing(2 * SPACE)
        column.setSizeConstraint(QVBoxLayout.SizeConstraint.SetNoConstraint)  # its parts scroll
        column.addLayout(head)
        column.addWidget(self._split(theme), 1)
        column.addWidget(self.findings)
        column.addLayout(foot)

    def _split(self, theme: Theme) -> QSplitter:
        shown = QWidget()
        column = QVBoxLayout(shown)
        column.setContentsMargins(SPACE, 0, 0, 0)
        column.setSpacing(SPACE)
        for widget in (self.reason, self.counts):
            column.addWidget(widget)
        column.addWidget(self.tokens, 1)
        column.addWidget(Legend(theme), 0, Qt.AlignmentFlag.AlignLeft)
        split = QSplitter(Qt.Orientation.Horizontal)
        split.addWidget(self.code)
        split.addWidget(shown)
        split.setChildrenCollapsible(False)
        split.setSizes([SIZE[0] // 2, SIZE[0] // 2])
        return split

    # What is edited

    @property
    def text(self) -> str:
        return self.code.toPlainText()

    def put_text(self, text: str) -> None:
        """Replaces the whole text; Undo brings the former one back."""
        cursor = QTextCursor(self.code.document())
        cursor.select(QTextCursor.SelectionType.Document)
        cursor.insertText(text)
        self.code.moveCursor(QTextCursor.MoveOperation.Start)

    def begin(self, text: str) -> None:
        """Another text, without a way back to the one before."""
        self.code.setPlainText(text)

    def say(self, words: str) -> None:
        """What was done, or why it was not."""
        self.words.setText(words)

    def _on_edited(self) -> None:
        self.say("")
        self._mark(0)
        self.edited.emit(self.text)

    # What it makes of a row

    def show_row(self, words: str) -> None:
        self.row.setText(words)

    def show_tried(
        self, views: list[TokenView], reason: str, line: int, findings: list[TemplateFinding]
    ) -> None:
        """The row's tokens, or why there are none; and what is wrong with the template."""
        where = f"Line {line}: " if line else ""
        self.reason.setText(f"{where}{reason}" if reason else "")
        self.reason.setVisible(bool(reason))
        self.counts.setText(counted(views[0]) if len(views) == 1 else "")
        self.counts.setVisible(bool(self.counts.text()))
        if views:
            self.tokens.show_views(views)
        else:
            self.tokens.say("The row cannot be shown with this template." if reason else "")
        self._show_findings(findings)
        self._mark(line or next((one.line for one in findings if one.level == "error"), 0))

    def _show_findings(self, findings: list[TemplateFinding]) -> None:
        self.findings.clear()
        for one in findings:
            where = f"Line {one.line}: " if one.line else ""
            item = QListWidgetItem(f"{SIGNS[one.level]}  {where}{one.text} {one.remedy}".rstrip())
            item.setData(LINE, one.line)
            self.findings.addItem(item)
        self.findings.setVisible(bool(findings))
        self._fit_findings()

    def _fit_findings(self) -> None:
        """As high as what stands in it, up to a bound. Qt's own hint for a row that wraps is that
        of the width which the list had before."""
        room = QRect(0, 0, self.width() - 10 * SPACE, HIGHEST_LIST)
        rows = [self.findings.item(row).text() for row in range(self.findings.count())]
        metrics, wrap = self.findings.fontMetrics(), Qt.TextFlag.TextWordWrap
        heights = (metrics.boundingRect(room, wrap, row).height() + SPACE for row in rows)
        self.findings.setFixedHeight(min(sum(heights) + SPACE, HIGHEST_LIST))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit_findings()

    def _on_finding(self, item: QListWidgetItem) -> None:
        if line := item.data(LINE):
            self.go_to(line)

    def go_to(self, line: int) -> None:
        block = self.code.document().findBlockByNumber(line - 1)
        self.code.setTextCursor(QTextCursor(block))
        self.code.centerCursor()
        self.code.setFocus()

    def _mark(self, line: int) -> None:
        """Tints the line at fault; 0 tints none."""
        selections: list[QTextEdit.ExtraSelection] = []
        if line:
            look = QTextCharFormat()
            look.setBackground(QColor(self._theme.palette.bad_soft))
            look.setProperty(QTextCharFormat.Property.FullWidthSelection, True)
            selection = QTextEdit.ExtraSelection()
            selection.format = look  # type: ignore[attr-defined]
            selection.cursor = QTextCursor(  # type: ignore[attr-defined]
                self.code.document().findBlockByNumber(line - 1)
            )
            selections.append(selection)
        self.code.setExtraSelections(selections)
