"""Seconds a GRPO step of a training job takes, over those of a bare TRL script's.

    python tests/benchmarks/grpo_step.py [ROUNDS]

The starter model, all weights, 64 answers of up to 56 tokens in groups of 8; steps after the third
count. Ours writes every step's answers to disk, has the coach look and is followed by a studio.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from studio.jobs import Jobs
from studio.paths import Home
from studio.settings import Settings
from studio.store import Store
from workers.protocol import wire
from workers.protocol.assets import assets_folder, builtin_dataset
from workers.protocol.events import Metrics
from workers.protocol.recipe import RL, Evaluation, Model, Recipe, Source, Training
from workers.protocol.rewards import MathAnswer

STEPS, SKIPPED = 13, 3

BARE = r"""
import json, re, sys, time
from pathlib import Path
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback, set_seed
from trl import GRPOConfig, GRPOTrainer

folder, data, scratch = sys.argv[1], sys.argv[2], sys.argv[5]
steps, skipped = int(sys.argv[3]), int(sys.argv[4])
set_seed(0)
rows = [json.loads(line) for line in Path(data).read_text().splitlines()]
dataset = Dataset.from_list([{"prompt": r["messages"][:1], "answer": r["answer"]} for r in rows])

def right(completions, answer, **_):
    found = [re.findall(r"\\boxed\{(.*?)\}", c[0]["content"]) for c in completions]
    return [float(boxes[-1:] == [a]) for boxes, a in zip(found, answer)]

class Clock(TrainerCallback):
    marks = []
    def on_step_end(self, args, state, control, **_):
        self.marks.append(time.perf_counter())

GRPOTrainer(
    model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
    reward_funcs=[right],
    args=GRPOConfig(output_dir=scratch, max_steps=steps, per_device_train_batch_size=64,
                    num_generations=8, max_completion_length=56, learning_rate=1e-6, beta=0.02,
                    use_cpu=True, bf16=False, gradient_checkpointing=False, logging_steps=1,
                    report_to="none", save_strategy="no", seed=0, disable_tqdm=True),
    train_dataset=dataset,
    processing_class=AutoTokenizer.from_pretrained(folder),
    callbacks=[Clock()],
).train()
print("STEP", (Clock.marks[-1] - Clock.marks[skipped - 1]) / (steps - skipped))
"""


def bare(scratch: Path) -> float:
    folder = assets_folder() / "starter" / "model"
    arguments = [folder, builtin_dataset("arithmetic"), STEPS, SKIPPED, scratch]
    ended = subprocess.run(
        [sys.executable, "-c", BARE, *map(str, arguments)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(ended.stdout.rpartition("STEP ")[2])


def ours(jobs: Jobs) -> float:
    recipe = Recipe(
        name="bench",
        stage="grpo",
        model=Model(base="starter", method="full"),
        data=[Source(source="builtin:arithmetic")],
        training=Training(max_steps=STEPS, batch_size=64, learning_rate=1e-6, max_length=128,
                          save_every_steps=0, precision="fp32"),
        rl=RL(kl_coefficient=0.02, max_completion_tokens=56),
        rewards=[MathAnswer()],
        evaluation=Evaluation(holdout=0.0),
    )  # fmt: skip
    run = jobs.train(recipe)
    while not jobs.poll() or (row := jobs.store.job(run)) is None or row.live:
        time.sleep(0.1)
    if row.status != "finished":
        raise SystemExit(f"{row.cause} {row.remedy}")
    marks = [
        event.seconds
        for event in (line.event for line in wire.read_events(jobs.folder(run)))
        if isinstance(event, Metrics) and "loss" in event.values
    ]
    return (marks[-1] - marks[SKIPPED - 1]) / (STEPS - SKIPPED)


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        home = Home(Path(scratch) / "home").make()
        store = Store(home.store)
        jobs = Jobs(home, store, Settings())
        plain, worker = [], []
        for _ in range(rounds):
            plain.append(bare(Path(scratch) / "bare"))
            worker.append(ours(jobs))
        jobs.close()
        store.close()
    print(json.dumps({
        "ratio": statistics.median(worker) / statistics.median(plain),
        "best_ratio": min(worker) / min(plain),
        "bare_seconds_per_step": plain,
        "worker_seconds_per_step": worker,
    }))  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
