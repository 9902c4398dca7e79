"""Before the first step: does the trainer compute on this model what the model itself says?

Trainers speed losses up by going around a model's own forward pass, and some models do more in it
than the shortcut knows: Granite divides its logits, which TRL's chunked loss leaves out, so that it
trains on a wrong loss without a word. So every stage's measure of one row is held to
the same formula over the logits of Transformers' own forward pass on the same tokens.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from datasets import Dataset
from transformers import Trainer

from workers.engines.adapters import train_in_32_bits
from workers.protocol.events import Note
from workers.protocol.refusal import Refusal
from workers.protocol.stages import spec_of
from workers.train.context import LossPath, Stage, TrainingContext
from workers.train.liger import use_liger

TOLERANCE = 1e-3
"""Relative to the measure, or absolute where that is below 1. In 32 bits."""
TOLERANCE_16_BITS = 5e-3
"""Logits of 16 bits carry 3 decimal digits, and two ways to add them up round differently: up to
8e-4 apart on SmolLM2 in bf16 on the CPU."""

ROWS, TOKENS = 64, 64
"""The row is looked for among so many, and so many of its answer's tokens are taken: logits are as
wide as the vocabulary, and a long row's would need more memory than training does."""


class Compared(NamedTuple):
    """One measure of one row."""

    name: str
    trainers: float
    own: float
    """By the formula, on Transformers' own forward pass."""

    def differs(self, dtype: torch.dtype) -> bool:
        tolerance = TOLERANCE if dtype == torch.float32 else TOLERANCE_16_BITS
        return not abs(self.trainers - self.own) <= tolerance * max(1.0, abs(self.own))


def build_checked(context: TrainingContext, stage: Stage) -> Trainer:
    """The stage's trainer, whose loss was found right on this model.

    Where a faster loss is wrong, the next one is taken, with a note.

    Raises:
        Refusal: each is wrong.
    """
    wrong: Compared | None = None
    for path in loss_paths(context):
        context.loss = path
        trainer = _built(context, stage)
        found = _compare(context, stage, trainer)
        if found is None or not found.differs(context.loaded.dtype):
            if wrong:
                context.host.emit(Note(text=_taken_instead(wrong, path)))
            return trainer
        wrong = wrong or found
        restore_forward(context.loaded.model)
    assert wrong is not None
    raise Refusal(
        f"The trainer would learn from a wrong loss: its {wrong.name} of a row is "
        f"{wrong.trainers:.4f}, the model's own forward pass gives {wrong.own:.4f}.",
        "The training library does not know this kind of model well enough, so the run would go "
        "wrong from its first step.",
        "Choose another base model, or set model.engine = 'transformers' if it is another.",
    )


def loss_paths(context: TrainingContext) -> tuple[LossPath, ...]:
    """The ways to a stage's loss, the fastest first. A reward model has one logit a row."""
    trainer = spec_of(context.recipe.stage).trainer
    if trainer == "reward_model":
        return ("plain",)
    own: tuple[LossPath, ...] = ("chunked", "plain")
    shortcut: tuple[LossPath, ...] = ("trl",) if trainer == "sft" else ()
    with context.loaded.autocast():
        fused = use_liger(context.recipe, context.loaded.model, context.loaded.device)
    return (*(("liger",) if fused else ()), *shortcut, *own)


def _taken_instead(wrong: Compared, path: LossPath) -> str:
    taken = {
        "trl": "TRL's own is taken",
        "chunked": "the plain loss is taken, for some tokens at a time",
    }.get(path, "the plain loss is taken. It needs more memory")
    return (
        f"The fast {wrong.name} of a row is {wrong.trainers:.4f} where the model's own forward "
        f"pass gives {wrong.own:.4f}, so {taken}."
    )


def _built(context: TrainingContext, stage: Stage) -> Trainer:
    trainer = stage.build_trainer(context)
    assert trainer.model is not None
    train_in_32_bits(trainer.model)
    return trainer


def _compare(context: TrainingContext, stage: Stage, trainer: Trainer) -> Compared | None:
    """Without a trace in the RNG state of the run, so that the same seed stays the same run."""
    model = context.loaded.model
    was_training = model.training
    with torch.random.fork_rng(), torch.no_grad(), context.loaded.autocast():
        model.eval()
        found = stage.compare(context, trainer)
    model.train(was_training)
    return found


def restore_forward(model: Any) -> None:
    """Takes back what TRL's chunked loss put in place of the model's forward pass."""
    vars(own_model(model)).pop("forward", None)


def own_model(model: Any) -> Any:
    """The model under an adapter, whose layers stay in place."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def own_logits(model: Any, ids: list[int]) -> torch.Tensor:
    """What the class's own forward pass gives for one row, as Transformers wrote it, in 32 bits:
    (tokens, vocabulary), or (1,) of a reward model."""
    bare = own_model(model)
    given = torch.tensor([ids], device=bare.device)
    output = type(bare).forward(bare, input_ids=given, attention_mask=torch.ones_like(given))
    return output.logits[0].float()


def own_log_probabilities(model: Any, ids: list[int], temperature: float = 1.0) -> torch.Tensor:
    """Of each token given those before it, (tokens - 1,)."""
    logits = own_logits(model, ids)[:-1] / temperature
    wanted = torch.tensor(ids[1:], device=logits.device)[:, None]
    return torch.log_softmax(logits, dim=-1).gather(1, wanted)[:, 0]


def trainers_measure(trainer: Trainer, row: dict[str, Any], name: str) -> float:
    """What the trainer's own evaluation says of one row."""
    state = trainer.state
    kept = len(state.log_history)
    rows: Any = Dataset.from_list([row])
    found = trainer.evaluate(rows)
    del state.log_history[kept:]
    return float(found[f"eval_{name}"])
