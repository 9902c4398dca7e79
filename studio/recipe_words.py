"""What a run of a recipe will do, in a few sentences.

Pure functions of a recipe: no Qt, no job, no disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from workers.protocol.batches import effective_batch
from workers.protocol.coverage import Coverage, coverage
from workers.protocol.recipe import Recipe
from workers.protocol.rewards import RewardModel, names_of
from workers.protocol.stages import StageSpec, spec_of

METHODS = {
    "lora": "a LoRA adapter of rank {rank} is trained beside its frozen weights",
    "qlora": "its weights are held in 4 bits and a LoRA adapter of rank {rank} is trained",
    "dora": "a DoRA adapter of rank {rank} is trained beside its frozen weights",
    "full": "all of its weights are trained",
}


def in_words(recipe: Recipe) -> str:
    """A recipe as a few sentences."""
    how = METHODS[recipe.model.method].format(rank=recipe.lora.rank)
    base = f"{recipe.model.base} is the base, and {how}."
    spec = spec_of(recipe.stage, recipe.rl.algorithm)
    if spec.value_model:
        what = _pursues(recipe)
    else:
        what = _tries(recipe) if spec.policy else _reads(recipe, spec)
    held = _held_in_memory(recipe, spec)
    return " ".join(filter(None, (base, what, held, _measured(recipe))))


def seen(recipe: Recipe, counts: Mapping[str, int]) -> str:
    """How long the run is and what share of its rows it will see; nothing while a source is not
    counted."""
    found = covered(recipe, counts)
    return found.told("rows to learn from") if found else ""


def covered(recipe: Recipe, counts: Mapping[str, int]) -> Coverage | None:
    """How far the run will go through its rows; None while a source is not counted."""
    if not recipe.data or any(source.source not in counts for source in recipe.data):
        return None
    rows = sum(min(counts[one.source], one.limit or counts[one.source]) for one in recipe.data)
    held = recipe.evaluation
    held_out = 0 if held.test else min(round(rows * held.holdout), held.max_rows)
    return coverage(recipe, rows - held_out)


def _held_in_memory(recipe: Recipe, spec: StageSpec) -> str:
    """How many models stand in memory, where it is not one."""
    full = recipe.model.method == "full"
    if spec.teacher:
        return f"Two models are in memory: this one, and {recipe.distill.teacher or 'a teacher'}."
    if spec.value_model:
        number, reference = ("Four", ", reference") if full else ("Three", "")
        off = "" if full else ": the reference is the policy with its adapter off"
        return f"{number} models are in memory, policy{reference}, value and reward model{off}."
    if not spec.reference or (spec.policy and not recipe.rl.kl_coefficient):
        return ""
    if full:
        return "The reference, where it started, is a second copy in memory."
    return "The reference is the base with the adapter off: no second copy is in memory."


def _names(recipe: Recipe) -> str:
    return (
        ", ".join(s.source.removeprefix("builtin:").rpartition("/")[2] for s in recipe.data)
        or "no data yet"
    )


def _each(recipe: Recipe) -> int:
    return effective_batch(recipe)


def _reads(recipe: Recipe, spec: StageSpec) -> str:
    options = recipe.training
    objective = spec.objective or (
        "The answers alone are in the loss"
        if options.assistant_only_loss
        else "Every token is in the loss"
    )
    length = (
        f"{options.max_steps} steps of {_each(recipe)} examples"
        if options.max_steps
        else f"{_passes(options.epochs)} over the data, {_each(recipe)} examples a step"
    )
    return (
        f"It learns from {_names(recipe)} for {length}, with a learning rate of "
        f"{options.learning_rate:g} and seed {options.seed}. {objective}; examples longer than "
        f"{options.max_length} tokens {_too_long(recipe, spec)}."
    )


def _too_long(recipe: Recipe, spec: StageSpec) -> str:
    chosen = {"drop": "are left out", "cut": "are truncated"}
    return spec.too_long or chosen[recipe.training.too_long]


def _tries(recipe: Recipe) -> str:
    options, rl = recipe.training, recipe.rl
    prompts = max(1, _each(recipe) // rl.group_size)
    length = f"{options.max_steps} steps" if options.max_steps else _passes(options.epochs)
    return (
        f"For {length}, it is asked {_count(prompts, 'question')} from {_names(recipe)} at a time "
        f"and tries {rl.group_size} answers to each, of at most {rl.max_completion_tokens} tokens. "
        f"An answer is scored by {_scored(recipe)}; what scored above the average of its group "
        f"becomes likelier. {_held(rl.kl_coefficient)} The learning rate is "
        f"{options.learning_rate:g}, the seed {options.seed}."
    )


def _pursues(recipe: Recipe) -> str:
    options, rl = recipe.training, recipe.rl
    length = f"{options.max_steps} steps" if options.max_steps else _passes(options.epochs)
    return (
        f"For {length}, it answers {_count(_each(recipe), 'question')} from {_names(recipe)} at a "
        f"time, with at most {rl.max_completion_tokens} tokens. Answers are scored by "
        f"{_reward_models(recipe)}; a value model predicts the score, and what does better than "
        f"predicted becomes likelier (PPO). {_held(rl.kl_coefficient)} The learning rate is "
        f"{options.learning_rate:g}, the seed {options.seed}."
    )


def _reward_models(recipe: Recipe) -> str:
    models = [one.model for one in recipe.rewards if isinstance(one, RewardModel)]
    return _joined([f"the reward model {model}" for model in models]) or "no reward model yet"


def _scored(recipe: Recipe) -> str:
    parts = [
        f"{name} (weight {reward.weight:g})"
        for name, reward in zip(names_of(recipe.rewards), recipe.rewards, strict=True)
    ]
    return _joined(parts) or "no reward yet"


def _held(coefficient: float) -> str:
    if not coefficient:
        return "Nothing holds it to where it started (KL 0)."
    return f"It is held to where it started with a KL coefficient of {coefficient:g}."


def _measured(recipe: Recipe) -> str:
    held = recipe.evaluation
    if held.test:
        name = held.test.removeprefix("builtin:").replace("\\", "/").rpartition("/")[2]
        return f"It is measured on the test set {name} before and after."
    if held.holdout:
        return (
            f"{held.holdout:.0%} of the rows, {held.max_rows} at most, are kept apart, and the "
            "model is measured on them before and after."
        )
    return "No rows are kept apart, so there is no measure of what was learnt."


def _passes(epochs: float) -> str:
    return "one pass" if epochs == 1 else f"{epochs:g} passes"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _joined(parts: Sequence[str]) -> str:
    return " and ".join((", ".join(parts[:-1]), parts[-1])) if len(parts) > 1 else "".join(parts)
