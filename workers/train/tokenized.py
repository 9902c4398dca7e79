"""TRL's preference trainers on rows that are token ids already, with their losses by chunks.

TRL renders and tokenizes by itself, and drops the first words of completions wherever a template's
prompt is no beginning of the whole conversation; CPO and ORPO also truncate long pairs by the wrong
amount and put a second end token behind the template's. Here the ids come from `encode`, and
these are the only places in which TRL 1.12 is kept from making its own.
"""

from __future__ import annotations

from typing import Any

import torch
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from workers.data.tokenize.encode import IGNORED
from workers.train.deferring import Chunked, predicting

__all__ = [
    "CPOConfig", "DPOConfig", "KTOConfig", "ORPOConfig", "TokenizedCPO", "TokenizedDPO",
    "TokenizedKTO", "TokenizedORPO",
]  # fmt: skip


class TokenizedDPO(Chunked, DPOTrainer):
    """Takes `prompt_ids`, `chosen_ids` and `rejected_ids`."""

    def masks(self, inputs: Any) -> list[torch.Tensor]:
        return [predicting(inputs["completion_mask"])]

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset


class TokenizedKTO(Chunked, KTOTrainer):
    """Takes `prompt_ids`, `completion_ids` and `label`."""

    def masks(self, inputs: Any) -> list[torch.Tensor]:
        named = ("completion_mask", "KL_completion_mask")
        return [predicting(inputs[name]) for name in named if name in inputs]

    def _prepare_dataset(self, dataset: Any, _: Any, args: Any, *__: Any, **___: Any) -> Any:
        """Adds the answers whose divergence is the reference point (KTO, 4.1): those of the batch,
        each moved on to the next prompt, as TRL does."""
        if not self.calculate_KL:
            return dataset

        def moved_on(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
            said = batch["completion_ids"]
            return {"KL_completion_ids": [said[-1], *said[:-1]]}

        return dataset.map(moved_on, batched=True, batch_size=args.per_device_train_batch_size)


class TokenizedCPO(Chunked, CPOTrainer):
    """Takes `prompt_ids`, `chosen_ids` and `rejected_ids`."""

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, list[int]]:
        return labelled(feature)


class TokenizedORPO(Chunked, ORPOTrainer):
    """Takes `prompt_ids`, `chosen_ids` and `rejected_ids`."""

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, list[int]]:
        return labelled(feature)


def labelled(feature: dict[str, list[int]]) -> dict[str, list[int]]:
    """A pair as CPO and ORPO read it: both conversations whole, with labels for the answers."""
    prompt = feature["prompt_ids"]
    made = {"prompt_input_ids": prompt, "prompt_attention_mask": [1] * len(prompt)}
    for side in ("chosen", "rejected"):
        answer = feature[f"{side}_ids"]
        made[f"{side}_input_ids"] = prompt + answer
        made[f"{side}_attention_mask"] = [1] * len(prompt + answer)
        made[f"{side}_labels"] = [IGNORED] * len(prompt) + answer
    return made
