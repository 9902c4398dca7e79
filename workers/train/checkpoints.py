"""Checkpoints that exist only when they are whole: the manifest is written last.

The Trainer writes a folder file by file; one that was cut off half-way looks like a good one. So
every finished folder gets a manifest of its files and sizes, and one without it does not exist.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec

from workers.protocol.wire import write_atomically

MANIFEST = "manifest.json"


class Manifest(msgspec.Struct, frozen=True):
    step: int
    files: dict[str, int]
    """Relative path to size in bytes."""


def seal(folder: Path, step: int) -> None:
    """Flushes a finished checkpoint's files to disk and writes its manifest."""
    files: dict[str, int] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            with path.open("rb") as file:
                os.fsync(file.fileno())
            files[path.relative_to(folder).as_posix()] = path.stat().st_size
    write_atomically(folder / MANIFEST, msgspec.json.encode(Manifest(step, files)))


def manifest_of(folder: Path) -> Manifest | None:
    """The manifest, if it is there and every file it names has its size."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
        sizes = {name: (folder / name).stat().st_size for name in manifest.files}
    except (OSError, msgspec.DecodeError):
        return None
    return manifest if sizes == manifest.files else None


def last_whole(checkpoints: Path) -> tuple[Path, int] | None:
    """The newest whole checkpoint and its step; broken ones are removed on the way."""
    if not checkpoints.is_dir():
        return None
    found: list[tuple[int, Path]] = []
    for folder in checkpoints.glob("checkpoint-*"):
        manifest = manifest_of(folder)
        if manifest is None:
            shutil.rmtree(folder)
        else:
            found.append((manifest.step, folder))
    if not found:
        return None
    step, folder = max(found)
    return folder, step
