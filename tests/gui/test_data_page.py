"""The Data page over a fake reader in a real child process: rows, tokens, edits, versions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl
from PySide6.QtGui import QDropEvent
from PySide6.QtWidgets import QLabel

from studio.app import Studio
from studio.pages.data import DataPage
from studio.pages.data.edits import EditHistory, Mark
from studio.settings import load_settings
from studio.widgets.tokens import TokenText, look_of
from tests.gui.conftest import Driver
from workers.protocol import wire
from workers.protocol.browse import Piece, RowView, TokenView
from workers.protocol.recipe import Source
from workers.protocol.requests import ShowRows


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"prompt": f"Ask {n}", "completion": f"Say {n}"}) for n in range(40)]
    lines[3] = "{broken"
    lines[9] = json.dumps({"prompt": "Ask 9 in many more words", "completion": "Say 9"})
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def page(driver: Driver, rows: Path) -> DataPage:
    """The page with a file open and its first row read."""
    return _open(driver, rows)


def _open(driver: Driver, path: Path | str) -> DataPage:
    driver.go("Data")
    shown = driver.window.data
    driver.type("browse-path", str(path))
    driver.click("open-dataset")
    driver.wait(lambda: _tokens_of(shown) is not None)
    return shown


def _mapping(page: DataPage) -> dict[str, str]:
    opening = page.browser.opening
    return opening.mapping if opening is not None else {}


def _cell(page: DataPage, row: int, column: int) -> str:
    model = page.browser.table.rows
    return str(model.data(model.index(row, column), Qt.ItemDataRole.DisplayRole))


def _choose(driver: Driver, page: DataPage, row: int) -> None:
    page.browser.table.go_to(row)
    driver.wait(lambda: _tokens_of(page) == row)


def _tokens_of(page: DataPage) -> int | None:
    views = page.browser.tokens.tokens.views
    return views[0].row if views else None


def _edit(driver: Driver, page: DataPage, old: str, new: str) -> None:
    page.browser.tabs.setCurrentWidget(page.browser.edit)
    editor = page.browser.edit.editor
    editor.setPlainText(editor.toPlainText().replace(old, new))


def _requests(studio: Studio, job: str) -> list[object]:
    lines = (studio.jobs.folder(job) / wire.REQUESTS).read_bytes().splitlines()
    return [wire.decode_request(line) for line in lines]


def test_a_file_is_shown_row_by_row(page: DataPage, driver: Driver) -> None:
    assert "40 rows" in page.browser.facts.text()
    assert "MIT (the fake)" in page.browser.facts.text()
    assert page.browser.stages.words == ["sft", "dpo"]
    assert [_cell(page, 0, column) for column in range(3)] == ["1", "Ask 0", "Say 0"]
    assert _cell(page, 3, 4) == "bad row"
    model = page.browser.table.rows
    assert model.data(model.index(3, 1), Qt.ItemDataRole.ToolTipRole) == "not valid JSON"
    page.browser.table.go_to(3)
    driver.wait(lambda: page.browser.tokens.tokens.words == "not valid JSON")
    assert page.browser.edit.reason.text() == "not valid JSON"


def test_a_template_is_told_of_rows_that_it_renders(page: DataPage) -> None:
    tokens = page.browser.tokens
    tokens.templates.choose("chatml")
    for template, told in (("chatml", True), ("", False)):  # text is learnt without one
        tokens.show_views([TokenView(row=0, pieces=[], tokens=3, trained=2, template=template)])
        assert ("in a recipe it is model.template" in tokens.warnings.text()) is told


def test_how_the_mask_was_made_is_told_once(page: DataPage) -> None:
    way = "The answers were found in the text."
    tokens = page.browser.tokens
    tokens.show_views([TokenView(row=0, pieces=[], tokens=3, trained=2, mask=way)])
    assert tokens.counts.text() == "3 tokens, 2 in the loss"
    assert tokens.mask_told.text() == way


def test_tokens_follow_the_row_the_stage_and_the_length(page: DataPage, driver: Driver) -> None:
    _choose(driver, page, 5)
    assert page.browser.tokens.tokens.text == "<|im_start|>Ask 5Say 5<|im_end|>"
    assert page.browser.tokens.counts.text() == "6 tokens, 3 in the loss"
    driver.click("stage:dpo")
    driver.wait(lambda: "starter is a fake." in page.browser.tokens.warnings.text())
    _choose(driver, page, 9)
    page.browser.tokens.set_length(8)
    driver.wait(
        lambda: page.browser.tokens.counts.text() == "10 tokens, 1 in the loss, truncated at 8"
    )
    page.browser.tokens.templates.setCurrentText("llama-3")
    page.browser.tokens.changed.emit()
    driver.wait(lambda: "model.template" in page.browser.tokens.warnings.text())


def test_a_pair_is_shown_side_below_side(driver: Driver, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": "Which?", "chosen": "This", "rejected": "That one"}))
    shown = _open(driver, path)
    assert [view.title for view in shown.browser.tokens.tokens.views] == ["chosen", "rejected"]
    assert shown.browser.tokens.counts.text() == "9 tokens in 2 answers"
    titles = [line.text for line in shown.browser.tokens.tokens._lines if line.kind == "title"]
    assert titles == ["Chosen: 4 tokens, 2 in the loss", "Rejected: 5 tokens, 3 in the loss"]


def test_of_a_million_rows_those_in_sight_are_asked_for(driver: Driver, tmp_path: Path) -> None:
    path = tmp_path / "million.jsonl"
    path.write_text("")
    shown = _open(driver, path)
    table = shown.browser.table
    assert table.rows.rowCount() == 1_000_000
    bar = table.verticalScrollBar()
    for place in range(0, bar.maximum(), bar.maximum() // 200):
        bar.setValue(place)  # as fast as a hand can drag
    table.go_to(700_123)
    driver.wait(lambda: _tokens_of(shown) == 700_123)
    assert _cell(shown, 700_123, 1) == "Question 700123"
    assert len(table.rows._rows) <= 600
    told = _requests(driver.studio, shown.job)
    asked = [one for one in told if isinstance(one, ShowRows)]
    assert sum(one.count for one in asked) < 1000


def test_a_row_is_typed_dropped_and_tagged_and_all_is_undone(
    page: DataPage, driver: Driver
) -> None:
    browser = page.browser
    _choose(driver, page, 2)
    _edit(driver, page, "Say 2", "Say two")
    driver.wait(lambda: "Say two" in browser.tokens.tokens.text)
    assert _cell(page, 2, 4) == "changed"
    browser.table.go_to(5)
    browser.table.setFocus()
    driver.qtbot.keyClick(browser.table, Qt.Key.Key_G)
    browser.table.go_to(6)
    driver.qtbot.keyClick(browser.table, Qt.Key.Key_Delete)
    assert browser.words.text() == "1 changed, 1 dropped, 1 tagged, not saved yet."
    assert (_cell(page, 5, 3), _cell(page, 6, 4)) == ("good", "dropped")
    for left in ("1 changed, 1 tagged", "1 changed"):
        driver.click("undo-edit")
        assert browser.words.text() == f"{left}, not saved yet."
    driver.click("undo-edit")
    assert not browser.foot.isVisible()
    assert not browser.undo.isEnabled()
    driver.wait(lambda: browser.table.row == 2 and "Say 2" in browser.edit.editor.toPlainText())


def test_what_is_no_json_is_said_at_once_and_kept(page: DataPage, driver: Driver) -> None:
    _choose(driver, page, 2)
    _edit(driver, page, "}", "")
    assert "This is not valid JSON" in page.browser.edit.fault.text()
    assert "1 not finished" in page.browser.words.text()
    _choose(driver, page, 4)
    driver.click("save-version")
    assert "Row 3 cannot be saved yet." in page.banner.text
    assert page.browser.table.row == 2
    assert "Say 2" in page.browser.edit.editor.toPlainText()
    assert "}" not in page.browser.edit.editor.toPlainText()


def test_edits_are_saved_as_a_version_that_is_opened(
    page: DataPage, driver: Driver, rows: Path
) -> None:
    before = rows.read_bytes()
    _choose(driver, page, 0)
    _edit(driver, page, "Say 0", "Say nought")
    page.browser.drop_rows([3])
    driver.click("save-version")
    driver.wait(lambda: page.browser.name.text() == "rows-v.jsonl")
    driver.wait(lambda: page.browser.counted and _cell(page, 0, 2) == "Say nought")
    assert "Saved as rows-v.jsonl: 39 rows." in page.banner.text
    assert "edited from rows.jsonl" in page.browser.facts.text()
    assert not page.browser.foot.isVisible()
    assert rows.read_bytes() == before
    driver.click("open-another")
    assert page.open_dialog.versions.list.item(0).text() == "rows-v   39 rows"
    assert [page.open_dialog.recent.list.item(at).text() for at in range(2)] == [
        "rows-v.jsonl", "rows.jsonl",
    ]  # fmt: skip
    assert load_settings(driver.studio.home.settings).recent_data[1] == str(rows)


def test_a_version_that_cannot_be_saved_loses_nothing(page: DataPage, driver: Driver) -> None:
    _choose(driver, page, 0)
    _edit(driver, page, "Say 0", "refuse")
    driver.click("save-version")
    driver.wait(lambda: page.banner.text == "Row 1 cannot be saved.")
    assert page.browser.words.text() == "1 changed, not saved yet."
    assert page.browser.save.isEnabled()


def test_edits_are_written_once_the_typing_rests(page: DataPage, driver: Driver) -> None:
    _choose(driver, page, 0)
    drafts = driver.studio.home.root / "drafts"
    _edit(driver, page, "Say 0", "Say nought")
    assert not list(drafts.glob("*.jsonl"))
    driver.wait(lambda: any("nought" in path.read_text() for path in drafts.glob("*.jsonl")))


def test_edits_outlive_the_page_and_a_dead_reader(
    page: DataPage, driver: Driver, rows: Path
) -> None:
    _choose(driver, page, 1)
    page.browser._on_tag("bad")
    driver.click("open-another")
    assert not list(driver.studio.home.root.glob("drafts/*.outdated"))
    _open(driver, rows)
    assert page.browser.words.text() == "1 tagged, not saved yet."
    _choose(driver, page, 7)
    _edit(driver, page, "Say 7", "dies")
    driver.wait(lambda: page.again.isVisible())
    assert "Open it again" in page.banner.text or page.banner.text
    driver.click("open-again")
    driver.wait(lambda: page.browser.words.text() == "1 changed, 1 tagged, not saved yet.")


def test_edits_of_a_file_that_changed_are_set_aside(
    page: DataPage, driver: Driver, rows: Path
) -> None:
    page.browser.drop_rows([0])
    driver.click("open-another")
    rows.write_text(json.dumps({"prompt": "New", "completion": "News"}))
    _open(driver, rows)
    assert "Edits from before were set aside." in page.banner.text
    assert not page.browser.history.marks
    assert list(driver.studio.home.root.glob("drafts/*.outdated"))


def test_columns_mapped_by_hand_reach_the_wizard(driver: Driver, tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    path.write_text("\n".join(json.dumps({"q": f"Ask {n}", "a": f"Say {n}"}) for n in range(9)))
    driver.go("Data")
    shown = driver.window.data
    shown.open(Source(source=str(path)))
    driver.wait(lambda: shown.browser.tabs.currentWidget() is shown.browser.mapping)
    assert "unknown shape" in shown.browser.facts.text()
    for column, ours in (("q", "prompt"), ("a", "completion")):
        box = driver.find(f"map:{column}")
        box.setCurrentText(ours)
        box.activated.emit(box.currentIndex())
        driver.wait(lambda column=column: column in _mapping(shown))
    driver.wait(lambda: _cell(shown, 4, 1) == "Ask 4")
    driver.click("use-data")
    assert driver.window.page is driver.window.train
    recipe = driver.window.train.recipe()
    assert recipe.data == [
        Source(source=str(path), mapping={"q": "prompt", "a": "completion"}, licence="MIT")
    ]


def test_unsaved_edits_do_not_go_to_the_wizard_unseen(page: DataPage, driver: Driver) -> None:
    page.browser.drop_rows([0])
    driver.click("use-data")
    assert "would not see your edits" in page.banner.text
    assert driver.window.page is page


def test_the_check_shows_its_rows_and_raises_the_length(page: DataPage, driver: Driver) -> None:
    page.browser.tabs.setCurrentIndex(3)
    driver.click("check-data")
    driver.wait(lambda: page.browser.check.view.result is not None)
    words = [found.text() for found in page.browser.check.view.findChildren(QLabel)]
    assert any("Numbers count usable rows alone" in text for text in words)
    driver.click("skip-bad-rows")
    assert page.browser.source.bad_rows == "skip"
    page.browser.show_rows([8, 2])
    assert page.browser.table.rows.only == [2, 8]
    driver.wait(lambda: _tokens_of(page) == 2)
    page.browser.check.view.length_asked.emit(2048)
    assert page.browser.tokens.max_length == 2048
    assert driver.window.train.recipe().training.max_length == 2048
    page.browser.check.view.drop_asked.emit([2, 8])
    assert page.browser.words.text() == "2 dropped, not saved yet."


def test_a_source_that_fails_says_why(driver: Driver, tmp_path: Path) -> None:
    driver.go("Data")
    shown = driver.window.data
    shown.open(Source(source=str(tmp_path / "gone.jsonl")))
    driver.wait(lambda: "It is gone." in shown.banner.text)
    assert shown.open_dialog.isVisible()
    assert not driver.studio.jobs.store.jobs("browse")


def test_looks_that_ended_leave_no_folder(page: DataPage, driver: Driver, rows: Path) -> None:
    job = page.job
    driver.click("open-another")
    driver.wait(lambda: not driver.studio.jobs.folder(job).exists())
    assert not driver.studio.jobs.store.jobs("browse")


def test_a_file_can_be_dropped_on_the_page(driver: Driver, rows: Path) -> None:
    driver.go("Data")
    shown = driver.window.data
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(rows))])
    copy, none = Qt.DropAction.CopyAction, Qt.KeyboardModifier.NoModifier
    shown.dropEvent(QDropEvent(QPointF(9, 9), copy, mime, Qt.MouseButton.LeftButton, none))
    driver.wait(lambda: _tokens_of(shown) is not None)
    assert shown.browser.source.source == str(rows)


def test_the_wizard_leads_to_the_rows_of_a_source(driver: Driver, rows: Path) -> None:
    driver.go("Train")
    train = driver.window.train
    train.go_to(train.data)
    train.data.add(str(rows))
    driver.click(f"look:{rows}")
    assert driver.window.page is driver.window.data
    driver.wait(lambda: _tokens_of(driver.window.data) is not None)


# Without a window


def test_a_ledger_takes_letters_of_one_row_for_one_edit(tmp_path: Path) -> None:
    history = EditHistory()
    assert not history.open(tmp_path, "x", "1")
    for text in ("{", "{}", '{"a":1}'):
        history.put({4: Mark(text=text)}, typing=True)
    history.put({4: Mark(text='{"a":1}', tag="good"), 5: Mark(dropped=True)})
    history.write()
    again = EditHistory()
    assert not again.open(tmp_path, "x", "1")
    assert again.edits == history.edits
    assert history.words == "1 changed, 1 dropped, 1 tagged, not saved yet"
    assert sorted(history.undo()) == [4, 5]
    assert history.marks == {4: Mark(text='{"a":1}')}
    assert history.undo() == [4]
    assert not history.marks
    assert not history.undo()
    history.write()
    third = EditHistory()
    assert not third.open(tmp_path, "x", "1")
    assert not third.marks
    assert EditHistory().open(tmp_path, "x", "2")


def test_long_rows_are_laid_out_and_painted_quickly(driver: Driver) -> None:
    words = TokenText(driver.studio.theme)
    driver.qtbot.addWidget(words)
    words.resize(500, 400)
    pieces = [Piece(f" word{n % 300}", n > 1000) for n in range(4096)]
    pieces[2000] = Piece("\n" + "x" * 300 + "\tend", True)
    view = TokenView(row=0, pieces=pieces, tokens=5000, trained=3000, truncated_at=4000)
    words.show_views([view])
    runs = [run for line in words._lines for run in line.runs]
    assert "".join(run.text for run in runs if run.token == 2000).endswith("⇥ end")
    assert max(run.x + run.width for run in runs) <= words.viewport().width()
    assert [line.text for line in words._lines if line.kind in ("truncated", "more")] == [
        "truncated here at 4,000 tokens", "and 904 more tokens",
    ]  # fmt: skip
    assert not words.grab().isNull()
    first = runs[3]
    found = words.run_at(first.x + 12, 14)
    assert found is not None
    assert found.token == 3
    assert look_of(pieces[4001], 4001, 4000) == "behind"


def test_thinking_has_a_look_of_its_own() -> None:
    looks = [look_of(Piece("a", trained, thinking=True), 0, None) for trained in (True, False)]
    assert looks == ["thought_trained", "thought"]
    assert look_of(Piece("<|x|>", False, special=True, thinking=True), 0, None) == "special"


def test_rows_that_are_not_there_are_not_asked_for_again(driver: Driver, page: DataPage) -> None:
    table = page.browser.table
    table.forget(total=60)
    table.rows.put(40, 20, [RowView(row=40, line=41, text="{}")], 40)
    assert table.rows.missing(40, 59) == []
    assert _cell(page, 59, 1) == "not there"
