"""Which faults are the machine's: out of memory and a full disk, however a library words them."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Literal

Kind = Literal["out_of_memory", "disk_full", "error"]

WORDS: dict[Kind, tuple[str, ...]] = {
    "out_of_memory": (
        "CUDA out of memory",
        "CUDA error: out of memory",
        "CUDA driver error: out of memory",  # PyTorch's expandable segments
        "CUDA_ERROR_OUT_OF_MEMORY",
        "cudaErrorMemoryAllocation",
        "CUBLAS_STATUS_ALLOC_FAILED",
        "CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate",  # no room for its workspace
        "CUDNN_STATUS_ALLOC_FAILED",
        "DEVICE_ALLOCATION_FAILED",  # cuDNN 9
        "CUSOLVER_STATUS_ALLOC_FAILED",
        "CUSPARSE_STATUS_ALLOC_FAILED",
        "CUFFT_ALLOC_FAILED",
        "HIP out of memory",
        "HIP error: out of memory",
        "XPU out of memory",
        "MPS backend out of memory",
        "can't allocate memory",  # PyTorch's DefaultCPUAllocator
        "not enough memory: you tried to allocate",  # the same on Windows
        "Cannot allocate memory",  # the system, in a library's own error
        "Error out of memory",  # bitsandbytes, which then ends the process
        "No available memory for the cache blocks",  # vLLM
        "std::bad_alloc",
        "bad allocation",  # the same on Windows
        "memory allocation of",  # Rust, which then ends the process
        "paging file is too small",  # Windows
    ),
    "disk_full": (
        "No space left on device",  # safetensors adds (os error 28)
        "(os error 28)",
        "(os error 112)",  # the same on Windows
        "PytorchStreamWriter failed writing file",
        "database or disk is full",  # SQLite
    ),
}
"""What libraries say, where they raise no exception of its own for it."""
NUMBERS: dict[Kind, tuple[int, ...]] = {
    "out_of_memory": (errno.ENOMEM,),
    "disk_full": (errno.ENOSPC, errno.EDQUOT),
}


def kind_of(fault: BaseException) -> Kind:
    """The kind of a fault, or of what caused it."""
    for one in _with_causes(fault):
        kind = _kind_of_one(one)
        if kind != "error":
            return kind
    return "error"


def kind_of_words(text: str) -> Kind:
    """The kind of fault that a library's own words tell of."""
    told = text.casefold()
    for kind, words in WORDS.items():
        if any(word.casefold() in told for word in words):
            return kind
    return "error"


def _kind_of_one(fault: BaseException) -> Kind:
    if isinstance(fault, MemoryError) or type(fault).__name__ == "OutOfMemoryError":
        return "out_of_memory"
    if isinstance(fault, OSError):
        for kind, numbers in NUMBERS.items():
            if fault.errno in numbers:
                return kind
    return kind_of_words(str(fault))


def _with_causes(fault: BaseException) -> Iterator[BaseException]:
    """A fault, then what it was raised from or while handling; each once."""
    seen: set[int] = set()
    one: BaseException | None = fault
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
