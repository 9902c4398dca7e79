"""The wizard's way to reinforcement learning, ready recipes, and the reward editor."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QApplication, QPlainTextEdit, QScrollArea

from studio.app import Studio
from studio.draft import DraftModel
from studio.draft_faults import first_fault
from studio.pages.train.settings import SettingsStep
from studio.theme import Theme
from studio.widgets.rewards import RewardEditor, summary_of
from tests.gui.conftest import Driver
from workers.protocol import wire
from workers.protocol.assets import assets_folder
from workers.protocol.jobs import Train
from workers.protocol.pipeline import read_pipeline
from workers.protocol.recipe import RL, Evaluation, Gate, Model, Recipe, format_recipe, itself
from workers.protocol.rewards import (
    KINDS,
    AnyReward,
    CodeTests,
    Format,
    JsonSchema,
    Judge,
    Language,
    Length,
    Match,
    MathAnswer,
    Python,
    ReasoningGym,
    Repetition,
    RewardModel,
)

QUICK_TOUR = assets_folder() / "recipes" / "quick-tour.toml"
CODE = 'def reward(prompt, completion, answer):\n    """Two\n    lines."""\n    return 0.5\n'
UNLIKE_DEFAULTS: list[AnyReward] = [
    Format(pattern=r"^\d+$", tags="think,answer", weight=0.5),
    MathAnswer(boxed_only=False),
    Match(mode="regex", pattern=r"= (\d+)", case_sensitive=True, weight=-1),
    JsonSchema(schema='{\n  "type": "object"\n}'),
    Length(min_tokens=3, max_tokens=99, buffer_tokens=9),
    Repetition(ngram=4),
    Language(language="de"),
    ReasoningGym(task="chain_sum"),
    CodeTests(seconds=2.5, memory_mb=128, without_bubblewrap=True),
    RewardModel(model="run:judge"),
    Judge(url="http://localhost:8080/v1", model="m", rubric="Be short.\nBe right.", seconds=5),
    Python(code=CODE, seconds=3, memory_mb=256),
]
"""Rewards whose options all differ from their defaults."""
SEEN = {type(reward) for reward in UNLIKE_DEFAULTS}
EVERY: list[AnyReward] = [
    *UNLIKE_DEFAULTS,
    *(cast(AnyReward, kind()) for kind in KINDS.values() if kind not in SEEN),
]


def _add(driver: Driver, kind: str) -> None:
    """Chooses from the menu; a popped-up menu would wait for a person."""
    _action(driver.window.train.rewards.editor, kind).trigger()


def _action(editor: RewardEditor, kind: str) -> QAction:
    return next(a for a in editor.menu.actions() if a.objectName() == f"add:{kind}")


def _walk_to_rewards(driver: Driver) -> None:
    driver.begin()
    driver.click("choice:grpo")
    driver.click("next")
    driver.click("choice:starter")
    driver.click("next")
    driver.click("add-builtin")
    driver.click("next")


def _asked(studio: Studio, run: str) -> tuple[Recipe, list[Recipe]]:
    job = wire.read_job(studio.jobs.folder(run))
    assert isinstance(job.task, Train)
    return job.task.recipe, job.then


def test_from_clicks_to_a_run_of_reinforcement_learning(driver: Driver, studio: Studio) -> None:
    _walk_to_rewards(driver)
    driver.click("next")
    assert "No reward is chosen" in driver.find("banner").text
    _add(driver, "math_answer")
    _add(driver, "format")
    driver.type("field:rewards.1.weight", "0.2")
    driver.click("next")
    driver.type("run-name", "by trying")
    driver.type("field:training.max_steps", "4")
    driver.type("field:rl.kl_coefficient", "0")
    driver.click("next")
    words = driver.window.train.review._words.text()
    assert "asked 8 questions from arithmetic" in words
    assert "8 answers to each" in words
    assert "math_answer (weight 1) and format (weight 0.2)" in words
    assert "KL 0" in words
    driver.click("start")
    recipe, then = _asked(studio, driver.window.run.run)
    assert recipe.stage == "grpo"
    assert (recipe.model.base, recipe.model.method) == ("starter", "full")
    assert recipe.rewards == [MathAnswer(), Format(weight=0.2)]
    assert (recipe.training.effective_batch_size, recipe.training.learning_rate) == (64, 2e-4)
    assert (recipe.rl.max_completion_tokens, recipe.rl.kl_coefficient) == (56, 0)
    assert then == []


def test_the_step_bar_shows_the_steps_that_a_stage_has(driver: Driver) -> None:
    driver.begin()
    driver.click("choice:grpo")
    assert driver.find("step:Rewards").text() == "5  Rewards"
    assert driver.find("step:Review").text() == "7  Review"
    driver.click("choice:sft")
    assert driver.find("step:Review").text() == "6  Review"
    assert not driver.button("5  Rewards").isVisible()


def test_rarer_stages_are_unfolded_by_hand_or_by_a_recipe(driver: Driver) -> None:
    driver.begin()
    page = driver.window.train
    assert not page.stage._rare["reward"].isVisible()
    driver.click("more-stages")
    driver.click("choice:reward")
    assert page.recipe().stage == "reward"
    assert not page.stage.more.isVisible()


def test_suggestions_leave_alone_what_was_entered(driver: Driver) -> None:
    page = driver.window.train
    driver.begin()
    page.settings.forms.fields["training.effective_batch_size"].set_value(24)
    driver.click("choice:grpo")
    recipe = page.recipe()
    assert (recipe.training.effective_batch_size, recipe.training.learning_rate) == (24, 2e-4)
    page.model.bases.choose(["smollm2"])
    recipe = page.recipe()
    assert (recipe.model.method, recipe.training.learning_rate) == ("lora", 1e-5)
    assert recipe.training.effective_batch_size == 24
    assert recipe.rl.max_completion_tokens == 512
    page.model.methods.choose(["dora"])
    page.model.bases.choose(["starter"])
    assert page.recipe().model.method == "dora"
    page.settings.forms.fields["training.effective_batch_size"]._on_reset()
    assert page.recipe().training.effective_batch_size == 64


def test_what_does_not_apply_is_out_of_sight(driver: Driver) -> None:
    page = driver.window.train
    driver.begin()
    driver.click("choice:grpo")
    page.go_to(page.settings)
    page.settings.forms.form.folded.expand(animate=False)

    def seen(path: str) -> bool:
        return page.settings.forms.fields[path].isVisible()

    assert seen("rl.group_size")
    assert not any(map(seen, ("training.packing", "training.assistant_only_loss", "lora.rank")))
    page.stage.choices.choose(["sft"])
    page.model.methods.choose(["lora"])
    assert all(map(seen, ("training.packing", "training.assistant_only_loss", "lora.rank")))
    assert not seen("rl.group_size")


def test_rare_settings_are_folded_away_by_what_they_are_about(driver: Driver) -> None:
    page = driver.window.train
    driver.begin()
    driver.click("choice:sft")
    page.model.methods.choose(["lora"])
    page.go_to(page.settings)
    forms = page.settings.forms
    groups = forms.form.groups
    assert list(groups) == ["", "Speed and memory", "Optimizer and adapter", "The best of a run"]
    assert not any(group.isExpanded() for group in groups.values())
    groups["Optimizer and adapter"].expand(animate=False)
    noise = forms.fields["training.neftune_noise_alpha"]
    assert groups["Optimizer and adapter"].isAncestorOf(noise)
    assert noise.isVisible()
    page.stage.choices.choose(["grpo"])
    assert not noise.isVisible()


def test_sets_are_offered_that_serve_the_stage(driver: Driver) -> None:
    _walk_to_rewards(driver)
    data = driver.window.train.data
    offered = [data.builtin.itemText(at) for at in range(data.builtin.count())]
    assert {"arithmetic", "reasoning", "sums"} <= set(offered)
    assert not {"stories", "arithmetic-test"} & set(offered)
    assert data.test.box.findData("builtin:arithmetic-test") > 0
    data.test.choose("builtin:arithmetic-test")
    assert driver.window.train.recipe().evaluation.test == "builtin:arithmetic-test"
    driver.window.train.stage.choices.choose(["dpo"])
    driver.window.train.go_to(data)
    offered = [data.builtin.itemText(at) for at in range(data.builtin.count())]
    assert "preferences" in offered
    assert "arithmetic" not in offered


def test_an_impossible_combination_is_told_with_its_remedy(driver: Driver) -> None:
    _walk_to_rewards(driver)
    _add(driver, "math_answer")
    driver.click("next")
    driver.type("field:training.effective_batch_size", "60")
    driver.click("next")
    assert "cannot be split into groups" in driver.find("banner").text
    assert "multiple of 8" in driver.find("banner").text
    driver.click("start")
    assert driver.window.page is driver.window.train
    driver.click("back")
    driver.type("field:training.batch_size", "64")
    driver.type("field:rl.temperature", "0")  # the form lets it pass, the file's check does not
    driver.click("next")
    assert "rl.temperature" in driver.find("banner").text


def test_a_ready_recipe_starts_its_first_stage_and_keeps_the_others(
    driver: Driver, studio: Studio
) -> None:
    driver.begin()
    driver.click("choice:recipe:quick-tour")
    page, quick = driver.window.train, read_pipeline(QUICK_TOUR)
    assert page.pipeline() == quick
    assert page.review.then.text() == "Then: checked-sums (GRPO)"
    driver.click("start")
    recipe, then = _asked(studio, driver.window.run.run)
    assert recipe == quick.stages[0]
    assert then == quick.stages[1:]


def test_the_stages_that_follow_can_be_dropped(driver: Driver, studio: Studio) -> None:
    driver.begin()
    driver.click("choice:recipe:quick-tour")
    driver.click("drop-stages")
    page = driver.window.train
    assert not page.review.afterwards.isVisible()
    assert page.stage.ready.chosen == []
    driver.click("start")
    assert _asked(studio, driver.window.run.run)[1] == []


def test_every_ready_recipe_fills_the_wizard_as_it_stands(driver: Driver) -> None:
    driver.begin()
    page = driver.window.train
    for path in sorted((assets_folder() / "recipes").glob("*.toml")):
        page.open_recipe(path)
        assert not page.banner.isVisible(), path.name
        assert page.pipeline().stages == read_pipeline(path).stages, path.name
        assert first_fault(page.draft_model.draft) is None, path.name


def test_what_no_step_asks_for_stays_as_it_was_opened(
    driver: Driver, recipe: Recipe, tmp_path: Path
) -> None:
    gate = Gate(metric="loss", min_gain=0.1)
    recipe = msgspec.structs.replace(
        recipe,
        stage="grpo",
        model=Model(base="starter", method="lora", engine="transformers"),
        rl=RL(group_size=2, algorithm="dr_grpo"),
        rewards=EVERY,
        evaluation=Evaluation(test="builtin:arithmetic-test", gate=gate),
    )
    path = tmp_path / "all.toml"
    path.write_text(format_recipe(recipe))
    driver.begin()
    driver.window.train.open_recipe(path)
    assert driver.window.train.recipe() == recipe


def test_a_run_that_began_with_the_starter_model_counts_as_one(
    driver: Driver, studio: Studio
) -> None:
    driver.begin()
    driver.click("choice:recipe:quick-tour")
    driver.click("drop-stages")
    driver.window.train.settings.forms.fields["training.max_steps"].set_value(1)
    driver.click("start")
    driver.wait(lambda: driver.window.run.pill.text == "Finished")
    run = driver.window.run.run
    page = driver.window.train
    driver.window.runs.base_chosen.emit(run, "worked-sums")
    page.stage.choices.choose(["grpo"])
    assert page.recipe().model.base == f"run:{run}"
    assert page.recipe().rl.max_completion_tokens == 56


# The editor


@pytest.fixture
def theme(qapp: QApplication) -> Theme:
    return Theme(qapp, "light")


@pytest.fixture
def editor(qtbot: Any, theme: Theme) -> Iterator[RewardEditor]:
    made = RewardEditor(theme)
    area = QScrollArea()  # as in the wizard: the editor may grow without the window
    area.setWidgetResizable(True)
    area.setWidget(made)
    qtbot.addWidget(area)
    area.resize(800, 600)
    area.show()
    yield made
    area.hide()


def test_every_kind_survives_the_editor(editor: RewardEditor) -> None:
    assert {type(reward) for reward in EVERY} == set(KINDS.values())
    editor.set_value(EVERY)
    assert editor.value == EVERY
    assert editor.faults == []


def test_every_kind_can_be_added_and_says_what_it_is(editor: RewardEditor) -> None:
    for number, kind in enumerate(KINDS):
        assert summary_of(kind)
        _action(editor, kind).trigger()
        assert editor.cards[number].kind == kind
    assert [type(reward) for reward in editor.value] == list(KINDS.values())
    assert [fault.partition(":")[0] for fault in editor.faults] == [
        "Reasoning gym, Task", "Reward model, Reward model",
    ]  # fmt: skip


def test_rewards_are_moved_and_removed(editor: RewardEditor, qtbot: Any) -> None:
    editor.set_value([MathAnswer(), Format(), Repetition()])
    with qtbot.waitSignal(editor.changed):
        qtbot.mouseClick(editor.cards[2].up, Qt.MouseButton.LeftButton)
    assert editor.value == [MathAnswer(), Repetition(), Format()]
    qtbot.mouseClick(editor.cards[0].remove, Qt.MouseButton.LeftButton)
    assert editor.value == [Repetition(), Format()]
    assert not editor.cards[0].up.isEnabled()
    assert not editor.cards[1].down.isEnabled()


@pytest.mark.parametrize(
    ("reward", "fault"),
    [
        (Python(code="def reward(:\n"), "Line 1"),
        (Python(code="x = 1"), "no function called reward"),
        (Format(pattern="("), "Not a regular expression"),
        (JsonSchema(schema="[1]"), "Not a JSON object"),
        (Length(max_tokens=0), "At least 1"),
    ],
)
def test_what_cannot_work_is_told_before_it_runs(
    editor: RewardEditor, reward: AnyReward, fault: str
) -> None:
    editor.set_value([reward])
    assert fault in editor.faults[0]


def test_python_is_coloured_and_indented(editor: RewardEditor, qtbot: Any, theme: Theme) -> None:
    editor.add("python")
    (code,) = editor.findChildren(QPlainTextEdit, "field:rewards.0.code")
    assert editor.faults == []

    def has(colour: str) -> bool:
        picture = code.viewport().grab().toImage()
        places = product(range(picture.width() // 2), range(picture.height() // 2))
        return any(picture.pixelColor(x, y).name() == colour for x, y in places)

    qtbot.waitUntil(lambda: has(theme.palette.accent))
    assert has(theme.palette.good)
    theme.choose("dark")
    assert has(theme.palette.accent)
    code.clear()
    qtbot.keyClicks(code, "def reward(prompt, completion, answer):")
    qtbot.keyClick(code, Qt.Key.Key_Return)
    assert not has(theme.palette.good)
    qtbot.keyClicks(code, '"""a')
    qtbot.keyClick(code, Qt.Key.Key_Return)
    qtbot.keyClicks(code, "b")
    assert has(theme.palette.good)
    qtbot.keyClick(code, Qt.Key.Key_Tab)
    assert code.toPlainText().endswith('):\n    """a\n    b    ')


def test_every_setting_is_asked_for_once(qtbot: Any, theme: Theme) -> None:
    step = SettingsStep(DraftModel(lambda run: None), itself, theme)
    qtbot.addWidget(step)
    assert {"rl.group_size", "training.max_steps", "evaluation.holdout"} <= set(step.forms.fields)
    assert "evaluation.test" not in step.forms.fields
