"""One training stage a file. `run` picks the stage that a recipe names."""

from __future__ import annotations

from workers.engines import load_engine
from workers.host import Host
from workers.protocol.jobs import Train


def run(host: Host) -> None:
    """Runs a training job from its folder's job.json to its ending event."""
    task = host.job.task
    assert isinstance(task, Train)
    engine = load_engine(task.recipe.model.engine)
    match task.recipe.stage:
        case "sft":
            from workers.train.sft import train
    train(task.recipe, host, engine)
