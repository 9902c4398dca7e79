"""What a recipe asks for beside the usual, as keyword arguments of the trainers' configurations."""

from __future__ import annotations

from typing import Any

from workers.protocol.recipe import Recipe
from workers.protocol.refusal import Refusal


def method_arguments(recipe: Recipe, device: str) -> dict[str, Any]:
    """Arguments that are there where the recipe asks for them alone: not every configuration of
    TRL's knows each, and the recipe's check has seen to the stages.

    Raises:
        Refusal: this computer cannot.
    """
    options = recipe.training
    asked: dict[str, Any] = {"save_total_limit": options.save_total_limit}
    if options.optimizer not in ("auto", "muon"):
        asked["optim"] = options.optimizer
    if options.neftune_noise_alpha:
        asked["neftune_noise_alpha"] = options.neftune_noise_alpha
    if options.group_by_length:
        asked |= {"train_sampling_strategy": "group_by_length", "remove_unused_columns": False}
    if options.torch_compile:
        asked["torch_compile"] = True
    if options.activation_offloading:
        _require_card(device)
        asked["activation_offloading"] = True
    return asked


def _require_card(device: str) -> None:
    if device != "cuda":
        raise Refusal(
            "training.activation_offloading = true without a GPU.",
            "It moves what the backward pass needs from the GPU's memory to RAM, and all of it is "
            "in RAM already.",
            "Set training.activation_offloading to false.",
        )
