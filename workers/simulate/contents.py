"""What fake tensors cannot tell: their contents, where code reads them, and CUDA's precision.

Fake tensors have shapes alone. Where a program takes another way by what a tensor holds, the way of
a usual batch is taken here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import masking_utils

aten = torch.ops.aten


class Contents(TorchDispatchMode):
    """Answers for what fake tensors hold: single numbers, and how much of a mask is true.

    Args:
        number: what reading a tensor's single number gives.
        count: how many elements of a mask are true.
    """

    def __init__(
        self, number: Callable[[torch.Tensor], Any], count: Callable[[torch.Tensor], int]
    ) -> None:
        super().__init__()
        self._number, self._count = number, count

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is aten._local_scalar_dense.default:
            return self._number(args[0])
        if func is aten.nonzero.default:
            return args[0].new_empty((self._count(args[0]), args[0].ndim), dtype=torch.long)
        if func is aten.masked_select.default:
            return args[0].new_empty(self._count(args[1]))
        if func in INDEXED:
            args = (args[0], self._as_numbers(args[1]), *args[2:])
        return func(*args, **(kwargs or {}))

    def _as_numbers(self, indices: list[torch.Tensor | None]) -> list[torch.Tensor | None]:
        """Masks among indices as the positions that they mean."""
        made: list[torch.Tensor | None] = []
        for index in indices:
            if index is not None and index.dtype == torch.bool:
                size = self._count(index)
                made += [index.new_empty(size, dtype=torch.long) for _ in range(index.ndim)]
            else:
                made.append(index)
        return made


INDEXED = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}


@contextmanager
def masks_looked_at() -> Iterator[None]:
    """Lets Transformers ask what masks hold, as in a run; of fake ones it takes the worst."""
    kept = masking_utils.is_tracing
    masking_utils.is_tracing = lambda *_: False
    try:
        yield
    finally:
        masking_utils.is_tracing = kept


class CudaPrecision(TorchFunctionMode):
    """Takes in 32 bits what automatic precision takes so on CUDA, and not on the processor.

    The list is PyTorch's ("CUDA Ops that can autocast to float32", torch.amp), as far as models and
    losses use it.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.backward:
            return self._backward([args[0]], [torch.ones_like(args[0])])
        if func is torch.autograd.backward:
            return self._backward(*args)
        if func in IN_32_BITS and torch.is_autocast_enabled("cpu"):
            args = tuple(_wide(one) for one in args)
            kwargs = {name: _wide(one) for name, one in kwargs.items()}
        return func(*args, **kwargs)

    def _backward(self, losses: Sequence[torch.Tensor], grads: Sequence[torch.Tensor]) -> None:
        """The backward pass in this mode, for what is checkpointed computes again in there;
        PyTorch's own function would leave it."""
        with self:
            engine: Any = torch.autograd.graph._engine_run_backward
            engine(tuple(losses), tuple(grads), False, False, (), allow_unreachable=True,
                   accumulate_grad=True)  # fmt: skip


def _wide(given: Any) -> Any:
    narrow = isinstance(given, torch.Tensor) and given.dtype in (torch.bfloat16, torch.float16)
    return given.float() if narrow else given


NAMES = (
    "cumprod", "cumsum", "exp", "log", "log10", "log1p", "log2", "log_softmax", "norm", "pow",
    "prod", "reciprocal", "rsqrt", "softmax", "sum",
)  # fmt: skip
IN_32_BITS = (
    {getattr(torch, name) for name in NAMES}
    | {getattr(torch.Tensor, name) for name in NAMES}
    | {torch.Tensor.__pow__, torch.Tensor.__rpow__}
    | {F.binary_cross_entropy_with_logits, F.cross_entropy, F.group_norm, F.kl_div, F.layer_norm}
    | {F.log_softmax, F.mse_loss, F.nll_loss, F.softmax, F.softplus}
)
