"""Counting what a program holds in memory: every storage that tensors lie in, once, while it lives.

Works on fake tensors, which have shapes and storages but no contents, as on real ones. What a
kernel takes besides its results and gives back before it ends is added where it is known.
"""

from __future__ import annotations

import math
import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROUNDING = 512
"""Bytes to whose multiple CUDA's caching allocator rounds every block (c10/cuda, kMinBlockSize)."""
DEQUANTIZED_FROM = 8
"""Rows of input up to which a four-bit product is computed without a copy of the weight in 16 bits
(bitsandbytes 0.50, backends/cuda/ops.py: the bound depends on the card; this is the lowest)."""

Named = tuple[str, Iterable[torch.Tensor]]


def rounded(size: int) -> int:
    return -(-size // ROUNDING) * ROUNDING


class LiveStorages(TorchDispatchMode):
    """While entered, counts the bytes of all storages that operations bring forth and `name` names.

    `peak` is the most that lived at one time, `parts` what that was made of: the names given, and
    `logits` and `activations` for the rest.
    """

    def __init__(self, vocabulary: int = 0) -> None:
        """Tensors with an axis as long as the vocabulary are logits, or make them."""
        super().__init__()
        self._vocabulary = vocabulary
        self._sizes: dict[int, int] = {}
        self._names: dict[int, str] = {}
        self._ids = 0
        self._known: dict[int, tuple[weakref.ref[Any], int]] = {}
        self.live = 0
        self.by_name: Counter[str] = Counter()
        self.peak = 0
        self.parts: dict[str, int] = {}

    def name(self, name: str, tensors: Iterable[Any]) -> None:
        """Counts tensors that are there already, or counts them under this name from now on."""
        for tensor in tensors:
            if isinstance(tensor, torch.Tensor):
                self._take(tensor, name)
        self._note()

    def restart(self) -> None:
        """Forgets the peak; what lives stays counted."""
        self.peak, self.parts = 0, {}
        self._note()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.add.Tensor and self._accumulates(args[0]):
            func = torch.ops.aten.add_.Tensor
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._take(tensor)
        self._note(_besides(func, args))
        return made

    def _accumulates(self, gradient: Any) -> bool:
        """Whether the backward pass adds another gradient of tied embeddings to this one: in place,
        but not while a mode such as this looks on (autograd/input_buffer.cpp)."""
        backward = torch._C._current_graph_task_id() != -1 and not torch.is_grad_enabled()
        return backward and self._kind(gradient) == "logits"

    def _take(self, tensor: torch.Tensor, name: str = "") -> None:
        storage = tensor.untyped_storage()
        known = self._known.get(id(storage))
        if known is not None and known[0]() is storage:
            if name:
                self._rename(known[1], name)
            return
        self._ids += 1
        at = self._ids
        size = rounded(storage.nbytes())
        self._known[id(storage)] = (weakref.ref(storage, self._forgetting(id(storage), at)), at)
        self._sizes[at] = size
        self._names[at] = name or self._kind(tensor)
        self.by_name[self._names[at]] += size
        self.live += size

    def _rename(self, at: int, name: str) -> None:
        size = self._sizes[at]
        self.by_name[self._names[at]] -= size
        self.by_name[name] += size
        self._names[at] = name

    def _kind(self, tensor: torch.Tensor) -> str:
        wide = self._vocabulary and self._vocabulary in tensor.shape
        return "logits" if wide else "activations"

    def _forgetting(self, key: int, at: int) -> Callable[[Any], None]:
        def forget(reference: Any) -> None:
            size = self._sizes.pop(at)
            self.by_name[self._names.pop(at)] -= size
            self.live -= size
            known = self._known.get(key)
            if known is not None and known[0] is reference:
                del self._known[key]

        return forget

    def _note(self, besides: int = 0) -> None:
        if self.live + besides > self.peak:
            self.peak = self.live + besides
            self.parts = {name: size for name, size in self.by_name.items() if size}
            if besides:
                self.parts["activations"] = self.parts.get("activations", 0) + besides


def _besides(func: Any, args: Any) -> int:
    """Bytes that a CUDA kernel takes while it runs and that no tensor shows.

    Flash attention's backward pass adds up the queries' gradient in 32 bits (FlashAttention 2,
    `dq_accum`), and, where several heads share keys, the keys' and values' for every head. A
    four-bit product unpacks the weight; nested scales are unpacked to 32 bits with it.
    """
    name = func.name().partition(".")[0]
    if name == "aten::_scaled_dot_product_flash_attention_for_cpu_backward":
        _, query, key, *_ = args
        shared = 2 * query.nbytes if key.shape[1] < query.shape[1] else 0
        return rounded(4 * query.numel()) + rounded(shared)
    if name == "bitsandbytes::gemm_4bit":
        given, _, shape, *_ = args
        if math.prod(given.shape[:-1]) > DEQUANTIZED_FROM:
            return rounded(given.element_size() * math.prod(shape))
    return 0
