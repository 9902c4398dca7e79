"""Every stage on the starter model: does its own measure improve on held-out rows, seed by seed?

    .venv/bin/python tests/benchmarks/stages_learn.py --seeds 3 [--only dpo,ppo] [--home DIR]

Each seed begins with one SFT run, from which the others start; the reward model's run scores for
PPO and RLOO. Prints a table in Markdown; exits 1 when a measure did not improve.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from workers.protocol import wire
from workers.protocol.events import Evaluated, Failed
from workers.protocol.jobs import Job, Train
from workers.protocol.recipe import Recipe, parse_recipe

LEAST_S = 120.0
SHARED = """
name = "{name}"
stage = "{stage}"
model = {{ base = "{base}", method = "{method}" }}
lora = {{ rank = 32, alpha = 64 }}
training = {{ max_steps = {steps}, batch_size = {batch}, learning_rate = {rate},
  max_length = 256, precision = "fp32", save_every_steps = 0, seed = {seed} }}
evaluation = {{ holdout = 0.2, max_rows = 64, max_completion_tokens = 64 }}
{more}
"""
SCORED = """
[[rewards]]
kind = "math_answer"
[[rewards]]
kind = "format"
weight = 0.2
"""
BY_MODEL = '[[rewards]]\nkind = "reward_model"\nmodel = "run:{rm}"\n'


class Case(NamedTuple):
    """A stage, how it is trained, and the measures that must rise (or, with a minus, fall)."""

    stage: str
    measures: tuple[str, ...]
    data: tuple[str, ...] = ("builtin:preferences",)
    steps: int = 60
    batch: int = 16
    rate: float = 1e-3
    method: str = "lora"
    more: str = ""
    base: str = "starter"


CASES = {
    "sft": Case("sft", ("-loss", "accuracy"), ("builtin:arithmetic", "builtin:reasoning"),
                rate=2e-3, steps=40),
    "cpt": Case("cpt", ("-loss",), ("builtin:stories",), steps=40),
    "dpo": Case("dpo", ("pair_accuracy", "win_rate"),
                more="preference = { rpo_alpha = 1.0 }" + SCORED),
    "ipo": Case("ipo", ("pair_accuracy", "win_rate"),
                more="preference = { beta = 1.0, rpo_alpha = 1.0 }" + SCORED),
    "simpo": Case("simpo", ("margin", "win_rate"), more="preference = { beta = 2.0 }" + SCORED),
    "cpo": Case("cpo", ("-loss", "win_rate"), more="preference = { rpo_alpha = 1.0 }" + SCORED),
    "orpo": Case("orpo", ("-loss", "win_rate"), rate=2e-3, more=SCORED),
    "kto": Case("kto", ("margin", "win_rate"), ("builtin:feedback",), batch=32, more=SCORED),
    "reward": Case("reward", ("pair_accuracy", "margin"), steps=80, rate=5e-4, method="full",
                   base="run:{sft}"),
    "ppo": Case("rlhf", ("reward", "win_rate"), steps=24, batch=32, rate=3e-4, method="full",
                base="run:{sft}",
                more='rl = { algorithm = "ppo", num_iterations = 4, '
                "max_completion_tokens = 48 }\n" + BY_MODEL),
    "rloo": Case("rlhf", ("reward", "win_rate"), steps=30, batch=32, rate=3e-4, method="full",
                 base="run:{sft}",
                 more='rl = { algorithm = "rloo", num_iterations = 1, '
                 "max_completion_tokens = 48 }\n" + BY_MODEL),
    "grpo": Case("grpo", ("reward", "win_rate"), ("builtin:arithmetic",), steps=60, batch=32,
                 rate=2e-4, method="full",
                 more="rl = { max_completion_tokens = 48 }\n" + SCORED),
    "distill": Case("distill", ("-loss",), ("builtin:arithmetic",), steps=40,
                    more='distill = { teacher = "run:{sft}" }\n'
                    "rl = { max_completion_tokens = 48 }\n"),
}  # fmt: skip


class Result(NamedTuple):
    name: str
    seed: int
    seconds: float
    before: dict[str, float | None]
    after: dict[str, float | None]
    failed: str = ""

    def improved(self, measure: str) -> bool:
        name = measure.lstrip("-")
        after = self.after.get(name)
        before = 0.5 if name == "win_rate" else self.before.get(name)
        if before is None or after is None:
            return False
        return after < before if measure.startswith("-") else after > before


def recipe_of(name: str, case: Case, seed: int) -> Recipe:
    runs = {"sft": f"sft-{seed}", "rm": f"reward-{seed}"}
    sources = "\n".join(f'[[data]]\nsource = "{source}"' for source in case.data)
    more = case.more
    for key, run in runs.items():
        more = more.replace(f"{{{key}}}", run)
    text = SHARED.format(
        name=f"{name}-{seed}", stage=case.stage, base=case.base.format(**runs), seed=seed,
        method=case.method, steps=case.steps, batch=case.batch, rate=case.rate,
        more=f"{more}\n{sources}",
    )  # fmt: skip
    one_line = text.replace(",\n  ", ", ")
    return parse_recipe(one_line, name)


def run(name: str, case: Case, seed: int, home: Path) -> Result:
    """Trains in a worker of its own, as the studio does."""
    recipe = recipe_of(name, case, seed)
    folder = home / "jobs" / recipe.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    task = Train(recipe=recipe)
    wire.write_job(folder, Job(id=recipe.name, name=recipe.name, created="", home=str(home),
                               task=task))  # fmt: skip
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "workers", str(folder)], check=False)
    seconds = time.perf_counter() - began
    events = [line.event for line in wire.read_events(folder)]
    measured = [event.values for event in events if isinstance(event, Evaluated)]
    failed = next((event.what for event in events if isinstance(event, Failed)), "")
    empty: dict[str, float | None] = {}
    before, after = (measured[0], measured[-1]) if measured else (empty, empty)
    return Result(name, seed, seconds, before, after, failed)


def told(result: Result, case: Case) -> str:
    parts = [result.failed] if result.failed else []
    for measure in case.measures:
        name = measure.lstrip("-")
        before, after = result.before.get(name), result.after.get(name)
        mark = "" if result.improved(measure) else " **no**"
        start = f"{before:.3g} to " if before is not None else ""
        parts.append(f"{name} {start}{after:.3g}{mark}" if after is not None else f"no {name}")
    return f"| {result.name} | {result.seed} | {result.seconds:.0f} s | {'; '.join(parts)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--home", default="")
    options = parser.parse_args()
    wanted = [name for name in options.only.split(",") if name] or list(CASES)
    home = Path(options.home or tempfile.mkdtemp())
    results: list[Result] = []
    print("| stage | seed | time | held-out rows, before to after |\n|---|---|---|---|", flush=True)
    for seed in range(options.seeds):
        for name in wanted:
            result = run(name, CASES[name], seed, home)
            results.append(result)
            print(told(result, CASES[name]), flush=True)
    (home / "stages.json").write_bytes(msgspec.json.encode([r._asdict() for r in results]))
    good = all(r.improved(measure) for r in results for measure in CASES[r.name].measures)
    quick = all(result.seconds < LEAST_S for result in results)
    return 0 if good and quick else 1


if __name__ == "__main__":
    sys.exit(main())
