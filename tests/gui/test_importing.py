"""Other programs' configs in the wizard: what became of them is shown, then they fill the steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, Qt, QTimer, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QLabel

from studio.widgets.imported import ImportDialog
from tests.gui.conftest import Driver

CONFIG = """
base_model: starter
rl: dpo
rl_beta: 0.3
datasets:
  - path: builtin:preferences
    type: chat_template.default
adapter: lora
lora_r: 8
lora_alpha: 8
max_steps: 5
sequence_len: 256
learning_rate: 1e-4
optimizer: lion_8bit
odd: 1
"""


def answer(driver: Driver, act: Callable[[ImportDialog], None]) -> None:
    """Lets the next dialog be acted upon, once it is there."""

    def look() -> None:
        dialog = driver.window.findChild(ImportDialog)
        if dialog is not None and dialog.isVisible():
            clock.stop()
            act(dialog)

    clock = QTimer(driver.window, interval=20)
    clock.timeout.connect(look)
    clock.start()


def texts(dialog: ImportDialog) -> str:
    return "\n".join(label.text() for label in dialog.findChildren(QLabel))


def test_a_config_is_shown_and_then_fills_the_wizard(driver: Driver, tmp_path: Path) -> None:
    path = tmp_path / "theirs.yml"
    path.write_text(CONFIG)
    driver.begin()
    page = driver.window.train
    before = page.recipe()
    seen: list[str] = []

    def cancel(dialog: ImportDialog) -> None:
        seen.append(texts(dialog))
        driver.qtbot.mouseClick(dialog.leave, Qt.MouseButton.LeftButton)

    answer(driver, cancel)
    page.open_recipe(path)
    assert page.recipe() == before
    for part in ("theirs.yml, a config of Axolotl", "AdamW instead of lion_8bit", "odd", "rl_beta",
                 "preference.beta = 0.3", "Not known (1)"):  # fmt: skip
        assert part in seen[0]
    answer(driver, lambda dialog: dialog.accept())
    page.open_recipe(path)
    made = page.recipe()
    assert (made.stage, made.preference.beta, made.lora.rank) == ("dpo", 0.3, 8)
    assert made.data[0].source == "builtin:preferences"
    assert page.review.isVisible()


def test_what_a_config_lacks_is_chosen_in_its_step(driver: Driver, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(
        "training: {learning_rate: 1e-4, max_steps: 7, batch_size: 2}\nmodel: starter\n"
    )
    driver.begin()
    page = driver.window.train
    answer(driver, lambda dialog: dialog.accept())
    page.open_recipe(path)
    assert page.data.isVisible()
    assert "no dataset" in driver.find("banner").text
    assert page.recipe().training.max_steps == 7
    path.write_text("something: else")
    page.open_recipe(path)
    assert "Unsloth Studio" in driver.find("banner").text


def test_recipes_and_configs_can_be_dropped(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.begin()
    page = driver.window.train
    opened: list[Path] = []
    monkeypatch.setattr(page, "open_recipe", opened.append)
    for name, taken in (("r.toml", True), ("theirs.yaml", True), ("rows.jsonl", False)):
        dropped = QMimeData()
        dropped.setUrls([QUrl.fromLocalFile(str(tmp_path / name))])
        how = (Qt.DropAction.CopyAction, dropped, Qt.MouseButton.LeftButton,
               Qt.KeyboardModifier.NoModifier)  # fmt: skip
        entering = QDragEnterEvent(QPoint(5, 5), *how)
        entering.ignore()
        page.dragEnterEvent(entering)
        assert entering.isAccepted() is taken
        page.dropEvent(QDropEvent(QPoint(5, 5), *how))
    driver.wait(lambda: len(opened) == 2)
    assert [path.name for path in opened] == ["r.toml", "theirs.yaml"]
