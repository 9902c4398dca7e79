"""Folders that appear whole or not at all; sizes and checksums of what lies in them."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from workers.protocol import wire
from workers.protocol.refusal import Refusal

SETTLED = 2_000_000_000
"""Nanoseconds after which a change would show in a file's time of change."""


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


def sha256_of_files(
    files: Iterable[Path], folder: Path, sha256_of: Callable[[Path], str] = sha256_of
) -> str:
    """Over the names within a folder and the contents of some of its files, in their order."""
    total = hashlib.sha256()
    for path in files:
        total.update(path.relative_to(folder).as_posix().encode())
        total.update(bytes.fromhex(sha256_of(path)))
    return total.hexdigest()


class Hashed(msgspec.Struct, frozen=True):
    """A file's content, by its hash, as long as the file has this size and time of change."""

    size: int
    changed_ns: int
    sha256: str


class Hashes:
    """Hashes of files, kept in a file of their own, so that large ones are read once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fresh: dict[str, Hashed] = {}
        try:
            self._known = msgspec.json.decode(path.read_bytes(), type=dict[str, Hashed])
        except (OSError, msgspec.DecodeError):
            self._known = {}

    def sha256_of(self, path: Path) -> str:
        place, status = str(path.resolve()), path.stat()
        known = self._known.get(place)
        if known and (known.size, known.changed_ns) == (status.st_size, status.st_mtime_ns):
            return known.sha256
        found = sha256_of(path)
        if time.time_ns() - status.st_mtime_ns > SETTLED:
            self._fresh[place] = Hashed(status.st_size, status.st_mtime_ns, found)
        return found

    def keep(self) -> None:
        """Writes what was hashed; files that are gone are forgotten."""
        if not self._fresh:
            return
        every = self._known | self._fresh
        there = {place: one for place, one in every.items() if Path(place).is_file()}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        wire.write_atomically(self._path, msgspec.json.encode(there))
