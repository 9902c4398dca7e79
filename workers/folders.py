"""Folders that appear whole or not at all, and how large they are."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path


def write_folder(target: Path, fill: Callable[[Path], object]) -> Path:
    """Lets `fill` write into a temporary folder, then puts it at `target` whole."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    fill(partial)
    if target.exists():
        shutil.rmtree(target)
    return partial.rename(target)


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
