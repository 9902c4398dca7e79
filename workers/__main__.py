"""`python -m workers FOLDER`: reads one job, imports only the room it needs, and runs it."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from workers.host import Host, failed, output_to_log
from workers.protocol.events import Failed
from workers.protocol.jobs import (
    Bench,
    Browse,
    Chat,
    Export,
    Inspect,
    Probe,
    Score,
    Simulate,
    Train,
    Watch,
)
from workers.protocol.refusal import Refusal
from workers.retry import AGAIN, retried, start_anew
from workers.turns import turn

Handler = Callable[[Host], None]


def handler_of(task: object) -> Handler:
    """The function that does this kind of task; nothing else is imported."""
    match task:
        case Train():
            from workers.train import run
        case Export():
            from workers.export import run
        case Chat():
            from workers.chat import run
        case Bench():
            from workers.bench import run
        case Inspect():
            from workers.inspect import run
        case Score():
            from workers.score import run
        case Browse():
            from workers.browse import run
        case Watch():
            from workers.watch import run
        case Simulate():
            from workers.simulate.task import run
        case Probe():
            from workers.probe import run
        case _:
            raise Refusal(
                "This job is of a kind that is not known here.",
                "It was written by another version.",
                "Update Finetune Studio.",
            )
    return run


def run_folder(
    folder: Path, handler_of: Callable[[object], Handler] = handler_of, *, may_retry: bool = False
) -> int:
    """Runs the job in a folder; returns the exit code: 0 finished or stopped, 1 failed.

    Args:
        may_retry: whether a run that is out of memory may ask to be run again, by `AGAIN`.
    """
    with Host(folder) as host, output_to_log(host.folder):
        try:
            with turn(host) as ours:
                if ours:
                    handler_of(host.job.task)(host)
        except Exception as fault:
            traceback.print_exc()
            less = retried(host, fault) if may_retry else None
            host.emit(less or failed(fault, host.folder))
            return AGAIN if less else 1
    return 0


def run_to_end(folder: Path, handler_of: Callable[[object], Handler] = handler_of) -> int:
    """Runs the job in a folder, once more in a fresh process where the memory ran out."""
    environment = dict(os.environ)
    code = run_folder(folder, handler_of, may_retry=True)
    return start_anew(folder, environment) if code == AGAIN else code


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("Usage: python -m workers FOLDER", file=sys.stderr)
        return 2
    try:
        return run_to_end(Path(arguments[0]))
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        return 2
    except OSError as fault:
        story: Failed = failed(fault, Path(arguments[0]))
        print(story.what, story.cause, story.remedy, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
