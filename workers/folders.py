"""Folders that appear whole or not at all; sizes and checksums of what lies in them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from workers.protocol.refusal import Refusal


def write_folder(target: Path, fill: Callable[[Path], object]) -> Path:
    """Lets `fill` write into a temporary folder, then puts it at `target` whole."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    fill(partial)
    if target.exists():
        shutil.rmtree(target)
    return partial.rename(target)


def require_room(folder: Path, needed: int) -> None:
    """Refuses to begin what the disk has no room for; makes the folder.

    Args:
        folder: where files will be written.
        needed: bytes of them all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise Refusal(
            f"Writing the model takes {needed / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB.",
            "Its weights are written in 16 bits before anything else can begin.",
            "Free some space, for example by deleting runs or exports, and start again.",
        )


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def sha256_of(path: Path) -> str:
    """Of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_files(files: Iterable[Path], folder: Path) -> str:
    """Over the names within a folder and the contents of some of its files, in their order."""
    total = hashlib.sha256()
    for path in files:
        total.update(path.relative_to(folder).as_posix().encode())
        total.update(bytes.fromhex(sha256_of(path)))
    return total.hexdigest()
