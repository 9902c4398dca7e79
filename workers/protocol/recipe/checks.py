"""Combinations of settings that types and bounds cannot rule out."""

from __future__ import annotations

from collections.abc import Iterator

from workers.protocol.batches import effective_batch
from workers.protocol.engines import UNSLOTH_STAGES, may_sample_with_vllm
from workers.protocol.recipe.method_checks import METHOD_RULES, Problem
from workers.protocol.recipe.schema import Recipe
from workers.protocol.refusal import Refusal
from workers.protocol.rewards import RewardModel
from workers.protocol.stages import applies, spec_of
from workers.protocol.templates import REMEDY, template_fault


def check_recipe(recipe: Recipe, where: str = "the recipe") -> None:
    """Refuses combinations that types and bounds cannot rule out."""
    for problem, cause, remedy in problems(recipe):
        raise Refusal(f"{where}: {problem}", cause, remedy)


def problems(recipe: Recipe) -> Iterator[Problem]:
    """All that cannot be as it is."""
    for rule in RULES:
        yield from rule(recipe)


def _whole(recipe: Recipe) -> Iterator[Problem]:
    if not recipe.name.strip():
        yield "name is empty.", "Runs are listed by name.", 'Write name = "my-run".'
    if not recipe.data:
        yield (
            "data is missing.",
            "A run needs at least one dataset.",
            'Add a [[data]] table with source = "builtin:arithmetic" or the path of your file.',
        )


def _template(recipe: Recipe) -> Iterator[Problem]:
    if found := template_fault(recipe.model.template):
        problem, cause = found
        yield f"model.template: {problem}", cause, REMEDY


def _four_bits(recipe: Recipe) -> Iterator[Problem]:
    if recipe.model.method != "qlora":
        return
    if recipe.training.precision == "fp32":
        yield (
            "training.precision = 'fp32' does not go with model.method = 'qlora'.",
            "4-bit weights are computed in 16 bits.",
            "Set training.precision to 'auto' or 'bf16'.",
        )
    if not spec_of(recipe.stage).talks:
        yield (
            "model.method = 'qlora' for a reward model.",
            "Its one output has to be trained in full, which 4-bit weights do not allow.",
            "Set model.method = 'lora'.",
        )


def _unsloth(recipe: Recipe) -> Iterator[Problem]:
    if recipe.model.engine != "unsloth":
        return
    if recipe.stage not in UNSLOTH_STAGES:
        yield (
            f"model.engine = 'unsloth' for stage '{recipe.stage}'.",
            f"Unsloth speeds up {', '.join(UNSLOTH_STAGES)}; in other stages its changes to "
            "Transformers would reach models that it was not made for.",
            "Set model.engine = 'auto'.",
        )
    if recipe.model.method == "dora":
        yield (
            "model.method = 'dora' with model.engine = 'unsloth'.",
            "Unsloth has no kernels for DoRA.",
            "Set model.engine = 'transformers', or model.method = 'lora'.",
        )


def _vllm(recipe: Recipe) -> Iterator[Problem]:
    if recipe.rl.fast_generation == "vllm" and not may_sample_with_vllm(recipe):
        qlora = recipe.model.method == "qlora"
        yield (
            "rl.fast_generation = 'vllm' "
            + ("with model.method = 'qlora'." if qlora else f"for stage '{recipe.stage}'."),
            "vLLM is given the trained weights after each step, merged, and four-bit weights would "
            "be rounded again each time."
            if qlora
            else "It samples groups of answers alone.",
            "Set rl.fast_generation = 'transformers'"
            + (", or model.method = 'lora'." if qlora else "."),
        )


def _experts(recipe: Recipe) -> Iterator[Problem]:
    if recipe.lora.experts == "on" and recipe.model.engine == "unsloth":
        yield (
            "lora.experts = 'on' with model.engine = 'unsloth'.",
            "Unsloth chooses the layers of its adapters by name, fused experts not among them.",
            "Set model.engine = 'transformers', or lora.experts = 'auto'.",
        )


SMOOTHED = {
    "robust": ("Robust DPO corrects for a share of pairs that are the wrong way round.", 0.1),
    "exo_pair": (
        "EXO takes the logarithm of the share of pairs that are the wrong way round.",
        1e-3,
    ),
}
"""Why a loss needs preference.label_smoothing above 0, and a usual value."""


def _preference(recipe: Recipe) -> Iterator[Problem]:
    loss, smoothing = recipe.preference.loss, recipe.preference.label_smoothing
    if loss in SMOOTHED and smoothing == 0 and applies("preference.loss", recipe.stage):
        cause, usual = SMOOTHED[loss]
        yield (
            f"preference.loss = '{loss}' with preference.label_smoothing = 0.",
            cause,
            f"Set preference.label_smoothing to that share, for example {usual}.",
        )


def _batches(recipe: Recipe) -> Iterator[Problem]:
    options, effective = recipe.training, effective_batch(recipe)
    micro, sums = options.batch_size, options.gradient_accumulation
    key, given = ("batch_size", micro) if micro else ("effective_batch_size", effective)
    if (micro or effective // (sums or 1)) < spec_of(recipe.stage).smallest_batch:
        divided = f" with training.gradient_accumulation = {sums}" * bool(sums and not micro)
        yield (
            f"training.{key} = {given}{divided} in stage '{recipe.stage}'.",
            "KTO measures its distance from the start on answers swapped within a micro-batch.",
            "Leave training.gradient_accumulation out." if divided
            else f"Set training.{key} to 4 or more.",
        )  # fmt: skip
    if effective % (micro or 1) or effective % (sums or 1):
        key, parts = ("batch_size", micro) if micro else ("gradient_accumulation", sums)
        yield (
            f"training.effective_batch_size = {effective} cannot be divided by "
            f"training.{key} = {parts}.",
            "Every step is made of micro-batches of one size.",
            f"Set training.{key} to 0, which takes what fits, or to a divisor of {effective}.",
        )
    elif micro and sums and micro * sums != effective:
        yield (
            f"training.effective_batch_size = {effective} is not training.batch_size = {micro} "
            f"times training.gradient_accumulation = {sums}.",
            "The three have to agree, for the first is the product of the others.",
            "Leave one of them out; the effective batch is what is learnt from in each step.",
        )


def _masked_thinking(recipe: Recipe) -> Iterator[Problem]:
    if recipe.training.reasoning != "read":
        return
    spec = spec_of(recipe.stage)
    if "training.assistant_only_loss" in spec.options and not recipe.training.assistant_only_loss:
        yield (
            "training.reasoning = 'read' with training.assistant_only_loss = false.",
            "All that a conversation holds is in the loss then, thinking among it.",
            "Set training.assistant_only_loss to true, or training.reasoning to 'learn' or 'drop'.",
        )
    if spec.preference:
        yield (
            f"training.reasoning = 'read' in stage '{recipe.stage}'.",
            "An answer is preferred as a whole, so no part of it can be masked.",
            "Set training.reasoning to 'learn', or to 'drop' for answers without their thinking.",
        )


def _reward_model(recipe: Recipe) -> Iterator[Problem]:
    spec = spec_of(recipe.stage, recipe.rl.algorithm)
    if spec.scored_by != "reward_model":
        return
    if not any(isinstance(reward, RewardModel) for reward in recipe.rewards):
        yield (
            "no reward model is named.",
            "Stage 'rlhf' learns from what a trained reward model thinks of answers.",
            'Train one with stage = "reward", then add a [[rewards]] table with '
            'kind = "reward_model" and model = "run:ID".',
        )
    elif spec.value_model and recipe.model.method == "qlora":
        yield (
            "rl.algorithm = 'ppo' with model.method = 'qlora'.",
            "The value model beside the policy is trained in full, which 4-bit weights do "
            "not allow.",
            "Set model.method = 'lora', or take rl.algorithm = 'rloo'.",
        )


def _reinforced(recipe: Recipe) -> Iterator[Problem]:
    if not spec_of(recipe.stage).scored_by:
        return
    if not recipe.rewards:
        yield (
            "rewards is missing.",
            "Without a reward there is nothing to reinforce.",
            'Add a [[rewards]] table, for example kind = "math_answer".',
        )
    elif all(reward.weight == 0 for reward in recipe.rewards):
        yield "every reward has weight 0.", "Their sum is always 0.", "Give one a weight."
    batch = effective_batch(recipe)
    if spec_of(recipe.stage, recipe.rl.algorithm).grouped and batch % recipe.rl.group_size:
        product = recipe.training.batch_size and not recipe.training.effective_batch_size
        key = "batch_size" if product else "effective_batch_size"
        yield (
            f"training.{key}{' times gradient_accumulation' * bool(product)} = {batch} cannot be "
            f"split into groups of rl.group_size = {recipe.rl.group_size}.",
            "Each prompt is answered group_size times within one step.",
            f"Set training.{key} to a multiple of {recipe.rl.group_size}.",
        )
    high = recipe.rl.clip_epsilon_high
    if high and high < recipe.rl.clip_epsilon:
        yield (
            f"rl.clip_epsilon_high = {high} lies below rl.clip_epsilon.",
            "Clip-higher leaves more room upwards, not less.",
            "Raise it, or set it to 0 to clip evenly.",
        )
    if recipe.rl.algorithm == "ppo" and "ppo" not in spec_of(recipe.stage).variants:
        yield (
            f"rl.algorithm = 'ppo' in stage '{recipe.stage}'.",
            "PPO learns a value model from a reward model's scores, which is stage 'rlhf'.",
            "Set stage = 'rlhf' with a reward model, or take grpo or rloo.",
        )


def _teacher(recipe: Recipe) -> Iterator[Problem]:
    if spec_of(recipe.stage).teacher and not recipe.distill.teacher:
        yield (
            "distill.teacher is missing.",
            "There is nobody to learn from.",
            "Name a larger model with the same tokens, for example run:ID or a folder.",
        )


RULES = (
    _whole, _template, _four_bits, _unsloth, _vllm, _experts, _preference, _batches,
    _masked_thinking, _reward_model, _reinforced, _teacher, *METHOD_RULES,
)  # fmt: skip
