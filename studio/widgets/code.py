"""A small editor for code: fixed font, colours, four spaces for a tab, kept indentation."""

from __future__ import annotations

import ast

from pygments.lexer import Lexer
from pygments.lexers.python import PythonLexer
from pygments.token import Comment, Keyword, Name, Number, Operator, String, _TokenType
from PySide6.QtCore import Qt
from PySide6.QtGui import (
    QColor,
    QFont,
    QKeyEvent,
    QSyntaxHighlighter,
    QTextCharFormat,
    QTextDocument,
)
from PySide6.QtWidgets import QPlainTextEdit

from studio.theme import SPACE, Theme, fixed_font

INDENT = "    "
LOOKS: list[tuple[_TokenType, str, bool]] = [
    (Comment, "muted", False),
    (Name.Tag, "accent", False),
    (String, "good", False),
    (Number, "warning", False),
    (Operator.Word, "accent", False),
    (Keyword, "accent", False),
    (Name.Function, "text", True),
    (Name.Class, "text", True),
]
"""Kind of token to the palette's colour, and whether it is bold; the first that fits counts."""
LONGEST_COLOURED = 10_000
"""Characters; a longer text stays in one colour, as it would be read anew with every letter."""
Span = tuple[int, int, _TokenType]


class CodeColours(QSyntaxHighlighter):
    """Colours a document as Pygments reads it, in the theme's colours."""

    def __init__(self, document: QTextDocument, theme: Theme, lexer: Lexer) -> None:
        super().__init__(document)
        self._theme = theme
        self._lexer = lexer
        self._read: tuple[int, int] | None = None
        self._lines: list[list[Span]] = []
        theme.changed.connect(self._on_theme_changed)

    def highlightBlock(self, text: str) -> None:
        spans = self._spans_of(self.currentBlock().blockNumber())
        for start, length, kind in spans:
            if (look := self._look(kind)) is not None:
                self.setFormat(start, length, look)
        # Another state makes Qt look at the next line too: a string may begin or end here.
        self.setCurrentBlockState(hash(spans[-1][2]) & 0xFFFF if spans else 0)

    def _spans_of(self, number: int) -> list[Span]:
        document = self.document()
        # Setting a whole text anew leaves the revision as it was.
        if self._read != (state := (document.revision(), document.characterCount())):
            self._read = state
            short = document.characterCount() <= LONGEST_COLOURED
            self._lines = _spans(self._lexer, document.toPlainText()) if short else []
        return self._lines[number] if number < len(self._lines) else []

    def _look(self, kind: _TokenType) -> QTextCharFormat | None:
        for wanted, colour, bold in LOOKS:
            if kind in wanted:
                look = QTextCharFormat()
                look.setForeground(QColor(getattr(self._theme.palette, colour)))
                if bold:
                    look.setFontWeight(QFont.Weight.Bold)
                return look
        return None

    def _on_theme_changed(self) -> None:
        self.rehighlight()


def _spans(lexer: Lexer, text: str) -> list[list[Span]]:
    """The tokens of each line: start, length, kind."""
    lines: list[list[Span]] = [[]]
    at = 0
    for kind, words in lexer.get_tokens(text):
        for number, part in enumerate(words.split("\n")):
            if number:
                lines.append([])
                at = 0
            if part:
                lines[-1].append((at, len(part), kind))
                at += len(part)
    return lines


class CodeEditor(QPlainTextEdit):
    """Python, or what else a lexer reads, as text. Tab indents; Shift and Tab leaves for the
    control before."""

    def __init__(self, theme: Theme, lines: int = 9, lexer: Lexer | None = None) -> None:
        super().__init__()
        self.setFont(fixed_font())
        self.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.setTabStopDistance(self.fontMetrics().horizontalAdvance(INDENT))
        self.setMinimumHeight(lines * self.fontMetrics().lineSpacing() + 3 * SPACE)
        lexer = lexer or PythonLexer()
        lexer.stripnl = lexer.ensurenl = False
        self._colours = CodeColours(self.document(), theme, lexer)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Tab and not event.modifiers():
            self.insertPlainText(INDENT)
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.insertPlainText("\n" + self._indentation())
            self.ensureCursorVisible()
        else:
            super().keyPressEvent(event)

    def _indentation(self) -> str:
        cursor = self.textCursor()
        before = cursor.block().text()[: cursor.positionInBlock()]
        kept = before[: len(before) - len(before.lstrip())]
        return kept + INDENT if before.rstrip().endswith(":") else kept


def fault_of_code(code: str) -> str:
    """Why code cannot serve as a reward, found without running it."""
    try:
        tree = ast.parse(code)
    except SyntaxError as fault:
        return f"Line {fault.lineno}: {fault.msg}."
    except (ValueError, RecursionError, MemoryError):
        return "This is not Python."
    if any(isinstance(node, ast.FunctionDef) and node.name == "reward" for node in tree.body):
        return ""
    return "It defines no function called reward(prompt, completion, answer)."
