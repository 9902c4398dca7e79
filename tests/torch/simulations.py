"""The record of simulated steps, to which the arithmetic of `workers.estimate` is held.

python -m tests.torch.simulations [NUMBER ...]   simulates all combinations, or those, and writes
                                                 them down: tests/workers/simulated.json
python -m tests.torch.simulations --defaults     which micro-batch the defaults take on usual cards,
                                                 by arithmetic: the table of docs/memory.md
python -m tests.torch.simulations --defaults --simulate   the same; the steps that
                                                 tests/workers/simulated_defaults.json does not hold
                                                 are simulated first, 10 seconds each
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import msgspec

from workers.estimate import GIB, Plan, known_geometry, plan
from workers.estimate.step import with_overhead
from workers.protocol.assets import assets_folder
from workers.protocol.recipe import Recipe, parse_recipe
from workers.protocol.stages import STAGES
from workers.simulate import Simulated, simulate

RECORD = Path(__file__).parents[1] / "workers" / "simulated.json"


class Combination(msgspec.Struct, kw_only=True):
    """One step, and what it took when it was simulated."""

    model: str
    """A hub id among assets/catalogue/geometries.json."""
    config: dict[str, Any] = {}
    recipe: dict[str, Any]
    """As in a recipe file."""
    micro: int
    longest: int
    """Tokens of the longest row, prompt and completion; the other rows are a token shorter."""
    checkpointing: bool
    teacher: str = ""
    reward: str = ""
    peak: int = 0
    parts: dict[str, int] = {}


def step(
    model: str, stage: str, method: str, micro: int, longest: int, *, kept: bool = False,
    effective: int = 0, teacher: str = "", reward: str = "", **tables: Any,
) -> Combination:  # fmt: skip
    """A combination; `kept` is without checkpointing."""
    recipe = {"stage": stage, "model": {"method": method}, **tables}
    recipe["training"] = {"effective_batch_size": effective or micro} | tables.get("training", {})
    return Combination(
        model=model, recipe=recipe, micro=micro, longest=longest, checkpointing=not kept,
        teacher=teacher, reward=reward,
    )  # fmt: skip


def answers(tokens: int, **options: Any) -> dict[str, Any]:
    return {"max_completion_tokens": tokens, **options}


COMBINATIONS = [
    step("Qwen/Qwen3-0.6B", "sft", "lora", 8, 1024, kept=True),
    step("Qwen/Qwen3-0.6B", "sft", "lora", 8, 1024),
    step("Qwen/Qwen3-4B", "sft", "lora", 1, 2048, effective=16),
    step("Qwen/Qwen3-8B", "sft", "qlora", 1, 2048, effective=16),
    step("meta-llama/Llama-3.2-1B", "sft", "full", 2, 1024, effective=16),
    step("google/gemma-3-1b-it", "sft", "lora", 2, 2048),
    step("Qwen/Qwen3-1.7B", "dpo", "lora", 2, 1024, effective=16),
    step("Qwen/Qwen2.5-0.5B", "grpo", "lora", 8, 768, effective=64, rl=answers(512)),
    step("Qwen/Qwen2.5-3B", "kto", "qlora", 2, 1024, effective=16),
    step("HuggingFaceTB/SmolLM2-360M", "reward", "lora", 4, 512),
    step("Qwen/Qwen3-0.6B", "distill", "lora", 2, 1024, teacher="Qwen/Qwen3-4B"),
    # what makes 8B over four bits fit 8 GB
    step("Qwen/Qwen3-8B", "sft", "qlora", 1, 768, effective=16,
         training={"optimizer": "paged_adamw_8bit"}),
    # further models and methods of supervised fine-tuning
    step("Qwen/Qwen3-14B", "sft", "qlora", 1, 1024, effective=16),
    step("Qwen/Qwen3-1.7B", "sft", "dora", 2, 1024),
    step("Qwen/Qwen3-0.6B", "sft", "full", 4, 512),
    step("Qwen/Qwen3-4B", "sft", "lora", 4, 1024, kept=True),
    step("Qwen/Qwen2.5-7B", "sft", "qlora", 2, 1024),
    step("Qwen/Qwen2.5-1.5B", "sft", "lora", 4, 4096),
    step("Qwen/Qwen2.5-14B", "sft", "qlora", 1, 512),
    step("Qwen/Qwen2.5-0.5B", "sft", "lora", 1, 8192),
    step("meta-llama/Llama-3.1-8B", "sft", "lora", 1, 1024),
    step("meta-llama/Llama-3.1-8B", "sft", "qlora", 2, 4096),
    step("meta-llama/Llama-3.2-3B", "sft", "lora", 2, 512, kept=True),
    step("google/gemma-3-4b-it", "sft", "qlora", 1, 1024),
    step("google/gemma-2-2b", "sft", "lora", 2, 1024),
    step("google/gemma-2-9b", "sft", "qlora", 1, 1024),
    step("HuggingFaceTB/SmolLM2-135M", "sft", "full", 8, 512, kept=True),
    step("HuggingFaceTB/SmolLM2-1.7B", "sft", "lora", 2, 2048, kept=True),
    step("HuggingFaceTB/SmolLM3-3B", "sft", "lora", 1, 8192),
    step("mistralai/Mistral-7B-v0.3", "sft", "qlora", 1, 2048),
    step("microsoft/Phi-4-mini-instruct", "sft", "lora", 2, 1024),
    step("ibm-granite/granite-3.3-2b-instruct", "sft", "lora", 2, 1024),
    step("ibm-granite/granite-3.3-8b-instruct", "sft", "qlora", 1, 2048),
    step("allenai/OLMo-2-0425-1B", "sft", "lora", 4, 1024),
    step("Qwen/Qwen3-0.6B", "sft", "lora", 8, 1024, lora={"rank": 128, "alpha": 128}),
    step("Qwen/Qwen3-0.6B", "cpt", "full", 1, 2048, effective=16),
    step("Qwen/Qwen3-4B", "cpt", "lora", 1, 4096),
    # preferences
    step("Qwen/Qwen3-4B", "dpo", "lora", 1, 1024, effective=16),
    step("Qwen/Qwen3-8B", "dpo", "qlora", 1, 1024, effective=16),
    step("HuggingFaceTB/SmolLM3-3B", "dpo", "lora", 2, 2048),
    step("Qwen/Qwen3-0.6B", "dpo", "full", 2, 512),
    step("Qwen/Qwen3-0.6B", "dpo", "lora", 4, 1024, kept=True),
    step("meta-llama/Llama-3.2-1B", "ipo", "lora", 4, 512),
    step("google/gemma-3-1b-it", "dpo", "lora", 1, 1024),
    step("meta-llama/Llama-3.2-3B", "orpo", "lora", 1, 1024),
    step("Qwen/Qwen2.5-1.5B", "simpo", "lora", 2, 1024),
    step("Qwen/Qwen3-1.7B", "kto", "lora", 4, 512),
    step("meta-llama/Llama-3.1-8B", "reward", "lora", 1, 1024),
    step("Qwen/Qwen3-0.6B", "reward", "full", 4, 512),
    # sampling
    step("Qwen/Qwen3-0.6B", "grpo", "lora", 8, 512, effective=64, rl=answers(256)),
    step("Qwen/Qwen3-4B", "grpo", "lora", 1, 2304, effective=8, rl=answers(2048)),
    step("Qwen/Qwen3-1.7B", "grpo", "qlora", 2, 1280, effective=16, rl=answers(1024)),
    step("Qwen/Qwen3-8B", "grpo", "qlora", 1, 768, effective=16, rl=answers(512)),
    step("Qwen/Qwen3-0.6B", "grpo", "lora", 8, 512, kept=True, effective=16, rl=answers(256)),
    step("meta-llama/Llama-3.2-1B", "rlhf", "lora", 4, 768, effective=32,
         rl=answers(512, algorithm="rloo")),
    step("Qwen/Qwen3-0.6B", "rlhf", "lora", 4, 512, effective=16,
         rl=answers(256, algorithm="ppo")),
    step("Qwen/Qwen3-1.7B", "distill", "qlora", 1, 1024, teacher="Qwen/Qwen3-8B"),
]  # fmt: skip


def recipe_of(combination: Combination) -> Recipe:
    return msgspec.convert(combination.recipe, Recipe)


def again(combination: Combination) -> Simulated:
    """The combination simulated now."""
    shapes = json.loads((assets_folder() / "catalogue" / "geometries.json").read_text())
    asked = combination
    return simulate(
        shapes[asked.model], recipe_of(asked), micro=asked.micro, longest=asked.longest,
        checkpointing=asked.checkpointing, teacher=shapes.get(asked.teacher),
        reward=shapes.get(asked.reward),
    )  # fmt: skip


def read_record() -> list[Combination]:
    return msgspec.json.decode(RECORD.read_bytes(), type=list[Combination])


def write_down(found: Combination) -> None:
    """Puts a combination in its place in the record."""
    known = read_record() if RECORD.is_file() else []
    kept = {name_of(one): one for one in known} | {name_of(found): found}
    ordered = [kept[name] for name in map(name_of, COMBINATIONS) if name in kept]
    lines = ",\n".join(msgspec.json.encode(one).decode() for one in ordered)
    RECORD.write_text(f"[\n{lines}\n]\n")


def name_of(one: Combination) -> str:
    return msgspec.json.encode(
        [one.model, one.recipe, one.micro, one.longest, one.checkpointing, one.teacher, one.reward]
    ).decode()


PLANNED = ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-1.7B", "Qwen/Qwen3-4B", "Qwen/Qwen3-8B",
           "Qwen/Qwen3-14B")  # fmt: skip
PACKED = PLANNED[3:]
"""Those that are planned over four bits; the others with LoRA over 16."""
CARDS = (8, 12, 16, 24)
FOREMOST = ("sft", "dpo", "grpo", "kto", "reward")
DEFAULTS = RECORD.with_name("simulated_defaults.json")
BEGIN, END = "<!-- defaults -->\n", "<!-- end of defaults -->\n"
PAGE = Path(__file__).parents[2] / "docs" / "memory.md"


def defaults_recipe(model: str, stage: str) -> Recipe:
    """A recipe that leaves everything to the defaults but the method."""
    lines = [f'name = "{stage}"', f'stage = "{stage}"', "[model]", f'base = "{model}"']
    packed = model in PACKED and stage != "reward"  # whose one output needs 16 bits
    lines += [f'method = "{"qlora" if packed else "lora"}"']
    lines += ["[[data]]", 'source = "somebody/rows"']
    scored = {"grpo": 'kind = "math_answer"', "rlhf": 'kind = "reward_model"\nmodel = "run:judged"'}
    lines += ["[[rewards]]", scored[stage]] if stage in scored else []
    lines += ["[distill]", f'teacher = "{PLANNED[2]}"'] if stage == "distill" else []
    return parse_recipe("\n".join(lines))


class Default(msgspec.Struct, kw_only=True, frozen=True):
    """A step that is planned where everything is left to the defaults, and what it took when it was
    simulated."""

    model: str
    stage: str
    card: int
    """Memory of the smallest card that it is planned for, in GB."""
    micro: int
    longest: int
    peak: int = 0

    @property
    def key(self) -> tuple[str, str, int]:
        return self.model, self.stage, self.micro


def planned(model: str, stage: str, card: int) -> Plan:
    geometry = known_geometry(model)
    assert geometry is not None
    teacher = known_geometry(PLANNED[2]) if stage == "distill" else None
    recipe = defaults_recipe(model, stage)
    return plan(recipe, geometry, card * GIB, teacher=teacher, reward=geometry)


def defaults() -> list[Default]:
    """All steps that fit: first that which fills its card most, of each size in each of the
    foremost stages, then the rest."""
    first: list[Default] = []
    rest: list[Default] = []
    for stage in sorted(STAGES, key=lambda one: one not in FOREMOST):
        for model in PLANNED:
            plans = {card: planned(model, stage, card) for card in reversed(CARDS)}
            made = {
                one.micro: (one.high_bytes / (card * GIB), card, one)
                for card, one in plans.items() if one.fits
            }  # fmt: skip
            fullest = sorted(made.values(), key=lambda one: -one[0])
            steps = [
                Default(model=model, stage=stage, card=card, micro=one.micro, longest=one.longest)
                for _, card, one in fullest
            ]
            first += steps[:1] if stage in FOREMOST else []
            rest += steps[1:] if stage in FOREMOST else steps
    return first + rest


def read_defaults() -> list[Default]:
    return msgspec.json.decode(DEFAULTS.read_bytes(), type=list[Default])


def simulate_defaults() -> None:
    """Simulates what is not recorded yet, and writes each down."""
    shapes = json.loads((assets_folder() / "catalogue" / "geometries.json").read_text())
    found = {one.key: one for one in read_defaults()} if DEFAULTS.is_file() else {}
    asked = defaults()
    for one in asked:
        if (known := found.get(one.key)) and known.longest == one.longest:
            continue
        made = simulate(
            shapes[one.model], defaults_recipe(one.model, one.stage), micro=one.micro,
            longest=one.longest, checkpointing=True, teacher=shapes[PLANNED[2]],
            reward=shapes[one.model],
        )  # fmt: skip
        found[one.key] = msgspec.structs.replace(one, peak=made.peak)
        kept = [found[each.key] for each in asked if each.key in found]
        lines = ",\n".join(msgspec.json.encode(each).decode() for each in kept)
        DEFAULTS.write_text(f"[\n{lines}\n]\n")
        print(f"{one.key}: {made.peak / GIB:.2f} GiB, {made.seconds:.1f} s", flush=True)


def defaults_table() -> str:
    """Each model and stage on each card: the micro-batch that is planned, its most, and that by
    simulation where it was simulated; or what would make it fit."""
    simulated = {one.key: one for one in read_defaults()}
    heads = ["model", "stage", *(f"{card} GB" for card in CARDS)]
    lines = [heads, ["---"] * len(heads)]
    for model in PLANNED:
        for stage in STAGES:
            cells = [_cell(planned(model, stage, card), simulated) for card in CARDS]
            lines.append([model.partition("/")[2], stage, *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(made: Plan, simulated: dict[tuple[str, str, int], Default]) -> str:
    if not made.fits:
        return made.suggestions[0].words if made.suggestions else "no"
    words = f"{made.micro} x {made.accumulation}: {made.high_bytes / GIB:.1f}"
    found = simulated.get((made.model, made.stage, made.micro))
    return f"{words} ({most_of(found) / GIB:.1f})" if found else words


def most_of(one: Default) -> int:
    """What a simulated step takes at most, with what CUDA and its allocator take."""
    return with_overhead({"simulated": one.peak}).high


def write_table(table: str) -> None:
    """Puts the table into its place on the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + table + END + rest.partition(END)[2])


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulates training steps.")
    parser.add_argument("numbers", nargs="*", type=int, metavar="NUMBER")
    parser.add_argument("--defaults", action="store_true", help="the table of docs/memory.md")
    parser.add_argument("--simulate", action="store_true", help="simulate the table's steps too")
    asked = parser.parse_args()
    if asked.defaults:
        if asked.simulate:
            simulate_defaults()
        write_table(defaults_table())
        return
    shapes = json.loads((assets_folder() / "catalogue" / "geometries.json").read_text())
    for number in asked.numbers or range(len(COMBINATIONS)):
        one = COMBINATIONS[number]
        made = again(one)
        one.config, one.peak, one.parts = shapes[one.model], made.peak, made.parts
        write_down(one)
        parts = {name: round(size / 2**30, 2) for name, size in made.parts.items()}
        print(f"{number} {one.model} {one.recipe['stage']} {one.recipe['model']['method']} "
              f"{one.micro} x {one.longest}: {made.peak / 2**30:.2f} GiB {parts} "
              f"{made.seconds:.1f} s", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
