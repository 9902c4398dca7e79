"""The whole way in the window, by mouse and keyboard alone, with real workers: train, watch,
export to GGUF Q4_K_M, talk to the file. With the starter model; with SmolLM2 too under --all."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication

from studio.app import Studio
from studio.paths import Home
from tests.conftest import end_all
from tests.gui.conftest import Driver, close
from workers.protocol import wire

SMOLLM2_STEPS = int(os.environ.get("JOURNEY_STEPS", "6"))
"""It takes 30 to learn the answer."""
SHOTS = os.environ.get("JOURNEY_SHOTS")
"""A folder for screenshots of each stage, to be looked at."""

pytestmark = [pytest.mark.gui, pytest.mark.torch, pytest.mark.timeout(1800)]


@pytest.fixture
def studio(qapp: QApplication, home: Home) -> Iterator[Studio]:
    opened = Studio(qapp, home)
    opened.window.show()
    yield opened
    close(opened)
    end_all(home)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """300 rows of chat as a user would bring them."""
    draw = random.Random(7)
    path = tmp_path / "sums.jsonl"
    with path.open("w") as file:
        for _ in range(300):
            a, b = draw.randint(10, 99), draw.randint(10, 99)
            answer = f"<think>{a} + {b} = {a + b}</think>\\boxed{{{a + b}}}"
            turns = [("user", f"What is {a} + {b}?"), ("assistant", answer)]
            row = {"messages": [{"role": role, "content": text} for role, text in turns]}
            file.write(json.dumps(row) + "\n")
    return path


def _shot(studio: Studio, name: str) -> None:
    if SHOTS:
        studio.window.grab().save(str(Path(SHOTS) / f"{name}.png"))


@pytest.mark.parametrize(
    ("base", "steps", "rate"),
    [
        ("starter", 20, "5e-3"),
        pytest.param("smollm2", SMOLLM2_STEPS, "5e-4", marks=pytest.mark.slow),
    ],
)
def test_train_watch_export_and_talk(
    qtbot: Any, studio: Studio, dataset: Path, base: str, steps: int, rate: str
) -> None:
    driver = Driver(qtbot, studio)
    driver.begin()
    driver.click("choice:sft")
    driver.click("next")
    driver.click(f"choice:{base}")
    driver.click("choice:lora")
    driver.click("next")
    driver.type("data-path", str(dataset))
    qtbot.keyClick(driver.find("data-path"), Qt.Key.Key_Return)
    _shot(studio, "data")
    driver.click("next")
    driver.type("run-name", "sums")
    driver.type("field:training.max_steps", str(steps))
    driver.type("field:training.learning_rate", rate)
    driver.type("field:training.effective_batch_size", "8" if steps >= 30 else "4")
    driver.click("next")
    _shot(studio, "review")
    driver.click("start")

    page = studio.window.run
    driver.wait(lambda: len(page.charts["loss"].main.steps) >= steps // 2, 600_000)
    _shot(studio, "running")
    driver.wait(lambda: page.pill.text == "Finished", 600_000)
    _shot(studio, "finished")
    losses = page.charts["loss"].main.values
    assert len(losses) == steps
    assert losses[-1] < losses[0] * (0.5 if steps >= 20 else 0.95)
    resolved = wire.read_job(studio.jobs.folder(page.run)).resolved
    assert resolved is not None
    assert resolved.datasets[0]["rows"] == 300

    driver.click("export")
    driver.click("start-export")  # Q4_K_M is chosen from the start
    driver.wait(lambda: driver.find("start-export").isEnabled(), 600_000)
    _shot(studio, "exported")
    assert not driver.window.export.banner.isVisible(), driver.window.export.banner.text
    driver.click("chat:gguf:Q4_K_M")

    chat = studio.window.chat
    driver.wait(lambda: chat.send.isEnabled(), 240_000)
    driver.type("field:temperature", "0")
    composer = driver.find("composer")
    qtbot.keyClicks(composer, "What is 12 + 30?")
    qtbot.keyClick(composer, Qt.Key.Key_Return)
    driver.wait(lambda: driver.find("send").isEnabled(), 240_000)
    _shot(studio, "chat")
    answer = chat.bubbles.turns[-1]
    assert answer.role == "assistant"
    assert answer.text.strip()
    if steps >= 30:
        assert "boxed{42}" in answer.text
