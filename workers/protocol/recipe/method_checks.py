"""What of the methods of training cannot go together: adapters, optimizers, packing, measuring."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from workers.protocol.options import options_of
from workers.protocol.recipe.schema import Recipe, sections
from workers.protocol.stages import applies, spec_of

Problem = tuple[str, str, str]
"""What cannot be, the cause, and what to write instead."""

RUNS = ("run:", "stage:", "previous")
"""How bases begin that are runs, in a pipeline too."""
NOT_THERE = {
    "training.packing_strategy": "Only examples that are learnt from as they are can be packed.",
    "training.neftune_noise_alpha": "The noise was made for learning answers by example; what is "
    "compared with another model or sampled needs the embeddings as they are.",
    "training.group_by_length": "Its order of examples is fixed by what is compared or sampled "
    "together.",
    "training.activation_offloading": "TRL's trainer of this stage has no offloading.",
    "training.torch_compile": "Its model also writes answers or has its adapter switched off "
    "between steps, for which it would be compiled again and again.",
}
"""Why an option serves some stages alone."""


def _only_some_stages(recipe: Recipe) -> Iterator[Problem]:
    for path, reason in NOT_THERE.items():
        value = _value(recipe, path)
        if value != _default(path) and not applies(path, recipe.stage, recipe.rl.algorithm):
            yield (
                f"{path} = {value!r} in stage '{recipe.stage}'.".replace("True", "true"),
                reason,
                f"Leave {path} out.",
            )


def _value(recipe: Recipe, path: str) -> Any:
    table, _, key = path.partition(".")
    return getattr(getattr(recipe, table), key)


def _default(path: str) -> Any:
    table, _, key = path.partition(".")
    return next(one.default for one in options_of(sections()[table]) if one.key == key)


def _batches(recipe: Recipe) -> Iterator[Problem]:
    if recipe.training.group_by_length and recipe.training.packing:
        yield (
            "training.group_by_length = true with training.packing = true.",
            "Packed rows are all of one length.",
            "Set one of the two to false.",
        )


def _start(recipe: Recipe) -> Iterator[Problem]:
    """Adapters that begin as a part of the model's weights."""
    init, method = recipe.lora.init, recipe.model.method
    if init not in ("pissa", "olora") or method == "full":
        return
    said = f"lora.init = '{init}'"
    if method in ("qlora", "dora"):
        yield (
            f"{said} with model.method = '{method}'.",
            "It takes a part out of the model's weights, which "
            + ("4-bit weights" if method == "qlora" else "DoRA's magnitudes")
            + " do not give back exactly.",
            "Set model.method = 'lora', or lora.init = 'default'.",
        )
    if spec_of(recipe.stage, recipe.rl.algorithm).value_model:
        yield (
            f"{said} with rl.algorithm = 'ppo'.",
            "PPO compares with the model without its adapter, and that is then another model than "
            "the one that training began with.",
            "Set lora.init = 'default', or take rl.algorithm = 'rloo'.",
        )


def _unsloths_start(recipe: Recipe) -> Iterator[Problem]:
    if recipe.lora.init != "default" and recipe.model.engine == "unsloth":
        yield (
            f"lora.init = '{recipe.lora.init}' with model.engine = 'unsloth'.",
            "Unsloth's adapters begin as its own do.",
            "Set model.engine = 'transformers', or lora.init = 'default'.",
        )


def _continued(recipe: Recipe) -> Iterator[Problem]:
    model = recipe.model
    if not model.continue_adapter:
        return
    if model.method == "full" or not model.base.startswith(RUNS):
        what = "model.method = 'full'" if model.method == "full" else f"model.base = '{model.base}'"
        yield (
            f"model.continue_adapter = true with {what}.",
            "There is no adapter to train further.",
            "Name a run with an adapter as model.base and model.method = 'lora', or set "
            "model.continue_adapter to false.",
        )
    if recipe.lora.init != "default" or model.engine == "unsloth":
        yield (
            "model.continue_adapter = true with "
            + (f"lora.init = '{recipe.lora.init}'." if model.engine != "unsloth"
               else "model.engine = 'unsloth'."),
            "The adapter begins as the earlier run left it, in Transformers' own layers.",
            "Leave out lora.init, and model.engine = 'unsloth'.",
        )  # fmt: skip
    if recipe.lora.modules_to_save.strip():
        yield (
            "model.continue_adapter = true with lora.modules_to_save.",
            "The modules that are trained whole are those of the earlier run.",
            "Leave out lora.modules_to_save: what the earlier run had is trained further.",
        )
    if not spec_of(recipe.stage).talks:
        yield (
            f"model.continue_adapter = true in stage '{recipe.stage}'.",
            "The adapter was trained to speak, and a reward model has another output layer.",
            "Set model.continue_adapter to false: the earlier adapter is merged.",
        )
    if spec_of(recipe.stage, recipe.rl.algorithm).value_model:
        yield (
            "model.continue_adapter = true with rl.algorithm = 'ppo'.",
            "PPO compares with the model without its adapter, which is not where this run begins.",
            "Take rl.algorithm = 'rloo', or set model.continue_adapter to false.",
        )


def _attention(recipe: Recipe) -> Iterator[Problem]:
    if recipe.training.attention != "auto" and recipe.model.engine == "unsloth":
        yield (
            f"training.attention = '{recipe.training.attention}' with model.engine = 'unsloth'.",
            "Unsloth computes attention by kernels of its own.",
            "Set training.attention = 'auto', or model.engine = 'transformers'.",
        )


def _whole_modules(recipe: Recipe) -> Iterator[Problem]:
    rate = recipe.training.embedding_learning_rate
    whole = recipe.model.method == "full" or recipe.model.continue_adapter
    if rate and not whole and not recipe.lora.modules_to_save.strip():
        yield (
            f"training.embedding_learning_rate = {rate:g} without lora.modules_to_save.",
            "An adapter leaves the embeddings as they are.",
            "Set lora.modules_to_save = 'embed_tokens, lm_head', or leave the rate out.",
        )


def _best(recipe: Recipe) -> Iterator[Problem]:
    table = recipe.evaluation
    asked = [
        f"evaluation.{name}"
        for name, on in (
            ("early_stopping_patience", table.early_stopping_patience),
            ("keep_best", table.keep_best),
        )
        if on
    ]
    if asked and not table.every_steps:
        yield (
            f"{' and '.join(asked)} without evaluation.every_steps.",
            "Without measurements during training there is nothing to go by.",
            "Set evaluation.every_steps, for example to 50.",
        )
    if asked and not table.holdout and not table.test:
        yield (
            f"{' and '.join(asked)} without held-out rows.",
            "There is nothing to measure on.",
            "Set evaluation.holdout, or name an evaluation.test.",
        )


METHOD_RULES = (
    _only_some_stages, _batches, _start, _unsloths_start, _continued, _attention,
    _whole_modules, _best,
)  # fmt: skip
