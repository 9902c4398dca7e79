"""The Export screen where a file does not speak like the trained model."""

from __future__ import annotations

from PySide6.QtWidgets import QLabel

from studio.app import Studio
from tests.conftest import wait_for
from tests.gui.conftest import Driver
from workers.protocol.recipe import Recipe, Source, Training


def _trained(studio: Studio, name: str) -> str:
    recipe = Recipe(
        name=name,
        data=[Source(source="builtin:arithmetic")],
        training=Training(max_steps=2, batch_size=2),
    )
    run = studio.jobs.train(recipe)

    def ended() -> bool:
        studio.jobs.poll()
        row = studio.jobs.store.job(run)
        return row is not None and not row.live

    wait_for(ended)
    return run


def test_a_file_that_differs_is_told_plainly(driver: Driver, studio: Studio) -> None:
    run = _trained(studio, "it differs")
    page = driver.window.export
    driver.go("Export")
    page.open(run)
    driver.click("start-export")
    driver.wait(lambda: driver.find("start-export").isEnabled())
    assert page.banner.isVisible()
    assert "model-Q4_K_M.gguf does not speak like the trained model" in page.banner.text
    assert "gguf:Q4_K_M: same tokens" in page.banner.text
    assert "Do not use it." in page.banner.text
    shown = [label.text() for label in page.files.findChildren(QLabel)]
    assert "Differs from the trained model" in shown

    driver.go("Chat")
    offered = [driver.window.chat.models.itemText(at)
               for at in range(driver.window.chat.models.count())]  # fmt: skip
    assert any("Q4_K_M" in text and "differs from it" in text for text in offered)


def test_a_file_that_speaks_alike_says_no_more(driver: Driver, studio: Studio) -> None:
    run = _trained(studio, "alike")
    page = driver.window.export
    driver.go("Export")
    page.open(run)
    driver.click("start-export")
    driver.wait(lambda: driver.find("start-export").isEnabled())
    assert not page.banner.isVisible()
    assert "Differs from the trained model" not in [
        label.text() for label in page.files.findChildren(QLabel)
    ]
