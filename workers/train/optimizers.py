"""Which weights move how fast: LoRA+'s ratio, a rate of their own for embeddings, and Muon.

Whatever else an optimizer does is left to Transformers, which makes it by its name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Trainer

from workers.engines.classes import Tell
from workers.protocol.recipe import Recipe

Groups = list[dict[str, Any]]
STATE = "optimizer.pt"
"""The optimizer's state in a checkpoint of the Trainer's."""
KINDS = {
    "auto": "adamw", "adamw_torch_fused": "adamw", "adamw_8bit": "8 bits",
    "paged_adamw_8bit": "8 bits", "muon": "muon",
}  # fmt: skip


def set_optimizer(recipe: Recipe, trainer: Trainer) -> None:
    """Makes the trainer's optimizer where the recipe asks for more than a name says."""
    model: Any = trainer.model
    rate_of = rates(recipe, model)
    if recipe.training.optimizer == "muon":
        trainer.optimizer = muon_of(recipe, trainer, rate_of)
    elif any(rate_of(weight) != recipe.training.learning_rate for weight in trained(model)):
        optimizer: Any = trainer.create_optimizer()
        optimizer.param_groups[:] = split_by_rate(optimizer.param_groups, rate_of)


def settle_state(recipe: Recipe, trainer: Trainer, checkpoint: Path, tell: Tell) -> None:
    """Lets a run that goes on with another optimizer begin its state anew.

    Where a checkpoint holds the state of another kind of optimizer, its learning rates alone are
    taken from it.
    """
    stored = torch.load(checkpoint / STATE, map_location="cpu", weights_only=True, mmap=True)
    if kind_of(stored) in ("", KINDS[recipe.training.optimizer]):
        return
    optimizer: Any = trainer.optimizer or trainer.create_optimizer()

    def take_rates(state: dict[str, Any]) -> None:
        for group, theirs in zip(optimizer.param_groups, state["param_groups"], strict=False):
            group["lr"] = theirs["lr"]

    optimizer.load_state_dict = take_rates
    tell(
        f"The checkpoint holds the state of another optimizer than {recipe.training.optimizer}: "
        "the means of past gradients are gathered anew."
    )


def kind_of(stored: dict[str, Any]) -> str:
    """What kind of optimizer a state is of, by what it keeps of each weight; empty before the
    first step."""
    kept = {name for state in stored["state"].values() for name in state}
    marks = {"state1": "8 bits", "momentum_buffer": "muon", "exp_avg": "adamw"}
    return next((kind for mark, kind in marks.items() if mark in kept), "")


def trained(model: nn.Module) -> Iterable[nn.Parameter]:
    return (weight for weight in model.parameters() if weight.requires_grad)


def rates(recipe: Recipe, model: Any) -> Callable[[nn.Parameter], float]:
    """The learning rate of each trained weight.

    Of an adapter, B learns lora.plus_ratio times as fast as A (LoRA+, Hayou et al. 2024);
    embeddings and the output layer learn at training.embedding_learning_rate.
    """
    rate, own = recipe.training.learning_rate, recipe.training.embedding_learning_rate
    found = {
        id(weight): rate * recipe.lora.plus_ratio
        for name, weight in model.named_parameters()
        if "lora_B" in name or "lora_embedding_B" in name
    }
    if own:
        found |= {id(weight): own for weight in embeddings(model)}
    return lambda weight: found.get(id(weight), rate)


def embeddings(model: Any) -> Iterable[nn.Parameter]:
    """The trained weights of embeddings and output layers, none of an adapter among them."""
    for part in model.modules():
        if not hasattr(part, "get_input_embeddings"):
            continue
        try:
            layers = (part.get_input_embeddings(), part.get_output_embeddings())
        except (AttributeError, NotImplementedError):  # a model without either
            continue
        for layer in filter(None, layers):
            for name, weight in layer.named_parameters():
                if weight.requires_grad and "lora_" not in name:
                    yield weight


def split_by_rate(groups: Groups, rate_of: Callable[[nn.Parameter], float]) -> Groups:
    """Groups of which each has weights of one rate; all else of a group stays as it is."""
    made: Groups = []
    for group in groups:
        parts: dict[float, list[nn.Parameter]] = defaultdict(list)
        for weight in group["params"]:
            parts[rate_of(weight)].append(weight)
        made += [{**group, "params": part, "lr": rate} for rate, part in parts.items()]
    return made


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for matrices, AdamW for all other weights, as one optimizer.

    Muon's steps are scaled to the size of AdamW's (Liu et al. 2025, 2.2), so that both take the
    same learning rates.
    """

    def __init__(self, matrices: Groups, others: Groups) -> None:
        kinds: list[tuple[Any, Groups, dict[str, Any]]] = [
            (torch.optim.Muon, matrices, {"adjust_lr_fn": "match_rms_adamw"}),
            (torch.optim.AdamW, others, {}),
        ]
        self._parts = [kind(groups, **options) for kind, groups, options in kinds if groups]
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Lets the parts work on this optimizer's own groups and state."""
        at = 0
        for part in self._parts:
            count = len(part.param_groups)
            part.param_groups = self.param_groups[at : at + count]
            part.state = self.state
            at += count

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        loss = closure() if closure else None
        for part in self._parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()


def muon_of(recipe: Recipe, trainer: Trainer, rate_of: Callable[[nn.Parameter], float]) -> Muon:
    """Matrices go to Muon, but embeddings and output layers, and all that is no matrix, do not."""
    model: Any = trainer.model
    decaying, flat = set(trainer.get_decay_parameter_names(model)), set(map(id, embeddings(model)))
    groups: dict[bool, dict[float, list[nn.Parameter]]] = {True: {}, False: {}}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            decay = recipe.training.weight_decay if name in decaying else 0.0
            matrix = weight.ndim == 2 and id(weight) not in flat
            groups[matrix].setdefault(decay, []).append(weight)
    matrices, others = (
        split_by_rate([{"params": part, "weight_decay": decay} for decay, part in of.items()],
                      rate_of)
        for of in (groups[True], groups[False])
    )  # fmt: skip
    return Muon(matrices, others)
