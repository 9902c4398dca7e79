"""From a source's name to numbered rows: built-in sets, files, folders and datasets on the hub.

Files are JSON lines, JSON, CSV, TSV, Parquet, Arrow or Feather, and plain text, each also packed
with gzip or Zstandard, which is told by the content. Nothing that a dataset brings is ever run:
no scripts, no pickles.
"""

from __future__ import annotations

import functools
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from workers.data.read import hub
from workers.data.read.conversations import by_conversation
from workers.data.read.hub import split_of
from workers.data.read.jsonl import NumberedRow, ends_with_returns, json_rows
from workers.data.read.tabular import arrow_rows, csv_rows, parquet_rows
from workers.data.read.text import LOOKED_BYTES, WORDS, rule_of, text_rows
from workers.folders import sha256_of, sha256_of_files
from workers.protocol.assets import builtin_dataset
from workers.protocol.recipe import Documents
from workers.protocol.refusal import Refusal
from workers.protocol.sources import ACCEPTED, BUILTIN, Kind, kind_of_file

ABOUT = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
"""Files that `datasets` writes beside the rows."""
READ_BYTES = 1 << 16
TABLES: tuple[Kind, ...] = ("csv", "parquet", "arrow")
"""Kinds of files that may hold a turn a row."""

Say = Callable[[str], None]


def silent(text: str) -> None:
    """Tells nobody."""


class ReadProgress:
    """How far a dataset is read, in bytes of its files as they lie on the disk, and how."""

    def __init__(self) -> None:
        self.bytes = 0
        self.windows: list[str] = []
        """Files that are not UTF-8 and are read as what Windows writes."""


class DataFiles(msgspec.Struct, frozen=True):
    """What a source's name stands for on this disk."""

    source: str
    path: Path
    """A file, or the folder that holds the files."""
    files: tuple[Path, ...]
    documents: Documents = "auto"
    """How text files are split."""

    @property
    def documents_words(self) -> str:
        """How its text files are split into documents; empty where it has none."""
        rules = {text_rule(file, self.documents) for file in self.files
                 if kind_of_file(file) == "text"}  # fmt: skip
        return " or ".join(words for rule, words in WORDS.items() if rule in rules)

    def items(self, place: ReadProgress | None = None) -> Iterator[RawRow]:
        """All rows in order, the bad ones among them; `place` is moved on as they are read."""
        place, done = place or ReadProgress(), 0
        for file in self.files:
            name = "" if file == self.path else str(file.relative_to(self.path))
            for row in read_rows(file, place, self.documents):
                yield RawRow(name, *row)
            done += file.stat().st_size
            place.bytes = done  # some kinds are not read from their beginning to their end

    @property
    def bytes(self) -> int:
        """Of all files as they lie on the disk, packed or not."""
        return sum(file.stat().st_size for file in self.files)

    @property
    def sha256(self) -> str:
        """Of the file; of a folder, of its files' names and contents, in order."""
        if self.files == (self.path,):
            return sha256_of(self.path)
        return sha256_of_files(self.files, self.path)


class RawRow(NamedTuple):
    """One row of a dataset: its file where there are several, its line, its value or fault."""

    file: str
    line: int
    value: Any
    excerpt: str = ""


def find(source: str, say: Say = silent, documents: Documents = "auto") -> DataFiles:
    """The files behind a recipe's `source`, fetched from the hub where they are there.

    Args:
        say: told when something slow begins.
        documents: how text files are split.

    Raises:
        Refusal: there are none, or the hub does not give them.
    """
    if source.startswith(BUILTIN):
        path = builtin_dataset(source.removeprefix(BUILTIN))
        return DataFiles(source, path, (path,))
    path = Path(source).expanduser()
    if path.is_file():
        return DataFiles(source, path, (path,), documents)
    if path.is_dir():
        return DataFiles(source, path, _files_of(path), documents)
    wanted = hub.parse(source)
    if wanted is not None and kind_of_file(path) is None:
        folder, files = hub.fetch(wanted, say)
        return DataFiles(source, folder, tuple(files), documents)
    raise Refusal(
        f"There is no dataset at {source}.",
        "The path may be misspelt, or the file was moved since the recipe was written.",
        f"Give the path of a file or a folder ({ACCEPTED}), builtin:arithmetic, or org/name of a "
        "dataset on the hub.",
    )


def locate(source: str) -> Path:
    """The file or folder that a source names; raises `Refusal` when there is none."""
    return find(source).path


def _files_of(folder: Path) -> tuple[Path, ...]:
    """The data files that lie directly in a folder; plain text only where there is nothing else."""
    shown = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    files = [
        path for path in shown if path.is_file() and path.name not in ABOUT and kind_of_file(path)
    ]
    tables = [path for path in files if kind_of_file(path) != "text"]
    files = tables or files
    if not files:
        inner = [path.name for path in shown if path.is_dir()]
        raise Refusal(
            f"The folder {folder} holds no data file.",
            f"It holds the folders {', '.join(inner)}, which are not looked into."
            if inner
            else f"Read are {ACCEPTED}.",
            "Name the folder that holds the files to learn from.",
        )
    splits = {split for path in files if (split := split_of(path.name))}
    if len(splits) > 1:
        raise Refusal(
            f"The folder {folder} holds several splits: {', '.join(sorted(splits))}.",
            "Rows to measure on would be learnt from.",
            f"Name one file, for example {next(p for p in files if split_of(p.name))}.",
        )
    return tuple(files)


def read_rows(
    path: Path, place: ReadProgress | None = None, documents: Documents = "auto"
) -> Iterator[NumberedRow]:
    """The rows of one file, the bad ones among them; raises `Refusal` where it cannot be read."""
    try:
        place = place or ReadProgress()
        with _opened(path, place) as stream:
            read = _reader(path, stream, documents, place)
            rows = read(_with_line_feeds(stream), str(path))
            yield from by_conversation(rows) if kind_of_file(path) in TABLES else rows
    except (gzip.BadGzipFile, zlib.error, EOFError) as fault:
        raise _broken(path, f"{fault}") from fault
    except OSError as fault:
        if fault.strerror is None:  # from the Zstandard reader
            raise _broken(path, f"{fault}") from fault
        raise Refusal(
            f"The dataset {path} cannot be read: {fault.strerror}.",
            "It may belong to somebody else or lie on a disk that is gone.",
            "Make the file readable, or copy it elsewhere.",
        ) from fault


def _broken(path: Path, fault: str) -> Refusal:
    return Refusal(
        f"The packed dataset {path} cannot be unpacked to its end.",
        f"{fault.rstrip('.')}.",
        "The file is cut off or damaged; fetch it again.",
    )


def text_rule(path: Path, asked: Documents) -> Documents:
    """How a text file is split into documents, by what was asked or else by its beginning."""
    if asked != "auto":
        return asked
    with _opened(path, ReadProgress()) as stream:
        return rule_of(_with_line_feeds(stream).read(LOOKED_BYTES))


def _reader(
    path: Path, stream: io.BufferedReader, documents: Documents, place: ReadProgress
) -> Callable[[Any, str], Iterator[NumberedRow]]:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    match kind_of_file(path) or _kind_by_content(path, stream):
        case "json":
            return functools.partial(json_rows, document=".json" in suffixes)
        case "csv":
            delimiter = "\t" if ".tsv" in suffixes else ""
            return functools.partial(csv_rows, delimiter=delimiter, by_windows=place.windows.append)
        case "text":
            return functools.partial(text_rows, rule=text_rule(path, documents))
        case "parquet":
            return _whole(parquet_rows, path)
        case "arrow":
            return _whole(arrow_rows, path)


def _kind_by_content(path: Path, stream: io.BufferedReader) -> Kind:
    head = stream.peek(64)[:64]
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"ARROW1"):
        return "arrow"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        return "json"
    raise Refusal(
        f"What {path} holds cannot be told.",
        f"Its name ends with none of {ACCEPTED}.",
        "Rename it after what it holds. Pickles (.pkl, .pt, .bin) are never read: opening one can "
        "run code.",
    )


def _whole(reader: Callable[[Any, str], Iterator[NumberedRow]], path: Path) -> Any:
    """A reader that seeks: of the file itself, or of the whole content where it is packed."""

    def read(stream: io.BufferedReader, name: str) -> Iterator[NumberedRow]:
        import pyarrow

        if _packing(path):
            yield from reader(pyarrow.BufferReader(stream.read()), name)
            return
        with pyarrow.memory_map(str(path)) as mapped:
            yield from reader(mapped, name)

    return read


def _with_line_feeds(stream: io.BufferedReader) -> io.BufferedReader:
    """The stream, or one with line feeds where its lines end with carriage returns alone."""
    returns = ends_with_returns(stream.peek(READ_BYTES))
    return io.BufferedReader(_LineFeeds(stream)) if returns else stream


class _LineFeeds(io.RawIOBase):
    """Text whose lines end with carriage returns alone, with line feeds in their place."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer)).replace(b"\r", b"\n")
        buffer[: len(data)] = data
        return len(data)


class _Counted(io.FileIO):
    """A file that says how many of its bytes were read."""

    def __init__(self, path: Path, place: ReadProgress) -> None:
        super().__init__(path)
        self._place = place

    def readinto(self, buffer: Any) -> int | None:
        count = super().readinto(buffer)
        self._place.bytes += count or 0
        return count

    def readall(self) -> bytes:
        data = super().readall()
        self._place.bytes += len(data)
        return data


@contextmanager
def _opened(path: Path, place: ReadProgress) -> Iterator[io.BufferedReader[Any]]:
    """The file's content, unpacked."""
    packing = _packing(path)
    with io.BufferedReader(_Counted(path, place), READ_BYTES) as file:
        if not packing:
            yield file
            return
        with _unpacked(file, packing) as unpacked:
            yield unpacked


def _unpacked(file: Any, packing: str) -> io.BufferedReader[Any]:
    if packing == "gzip":
        return io.BufferedReader(gzip.GzipFile(fileobj=file))  # type: ignore[arg-type]
    import pyarrow

    return io.BufferedReader(pyarrow.CompressedInputStream(file, "zstd"))  # type: ignore[arg-type]


def _packing(path: Path) -> str:
    with path.open("rb") as file:
        magic = file.read(4)
    if magic.startswith(b"\x1f\x8b"):
        return "gzip"
    return "zstd" if magic == b"\x28\xb5\x2f\xfd" else ""
