"""The editor for code colours a document as a whole, in the theme's colours."""

from __future__ import annotations

import pytest
from PySide6.QtWidgets import QApplication

from studio.theme import DARK, LIGHT, Theme
from studio.widgets.code import LONGEST_COLOURED, CodeEditor

CODE = 'def f(a):\n    """Says\n    for x in y: 1\n    """\n    return 1'


@pytest.fixture
def editor(qapp: QApplication) -> CodeEditor:
    return CodeEditor(Theme(qapp, "light"))


def _colours(editor: CodeEditor, line: int) -> dict[str, str]:
    """What is coloured in a line, and how."""
    block = editor.document().findBlockByNumber(line)
    return {
        block.text()[run.start : run.start + run.length]: run.format.foreground().color().name()
        for run in block.layout().formats()
    }


def test_a_string_over_several_lines_is_one_string(editor: CodeEditor) -> None:
    editor.setPlainText(CODE)
    assert _colours(editor, 0) == {"def": LIGHT.accent, "f": LIGHT.text}
    assert _colours(editor, 2) == {"    for x in y: 1": LIGHT.good}
    assert _colours(editor, 4) == {"return": LIGHT.accent, "1": LIGHT.warning}


def test_a_string_that_is_opened_colours_the_lines_below(editor: CodeEditor) -> None:
    editor.setPlainText("a\nfor x in y: 1")
    assert _colours(editor, 1)["for"] == LIGHT.accent
    editor.insertPlainText('"""')
    assert _colours(editor, 1) == {"for x in y: 1": LIGHT.good}


def test_colours_follow_the_theme(qapp: QApplication) -> None:
    theme = Theme(qapp, "light")
    editor = CodeEditor(theme, language="json")
    editor.setPlainText('{"a": 1}')
    assert _colours(editor, 0) == {'"a"': LIGHT.accent, "1": LIGHT.warning}
    theme.choose("dark")
    assert _colours(editor, 0) == {'"a"': DARK.accent, "1": DARK.warning}


def test_a_long_text_stays_in_one_colour(editor: CodeEditor) -> None:
    editor.setPlainText(f'"{"a" * LONGEST_COLOURED}"')
    assert _colours(editor, 0) == {}
