"""Ten steps of every stage on this machine's GPU: what they were planned to take, and took.

python -m tests.gpu.measure               a random model of 0.6B parameters, all stages
python -m tests.gpu.measure sft dpo       these stages alone
python -m tests.gpu.measure --tiny        a tiny model, to try this program where there is no GPU
python -m tests.gpu.measure --simulate    the simulated peak beside the planned one

Prints a Markdown table for tests/gpu/README.md. No weights are fetched: the model is made at
random in the shape of Qwen3 0.6B, with the starter model's tokenizer. Where Unsloth or vLLM can be
imported, the stages that take them run with and without.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from workers.estimate import GIB, estimate, geometry_of, known_config
from workers.protocol import wire
from workers.protocol.assets import assets_folder
from workers.protocol.events import Failed, Resolved
from workers.protocol.jobs import Job, Train
from workers.protocol.recipe import Recipe
from workers.protocol.stages import spec_of

SHAPE = "Qwen/Qwen3-0.6B"
TINY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 16,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 4096}  # fmt: skip
STEPS = 10
TEMPLATE = 40
"""Tokens of a row that are neither the answer nor of its words."""
LENGTH = 1024
STAGES: dict[str, tuple[str, ...]] = {
    "sft": ("lora", "qlora", "dora", "full"),
    "cpt": ("lora",),
    "dpo": ("lora", "qlora"),
    "ipo": ("lora",),
    "simpo": ("lora",),
    "cpo": ("lora",),
    "orpo": ("lora",),
    "kto": ("lora",),
    "reward": ("lora",),
    "grpo": ("lora", "qlora"),
    "rlhf": ("lora",),
    "distill": ("lora",),
}
"""In this order: `rlhf` takes the reward model that was trained before it."""
FAST = {"unsloth": ("sft", "dpo", "grpo"), "vllm": ("grpo",)}
"""Stages that run with these packages as well, where they can be imported."""
CHILD = """
import json, sys, torch
from workers.__main__ import run_folder
code = run_folder(__import__("pathlib").Path(sys.argv[1]))
cuda = torch.cuda.is_available()
print(json.dumps({"code": code,
    "allocated": torch.cuda.max_memory_allocated() if cuda else 0,
    "reserved": torch.cuda.max_memory_reserved() if cuda else 0}))
"""


class Case(NamedTuple):
    stage: str
    method: str
    engine: str = ""


class Measured(NamedTuple):
    """One run; bytes, and 0 where there is no GPU or no plan."""

    case: Case
    micro: int
    low: int
    high: int
    simulated: int
    allocated: int
    reserved: int
    seconds: float
    fault: str


def make_model(folder: Path, *, tiny: bool) -> dict[str, Any]:
    """A random model with the starter's tokenizer; returns its config.json."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    found = known_config(SHAPE)
    assert found is not None
    shape = {**found, **(TINY if tiny else {})}
    kind = shape.pop("model_type")
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **shape)
    config.bos_token_id = config.eos_token_id = None
    model = AutoModelForCausalLM.from_config(
        config, dtype=torch.float32 if tiny else torch.bfloat16
    )
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).write_bytes((assets_folder() / "starter" / "model" / name).read_bytes())
    return json.loads((folder / "config.json").read_text())


def write_rows(file: Path, tokens: int) -> None:
    """Rows that serve every stage; with the template the longer answers come to almost so many
    tokens."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(assets_folder() / "starter" / "model" / "tokenizer.json"))
    phrase = "one and one is two "
    words = phrase * max(1, (tokens - TEMPLATE) // len(tokenizer.encode(phrase).ids))
    rows = [
        {"prompt": f"What is {at}?", "chosen": words, "rejected": f"{at}."} for at in range(200)
    ]
    file.write_text("\n".join(map(json.dumps, rows)))


def recipe_of(case: Case, base: Path, rows: Path, length: int, reward: str) -> Recipe:
    """Ten steps of a stage; what is not given is the stage's default."""
    made: dict[str, Any] = {
        "name": "-".join(part for part in case if part),
        "stage": case.stage,
        "model": {"base": str(base), "method": case.method},
        "data": [{"source": str(rows)}],
        "training": {"max_steps": STEPS, "max_length": length, "effective_batch_size": 8,
                     "save_every_steps": 0, "learning_rate": 1e-5, "too_long": "cut"},
        "rl": {"max_completion_tokens": length // 4},
        "evaluation": {"max_rows": 2, "max_completion_tokens": 8},
    }  # fmt: skip
    if case.engine == "unsloth":
        made["model"]["engine"] = "unsloth"
    if case.stage == "grpo":
        made["rewards"] = [{"kind": "format", "pattern": ".*a.*"}]
        made["rl"]["fast_generation"] = "vllm" if case.engine == "vllm" else "transformers"
    if case.stage == "rlhf":
        made["rewards"] = [{"kind": "reward_model", "model": reward}]
    if case.stage == "distill":
        made["distill"] = {"teacher": str(base)}
    if case.stage == "cpt":
        made["data"][0]["mapping"] = {"chosen": "text"}
    return msgspec.convert(made, Recipe)


def measured(
    case: Case, recipe: Recipe, config: dict[str, Any], home: Path, *, also: bool
) -> Measured:
    """Runs a recipe in a process of its own."""
    folder = home / "jobs" / recipe.name
    folder.mkdir(parents=True)
    job = Job(
        id=recipe.name, name=recipe.name, created="2026-01-01T00:00:00+00:00", home=str(home),
        task=Train(recipe=recipe),
    )  # fmt: skip
    wire.write_job(folder, job)
    began = time.monotonic()
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder)], capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - began
    said = [line.event for line in wire.read_events(folder)]
    faults = [f"{event.what} {event.cause}" for event in said if isinstance(event, Failed)]
    lines = child.stdout.splitlines()
    found = json.loads(lines[-1]) if lines else {"allocated": 0, "reserved": 0}
    if not lines:
        faults.append(child.stderr[-300:])
    taken = next((e.details for e in said if isinstance(e, Resolved) and "batch" in e.details), {})
    low, high, simulated = _expected(recipe, config, taken, also=also) if taken else (0, 0, 0)
    micro = taken["batch"]["micro"] if taken else 0
    return Measured(case, micro, low, high, simulated, found["allocated"], found["reserved"],
                    seconds, " ".join(faults))  # fmt: skip


def _expected(
    recipe: Recipe, config: dict[str, Any], taken: dict[str, Any], *, also: bool
) -> tuple[int, int, int]:
    """What was planned at least and at most, and simulated, for the steps that were taken."""
    geometry, spec = geometry_of(config), spec_of(recipe.stage)
    assert geometry is not None
    how = {
        "micro": taken["batch"]["micro"],
        "longest": taken["longest"],
        "checkpointing": bool(taken["batch"]["checkpointing"]),
    }
    judged = spec.scored_by == "reward_model"
    planned = estimate(
        recipe, geometry, **how, teacher=geometry if spec.teacher else None,
        reward=geometry if judged else None,
    )  # fmt: skip
    if not also:
        return planned.low, planned.high, 0
    from workers.simulate import simulate

    found = simulate(config, recipe, **how, teacher=config, reward=config)
    return planned.low, planned.high, found.peak


def cases(stages: list[str]) -> Iterator[Case]:
    for stage in stages:
        for method in STAGES[stage]:
            yield Case(stage, method)
        for package, served in FAST.items():
            if stage in served and importlib.util.find_spec(package):
                yield Case(stage, "lora", package)


def table(found: list[Measured]) -> str:
    """The Markdown table."""
    heads = ["stage", "method", "with", "micro", "planned", "simulated", "allocated", "reserved",
             "seconds", "fault"]  # fmt: skip
    lines = [heads, ["---"] * len(heads)]
    lines += [
        [*one.case[:2], one.case.engine or "plain", str(one.micro),
         f"{_gigabytes(one.low)} to {_gigabytes(one.high)}", _gigabytes(one.simulated),
         _gigabytes(one.allocated), _gigabytes(one.reserved), f"{one.seconds:.0f}", one.fault]
        for one in found
    ]  # fmt: skip
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _gigabytes(size: int) -> str:
    return f"{size / GIB:.2f}" if size else "–"


def main(arguments: list[str] | None = None) -> list[Measured]:
    parser = argparse.ArgumentParser(description="Ten steps of every stage on this GPU.")
    parser.add_argument("stages", nargs="*", default=[], metavar="STAGE")
    parser.add_argument("--tiny", action="store_true", help="a tiny model of the same kind")
    parser.add_argument("--length", type=int, default=LENGTH, help="tokens of the longest row")
    parser.add_argument("--simulate", action="store_true", help="simulate each step as well")
    asked = parser.parse_args(arguments)
    found: list[Measured] = []
    with tempfile.TemporaryDirectory() as work:
        home = Path(work)
        config = make_model(home / "model", tiny=asked.tiny)
        write_rows(home / "rows.jsonl", asked.length)
        stages = asked.stages or list(STAGES)
        if "rlhf" in stages and "reward" not in stages:
            stages = ["reward", *stages]
        for case in cases(stages):
            recipe = recipe_of(
                case, home / "model", home / "rows.jsonl", asked.length, "run:reward-lora"
            )
            one = measured(case, recipe, config, home, also=asked.simulate)
            found.append(one)
            print(one, file=sys.stderr, flush=True)
    print(table(found))
    return found


if __name__ == "__main__":
    main()
