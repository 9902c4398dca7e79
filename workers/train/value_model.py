"""The two models that PPO trains: the policy, and a value model that begins as the reward model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import torch
from trl.trainer.utils import disable_dropout_in_model

from workers.engines.adapters import with_adapter
from workers.engines.transformers import load_reward_model
from workers.fetch import locate_model
from workers.protocol.refusal import Refusal
from workers.protocol.rewards import RewardModel
from workers.rewards import Rewards
from workers.rewards.models import TrainedModel
from workers.train.chunked import token_log_probabilities
from workers.train.context import TrainingContext
from workers.train.deferring import deferred_logits

FULL_BYTES = 16
"""A weight that is trained: itself, its gradient and Adam's two moments, each in 32 bits."""


class PolicyAndValue(torch.nn.Module):
    """Both models as one: one optimizer holds them, and their gradients are clipped together.

    Dropout is off: with it two passes over the same tokens would give two probabilities.
    """

    def __init__(self, policy: Any, value_model: Any, temperature: float) -> None:
        super().__init__()
        self.policy = policy
        self.value_model = value_model
        self._temperature = temperature
        self.chunked = True
        """Off where the policy's log-probabilities were found to differ by chunks."""
        disable_dropout_in_model(self)

    def forward(
        self, ids: torch.Tensor, seen: torch.Tensor, width: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Of the last `width` = T tokens the log-probabilities and the values, both (B, T).

        A value is what is still to be earned when a token is chosen, read at the token before it.

        Args:
            ids: prompts with their completions, (B, P + T).
            seen: True where that is no padding, (B, P + T).
        """
        log_probs = log_probabilities(
            self.policy, ids, seen, width, self._temperature, chunked=self.chunked
        )
        backbone = getattr(self.value_model, self.value_model.base_model_prefix)
        hidden = backbone(**_inputs(ids, seen), use_cache=False).last_hidden_state  # (B, P + T, H)
        values = self.value_model.score(hidden)[:, -width - 1 : -1, 0]
        return log_probs, values.float()

    def checkpoint_gradients(self, *, adapters: bool) -> None:
        """Takes time instead of memory; with adapters the frozen embeddings begin the graph."""
        for model in (self.policy, self.value_model):
            model.gradient_checkpointing_enable()
            if adapters:
                model.enable_input_require_grads()

    def trained_values(self) -> dict[str, torch.Tensor]:
        """The value model's trained weights by name."""
        return {
            name: parameter.detach().cpu().contiguous()
            for name, parameter in self.value_model.named_parameters()
            if parameter.requires_grad
        }


def log_probabilities(
    model: Any, ids: torch.Tensor, seen: torch.Tensor, width: int, temperature: float,
    *, chunked: bool = True,
) -> torch.Tensor:  # fmt: skip
    """Of the last `width` tokens, each given those before it, at a temperature: (B, T)."""
    with deferred_logits([model] if chunked else []):
        logits = model(**_inputs(ids, seen), use_cache=False).logits[:, -width - 1 : -1]
        return token_log_probabilities(logits.float() / temperature, ids[:, -width:])


def _inputs(ids: torch.Tensor, seen: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a model takes; positions are counted from the first token that is no padding."""
    return {
        "input_ids": ids.masked_fill(~seen, 0),
        "attention_mask": seen.long(),
        "position_ids": seen.cumsum(1) - seen.long(),
    }


def load_value_model(context: TrainingContext, rewards: Rewards) -> Any:
    """The reward model once more (Ouyang et al. 2022), with an adapter where the policy has one.

    Where the reward model has other tokens, the value model begins as the policy.

    Raises:
        Refusal: with method `full` it does not fit into what is free.
    """
    recipe = context.recipe
    home = Path(context.host.job.home)
    located = context.located
    for reward, scorer in zip(recipe.rewards, rewards.scorers, strict=True):
        mine: Any = context.loaded.tokenizer
        same = isinstance(scorer, TrainedModel) and scorer.tokenizer.get_vocab() == mine.get_vocab()
        if same and isinstance(reward, RewardModel):
            located = locate_model(reward.model, home, lambda _: None, reward_model=True)
            break
    full = recipe.model.method == "full"
    if full:
        _require_room(context)
    model: Any = load_reward_model(located, torch.float32 if full else context.loaded.dtype)
    if full:
        return model.requires_grad_(True)
    adapted: Any = with_adapter(model, recipe, lambda _: None, four_bit=False, task="SEQ_CLS")
    return adapted.base_model.model  # the classifier itself, whose body and score are called


def _require_room(context: TrainingContext) -> None:
    """Refuses a value model that is trained in full and would not fit into what is free."""
    needed = context.loaded.model.num_parameters() * FULL_BYTES
    if context.loaded.device == "cuda":
        free = torch.cuda.mem_get_info()[0]
    else:
        free = psutil.virtual_memory().available
    if needed > free:
        raise Refusal(
            f"The value model does not fit: it needs about {needed / 2**30:.1f} GB, "
            f"{free / 2**30:.1f} GB are free.",
            "With model.method = 'full' all its weights are trained beside the policy's.",
            "Set model.method = 'lora', or rl.algorithm = 'rloo', which needs no value model.",
        )
