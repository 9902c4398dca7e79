"""The charts of a run on screens of every width, and what they show before the first point."""

from __future__ import annotations

import msgspec
import pytest
from PySide6.QtCore import QEvent, QPoint, QPointF, QRect
from PySide6.QtWidgets import QLabel

from studio.pages.run import RunPage
from studio.widgets import chart as charts
from tests.gui.conftest import Driver
from workers.protocol.recipe import RL, Recipe, Source, Training
from workers.protocol.rewards import Format, MathAnswer

WIDTHS = [1000, 1280, 1440, 1650, 1920, 2560, 3840]
NARROWEST = 230


@pytest.fixture
def reinforced() -> Recipe:
    return Recipe(
        name="sums",
        stage="grpo",
        data=[Source(source="builtin:arithmetic")],
        training=Training(max_steps=28, batch_size=6),
        rl=RL(group_size=6),
        rewards=[Format(weight=0.5), MathAnswer()],
    )


def _finished(driver: Driver, recipe: Recipe) -> RunPage:
    driver.window.open_run(driver.studio.jobs.train(recipe))
    page = driver.window.run
    driver.wait(lambda: page.pill.text == "Finished" and _settled(page))
    return page


def _settled(page: RunPage) -> bool:
    return page.settled


def _seen(page: RunPage) -> list[charts.Chart]:
    return [made for made in page.charts.values() if not made.visibleRegion().isEmpty()]


def _shown(page: RunPage) -> list[charts.Chart]:
    return [made for made in page.charts.values() if made.isVisible()]


def _place(made: charts.Chart, page: RunPage) -> QRect:
    return QRect(made.mapTo(page, QPoint(0, 0)), made.size())


def _viewport(page: RunPage) -> QRect:
    area = page.grid.viewport()
    return QRect(area.mapTo(page, QPoint(0, 0)), area.size())


def _in_sight(page: RunPage) -> bool:
    """Whether no chart reaches beyond the left or the right edge of what is to be seen."""
    area, places = _viewport(page), [_place(made, page) for made in _shown(page)]
    inside = all(area.left() <= p.left() and p.right() <= area.right() for p in places)
    return _settled(page) and inside


# Room


@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_every_chart_is_in_sight_at_every_width(
    driver: Driver, recipe: Recipe, reinforced: Recipe, stage: str
) -> None:
    page = _finished(driver, reinforced if stage == "grpo" else recipe)
    for width in WIDTHS:
        driver.window.resize(width, 800)
        driver.wait(lambda width=width: driver.window.width() == width and _in_sight(page), 5000)
        shown = [_place(made, page).width() for made in _shown(page)]
        assert min(shown) >= NARROWEST, width
        assert max(shown) - min(shown) <= 1, width
        rows = [_place(made, page).top() for made in _shown(page)]
        first = rows.count(min(rows))
        assert first == min(len(rows), (_viewport(page).width() + 12) // (NARROWEST + 12)), width


def test_runs_and_data_use_the_whole_width(driver: Driver) -> None:
    driver.window.resize(2560, 900)
    for page in (driver.window.run, driver.window.runs, driver.window.data):
        driver.window.show_page(page)
        driver.wait(lambda page=page: page.width() > 2300)
        head = page.subtitle.mapTo(page, QPoint(0, 0)).x()
        assert head < 64, type(page).__name__
    driver.window.show_page(driver.window.train)
    assert driver.window.train.subtitle.mapTo(driver.window.train, QPoint(0, 0)).x() > 500


# The value under the mouse


@pytest.mark.parametrize("metric", ["entropy", "reward", "eval_accuracy", "reward/"])
def test_the_step_under_the_mouse_is_never_cut(
    driver: Driver, reinforced: Recipe, metric: str
) -> None:
    driver.window.resize(1000, 800)
    page = _finished(driver, reinforced)
    made = page.charts[metric]
    step = made.main.steps[-2]
    page.grid.ensureWidgetVisible(made)
    driver.wait(lambda: made._item is not None and not made.stale)

    def told_of_step() -> list[QLabel]:
        """What is said with the mouse at the step; a layout may still be on its way."""
        assert made._item is not None
        made._on_mouse_moved((made._item.vb.mapViewToScene(QPointF(step, made.main.values[-2])),))
        return [found for found in _words(made) if f"step {step}" in found.text()]

    driver.wait(lambda: bool(told_of_step()))
    told = told_of_step()
    assert len(told) == 1
    assert told[0].width() >= told[0].fontMetrics().horizontalAdvance(told[0].text())
    form = charts.percent if metric == "eval_accuracy" else charts.plain
    value = form(made.main.values[-2])
    assert any(value in found.text() for found in _words(made) if found is not told[0])
    made.leaveEvent(QEvent(QEvent.Type.Leave))
    made.paint()
    assert not any("step " in found.text() for found in _words(made))


def _words(made: charts.Chart) -> list[QLabel]:
    return [found for found in made.findChildren(QLabel) if found.isVisible()]


# Axes


def _axes(made: charts.Chart) -> bool:
    return made._item is not None and made._plot.isVisible()


def test_a_chart_without_points_has_no_axes(
    driver: Driver, recipe: Recipe, reinforced: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = _finished(driver, recipe)
    assert _axes(page.charts["loss"])
    monkeypatch.setenv("FAKE_STEP_S", "600")
    run = driver.studio.jobs.train(msgspec.structs.replace(recipe, name="waits"))
    page.open(run)
    assert not any(_axes(made) for made in _shown(page))  # at once, not a tick later
    driver.wait(lambda: page.phase.text() == "Training" and _settled(page))
    shown = _shown(page)
    assert shown
    assert all(made.empty != _axes(made) for made in shown)


def test_a_chart_gets_its_axes_with_the_first_point(driver: Driver) -> None:
    made = charts.Chart("Loss", charts.plain, driver.studio.theme, [charts.Line("loss")])
    driver.qtbot.addWidget(made)
    made.resize(300, 200)
    made.show()
    made.paint()
    assert not _axes(made)
    made.add("loss", 1, 2.0)
    made.paint()
    assert _axes(made)
    made.cut_after(0)
    made.paint()
    assert not _axes(made)


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [([0.0], 0.0, 1.0), ([0.0, 0.0], 0.0, 1.0), ([0.94, 0.98], 0.0, 1.0), ([-2.0, 0.5], -2.0, 1.0)],
)
def test_a_share_is_drawn_from_0_to_100_percent(
    driver: Driver, values: list[float], low: float, high: float
) -> None:
    made = charts.Chart("Share", charts.percent, driver.studio.theme, [charts.Line("share")])
    driver.qtbot.addWidget(made)
    made.resize(300, 200)
    made.show()
    made.set("share", list(range(1, len(values) + 1)), values)
    made.paint()
    bottom, top = made._item.vb.viewRange()[1]
    room = (high - low) * 0.05
    assert low - room <= bottom <= low
    assert high <= top <= high + room
