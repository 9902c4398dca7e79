"""Data that do not serve the stage: told, with a way out, and not gone on from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.gui.conftest import Driver


def _write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


@pytest.fixture
def data(driver: Driver) -> Any:
    driver.go("Train")
    train = driver.window.train
    train.go_to(train.data)
    return train.data


def test_another_stage_is_offered_and_taken(driver: Driver, data: Any, tmp_path: Path) -> None:
    row = {"prompt": "Why?", "chosen": "So.", "rejected": "No."}
    data.add(_write(tmp_path / "pairs.jsonl", [row]))
    driver.wait(data.fit.isVisible)
    assert "pairs.jsonl does not serve SFT: no row of it can be used." in data.fit.words.text()
    assert "It serves DPO, IPO" in data.fit.words.text()
    driver.click("next")
    assert "does not serve SFT" in driver.window.train.banner.text
    assert data.isVisible()
    driver.click("switch-to:dpo")
    assert driver.window.train.draft_model.draft.stage == "dpo"
    assert not data.fit.isVisible()
    driver.click("next")
    assert not data.isVisible()


def test_columns_that_are_proposed_are_taken_with_one_click(
    driver: Driver, data: Any, tmp_path: Path
) -> None:
    row = {"customer_message": "It is broken.", "agent_reply": "Send it back.", "rating": 5}
    path = _write(tmp_path / "desk.jsonl", [row])
    data.add(path)
    driver.wait(data.preview.proposal.isVisible)
    assert data.preview.proposal.words.text().startswith("Likely: these look like questions")
    driver.click("next")
    assert "No row of desk.jsonl can be used." in driver.window.train.banner.text
    assert not data.fit.isVisible()  # the first rows say why
    driver.click("take-columns")
    driver.wait(lambda: "It is broken.\n→ Send it back." in data.preview.rows.text())
    (source,) = driver.window.train.recipe().data
    assert source.mapping == {"customer_message": "prompt", "agent_reply": "completion"}
    assert not data.fit.isVisible()
    assert not data.preview.proposal.isVisible()


def test_the_data_page_takes_proposed_columns_too(driver: Driver, tmp_path: Path) -> None:
    from workers.protocol.recipe import Source

    row = {"customer_message": "It is broken.", "agent_reply": "Send it back."}
    page = driver.window.data
    driver.window.show_page(page)
    page.open(Source(source=_write(tmp_path / "desk.jsonl", [row])))
    mapping = page.browser.mapping
    driver.wait(mapping.proposal.isVisible)
    mapping.proposal.take.click()
    driver.wait(lambda: mapping.mapping.get("customer_message") == "prompt")
    assert not mapping.proposal.isVisible()


def test_a_text_files_rule_is_chosen_beside_it(driver: Driver, data: Any, tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text('{"text": "One."}')
    data.add(str(path))
    (line,) = data.lines
    assert line.documents.currentText() == "as the file says"
    line.documents.setCurrentIndex(line.documents.findData("file"))
    line.documents.activated.emit(line.documents.currentIndex())
    (source,) = driver.window.train.recipe().data
    assert source.documents == "file"
