"""What a whole checkpoint is: a folder with a manifest, written last, whose files have their sizes.

Without its manifest a checkpoint does not exist; one that was cut off half-way looks like a good
one otherwise.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

CHECKPOINTS = "checkpoints"
"""The folder of a run's checkpoints, within the run's folder."""
MANIFEST = "manifest.json"


class Manifest(msgspec.Struct, frozen=True):
    step: int
    files: dict[str, int]
    """Relative path to size in bytes."""


def manifest_of(folder: Path) -> Manifest | None:
    """The manifest, if it is there and every file it names has its size."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
        sizes = {name: (folder / name).stat().st_size for name in manifest.files}
    except (OSError, msgspec.DecodeError):
        return None
    return manifest if sizes == manifest.files else None


def checkpoints_in(checkpoints: Path) -> dict[Path, Manifest | None]:
    """Every checkpoint's folder, with its manifest where it is whole."""
    return {folder: manifest_of(folder) for folder in sorted(checkpoints.glob("checkpoint-*"))}


def last_step(run: Path) -> int:
    """The step of a run's newest whole checkpoint; 0 where there is none."""
    found = checkpoints_in(run / CHECKPOINTS).values()
    return max((manifest.step for manifest in found if manifest is not None), default=0)
