"""The job that simulates a step of a recipe."""

from __future__ import annotations

from pathlib import Path

from workers.fetch import read_config
from workers.host import Host
from workers.protocol.events import Finished, Phase, StepSimulated
from workers.protocol.jobs import Simulate
from workers.protocol.rewards import RewardModel
from workers.simulate import simulate


def run(host: Host) -> None:
    """Runs a simulation from its folder's job.json to its ending event."""
    task = host.job.task
    assert isinstance(task, Simulate)
    recipe, home = task.recipe, Path(host.job.home)

    def say(text: str) -> None:
        host.emit(Phase(name=text))

    judged = [one.model for one in recipe.rewards if isinstance(one, RewardModel)]
    config = task.config or read_config(recipe.model.base, home, say)
    teacher = read_config(recipe.distill.teacher, home, say) if recipe.distill.teacher else None
    reward = read_config(judged[0], home, say) if judged else None
    say("Simulating a step")
    found = simulate(
        config, recipe, micro=task.micro, longest=task.longest,
        checkpointing=task.checkpointing, teacher=teacher, reward=reward,
    )  # fmt: skip
    host.emit(StepSimulated(peak=found.peak, parts=found.parts, seconds=found.seconds))
    host.emit(Finished(summary={"peak": found.peak}))
