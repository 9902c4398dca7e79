"""Scores answers by a trained reward model, as often as asked.

Ends on Stop, or when the studio that owns it is gone.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from workers.host import Host, serve
from workers.protocol.events import AnswersScored, Finished, Phase, Ready
from workers.protocol.jobs import Score
from workers.protocol.requests import ScoreAnswers

if TYPE_CHECKING:
    from workers.rewards.models import TrainedModel


def run(host: Host) -> None:
    """Runs a score job from its folder's job.json to its ending event."""
    from workers.rewards.models import TrainedModel

    task = host.job.task
    assert isinstance(task, Score)
    host.emit(Phase(name="Loading the reward model"))
    model = TrainedModel(task.model, Path(host.job.home))
    host.emit(Ready(model=task.model, detail=f"{model.model.num_parameters():,} weights"))
    serve(host, {ScoreAnswers: lambda request: host.emit(_scored(model, request))})
    host.emit(Finished())


def _scored(model: TrainedModel, request: ScoreAnswers) -> AnswersScored:
    from workers.rewards import Sample

    began = time.perf_counter()
    samples = [Sample(request.prompt, answer, "", 0) for answer in request.answers]
    scores = [outcome.value for outcome in model.score(samples)]
    return AnswersScored(scores=scores, seconds=round(time.perf_counter() - began, 3))
