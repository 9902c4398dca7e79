"""Out of memory and a full disk are known in every library's words."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest

from workers.host import failed
from workers.protocol.faults import kind_of, kind_of_words


class OutOfMemoryError(RuntimeError):
    """Named as PyTorch's."""


class AcceleratorError(RuntimeError):
    """Named as PyTorch's."""


class SafetensorError(Exception):
    """Named as that of safetensors."""


MEMORY = [
    MemoryError(),
    MemoryError("Unable to allocate 7.45 GiB for an array with shape (1000000000,)"),  # numpy
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be reported later."),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("HIP out of memory. Tried to allocate 512.00 MiB."),
    RuntimeError("MPS backend out of memory (MPS allocated: 17.99 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] data. DefaultCPUAllocator: can't allocate "
                 "memory: you tried to allocate 8000000000 bytes."),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8000000 bytes."),
    RuntimeError("Error out of memory at line 380 in file /src/csrc/ops.cu"),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate`"),
    AcceleratorError("CUDA error: unknown\nSearch for `cudaErrorMemoryAllocation' in the manual."),
    RuntimeError("XPU out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("std::bad_alloc"),
    RuntimeError("unable to mmap 512 bytes from file </x>: Cannot allocate memory (12)"),
    ValueError("No available memory for the cache blocks. Try to raise gpu_memory_utilization."),
]  # fmt: skip
DISK = [
    OSError(errno.ENOSPC, "No space left on device", "/d/x"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    RuntimeError("[enforce fail at inline_container.cc:672] . PytorchStreamWriter failed writing "
                 "file data/12: file write failed"),
    sqlite3.OperationalError("database or disk is full"),
]  # fmt: skip
OTHER = [
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasGemmEx(...)`"),
    RuntimeError("out of resource: shared memory, Required: 131072"),  # Triton
    OSError(errno.EACCES, "Permission denied"),
    ValueError("odd"),
]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        *((fault, "out_of_memory") for fault in MEMORY),
        *((fault, "disk_full") for fault in DISK),
        *((fault, "error") for fault in OTHER),
    ],
    ids=repr,
)
def test_every_form_is_known_alone_and_as_a_cause(
    fault: Exception, kind: str, tmp_path: Path
) -> None:
    assert kind_of(fault) == kind
    assert failed(fault, tmp_path).kind == kind
    with pytest.raises(ValueError, match="came of it") as caught:
        _raise_from(fault)
    assert kind_of(caught.value) == kind
    with pytest.raises(KeyError) as caught:
        _raise_while_handling(fault)
    assert kind_of(caught.value) == kind


def _raise_from(fault: Exception) -> None:
    raise ValueError("this came of it") from fault


def _raise_while_handling(fault: Exception) -> None:
    try:
        raise fault
    except Exception:
        {}["gone"]


def test_a_chain_that_bites_its_tail_ends() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert kind_of(one) == "error"


def test_a_log_that_ends_in_a_librarys_words_is_known() -> None:
    assert kind_of_words("Error out of memory at line 380 in file ops.cu") == "out_of_memory"
    assert kind_of_words("memory allocation of 8589934592 bytes failed") == "out_of_memory"
    assert kind_of_words("Loading the model") == "error"
