"""A run that failed goes on from the window, with less where the memory ran out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QApplication, QPushButton

from studio.app import Studio
from studio.widgets.resume import ResumeDialog
from tests.gui.conftest import Driver
from workers.protocol import wire
from workers.protocol.jobs import Train
from workers.protocol.recipe import Evaluation, Gate, Recipe
from workers.protocol.resume import Proposal, rungs


def _failed(driver: Driver, studio: Studio, recipe: Recipe, name: str = "greedy") -> str:
    run = studio.jobs.train(msgspec.structs.replace(recipe, name=name))
    driver.window.open_run(run)
    driver.wait(lambda: driver.window.run.pill.text == "Failed")
    return run


def _in_dialog(driver: Driver, act: Callable[[ResumeDialog], None]) -> None:
    """Does something in the dialog that the next click opens, and closes it whatever comes."""

    def look() -> None:
        dialog = QApplication.activeModalWidget()
        if not isinstance(dialog, ResumeDialog):
            return
        clock.stop()
        try:
            act(dialog)
        finally:
            if dialog.isVisible():
                dialog.reject()

    clock = QTimer(driver.window, interval=20)
    clock.timeout.connect(look)
    clock.start()


def _press(driver: Driver, control: Any) -> None:
    driver.qtbot.mouseClick(control, Qt.MouseButton.LeftButton)


def test_out_of_memory_is_resumed_with_what_needs_less(
    driver: Driver, studio: Studio, recipe: Recipe
) -> None:
    run = _failed(driver, studio, recipe)
    assert driver.find("resume").isEnabled()

    def act(dialog: ResumeDialog) -> None:
        fields = dialog.form.fields
        assert fields["training.batch_size"].value == 1
        assert fields["training.gradient_accumulation"].value == 2
        assert "training.learning_rate" not in fields
        assert "rl.mask_truncated_completions" not in fields
        fields["training.max_steps"].set_value(6)
        _press(driver, dialog.go)

    _in_dialog(driver, act)
    driver.click("resume-with")
    driver.wait(lambda: driver.window.run.pill.text == "Finished")
    (change,) = wire.read_job(studio.jobs.folder(run)).changes
    assert change.settings == {
        "training.batch_size": (2, 1), "training.gradient_accumulation": (0, 2),
        "training.max_steps": (8, 6),
    }  # fmt: skip
    page = driver.window.run
    assert page.charts["loss"].main.steps == list(range(1, 7))
    assert not page.banner.isVisible()
    assert "Resumed after step 2" in page.notes.toPlainText()
    assert "batch_size = 1" in page.recipe.toPlainText()
    assert not page.resume.isVisible()
    assert not page.resume_with.isVisible()


def test_one_click_goes_on_with_the_next_rung(
    driver: Driver, studio: Studio, recipe: Recipe
) -> None:
    run = _failed(driver, studio, recipe)
    driver.click("resume-less")
    driver.wait(lambda: driver.window.run.pill.text == "Finished")
    (change,) = wire.read_job(studio.jobs.folder(run)).changes
    assert change.settings["training.batch_size"] == (2, 1)
    assert not driver.window.run.resume_less.isVisible()


def test_what_changes_what_is_learnt_is_asked_first(
    driver: Driver, studio: Studio, recipe: Recipe
) -> None:
    training = msgspec.structs.replace(recipe.training, gradient_checkpointing=True)
    run = _failed(driver, studio, msgspec.structs.replace(recipe, training=training))
    folder = studio.jobs.folder(run)
    job = wire.read_job(folder)
    training = msgspec.structs.replace(training, batch_size=1)
    asked = msgspec.structs.replace(recipe, training=training)
    wire.write_job(folder, msgspec.structs.replace(job, task=Train(recipe=asked)))
    seen: list[int] = []

    def act(dialog: ResumeDialog) -> None:
        seen.append(dialog.form.fields["training.max_length"].value)
        names = [button.objectName() for button in dialog.findChildren(QPushButton)]
        assert [name for name in names if name.startswith("rung:")] == ["rung:shorter examples"]

    _in_dialog(driver, act)
    driver.click("resume-less")
    assert seen == [recipe.training.max_length // 2]
    assert driver.window.run.pill.text == "Failed"


def test_a_rung_is_put_into_the_form_by_a_click(qtbot: Any, studio: Studio, recipe: Recipe) -> None:
    ways = rungs(recipe)
    dialog = ResumeDialog(Proposal("abc", recipe, 4, ways[0].settings, ways), studio.theme)
    qtbot.addWidget(dialog)
    dialog.show()
    qtbot.mouseClick(
        dialog.findChild(QPushButton, "rung:gradient checkpointing"), Qt.MouseButton.LeftButton
    )
    assert dialog.changes == ways[0].settings | {"training.gradient_checkpointing": True}


def test_a_plain_resume_fails_again_and_can_be_tried_again(
    driver: Driver, studio: Studio, recipe: Recipe
) -> None:
    run = _failed(driver, studio, recipe)
    driver.click("resume")
    folder = studio.jobs.folder(run)
    driver.wait(lambda: sum("Failed" in repr(li) for li in wire.read_events(folder)) == 2)
    driver.wait(lambda: driver.window.run.pill.text == "Failed")
    assert driver.find("resume-with").isEnabled()


def test_what_cannot_be_is_refused_in_the_dialog(
    qtbot: Any, studio: Studio, recipe: Recipe
) -> None:
    grpo = msgspec.structs.replace(
        recipe, stage="kto", training=msgspec.structs.replace(recipe.training, batch_size=4)
    )
    dialog = ResumeDialog(Proposal("abc", grpo, 0, {}), studio.theme, studio.window)
    dialog.form.fields["training.batch_size"].set_value(1)
    dialog.show()
    qtbot.mouseClick(dialog.go, Qt.MouseButton.LeftButton)
    assert dialog.isVisible()
    assert "batch_size = 1 in stage 'kto'" in dialog.banner.text
    dialog.form.fields["training.batch_size"].set_value(-1)
    assert not dialog.go.isEnabled()
    assert dialog.banner.isHidden()


@pytest.mark.parametrize(
    ("stage", "gate", "there", "not_there"),
    [
        ("sft", None, "training.epochs", "evaluation.gate.metric"),
        ("grpo", Gate(), "evaluation.gate.metric", "model.base"),
        ("grpo", None, "rl.mask_truncated_completions", "rl.temperature"),
        ("distill", None, "rl.max_completion_tokens", "rl.mask_truncated_completions"),
    ],
)
def test_only_settings_that_the_stage_looks_at_are_offered(
    studio: Studio, recipe: Recipe, stage: Any, gate: Gate | None, there: str, not_there: str
) -> None:
    evaluation = Evaluation(gate=gate)
    changed = msgspec.structs.replace(recipe, stage=stage, evaluation=evaluation)
    dialog = ResumeDialog(Proposal("abc", changed, 4, {}), studio.theme, studio.window)
    assert there in dialog.form.fields
    assert not_there not in dialog.form.fields
    assert dialog.changes == {}


def test_the_list_of_runs_offers_it_too(driver: Driver, studio: Studio, recipe: Recipe) -> None:
    _failed(driver, studio, recipe)
    driver.go("Runs")
    page = driver.window.runs
    driver.wait(lambda: page.model.rowCount() == 1)
    actions = {a.text(): a for a in page.menu_of(page.model.rows[0][0]).actions()}
    assert "Resume" in actions
    _in_dialog(driver, lambda dialog: _press(driver, dialog.go))
    actions["Resume…"].trigger()
    assert driver.window.page is driver.window.run
    driver.wait(lambda: driver.window.run.pill.text == "Finished")
