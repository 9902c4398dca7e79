"""Tokens per second of a training job, over those of a bare TRL script with the same settings.

    python tests/benchmarks/sft_throughput.py [ROUNDS]

SmolLM2-135M, LoRA rank 16, batch 8, bf16 where the CPU has it; steps after the third count. The
job is a real detached worker, followed by a polling studio as in use.
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
from workers.protocol.recipe import Evaluation, Model, Recipe, Source, Training

STEPS, SKIPPED = 14, 3

BARE = """
import json, sys, time
from pathlib import Path
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

folder, data, steps, skipped = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
rows = [json.loads(line)["messages"] for line in Path(data).read_text().splitlines()]
dataset = Dataset.from_list([{"prompt": r[:-1], "completion": r[-1:]} for r in rows])
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
tokenizer = AutoTokenizer.from_pretrained(folder)

class Clock(TrainerCallback):
    marks = []
    def on_log(self, args, state, control, logs=None, **_):
        if logs and "num_tokens" in logs:
            self.marks.append((time.perf_counter(), logs["num_tokens"]))

SFTTrainer(
    model=model,
    args=SFTConfig(output_dir=sys.argv[5], max_steps=steps, per_device_train_batch_size=8,
                   learning_rate=1e-4, use_cpu=True, bf16=True, gradient_checkpointing=False,
                   logging_steps=1, report_to="none", save_strategy="no", seed=0,
                   disable_tqdm=True),
    train_dataset=dataset,
    processing_class=tokenizer,
    peft_config=LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear"),
    callbacks=[Clock()],
).train()
(began, first), (ended, last) = Clock.marks[skipped - 1], Clock.marks[steps - 1]
print("RATE", (last - first) / (ended - began))
"""


def bare(folder: Path, data: Path, scratch: Path) -> float:
    arguments = [str(folder), str(data), str(STEPS), str(SKIPPED), str(scratch)]
    ended = subprocess.run(
        [sys.executable, "-c", BARE, *arguments], capture_output=True, text=True, check=True
    )
    return float(ended.stdout.rpartition("RATE ")[2])


def ours(jobs: Jobs, data: Path) -> float:
    recipe = Recipe(
        name="bench",
        model=Model(base="smollm2"),
        data=[Source(source=str(data))],
        training=Training(max_steps=STEPS, batch_size=8, save_every_steps=0, precision="bf16"),
        evaluation=Evaluation(holdout=0.0),
    )
    run = jobs.train(recipe)
    while not jobs.poll() or (row := jobs.store.job(run)) is None or row.live:
        time.sleep(0.1)
    if row.status != "finished":
        raise SystemExit(f"{row.cause} {row.remedy}")
    from workers.protocol import wire
    from workers.protocol.events import Metrics

    marks = [
        (event.seconds, event.values["tokens"])
        for event in (line.event for line in wire.read_events(jobs.folder(run)))
        if isinstance(event, Metrics) and "loss" in event.values
    ]
    (began, first), (ended, last) = marks[SKIPPED - 1], marks[STEPS - 1]
    return (last - first) / (ended - began)  # type: ignore[operator]


def main(rounds: int) -> None:
    from workers.fetch import locate_model

    with tempfile.TemporaryDirectory() as scratch:
        home = Home(Path(scratch) / "home").make()
        folder = locate_model("smollm2", home.root, print).folder
        from workers.protocol.assets import builtin_dataset

        data = builtin_dataset("sums")
        store = Store(home.store)
        jobs = Jobs(home, store, Settings())
        plain, worker = [], []
        for _ in range(rounds):
            plain.append(bare(folder, data, Path(scratch) / "bare"))
            worker.append(ours(jobs, data))
        jobs.close()
        store.close()
    print(json.dumps({
        "ratio": statistics.median(worker) / statistics.median(plain),
        "best_ratio": max(worker) / max(plain),
        "bare_tokens_per_second": plain,
        "worker_tokens_per_second": worker,
    }))  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
