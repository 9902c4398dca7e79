"""Safetensors, one tensor at a time: read by plain reads, written without holding a file's content.

The format: eight bytes with the length of a header, the header in JSON with type, shape and offsets
of every tensor, then their bytes (https://huggingface.co/docs/safetensors). The library writes only
what is in memory whole, and what it reads stays in the process's memory as long as the file is
open.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
import torch

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
NAMES = {dtype: name for name, dtype in TYPES.items()}
UNUSUAL = (OSError, ValueError, KeyError)
"""What `stored_shards` raises over a folder that is laid out in another way."""
PIECE = 1 << 21
"""Weights that are read, cast and written at once where a tensor need not be whole."""


class Stored(NamedTuple):
    """Where a tensor lies."""

    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    """Its first byte in the file."""

    @property
    def weights(self) -> int:
        return math.prod(self.shape)


class Planned(NamedTuple):
    """A tensor that is to be written."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    pieces: Callable[[], Iterable[torch.Tensor]]
    """Makes its weights, flat and in order."""

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def stored_shards(folder: Path) -> list[dict[str, Stored]]:
    """Of each file of a model folder its tensors by name, in their order.

    Raises:
        OSError, ValueError, KeyError: a file is missing or is none of safetensors, or holds weights
            of a type that is not known here.
    """
    return [_stored(folder / name) for name in _files(folder)]


def _files(folder: Path) -> list[str]:
    """Those that Transformers reads; a folder may hold the same weights in another form beside."""
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    index = msgspec.json.decode((folder / INDEX).read_bytes())
    return sorted(set(index["weight_map"].values()))


def _stored(path: Path) -> dict[str, Stored]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            raise ValueError(f"{path} is cut off or no safetensors file")
        header = msgspec.json.decode(file.read(length))
    header.pop("__metadata__", None)
    found = {name: _place(path, entry, 8 + length) for name, entry in header.items()}
    return dict(sorted(found.items(), key=lambda item: item[1].begin))


def _place(path: Path, entry: dict[str, Any], offset: int) -> Stored:
    if entry["dtype"] not in TYPES:
        raise ValueError(f"{path} holds weights of type {entry['dtype']}")
    begin = offset + entry["data_offsets"][0]
    return Stored(path, TYPES[entry["dtype"]], tuple(entry["shape"]), begin)


def read(stored: Stored) -> torch.Tensor:
    """The whole tensor, in its own memory."""
    with stored.file.open("rb") as file:
        file.seek(stored.begin)
        return _next(file, stored.dtype, stored.weights).view(stored.shape)


def read_pieces(stored: Stored) -> Iterator[torch.Tensor]:
    """The tensor's weights, flat, a piece at a time."""
    with stored.file.open("rb") as file:
        file.seek(stored.begin)
        for at in range(0, stored.weights, PIECE):
            yield _next(file, stored.dtype, min(PIECE, stored.weights - at))


def _next(file: BinaryIO, dtype: torch.dtype, weights: int) -> torch.Tensor:
    data = torch.empty(weights, dtype=dtype)
    view = data.view(torch.uint8).numpy().data
    if file.readinto(view) != len(view):  # type: ignore[attr-defined]
        raise ValueError(f"{file.name} is cut off")
    return data


def write_shards(folder: Path, shards: list[list[Planned]]) -> None:
    """Writes a model's tensors file by file, with the index where there are several."""
    if len(shards) == 1:
        _write(folder / WEIGHTS, shards[0])
        return
    where: dict[str, str] = {}
    for at, shard in enumerate(shards, 1):
        name = f"model-{at:05}-of-{len(shards):05}.safetensors"
        _write(folder / name, shard)
        where |= dict.fromkeys((planned.name for planned in shard), name)
    every = [planned for shard in shards for planned in shard]
    metadata = {"total_parameters": sum(math.prod(planned.shape) for planned in every),
                "total_size": sum(planned.bytes for planned in every)}  # fmt: skip
    index = msgspec.json.encode({"metadata": metadata, "weight_map": where})
    (folder / INDEX).write_bytes(msgspec.json.format(index, indent=2))


def _give_memory_back() -> None:
    """Hands freed memory to the system: glibc keeps what lies between small pieces, file after file
    more of it."""
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def _write(path: Path, shard: list[Planned]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for planned in shard:
        header[planned.name] = {
            "dtype": NAMES[planned.dtype], "shape": planned.shape,
            "data_offsets": (at, at + planned.bytes),
        }  # fmt: skip
        at += planned.bytes
    encoded = msgspec.json.encode(header)
    encoded += b" " * (-len(encoded) % 8)  # the weights begin at a multiple of eight
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for planned in shard:
            _give_memory_back()
            for piece in planned.pieces():
                file.write(piece.contiguous().view(-1).view(torch.uint8).numpy().data)
        if file.tell() != 8 + len(encoded) + at:
            raise ValueError(f"{path} has not the length that its header names")
