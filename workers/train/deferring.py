"""Within `deferred_logits` models give deferred logits, and TRL's losses take them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch

from workers.train.chunked import (
    DeferredLogits,
    Moment,
    Source,
    Step,
    token_entropies,
    token_log_probabilities,
)
from workers.train.trl_private import LOSS_FUNCTIONS


def _defer(
    head: torch.nn.Module, forward: Step, masks: Sequence[torch.Tensor], hidden: torch.Tensor
) -> Any:
    """A head's forward pass put off. `masks` say, each for batches of its own shape, where numbers
    are needed."""
    *shape, width = hidden.shape
    fitting = [mask.to(hidden.device).bool() for mask in masks if list(mask.shape) == shape]
    wanted = torch.stack(fitting).any(0).reshape(-1) if fitting else None
    source = Source(head, forward, hidden.reshape(-1, width), Moment.now(head, hidden.device.type))
    places = torch.arange(len(source.hidden), device=hidden.device).reshape(shape)
    vocabulary: Any = head.weight
    return DeferredLogits(source, places, vocabulary.shape[0], wanted)


@contextmanager
def deferred_logits(models: Iterable[Any], masks: Sequence[torch.Tensor] = ()) -> Iterator[None]:
    """Within it, forward passes of these models give DeferredLogits, and TRL's losses take them.

    Entered once more for the same model it changes nothing.

    Args:
        models: with adapters or without; one without a head, and None, is passed over.
        masks: where numbers are needed, by place of the token that predicts, (batch, length); used
            for forward passes of that shape.
    """
    with ExitStack() as stack:
        for head in map(_head, models):
            if head is not None and getattr(head.forward, "func", None) is not _defer:
                deferred = partial(_defer, head, head.forward, masks)
                stack.enter_context(_replaced(head, "forward", deferred))
        for module, names in LOSS_FUNCTIONS.items():
            for name in names if module in sys.modules else ():
                owner = sys.modules[module]
                either = partial(_either, OURS[name], getattr(owner, name))
                stack.enter_context(_replaced(owner, name, either))
        yield


OURS: dict[str, Callable[..., torch.Tensor]] = {
    "selective_log_softmax": token_log_probabilities,
    "entropy_from_logits": token_entropies,
}
"""By TRL's name, for logits that are deferred."""


def _either(ours: Any, theirs: Any, logits: Any, *args: Any, **named: Any) -> Any:
    function = ours if isinstance(logits, DeferredLogits) else theirs
    return function(logits, *args, **named)


def _head(model: Any) -> Any:
    return None if model is None else model.get_output_embeddings()


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute of the object itself, replaced for a while."""
    missing = object()
    kept = vars(owner).get(name, missing)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if kept is missing:
            delattr(owner, name)
        else:
            setattr(owner, name, kept)


class Chunked:
    """A trainer of TRL's whose loss is taken by chunks."""

    chunked = True
    """Off where a model's loss was found to differ by chunks."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **named: Any) -> Any:
        with self.deferring(inputs):
            return super().compute_loss(model, inputs, *args, **named)  # type: ignore[misc]

    def prediction_step(self, model: Any, inputs: Any, *args: Any, **named: Any) -> Any:
        with self.deferring(inputs):
            return super().prediction_step(model, inputs, *args, **named)  # type: ignore[misc]

    @contextmanager
    def deferring(self, inputs: Any) -> Iterator[None]:
        this: Any = self
        with ExitStack() as stack:
            if self.chunked:
                models = (this.model, getattr(this, "ref_model", None))
                stack.enter_context(deferred_logits(models, self.masks(inputs)))
            yield

    def masks(self, inputs: Any) -> list[torch.Tensor]:
        """Where the loss needs numbers, by place of the token that predicts."""
        return []


def predicting(mask: torch.Tensor) -> torch.Tensor:
    """From a mask of tokens, (batch, length), to one of the places that predict them."""
    return torch.nn.functional.pad(mask[:, 1:].bool(), (0, 1))
