"""Pipelines, pauses and gates over the fake worker, through jobs and through the verbs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from studio.jobs import Jobs
from studio.records import JobRow
from studio.settings import Settings, save_settings
from workers.protocol import wire
from workers.protocol.pipeline import Pipeline, format_pipeline
from workers.protocol.recipe import Evaluation, Gate, Model, Recipe, Training, format_recipe
from workers.protocol.refusal import Refusal
from workers.protocol.rewards import MathAnswer, RewardModel

Follow = Callable[..., JobRow]


@pytest.fixture
def stages(recipe: Recipe) -> list[Recipe]:
    second = msgspec.structs.replace(recipe, name="second", model=Model(base="previous"))
    third = msgspec.structs.replace(second, name="third")
    return [recipe, second, third]


def follow_all(jobs: Jobs, first: str, follow: Follow) -> list[JobRow]:
    rows = [follow(jobs, first)]
    while after := jobs.next_stage(rows[-1].id):
        rows.append(follow(jobs, after))
    return rows


def test_each_stage_starts_from_the_one_before(
    jobs: Jobs, stages: list[Recipe], follow: Follow
) -> None:
    rows = follow_all(jobs, jobs.train_all(Pipeline(name="p", stages=stages)), follow)
    assert [row.name for row in rows] == ["small", "second", "third"]
    assert [row.parent for row in rows] == [None, rows[0].id, rows[1].id]
    task: Any = wire.read_job(jobs.folder(rows[2].id)).task
    assert task.recipe.model.base == f"run:{rows[1].id}"


def test_a_pipeline_whose_studio_was_closed_goes_on_in_the_next(
    jobs: Jobs, stages: list[Recipe], follow: Follow, wait_until: Callable[..., None]
) -> None:
    first = jobs.train_all(Pipeline(name="p", stages=stages[:2]))
    wait_until(lambda: wire.ending(wire.read_events(jobs.folder(first))) is not None, 30.0)
    assert jobs.next_stage(first) is None  # nobody has polled yet
    other = Jobs(jobs.home, jobs.store, jobs.settings)
    other.recover()
    other.catch_up()
    rows = follow_all(other, first, follow)
    other.close()
    assert [row.name for row in rows] == ["small", "second"]
    jobs.rebuild()
    assert len(jobs.store.jobs("train")) == 2  # reading the history anew starts nothing


def test_a_closed_gate_ends_the_pipeline_and_says_why(
    jobs: Jobs, stages: list[Recipe], follow: Follow
) -> None:
    gated = Evaluation(gate=Gate(metric="loss", min_gain=100.0))
    stages[0] = msgspec.structs.replace(stages[0], evaluation=gated)
    (row,) = follow_all(jobs, jobs.train_all(Pipeline(name="p", stages=stages)), follow)
    row = jobs.store.job(row.id) or row
    assert row.status == "finished"
    assert "The pipeline ends here" in row.cause
    assert "3.000 to 0.500" in row.cause


def _grpo(recipe: Recipe, evaluation: Evaluation, name: str = "small") -> Recipe:
    """A run of the fake worker that is measured by accuracy, from 1 to 5 of 8 rows."""
    return msgspec.structs.replace(
        recipe, name=name, stage="grpo", training=Training(max_steps=8, batch_size=8),
        rewards=[MathAnswer()], evaluation=evaluation,
    )  # fmt: skip


def test_without_a_gate_a_loss_holds_nothing_up_and_is_told(
    jobs: Jobs, stages: list[Recipe], recipe: Recipe, follow: Follow
) -> None:
    stages[0] = _grpo(recipe, Evaluation(), "worsens")
    rows = follow_all(jobs, jobs.train_all(Pipeline(name="p", stages=stages[:2])), follow)
    assert [row.name for row in rows] == ["worsens", "second"]
    first = jobs.store.job(rows[0].id) or rows[0]
    assert "0.625 to 0.125" in first.cause
    assert "no gate is set" in first.cause
    jobs.rebuild()
    assert jobs.store.job(first.id) == first


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        (Gate(min_gain=0.2), "too few to tell"),
        (Gate(metric="pair_accuracy"), "was not measured"),
        (Gate(min_gain=0.99), "not reached"),
    ],
)
def test_a_gate_that_was_not_passed_ends_the_pipeline_with_a_remedy(
    jobs: Jobs, stages: list[Recipe], recipe: Recipe, follow: Follow, gate: Gate, words: str
) -> None:
    stages[0] = _grpo(recipe, Evaluation(gate=gate))
    (row,) = follow_all(jobs, jobs.train_all(Pipeline(name="p", stages=stages)), follow)
    row = jobs.store.job(row.id) or row
    assert row.cause.startswith("The pipeline ends here.")
    assert words in row.cause
    assert f"model.base = 'run:{row.id}'" in row.remedy
    jobs.rebuild()
    assert jobs.store.job(row.id) == row


def test_a_gate_whose_interval_lies_above_lets_the_next_stage_start(
    jobs: Jobs, stages: list[Recipe], recipe: Recipe, follow: Follow
) -> None:
    stages[0] = _grpo(recipe, Evaluation(gate=Gate()))
    rows = follow_all(jobs, jobs.train_all(Pipeline(name="p", stages=stages[:2])), follow)
    assert [row.name for row in rows] == ["small", "second"]


def test_a_next_stage_that_cannot_start_is_told(
    jobs: Jobs, stages: list[Recipe], follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = jobs.train_all(Pipeline(name="p", stages=stages))

    def refuse(*_: object) -> str:
        raise Refusal("No room.", "The disk is full.", "Free some space.")

    monkeypatch.setattr(jobs, "train", refuse)
    row = follow(jobs, first)
    row = jobs.store.job(row.id) or row
    assert "The next stage could not start. No room." in row.cause


def test_runs_may_be_given_by_name_as_base_and_as_reward(
    jobs: Jobs, recipe: Recipe, follow: Follow
) -> None:
    first = jobs.train(recipe)
    follow(jobs, first)
    policy = msgspec.structs.replace(
        recipe, stage="grpo", model=Model(base="run:small"), training=Training(batch_size=8),
        rewards=[RewardModel(model="run:small")],
    )  # fmt: skip
    for started in (jobs.bench(policy), jobs.train(policy)):
        task: Any = wire.read_job(jobs.folder(started)).task
        assert task.recipe.model.base == f"run:{first}"
        assert task.recipe.rewards[0].model == f"run:{first}"


class Cli:
    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = home
        self.environment = monkeypatch

    def __call__(self, *arguments: str) -> tuple[int, Any]:
        ended = subprocess.run(
            [sys.executable, "-m", "studio", *arguments, "--json", "--home", str(self.home)],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        return ended.returncode, json.loads(ended.stdout)


@pytest.fixture
def cli(tmp_path: Path, fake: Settings, monkeypatch: pytest.MonkeyPatch) -> Cli:
    home = tmp_path / "cli"
    home.mkdir()
    save_settings(home / "settings.toml", fake)
    return Cli(home, monkeypatch)


def test_a_pipeline_file_is_trained_stage_by_stage(
    cli: Cli, stages: list[Recipe], tmp_path: Path
) -> None:
    path = tmp_path / "p.toml"
    path.write_text(format_pipeline(Pipeline(name="p", stages=stages[:2])))
    code, told = cli("train", str(path))
    assert code == 0
    assert told["name"] == "second"
    assert [stage["name"] for stage in told["stages"]] == ["small"]
    assert told["parent"] == told["stages"][0]["run"]


def test_pause_and_resume_from_the_terminal(
    cli: Cli, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.05")
    training = msgspec.structs.replace(recipe.training, max_steps=60)
    path = tmp_path / "r.toml"
    path.write_text(format_recipe(msgspec.structs.replace(recipe, training=training)))
    code, started = cli("train", str(path), "--detach")
    assert code == 0
    code, rested = cli("pause", started["run"])
    assert code == 0
    assert rested["status"] == "paused"
    code, told = cli("resume", started["run"])
    assert code == 0
    assert (told["status"], told["steps"]) == ("finished", 60)


def test_a_run_is_evaluated_against_its_gate(cli: Cli, recipe: Recipe, tmp_path: Path) -> None:
    gated = Evaluation(gate=Gate(metric="loss", min_gain=0.5))
    path = tmp_path / "r.toml"
    path.write_text(format_recipe(msgspec.structs.replace(recipe, evaluation=gated)))
    _, run = cli("train", str(path))
    code, told = cli("evaluate", run["run"])
    assert code == 0
    assert told["gate"] == "passed"
    assert told["before"]["loss"] > told["after"]["loss"]
    assert told["reasons"]


@pytest.mark.parametrize(
    ("gate", "said"),
    [(None, "not set"), (Gate(), "not measured"), (Gate(metric="loss", min_gain=9), "failed")],
)
def test_nothing_is_said_to_have_passed_that_was_not(
    cli: Cli, recipe: Recipe, tmp_path: Path, gate: Gate | None, said: str
) -> None:
    path = tmp_path / "r.toml"
    path.write_text(
        format_recipe(msgspec.structs.replace(recipe, evaluation=Evaluation(gate=gate)))
    )
    _, run = cli("train", str(path))
    code, told = cli("evaluate", run["run"])
    assert (code, told["gate"]) == (0, said)
    assert told["reasons"][0]
    assert bool(told["remedy"]) == (said == "not measured")


def test_the_interval_is_given_without_a_gate_too(cli: Cli, recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(format_recipe(_grpo(recipe, Evaluation())))
    _, run = cli("train", str(path))
    told = cli("evaluate", run["run"])[1]
    assert told["gate"] == "not set"
    low, high = told["interval"]
    assert 0 < low < 0.5 < high
