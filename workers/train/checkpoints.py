"""Checkpoints that exist only when they are whole: sealed by a manifest, written last.

The Trainer writes a folder file by file; `workers.protocol.checkpoints` tells which are whole.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec

from workers.protocol.checkpoints import MANIFEST, Manifest, checkpoints_in
from workers.protocol.wire import write_atomically

STATE = "trainer_state.json"
"""The Trainer's own state in a checkpoint."""


def seal(folder: Path, step: int) -> None:
    """Flushes a finished checkpoint's files to disk and writes its manifest."""
    files: dict[str, int] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            with path.open("rb") as file:
                os.fsync(file.fileno())
            files[path.relative_to(folder).as_posix()] = path.stat().st_size
    write_atomically(folder / MANIFEST, msgspec.json.encode(Manifest(step, files)))


def last_whole(checkpoints: Path) -> tuple[Path, int] | None:
    """The newest whole checkpoint and its step; broken ones are removed on the way."""
    found: list[tuple[int, Path]] = []
    for folder, manifest in checkpoints_in(checkpoints).items():
        if manifest is None:
            shutil.rmtree(folder)
        else:
            found.append((manifest.step, folder))
    if not found:
        return None
    step, folder = max(found)
    return folder, step


def read_as_trainer_state(folder: Path, batch_size: int) -> None:
    """Makes the Trainer's state readable in a checkpoint that TRL's PPOTrainer made.

    It trained PPO in earlier versions, counted an `episode` there, which the Trainer refuses to
    read, and left the batch's size open. The file keeps its length, which the manifest names.
    """
    path = folder / STATE
    written = path.read_bytes()
    state = msgspec.json.decode(written)
    if "episode" not in state:
        return
    del state["episode"]
    state["train_batch_size"] = batch_size
    write_atomically(path, msgspec.json.encode(state).ljust(len(written)))
