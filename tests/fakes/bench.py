#!/usr/bin/env python
"""Stands in for the reward bench: the real host and wire, a result without torch.

Started as `bench.py -m workers FOLDER`. A recipe's name tells it how to behave: one that holds
`fails` or `dies` does so, `hangs` waits to be stopped, and `gamed` gets a bad verdict.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from workers.__main__ import run_folder
from workers.host import Host
from workers.protocol import events
from workers.protocol.bench import Agreement, BenchFinding, BenchResult, Probe, RewardSummary
from workers.protocol.jobs import Bench
from workers.protocol.refusal import Refusal
from workers.protocol.rewards import names_of


def bench(host: Host) -> None:
    task = host.job.task
    assert isinstance(task, Bench)
    name = task.recipe.name
    host.emit(events.Phase(name="Reading the data"))
    if "fails" in name:
        raise Refusal("It failed.", "It was named so.", "Name it otherwise.")
    if "dies" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    if "hangs" in name:
        host.emit(events.Phase(name=f"Sampling {task.samples} answers"))
        while not host.requests.stop_asked:
            time.sleep(0.01)
        host.emit(events.Stopped(detail="Stopped when asked."))
        return
    host.emit(events.Phase(name="Scoring"))
    found = result(names_of(task.recipe.rewards), task.samples, gamed="gamed" in name)
    host.emit(events.Benched(result=found))
    host.emit(events.Finished(summary={"verdict": found.verdict}))


def result(names: list[str], samples: int, *, gamed: bool = False) -> BenchResult:
    totals = [(number * number % 17) / 14 for number in range(samples)]
    return BenchResult(
        verdict="suspect" if gamed else "ok",
        rewards=[summary(name, totals) for name in [*names, "total"]],
        probes=probes(0.83 if gamed else 0.17),
        findings=findings() if gamed else [],
        agreement=[Agreement(names[0], names[1], 0.41)] if samples and len(names) > 1 else [],
        samples=samples,
        prompts=samples // 8,
    )


def summary(name: str, values: list[float]) -> RewardSummary:
    spread = {"mean": 0.53, "std": 0.31, "zero_variance_share": 0.25} if values else {}
    none = dict.fromkeys(("mean", "std", "zero_variance_share"))
    return RewardSummary(
        name=name, weight=1.0, seconds_per_call=0.0004, faults=0, values=values, **(spread or none)
    )  # fmt: skip


def probes(paid: float) -> list[Probe]:
    probes = [
        ("right", "A right answer", True, 1.0, "<think>2 + 2 = 4</think>\\boxed{4}"),
        ("wrong_value", "The right form with a wrong value", False, 0.17,
         "<think>2 + 2 = 4</think>\\boxed{5}"),
        ("empty", "Nothing at all", False, 0.0, ""),
        ("repeated", "One word, over and over", False, paid, "answer " * 20),
        ("echo", "The question, which names the answer, said back", False, 0.0,
         "What is 2 + 2? (It is 4, they say.)"),
        ("other_case", "The right answer, its words in other letters", True, 1.0,
         "<think>2 + 2 = 4</think>\\boxed{4}"),
    ]  # fmt: skip
    return [
        Probe(kind=kind, title=title, good=good, score=1.2 * share, share=share, example=example)
        for kind, title, good, share, example in probes
    ]


def findings() -> list[BenchFinding]:
    return [
        BenchFinding(
            kind="no_spread", level="advice",
            text="In 25% of the groups all answers earn the same: the first steps will teach "
            "little.",
            remedy="Run SFT first, or give rewards with steps in between.",
        ),
        BenchFinding(
            kind="repeated", level="suspect",
            text="One word, over and over scores 1.00, a right answer 1.20: it can be exploited.",
            remedy="Add a repetition reward with a positive weight, which takes points off.",
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(run_folder(Path(sys.argv[-1]), lambda _task: bench))
