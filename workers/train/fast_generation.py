"""Sampling by vLLM beside the training, on the same card: whether there is room, and with what.

vLLM keeps a second copy of the weights in 16 bits and a cache for all that it writes at once. While
the model learns it sleeps: its weights wait in RAM and its cache is given back, so that both need
room one after the other, not together.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from workers.device import free_memory, total_memory
from workers.memory import cache_bytes
from workers.protocol.cards import GIB
from workers.protocol.engines import may_sample_with_vllm
from workers.protocol.events import Note
from workers.protocol.refusal import Refusal
from workers.train.context import TrainingContext

OVERHEAD = 1_500_000_000
"""Bytes for vLLM's CUDA graphs, workspaces and the activations of its prefill. Not measured here:
between the 1 and 2 GB that its log tells for models of this size."""
USABLE = 0.9
"""Share of the free memory that is promised away; the rest is the allocator's."""


class Room(NamedTuple):
    """What vLLM would take of a card, in bytes."""

    needed: int
    free: int
    total: int

    @property
    def fits(self) -> bool:
        return self.needed <= USABLE * self.free

    @property
    def utilization(self) -> float:
        """Share of the whole card, as vLLM is told, rounded up to a hundredth."""
        return math.ceil(100 * self.needed / self.total) / 100


def vllm_arguments(
    context: TrainingContext, prompts: Sequence[Sequence[int]], ends: list[int]
) -> dict[str, Any]:
    """TRL's arguments for sampling with vLLM within this process; none where Transformers samples.

    Args:
        prompts: token ids of the prompts that completions are sampled to.
        ends: tokens that end a completion.

    Raises:
        Refusal: the recipe asks for vLLM and it is not here.
    """
    if not _wanted(context):
        return {}
    if context.recipe.model.engine == "unsloth":  # its own engine, over the very weights that learn
        own = getattr(context.loaded.model, "vllm_engine", None) is not None
        return {"use_vllm": True, "generation_kwargs": {"stop_token_ids": ends}} if own else {}
    longest = max(map(len, prompts)) + context.recipe.rl.max_completion_tokens
    room = room_of(context, longest)
    if not room.fits:
        text = (
            f"Completions are sampled by Transformers: vLLM would need {room.needed / GIB:.1f} GB "
            f"for a second copy of the weights and its cache, and {room.free / GIB:.1f} GB are "
            "free."
        )
        context.host.emit(Note(text=text))
        return {}
    return {
        "use_vllm": True,
        "vllm_mode": "colocate",
        "vllm_max_model_length": longest,
        "vllm_gpu_memory_utilization": room.utilization,
        "vllm_enable_sleep_mode": True,
        "generation_kwargs": {"stop_token_ids": ends},
    }


def _wanted(context: TrainingContext) -> bool:
    """Whether vLLM is to sample where there is room for it."""
    there = importlib.util.find_spec("vllm") is not None and context.loaded.device == "cuda"
    if context.recipe.rl.fast_generation == "vllm" and not there:
        raise Refusal(
            "vLLM cannot sample here.",
            "It is not installed, or this computer has no NVIDIA GPU.",
            "Set it up with: python3 packaging/bootstrap.py vllm. Or set rl.fast_generation = "
            "'auto'.",
        )
    return there and may_sample_with_vllm(context.recipe)


def room_of(context: TrainingContext, longest: int) -> Room:
    """What vLLM needs to write a whole group at a time, at the least, and what the card has."""
    model, device = context.loaded.model, context.loaded.device
    cache = context.recipe.rl.group_size * longest * cache_bytes(model.config.get_text_config(), 2)
    needed = 2 * model.num_parameters() + cache + OVERHEAD
    return Room(needed, free_memory(device), total_memory(device))


def tell_failure(context: TrainingContext, fault: Exception) -> None:
    """Says that vLLM did not start, so that Transformers samples."""
    first = next(iter(str(fault).strip().splitlines()), "")
    text = (
        f"vLLM did not start ({type(fault).__name__}: {first[:200]}), so completions are sampled "
        "by Transformers, which is slower. The log holds the whole story."
    )
    context.host.emit(Note(text=text, level="warning"))
