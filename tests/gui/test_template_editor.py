"""Writing a chat template on the Data page over a fake reader: tried, kept, saved, used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.pages.data import DataPage
from studio.widgets.template_editor import TemplateEditor
from tests.gui.conftest import Driver
from workers.protocol.templates import OURS, TRL, trl_templates


@pytest.fixture
def page(driver: Driver, tmp_path: Path) -> DataPage:
    path = tmp_path / "rows.jsonl"
    rows = ({"prompt": f"Ask {number}", "completion": "Say so"} for number in range(5))
    path.write_text("\n".join(map(json.dumps, rows)))
    driver.go("Data")
    driver.type("browse-path", str(path))
    driver.click("open-dataset")
    driver.wait(lambda: bool(driver.window.data.browser.tokens.tokens.views))
    return driver.window.data


@pytest.fixture
def editor(driver: Driver, page: DataPage) -> TemplateEditor:
    return _opened(driver, page)


def _opened(driver: Driver, page: DataPage) -> TemplateEditor:
    driver.click("edit-template")
    shown: Any = page.browser.templates.editor
    assert shown is not None
    driver.wait(lambda: bool(shown.text) and bool(shown.tokens.views))
    return shown


def test_all_templates_are_offered(page: DataPage) -> None:
    box = page.browser.tokens.templates
    offered = [box.itemData(at) for at in range(box.count()) if box.itemText(at)]
    assert offered == ["auto", *OURS, *(f"{TRL}{name}" for name in trl_templates()), ""]
    box.choose("/somewhere/mine.jinja")
    assert (box.template, box.currentText()) == ("/somewhere/mine.jinja", "mine")
    box.offer_saved(["/home/templates/a.jinja"])
    assert box.template == "/somewhere/mine.jinja"
    assert box.findText("a") > 0


def test_what_is_written_is_tried_on_the_row_that_is_chosen(
    driver: Driver, page: DataPage, editor: TemplateEditor
) -> None:
    assert editor.text == "{{ messages }} of auto"
    assert "Ask 0" in editor.tokens.text
    assert editor.findings.isHidden()
    editor.code.setPlainText("one\nbroken")
    driver.wait(lambda: editor.reason.text() == "Line 2: It is broken.")
    assert not editor.tokens.views
    (marked,) = editor.code.extraSelections()
    assert marked.cursor.blockNumber() == 1  # type: ignore[attr-defined]
    editor.code.setPlainText("one\ntwo")
    assert not editor.code.extraSelections()
    driver.wait(lambda: bool(editor.findings.count()))
    assert editor.findings.item(0).text() == "⚠  Line 2: It asks oddly. Mend it."
    editor.findings.itemClicked.emit(editor.findings.item(0))
    assert editor.code.textCursor().blockNumber() == 1
    page.browser.table.go_to(3)
    driver.wait(lambda: "Ask 3" in editor.tokens.text)
    assert editor.row.text() == "Row 4"


def test_another_start_can_be_taken_back(driver: Driver, editor: TemplateEditor) -> None:
    editor.code.insertPlainText("mine ")
    editor.start.choose("chatml")
    editor.start.chosen.emit("chatml")
    driver.wait(lambda: editor.text == "{{ messages }} of chatml")
    driver.click("template-undo")
    assert editor.text == "mine {{ messages }} of auto"
    driver.click("template-redo")
    assert editor.text == "{{ messages }} of chatml"


def test_what_was_not_saved_is_there_again(
    driver: Driver, page: DataPage, editor: TemplateEditor
) -> None:
    draft = page.browser.templates._draft
    editor.code.setPlainText("half a thought")
    driver.wait(lambda: draft.is_file() and draft.read_text() == "half a thought")
    driver.click("template-close")
    assert page.browser.templates.editor is None
    again = _opened(driver, page)
    driver.wait(lambda: again.text == "half a thought")
    assert "did not save" in again.words.text()
    driver.click("template-undo")
    assert again.text == "{{ messages }} of auto"


def test_a_saved_template_is_chosen_and_goes_to_the_wizard(
    driver: Driver, page: DataPage, editor: TemplateEditor
) -> None:
    editor.code.setPlainText("mine")
    driver.click("template-save")
    assert "Give it a name" in editor.words.text()
    driver.type("template-name", "my first")
    driver.click("template-save")
    path = driver.studio.home.root / "templates" / "my first.jinja"
    assert path.read_text() == "mine"
    assert page.browser.tokens.template == str(path)
    assert not page.browser.templates._draft.exists()
    again = _opened(driver, page)
    assert again.name.text() == "my first"
    driver.wait(lambda: again.text.endswith("my first.jinja"))
    again.start.choose("chatml")
    driver.click("template-save")
    assert "There is a template called my first already." in again.words.text()
    again.start.choose(str(path))
    again.code.setPlainText("mine, better")
    driver.click("template-save")
    assert path.read_text() == "mine, better"
    driver.click("use-data")
    train = driver.window.train
    assert train.recipe().model.template == str(path)
    train.go_to(train.model)
    assert train.model.template.currentText() == "my first"
    path.unlink()
    fault = train.model.fault()
    assert fault is not None
    assert "There is no chat template" in fault.what
