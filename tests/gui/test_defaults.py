"""What the wizard takes where nothing is entered: told, shown as auto, and warned of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fakes.nvml import Nvml
from tests.gui.conftest import Driver
from workers.cards import read_cards
from workers.protocol.events import CardsRead


@pytest.fixture
def counted(driver: Driver, tmp_path: Path) -> Driver:
    """A real model on 10,000 rows, which were counted."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "One and one?", "completion": "Two."}\n' * 10_000)
    driver.begin()
    model = driver.window.train.draft_model
    model.choose_base("hub", "Qwen/Qwen3-4B")
    driver.window.train.go_to(driver.window.train.data)
    driver.window.train.data.add(str(rows))
    driver.wait(lambda: model.draft.rows.get(str(rows)) == 10_000)
    return driver


def test_micro_batch_and_checkpointing_are_found(counted: Driver) -> None:
    train = counted.window.train
    train.go_to(train.settings)
    fields = train.settings.forms.fields
    editors: dict[str, Any] = {path: field._editor for path, field in fields.items()}
    micro, sums = editors["training.batch_size"], editors["training.gradient_accumulation"]

    assert [micro.text(), sums.text()] == ["auto", "auto"]
    assert editors["training.effective_batch_size"].text() == "16"
    assert editors["training.gradient_checkpointing"].currentText() == "auto"
    fields["training.gradient_checkpointing"].set_value(True)
    micro.setText("2")
    options = train.recipe().training
    assert options.gradient_checkpointing is True
    assert (options.effective_batch_size, options.batch_size) == (16, 2)
    micro.setText("Auto")
    assert train.recipe().training.batch_size == 0
    assert train.settings.forms.length.text().startswith("1 epoch: 621 steps.")


def test_few_rows_are_warned_of_and_one_click_takes_them_all(counted: Driver) -> None:
    train = counted.window.train
    train.settings.forms.fields["training.max_steps"].set_value(60)
    train.go_to(train.review)

    assert train.review.few.isVisible()
    assert "(10%, 0.097 epochs)" in train.review.few_rows.text()
    counted.click("train-one-epoch")
    assert not train.review.few.isVisible()
    assert "1 epoch: 621 steps. It sees all 9,936 rows" in train.review._words.text()
    assert train.recipe().training.max_steps == 0


def test_a_computer_without_a_gpu_is_told_what_is_sensible_there(counted: Driver) -> None:
    train = counted.window.train
    train.go_to(train.review)

    counted.wait(train.review.cpu.isVisible)
    assert "4.0 billion weights. NVIDIA's driver is not installed" in train.review.no_card.text()
    counted.click("choose-smaller-model")
    assert train.model.isVisible()
    train.draft_model.choose_base("smollm2", "smollm2")
    train.go_to(train.review)
    assert not train.review.cpu.isVisible()
    train.draft_model.choose_base("hub", "Qwen/Qwen3-4B")
    counted.wait(train.review.cpu.isVisible)
    counted.studio.monitor.hear(CardsRead(cards=read_cards(Nvml())))
    counted.wait(lambda: not train.review.cpu.isVisible())
    counted.window._on_tick()
    assert not train.review.cpu.isVisible()
    planned = train.review.memory.words
    counted.wait(lambda: "12.0 GB of NVIDIA GeForce RTX 4070" in planned.text())
