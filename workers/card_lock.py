"""Who has a card: a lock that the system ends with its process, and the names of those within it.

A card is a folder under the user's runtime folder, whatever the studio's home, so that all of the
user's processes meet there.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec
import platformdirs

from workers.host import lives
from workers.protocol import wire
from workers.protocol.cards import Holder

LOCK, HOLDERS, KEPT = "lock", "*.json", "kept"
KEPT_S = 30.0
"""How long a process may take to begin anew until its card is given to others."""
SHARERS = 16
"""Processes that may share a card on Windows, whose locks are not shared: each locks one byte."""


class Kept(msgspec.Struct, frozen=True):
    """A card is for one job alone."""

    holder: Holder
    until: float
    """Seconds since the epoch."""


def cards_folder() -> Path:
    """Holds a folder for each card."""
    return platformdirs.user_runtime_path("finetune-studio") / "cards"


def holders(card: str) -> list[Holder]:
    """The live processes that have a card. What a killed one has left is not heeded."""
    return [holder for holder in _written(cards_folder() / card).values() if _lives(holder)]


def keep(card: str, holder: Holder, seconds: float = KEPT_S) -> None:
    """Lets no other job have a card that is held, for so long after it is released, while its
    holder's process lives: it may begin anew as another image of itself."""
    kept = Kept(holder, time.time() + seconds)
    wire.write_atomically(cards_folder() / card / KEPT, msgspec.json.encode(kept))


def _is_kept(folder: Path, job: str) -> bool:
    """Whether a card is kept for another job."""
    try:
        kept = msgspec.json.decode((folder / KEPT).read_bytes(), type=Kept)
    except (OSError, msgspec.DecodeError):
        return False
    return kept.holder.job != job and time.time() < kept.until and _lives(kept.holder)


def hold(
    card: str, holder: Holder, *, shared: bool = False
) -> contextlib.AbstractContextManager[None] | None:
    """Takes a card, to be held within the context; None where another process has it.

    Args:
        shared: let others in who share it too.

    Raises:
        OSError: the runtime folder cannot be written, or its file system has no locks.
    """
    folder = cards_folder() / card
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / LOCK).open("a+b")
    try:
        locked = _locked(file, shared)
    except OSError:
        file.close()
        raise
    if locked and not _is_kept(folder, holder.job):
        return _held(file, folder, holder)
    file.close()
    return None


@contextlib.contextmanager
def _held(file: IO[bytes], folder: Path, holder: Holder) -> Iterator[None]:
    with file:
        (folder / KEPT).unlink(missing_ok=True)
        for path, other in _written(folder).items():
            if not _lives(other):
                path.unlink(missing_ok=True)
        mine = folder / f"{holder.pid}.json"
        wire.write_atomically(mine, msgspec.json.encode(holder))
        try:
            yield
        finally:
            mine.unlink(missing_ok=True)


def _written(folder: Path) -> dict[Path, Holder]:
    found: dict[Path, Holder] = {}
    for path in sorted(folder.glob(HOLDERS)):
        with contextlib.suppress(OSError, msgspec.DecodeError):  # gone meanwhile, or another's
            found[path] = msgspec.json.decode(path.read_bytes(), type=Holder)
    return found


def _lives(holder: Holder) -> bool:
    return lives(wire.Alive(holder.pid, holder.started))


def _locked(file: IO[bytes], shared: bool) -> bool:
    """Locks an open file without waiting, until it is closed; false where another has it."""
    if os.name == "nt":
        return _locked_on_windows(file, shared)
    import fcntl

    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _locked_on_windows(file: IO[bytes], shared: bool) -> bool:
    """All bytes for one alone, any one of them for who shares."""
    import msvcrt

    stretches = [(at, 1) for at in range(SHARERS)] if shared else [(0, SHARERS)]
    for at, length in stretches:
        file.seek(at)
        with contextlib.suppress(OSError):
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, length)  # type: ignore[attr-defined]
            return True
    return False
