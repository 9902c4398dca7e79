"""How much is done at once, by the memory that is free; and half of it where that ran out."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from workers.device import free_memory
from workers.protocol.faults import kind_of

T = TypeVar("T")
SHARE = 0.8
"""Of the free memory that sampling may fill: the rest is fragments and what is computed with."""


class DryRunFailed(MemoryError):
    """The memory ran out before the first step, in the dry run of the longest batch."""


def halving(work: Callable[[int], T], size: int, least: int = 1) -> tuple[T, int]:
    """Does some work with so many at once; with half as many as often as the memory runs out.

    Returns:
        The result, and with how many at once it was come by.

    Raises:
        Exception: the memory runs out with the fewest, or anything else went wrong.
    """
    while True:
        try:
            return work(size), size
        except Exception as fault:
            if kind_of(fault) != "out_of_memory" or size // 2 < least:
                raise
        # Out here the fault, which holds all that was computed with, is gone.
        size //= 2
        give_back()


def in_parts(work: Callable[[int, int], Iterable[T]], total: int, size: int) -> tuple[list[T], int]:
    """Does some work on all of `total`, from one place to another, so many at once; with half as
    many from where the memory runs out.

    Returns:
        The results in order, and how many at once fitted.
    """
    found: list[T] = []
    at = 0
    while at < total:
        made, size = halving(lambda most, at=at: work(at, min(at + most, total)), size)
        found += made
        at += size
    return found, size


def give_back() -> None:
    """Hands memory that nothing uses any more back to the system. Of cycles only young ones are
    looked for: all that a training's process holds takes a second to go through."""
    gc.collect(1)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def cache_bytes(config: Any, size: int) -> int:
    """Bytes that generation keeps of each token: a key and a value of every layer. Layers that keep
    less, of linear attention or within a window, are counted in full.

    Args:
        config: of a Transformers language model.
        size: bytes of one number.
    """
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    kept = getattr(config, "num_key_value_heads", None) or heads
    return 2 * config.num_hidden_layers * kept * width * size


def at_once(model: Any, device: str, prompt: int, completion: int, most: int) -> int:
    """How many completions fit into the free memory together, from 1 to `most`.

    Args:
        prompt, completion: tokens of the longest ones.
    """
    config, size = model.config.get_text_config(), model.dtype.itemsize
    try:
        kept = (prompt + completion) * cache_bytes(config, size)
        inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
        # The cache grows by copying, a layer at a time; a prompt is read through one layer at a
        # time: gate, up and their product beside the residual stream; logits are of 32 bits.
        needed = (
            kept * (config.num_hidden_layers + 1) // config.num_hidden_layers
            + prompt * (3 * inner + 6 * config.hidden_size) * size
            + 12 * config.vocab_size
        )
    except (AttributeError, TypeError):  # no attention, or none that is told in these words
        return most
    return max(1, min(most, int(free_memory(device) * SHARE) // needed))
