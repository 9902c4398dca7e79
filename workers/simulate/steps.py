"""What a step works on: batches of the longest rows, as each stage's own collator makes them."""

from __future__ import annotations

from typing import Any

import torch

from workers.data.reader import Row
from workers.data.tokenize.encode import IGNORED
from workers.protocol.recipe import Recipe
from workers.protocol.stages import spec_of
from workers.train import ppo
from workers.train.tokenized import labelled

TOKEN = 5
"""Any token: what stands in a fake tensor is never read."""


def rows_of(count: int) -> list[Row]:
    """Rows that serve every stage. Trainers are built on them; batches are made by length."""
    asked: Any = [{"role": "user", "content": "What is one and one?"}]
    said: Any = [{"role": "assistant", "content": "Two."}]
    other: Any = [{"role": "assistant", "content": "Three."}]
    row = Row(prompt=asked, completion=said, rejected=other, answer="Two.", text="One. Two.")
    return [row] * count


class Batch:
    """Rows of one batch. The first is as long as the longest, the others a token shorter: as in
    real batches they are padded, so that attention needs a mask; a single row needs none."""

    def __init__(self, recipe: Recipe, micro: int, longest: int) -> None:
        spec = spec_of(recipe.stage, recipe.rl.algorithm)
        self._stage, self._trainer = recipe.stage, spec.trainer
        self.rows, self.longest = micro, longest
        self.completion = longest // 2
        if spec.generates:
            self.completion = min(recipe.rl.max_completion_tokens, longest - 1)
        self.prompt = longest - self.completion
        self._sides = 2 if self._trainer in ("preference", "reward_model") else 1

    @property
    def padded(self) -> bool:
        """Whether its rows differ in length."""
        return self.rows * self._sides > 1

    @property
    def tokens(self) -> int:
        return self.rows * self.longest

    def true_of(self, mask: torch.Tensor) -> int:
        """How much of a mask is true: of one for each row half, of one for each token those of the
        completions."""
        if mask.ndim == 1 and len(mask) == self.rows:
            return -(-self.rows // 2)
        if mask.ndim == 2 and abs(mask.shape[1] - self.longest) <= 1:
            return mask.shape[0] * self.completion
        return mask.numel()

    def features(self) -> list[dict[str, Any]]:
        """The rows of a dataset as the stage's trainer takes them."""
        return [self._feature(shorter=int(row > 0)) for row in range(self.rows)]

    def _feature(self, shorter: int) -> dict[str, Any]:
        prompt = [TOKEN] * self.prompt
        answer, other = [TOKEN] * (self.completion - shorter), [TOKEN] * (self.completion - 1)
        match self._trainer, self._stage:
            case "preference", "kto":
                completions = {"completion_ids": answer, "KL_completion_ids": other}
                return {"prompt_ids": prompt, **completions, "label": not shorter}
            case "preference", _:
                pair = {"prompt_ids": prompt, "chosen_ids": answer, "rejected_ids": other}
                return labelled(pair) if self._stage in ("simpo", "cpo", "orpo") else pair
            case "reward_model", _:
                return {"chosen_ids": prompt + answer, "rejected_ids": prompt + other}
            case "distill", _:
                return {"input_ids": prompt + answer, "labels": [IGNORED] * self.prompt + answer}
        return {"input_ids": prompt + answer, "labels": prompt + answer}

    def sampled(self, *, reference: bool) -> dict[str, torch.Tensor]:
        """Completions with their advantages, as GRPO and RLOO learn from them."""
        shape = (self.rows, self.completion)
        made = {
            "prompt_ids": torch.ones(self.rows, self.prompt, dtype=torch.long),
            "prompt_mask": torch.ones(self.rows, self.prompt, dtype=torch.long),
            "completion_ids": torch.ones(shape, dtype=torch.long),
            "completion_mask": torch.ones(shape, dtype=torch.long),
            "advantages": torch.ones(self.rows),
            "old_per_token_logps": torch.ones(shape),
            "old_logps": torch.ones(self.rows),  # RLOO's, of whole completions
            "num_items_in_batch": torch.ones(()),
        }
        if reference:
            made["ref_per_token_logps"] = torch.ones(shape)
        return made

    def of_ppo(self) -> ppo.Batch:
        """Completions with all that PPO knows of them."""
        shape = (self.rows, self.completion)
        whole = torch.ones(self.rows, self.longest, dtype=torch.long)
        mask, numbers = torch.ones(shape, dtype=torch.bool), torch.ones(shape)
        return ppo.Batch(
            ids=whole, seen=whole.bool(), mask=mask, value_mask=mask, log_probs=numbers,
            kl=numbers, values=numbers, returns=numbers, advantages=numbers,
            scores=torch.ones(self.rows), ended=torch.ones(self.rows, dtype=torch.bool),
        )  # fmt: skip
