"""A small editor for code: fixed font, colours, four spaces for a tab, kept indentation."""

from __future__ import annotations

import ast
from itertools import accumulate, groupby

from pygments.style import Style
from pygments.token import Comment, Keyword, Name, Number, Operator, String
from PySide6.QtCore import Qt
from PySide6.QtGui import QKeyEvent, QTextCharFormat, QTextDocument
from PySide6.QtWidgets import QPlainTextEdit
from superqt.utils import CodeSyntaxHighlight

from studio.theme import SPACE, Palette, Theme, fixed_font

INDENT = "    "
LONGEST_COLOURED = 10_000
"""Characters; a longer text stays in one colour, as it would be read anew with every letter."""


class CodeColours(CodeSyntaxHighlight):
    """Colours a document as Pygments reads it, in the theme's colours.

    The document is read as a whole: superqt's own `highlightBlock` reads each line alone, to which
    the inside of a docstring is code.
    """

    def __init__(self, document: QTextDocument, theme: Theme, language: str) -> None:
        self._read: tuple[int, int] | None = None
        self._lines: list[list[QTextCharFormat]] = []
        super().__init__(document, language, _style_of(theme.palette))  # type: ignore[arg-type]
        self.lexer.stripnl = self.lexer.ensurenl = False  # every character keeps its place
        self._theme = theme
        theme.changed.connect(self._on_theme_changed)

    def highlightBlock(self, text: str | None) -> None:
        looks = self._looks_of(self.currentBlock().blockNumber())
        for _, run in groupby(enumerate(looks), key=lambda at: id(at[1])):
            (start, look), *rest = run
            self.setFormat(start, 1 + len(rest), look)
        # Another state makes Qt look at the next line too: a string may begin or end here.
        self.setCurrentBlockState(id(looks[-1]) & 0x7FFFFFFF if looks else 0)

    def _looks_of(self, number: int) -> list[QTextCharFormat]:
        """The format of each character of a line."""
        document = self.document()
        # Setting a whole text anew leaves the revision as it was.
        if self._read != (state := (document.revision(), document.characterCount())):
            self._read = state
            short = document.characterCount() <= LONGEST_COLOURED
            self._lines = self._looks(document.toPlainText()) if short else []
        return self._lines[number] if number < len(self._lines) else []

    def _looks(self, text: str) -> list[list[QTextCharFormat]]:
        self.formatter.format(list(self.lexer.get_tokens(text)), None)
        lines, looks = text.split("\n"), self.formatter.data
        ends = accumulate(len(line) + 1 for line in lines)
        return [looks[end - 1 - len(line) : end - 1] for line, end in zip(lines, ends, strict=True)]

    def _on_theme_changed(self) -> None:
        self._read = None
        self.setTheme(_style_of(self._theme.palette))  # type: ignore[arg-type]


def _style_of(palette: Palette) -> type[Style]:
    """A palette as a Pygments style."""

    class PaletteStyle(Style):
        styles = {  # noqa: RUF012
            Comment: palette.muted,
            Name.Tag: palette.accent,
            String: palette.good,
            Number: palette.warning,
            Operator.Word: palette.accent,
            Keyword: palette.accent,
            Name.Function: f"bold {palette.text}",
            Name.Class: f"bold {palette.text}",
        }

    return PaletteStyle


class CodeEditor(QPlainTextEdit):
    """Python, or another language that Pygments knows. Tab indents; Shift and Tab leaves for the
    control before."""

    def __init__(self, theme: Theme, lines: int = 9, language: str = "python") -> None:
        super().__init__()
        self.setFont(fixed_font())
        self.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.setTabStopDistance(self.fontMetrics().horizontalAdvance(INDENT))
        self.setMinimumHeight(lines * self.fontMetrics().lineSpacing() + 3 * SPACE)
        self._colours = CodeColours(self.document(), theme, language)

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
