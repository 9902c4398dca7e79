"""The same defaults, by whichever door a recipe comes in: window, command line, file or import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studio.draft import DraftModel, RecipeDraft, recipe
from studio.draft_source import draft_source
from studio.importing import import_config
from workers.protocol.pipeline import parse_pipeline
from workers.protocol.recipe import Recipe, Source, Stage, parse_recipe
from workers.protocol.rewards import MathAnswer, RewardModel
from workers.protocol.sizes import parameters_of

FOUR_B = "Qwen/Qwen3-4B-Instruct-2507"
FOURTEEN_B = "Qwen/Qwen3-14B"
SCORED = {"rlhf": RewardModel(model="run:judge"), "grpo": MathAnswer()}
FILE = """
stage = "{stage}"
model.base = "{base}"
model.method = "{method}"
[[data]]
source = "rows.jsonl"
{rewards}
[distill]
teacher = "Qwen/Qwen3-14B"
"""


def by_window(stage: Stage, base: str, method: Any) -> Recipe:
    """What the wizard makes of a base that is chosen by its id."""
    model = DraftModel(lambda run: None)
    draft = RecipeDraft(stage=stage, sources=(draft_source(Source(source="rows.jsonl")),))
    model.become(draft)
    model.choose_base("hub", base)
    scored = (SCORED[stage],) if stage in SCORED else ()
    judge = "run:judge" if stage == "rlhf" else ""
    model.change(rewards=scored, model_rewards=scored, reward_model=judge)
    model.become(model.draft.with_method(method))
    return recipe(model.draft.with_option("distill.teacher", "Qwen/Qwen3-14B"))


def text_of(stage: Stage, base: str, method: str) -> str:
    kinds = {
        "rlhf": '[[rewards]]\nkind = "reward_model"\nmodel = "run:judge"',
        "grpo": '[[rewards]]\nkind = "math_answer"',
    }
    return FILE.format(stage=stage, base=base, method=method, rewards=kinds.get(stage, ""))


TABLE = [
    ("sft", FOUR_B, "lora", 2e-4, 16, 2048),
    ("sft", FOUR_B, "full", 1e-5, 16, 2048),
    ("sft", FOURTEEN_B, "qlora", 1e-4, 16, 2048),
    ("cpt", FOUR_B, "lora", 5e-5, 32, 2048),
    ("dpo", FOUR_B, "lora", 1e-5, 32, 2048),
    ("dpo", FOUR_B, "full", 1e-6, 32, 2048),
    ("kto", FOUR_B, "lora", 1e-5, 64, 2048),
    ("simpo", FOUR_B, "full", 5e-7, 32, 2048),
    ("orpo", FOUR_B, "full", 8e-6, 32, 2048),
    ("reward", FOUR_B, "lora", 1e-4, 32, 2048),
    ("grpo", FOUR_B, "lora", 1e-5, 64, 1024),
    ("rlhf", FOUR_B, "lora", 5e-6, 64, 1024),
    ("distill", FOUR_B, "lora", 1e-4, 16, 2048),
]
"""Stage, base, method; learning rate, examples a step, longest row."""


@pytest.mark.parametrize(("stage", "base", "method", "rate", "batch", "length"), TABLE)
def test_every_door_gives_a_real_model_the_same_defaults(
    stage: Stage, base: str, method: str, rate: float, batch: int, length: int
) -> None:
    text = text_of(stage, base, method)
    one, two = parse_recipe(text), parse_pipeline(text).stages[0]
    three = by_window(stage, base, method)

    assert one.training == two.training == three.training
    assert (one.rl, one.preference, one.lora) == (three.rl, three.preference, three.lora)
    assert one.evaluation == three.evaluation
    options = one.training
    assert (options.learning_rate, options.effective_batch_size) == (rate, batch)
    assert (options.max_steps, options.epochs, options.max_length) == (0, 1.0, length)
    assert (options.batch_size, options.gradient_accumulation) == (0, 0)
    assert options.gradient_checkpointing == "auto"


def test_what_is_special_to_a_stage_of_a_real_model() -> None:
    def read(stage: Stage) -> Recipe:
        return parse_recipe(text_of(stage, FOUR_B, "lora"))

    grpo, rlhf, simpo = read("grpo").rl, read("rlhf").rl, read("simpo").preference
    assert (grpo.kl_coefficient, grpo.max_completion_tokens, grpo.group_size) == (0.04, 512, 8)
    assert (rlhf.algorithm, rlhf.num_iterations) == ("rloo", 1)
    assert (simpo.beta, simpo.simpo_gamma) == (2.0, 1.0)
    assert read("reward").preference.center_rewards_coefficient == 0.01
    assert (read("cpt").lora.rank, read("cpt").training.packing) == (64, True)


def test_ppo_is_had_by_asking_for_it() -> None:
    asked = parse_recipe(text_of("rlhf", FOUR_B, "lora") + '[rl]\nalgorithm = "ppo"\n')
    assert (asked.rl.algorithm, asked.rl.num_iterations) == ("ppo", 4)


def test_an_import_takes_what_its_file_leaves_out_from_the_same_table(tmp_path: Path) -> None:
    """Axolotl has no default for the reward model's centring, nor a limit to what is measured."""
    config = tmp_path / "axolotl.yml"
    config.write_text(
        f"base_model: {FOUR_B}\nadapter: lora\nlearning_rate: 3e-4\nmicro_batch_size: 2\n"
        "gradient_accumulation_steps: 4\nsequence_len: 4096\nnum_epochs: 2\n"
        "datasets:\n  - path: rows.jsonl\n    type: chat_template\n"
    )
    found = import_config(config).recipe.training

    assert (found.learning_rate, found.max_length) == (3e-4, 4096)
    assert (found.batch_size, found.gradient_accumulation) == (2, 4)
    assert (found.effective_batch_size, found.max_steps, found.epochs) == (0, 0, 2.0)
    assert found.gradient_checkpointing == "auto"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("batch_size = 4", (0, 4, 0, 60)),
        ("batch_size = 4\ngradient_accumulation = 2", (0, 4, 2, 60)),
        ("effective_batch_size = 12", (12, 0, 0, 60)),
        ("epochs = 3.0", (16, 0, 0, 0)),
        ("", (16, 0, 0, 60)),
    ],
)
def test_a_file_means_what_it_says_and_what_it_meant(given: str, expected: Any) -> None:
    """On the starter, of which the length is a number of steps."""
    made = parse_recipe(f'[[data]]\nsource = "a"\n[training]\n{given}\n').training
    assert (
        made.effective_batch_size, made.batch_size, made.gradient_accumulation, made.max_steps,
    ) == expected  # fmt: skip


@pytest.mark.parametrize(
    ("root", "parameters"),
    [
        ("starter", 2_590_464),
        ("Qwen/Qwen3-14B", 14_770_000_000),
        ("someone/My-Llama-13B-chat", 13_000_000_000),
        ("someone/Tiny-1.1b", 1_100_000_000),
        ("someone/Mixture-30B-A3B", 30_000_000_000),
        ("someone/v2b3-model", None),
        ("/models/Llama-8B", None),
    ],
)
def test_a_size_follows_from_catalogue_or_name(root: str, parameters: int | None) -> None:
    assert parameters_of(root) == parameters
