"""`python -m workers FOLDER`: reads one job, imports only the room it needs, and runs it."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from workers.host import Host, failed, output_to_log
from workers.protocol.events import Failed
from workers.protocol.jobs import Bench, Browse, Chat, Export, Inspect, Probe, Score, Train, Watch
from workers.protocol.refusal import Refusal
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
        case Probe():
            from workers.probe import run
        case _:
            raise Refusal(
                "This job is of a kind that is not known here.",
                "It was written by another version.",
                "Update Finetune Studio.",
            )
    return run


def run_folder(folder: Path, handler_of: Callable[[object], Handler] = handler_of) -> int:
    """Runs the job in a folder; returns the exit code: 0 finished or stopped, 1 failed."""
    with Host(folder) as host, output_to_log(host.folder):
        try:
            with turn(host) as ours:
                if ours:
                    handler_of(host.job.task)(host)
        except Exception as fault:
            traceback.print_exc()
            host.emit(failed(fault, host.folder))
            return 1
    return 0


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("Usage: python -m workers FOLDER", file=sys.stderr)
        return 2
    try:
        return run_folder(Path(arguments[0]))
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        return 2
    except OSError as fault:
        story: Failed = failed(fault, Path(arguments[0]))
        print(story.what, story.cause, story.remedy, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
