"""Scores answers by a trained reward model, as often as asked.

Ends on Stop, or when the studio that owns it is gone.
"""

from __future__ import annotations

import time
from pathlib import Path

from workers.host import Host, owner_lives
from workers.protocol.events import AnswersScored, Finished, Phase, Ready
from workers.protocol.jobs import Score
from workers.protocol.requests import ScoreAnswers

LISTEN_EVERY_S = 0.03
OWNER_EVERY_S = 1.0


def run(host: Host) -> None:
    """Runs a score job from its folder's job.json to its ending event."""
    from workers.rewards.models import TrainedModel
    from workers.rewards.sample import Sample

    task = host.job.task
    assert isinstance(task, Score)
    host.emit(Phase(name="Loading the reward model"))
    model = TrainedModel(task.model, Path(host.job.home))
    host.emit(Ready(model=task.model, detail=f"{model.model.num_parameters():,} weights"))
    looked = time.monotonic()
    while not host.requests.stop_asked:
        for request in host.requests.take():
            if isinstance(request, ScoreAnswers):
                began = time.perf_counter()
                outcomes = model.score(
                    [Sample(request.prompt, answer, "", 0) for answer in request.answers]
                )
                scores = [outcome.value for outcome in outcomes]
                seconds = round(time.perf_counter() - began, 3)
                host.emit(AnswersScored(scores=scores, seconds=seconds))
        if time.monotonic() - looked >= OWNER_EVERY_S:
            looked = time.monotonic()
            if not owner_lives(task):
                break
        time.sleep(LISTEN_EVERY_S)
    host.emit(Finished())
