#!/usr/bin/env python
"""Stands in for a reward model: the real host and wire, an answer's length for its score.

Started as `score.py -m workers FOLDER`. Training is played as by the fake worker. A prompt that
holds `dies` ends the process, and an empty word for an answer has no score.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import worker

from workers.__main__ import run_folder
from workers.host import Host, serve
from workers.protocol import events, requests
from workers.protocol.jobs import Score


def handler_of(task: object) -> object:
    return score if isinstance(task, Score) else worker.handler_of(task)


def score(host: Host) -> None:
    task = host.job.task
    assert isinstance(task, Score)
    host.emit(events.Phase(name="Loading the reward model"))
    host.emit(events.Ready(model=task.model, detail="a fake"))

    def answer(asked: requests.ScoreAnswers) -> None:
        if "dies" in asked.prompt[-1]["content"]:
            os.kill(os.getpid(), signal.SIGKILL)
        host.emit(events.AnswersScored(scores=[_scored(text) for text in asked.answers]))

    serve(host, {requests.ScoreAnswers: answer})
    host.emit(events.Finished())


def _scored(text: str) -> float | None:
    return None if text == "unscored" else len(text) / 10


if __name__ == "__main__":
    sys.exit(run_folder(Path(sys.argv[-1]), handler_of))  # type: ignore[arg-type]
