"""Where the program writes: one folder, `home`, moved by --home or FINETUNE_STUDIO_HOME."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from workers.protocol.refusal import Refusal

ENVIRONMENT = "FINETUNE_STUDIO_HOME"
LEAST_FREE_BYTES = 512 * 1024**2
"""Below this nothing is started: a checkpoint or an index write could fail half-way."""


@dataclass(frozen=True)
class Home:
    """The folders and files under one home."""

    root: Path

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def store(self) -> Path:
        return self.root / "index.sqlite"

    @property
    def settings(self) -> Path:
        return self.root / "settings.toml"

    def make(self) -> Home:
        """Makes the folders; raises `Refusal` where they cannot be written."""
        try:
            for folder in (self.root, self.jobs, self.models):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise Refusal(
                f"The folder {self.root} cannot be used: {fault.strerror}.",
                "It may belong to somebody else, or the disk may be full or read-only.",
                f"Name another with --home DIR or the variable {ENVIRONMENT}.",
            ) from fault
        return self

    def require_space(self, least_bytes: int = LEAST_FREE_BYTES) -> None:
        """Refuses when the disk under home has less than `least_bytes` free."""
        free = shutil.disk_usage(self.root).free
        if free < least_bytes:
            raise Refusal(
                f"The disk that holds {self.root} has only {free / 1e6:.0f} MB free.",
                f"A job needs at least {least_bytes / 1e6:.0f} MB to start with.",
                "Free some space, or name a folder on another disk with --home DIR.",
            )


def find_home(given: Path | None = None) -> Home:
    """The home that the command line, the environment or the system names, in that order."""
    named = given or os.environ.get(ENVIRONMENT)
    root = Path(named) if named else platformdirs.user_data_path("finetune-studio")
    return Home(root.expanduser().absolute())
