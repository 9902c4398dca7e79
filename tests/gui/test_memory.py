"""GPU memory in the wizard: planned live for a card, with the change that makes it fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QApplication, QPushButton, QWidget

from studio.draft import DraftModel, recipe
from studio.pages.train.memory import MemoryCard
from studio.theme import Theme
from tests.gui.conftest import Driver
from workers.estimate import GIB


@pytest.fixture
def theme(qapp: QApplication) -> Iterator[Theme]:
    made = Theme(qapp, "light")
    yield made
    made.deleteLater()


@pytest.fixture
def memory(theme: Theme) -> Iterator[MemoryCard]:
    """The card for a 4B model, on no GPU."""
    model = DraftModel(lambda _: None)
    made = MemoryCard(model, lambda base: base, theme)
    holder = QWidget()
    made.setParent(holder)
    model.choose_base("hub", "Qwen/Qwen3-4B")
    made.refresh()
    made.bar.bar.resize(600, 48)
    yield made
    holder.deleteLater()


def use(memory: MemoryCard, gigabytes: int, name: str = "") -> None:
    memory.use_card(gigabytes * GIB, name)
    memory.refresh()


def change(memory: MemoryCard, number: int) -> None:
    found = memory.findChildren(QPushButton, f"memory-change:{number}")
    found[-1].click()
    memory.refresh()


def test_without_a_card_it_says_which_would_do(memory: MemoryCard) -> None:
    assert "It fits cards of 12 GB and more." in memory.words.text()
    assert "Weights 7.5 GB" in memory.bar.bar.accessibleDescription()


def test_what_does_not_fit_is_made_to_fit_with_one_click(memory: MemoryCard) -> None:
    use(memory, 8, "an RTX 4060")
    assert memory.words.text().startswith("Does not fit: needs ")
    assert "and an RTX 4060 has 8.0 GB" in memory.words.text()
    change(memory, 0)
    assert recipe(memory._model.draft).model.method == "qlora"
    assert memory.words.text().startswith("Fits: ")
    assert "of the 8.0 GB of an RTX 4060" in memory.words.text()
    assert "tokens would fit" in memory.more.text()


def test_a_smaller_model_is_one_of_the_ways(memory: MemoryCard) -> None:
    use(memory, 8)
    assert memory.plan is not None
    change(memory, len(memory.plan.suggestions[:3]) - 1)
    assert recipe(memory._model.draft).model.base == "Qwen/Qwen3-1.7B"
    assert memory.plan.fits


@pytest.mark.parametrize(("kind", "base"), [("starter", "starter"), ("hub", "somebody/else-7B")])
def test_nothing_is_shown_for_tiny_and_for_unknown_models(
    memory: MemoryCard, kind: Any, base: str
) -> None:
    memory._model.choose_base(kind, base)
    memory.refresh()
    assert memory.isHidden()


@pytest.mark.parametrize("appearance", ["light", "dark"])
def test_each_part_has_its_place_and_its_colour(
    memory: MemoryCard, theme: Theme, appearance: Any
) -> None:
    theme.choose(appearance)
    picture = memory.bar.bar.grab().toImage()
    places = memory.bar.bar.places()
    (weights, place), *others = places
    assert weights.name == "Weights"
    assert weights.words == "7.5 GB"
    for (_, before), (_, after) in zip(places, others, strict=False):
        assert before.right() == pytest.approx(after.left())
    at = place.center() * picture.devicePixelRatio()
    assert picture.pixelColor(at.toPoint()) == QColor(theme.palette.accent)
    assert QColor(theme.palette.accent).name() in memory.bar.legend.text()


def test_settings_and_review_plan_what_is_changed(driver: Driver) -> None:
    driver.go("Train")
    train = driver.window.train
    train.draft_model.choose_base("hub", "Qwen/Qwen3-4B")
    train.go_to(train.settings)
    shown: Any = train.settings.memory
    driver.wait(shown.isVisible)
    before = shown.plan.high_bytes
    train.use_length(8192)
    driver.wait(lambda: shown.plan.high_bytes > before)
    train.go_to(train.review)
    driver.wait(train.review.memory.isVisible)
    assert train.review.memory.plan == shown.plan
