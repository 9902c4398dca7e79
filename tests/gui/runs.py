"""Runs of reinforcement learning on the Run page: started live, waited for, looked into."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt

from studio.pages.run import RunPage
from workers.protocol.recipe import RL, Evaluation, Recipe, Source, Training
from workers.protocol.rewards import Format, Length, MathAnswer
from workers.protocol.wire import read_events

if TYPE_CHECKING:
    from tests.gui.conftest import Driver

GROUP = 6


def boxed_sums(name: str = "boxed sums", steps: int = 16) -> Recipe:
    return Recipe(
        name=name,
        stage="grpo",
        data=[Source(source="builtin:arithmetic")],
        training=Training(max_steps=steps, batch_size=GROUP),
        rl=RL(group_size=GROUP),
        rewards=[Format(weight=0.5), MathAnswer(), Length(weight=0.1)],
        evaluation=Evaluation(every_steps=5),
    )


def start_run(driver: Driver, recipe: Recipe) -> RunPage:
    run = driver.studio.jobs.train(recipe)
    driver.window.open_run(run)
    return driver.window.run


def wait_for_status(driver: Driver, word: str) -> None:
    driver.wait(lambda: driver.window.run.pill.text == word)


def events_of(page: RunPage, kind: type) -> list:
    return [line.event for line in read_events(page.folder) if isinstance(line.event, kind)]


def open_tab(driver: Driver, page: RunPage, name: str) -> None:
    bar = page.tabs.tabBar()
    at = next(i for i in range(bar.count()) if bar.tabText(i).startswith(name))
    place = bar.tabRect(at).center()
    driver.qtbot.mouseClick(bar, Qt.MouseButton.LeftButton, pos=place)
