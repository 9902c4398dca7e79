"""Records the metric streams of healthy and sick runs, by really running them on the starter model.

    python tests/recordings/record.py [NAME ...]
    python tests/recordings/record.py NAME=FOLDER ...    # what a run in FOLDER has measured

Each file beside this one holds the recipe and what the run measured, step by step. Preference runs
and the exploited reward model are taken from the home of tests/benchmarks/stages_learn.py.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from workers.__main__ import run_folder
from workers.protocol import wire
from workers.protocol.events import Failed, Metrics
from workers.protocol.jobs import Job, Train
from workers.protocol.recipe import format_recipe, parse_recipe

HERE = Path(__file__).parent
SUMS = '[[data]]\nsource = "builtin:arithmetic"\n[model]\nbase = "starter"\nmethod = "full"\n'
MEASURED = (
    '[evaluation]\ntest = "builtin:arithmetic-test"\nmax_rows = 60\nevery_steps = 15\n'
    "max_completion_tokens = 64\n"
)
RIGHT = '[[rewards]]\nkind = "math_answer"\n'
FORM = '[[rewards]]\nkind = "format"\nweight = 0.2\n'
PLAIN_FORM = '[[rewards]]\nkind = "format"\npattern = "The answer is .+"\nweight = 1.0\n'


def own(code: str) -> str:
    return f"[[rewards]]\nkind = \"python\"\ncode = '''\n{code}\n'''\n"


def rl(steps: int, rate: float, *, kl: float = 0.02, tokens: int = 56, seed: int = 0) -> str:
    return (
        f"[training]\nmax_steps = {steps}\nlearning_rate = {rate}\nbatch_size = 32\nseed = {seed}\n"
        'max_length = 128\nscheduler = "constant"\nprecision = "fp32"\nsave_every_steps = 0\n'
        f"[rl]\nkl_coefficient = {kl}\nmax_completion_tokens = {tokens}\n"
    )


def sft(steps: int, rate: float, *, seed: int = 0) -> str:
    return (
        f"[training]\nmax_steps = {steps}\nlearning_rate = {rate}\nbatch_size = 16\nseed = {seed}\n"
        'max_length = 256\nprecision = "fp32"\nsave_every_steps = 0\nwarmup_ratio = 0.0\n'
    )


GRPO, SFT = 'stage = "grpo"\n', 'stage = "sft"\n'
LONGER = own("def reward(prompt, completion, answer):\n    return len(completion) / 100")
ODD = own("def reward(prompt, completion, answer):\n    return completion.count('9') / 5")
RUNS = {
    "healthy-grpo-0": GRPO + SUMS + rl(60, 2e-4) + RIGHT + FORM + MEASURED,
    "healthy-grpo-1": GRPO + SUMS + rl(60, 2e-4, seed=1) + RIGHT + MEASURED,
    "healthy-grpo-2": GRPO + SUMS + rl(60, 1e-4, kl=0.05, seed=2) + RIGHT + FORM + MEASURED,
    "healthy-sft-0": SFT + SUMS + sft(60, 3e-4) + MEASURED,
    "healthy-sft-1": SFT + SUMS + sft(60, 1e-4, seed=1) + MEASURED,
    "entropy-collapse": GRPO + SUMS + rl(32, 1e-3, kl=0.0, tokens=40) + ODD,
    "zero-std-groups": GRPO + SUMS + rl(30, 1e-5, tokens=6) + RIGHT,
    "kl-drift": GRPO + SUMS + rl(60, 1e-3, kl=0.001) + ODD,
    "length-blow-up": GRPO + SUMS + rl(45, 1e-3, kl=0.0, tokens=64) + LONGER,
    "reward-hacking": GRPO + SUMS + rl(45, 3e-4) + RIGHT.replace('er"', 'er"\nweight = 0.1')
    + PLAIN_FORM + MEASURED,
    "diverging-loss": SFT + SUMS + sft(40, 0.05) + MEASURED,
}  # fmt: skip


def record(name: str) -> None:
    recipe = parse_recipe(f'name = "{name}"\n' + RUNS[name])
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "jobs" / name
        folder.mkdir(parents=True)
        task = Train(recipe=recipe)
        wire.write_job(folder, Job(id=name, name=name, created="", home=home, task=task))
        run_folder(folder)
        take(name, folder)


def take(name: str, folder: Path) -> None:
    """Keeps what the run in a folder has measured."""
    task = wire.read_job(folder).task
    assert isinstance(task, Train)
    said = [line.event for line in wire.read_events(folder)]
    if failures := [event.what for event in said if isinstance(event, Failed)]:
        raise SystemExit(f"{name}: {failures[0]}")
    metrics = [
        [event.step, {key: _short(value) for key, value in event.values.items()}]
        for event in said
        if isinstance(event, Metrics)
    ]
    told = {"recipe": format_recipe(task.recipe), "metrics": metrics}
    (HERE / f"{name}.json").write_text(json.dumps(told, separators=(",", ":")) + "\n")


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


if __name__ == "__main__":
    for asked in sys.argv[1:] or RUNS:
        named, _, of = asked.partition("=")
        if of:
            take(named, Path(of))
        else:
            record(named)
