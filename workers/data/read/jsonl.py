"""Reads JSON lines, a JSON array or a JSON document, naming the line of whatever is wrong with it.

Stricter than the usual readers: bytes that are not UTF-8, a key that stands twice, NaN, half a
surrogate pair and a line that never ends are faults of that row, never guessed at. Lines after a
bad one are read as if nothing had happened.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from workers.data.read.fault import RowFault
from workers.protocol.refusal import Refusal

MAX_ROW_BYTES = 8 << 20
"""A longer row is a fault: nobody trains on it, and a file without line ends would fill memory."""
UTF8_MARK = b"\xef\xbb\xbf"
WIDE = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
"""Byte order marks of encodings that cannot be read as lines of UTF-8, the longer ones first."""


class NumberedRow(NamedTuple):
    """One row as it stands in a file: its line, counted from 1, and its value or its fault."""

    line: int
    value: Any
    """The row, or a `RowFault`."""
    excerpt: str = ""
    """The beginning of a faulty row's text."""


EXCERPT = 200


def json_rows(
    stream: io.BufferedReader, name: str, *, document: bool = False
) -> Iterator[NumberedRow]:
    """The rows of an opened file.

    Args:
        name: the file's, for refusals.
        document: whether objects may span lines where the first line alone is not one.

    Raises:
        Refusal: the file is in an encoding of wide characters, so that no line can be read.
    """
    head = start(stream, name)
    if head.lstrip()[:1] == b"[":
        yield from _Document(_text(stream.read())).array()
        return
    if document:
        data = stream.read()
        if _spans_lines(data) or b"\n" not in data.strip():
            yield from _Document(_text(data)).values()
            return
        stream = io.BufferedReader(io.BytesIO(data))  # type: ignore[arg-type]
    strict = Strict()
    for number, line in enumerate(lines(stream), start=1):
        if line is None or line.strip():
            yield read_line(number, line, strict)


def start(stream: io.BufferedReader, name: str) -> bytes:
    """The first bytes, unread, behind a byte order mark of UTF-8; refuses UTF-16 and UTF-32."""
    head = stream.peek(64)[:64]
    wide = next((WIDE[mark] for mark in WIDE if head.startswith(mark)), "")
    if not wide:
        wide = {2: "UTF-16", 3: "UTF-32"}.get(head[:4].count(0), "")
    if wide:
        raise Refusal(
            f"The dataset {name} is not UTF-8 text: it reads like {wide}.",
            "Some editors and spreadsheets save 'Unicode' that way.",
            "Save it again as UTF-8.",
        )
    if head.startswith(UTF8_MARK):
        stream.read(len(UTF8_MARK))
        head = head[len(UTF8_MARK) :]
    return head


def lines(stream: io.BufferedReader) -> Iterator[bytes | None]:
    """Lines without their ends; one that is too long comes as None and is never held whole."""
    while line := stream.readline(MAX_ROW_BYTES + 2):
        if len(line.rstrip(b"\r\n")) <= MAX_ROW_BYTES:
            yield line.rstrip(b"\r\n")
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(MAX_ROW_BYTES)
        yield None


def read_line(number: int, line: bytes | None, strict: Strict | None = None) -> NumberedRow:
    """One line of JSON as a row or a fault; whoever reads many brings one decoder along."""
    if line is None:
        limit = f"{MAX_ROW_BYTES >> 20} MiB"
        return NumberedRow(
            number, RowFault("size", f"it is longer than {limit}; a line end may be missing")
        )
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return NumberedRow(
            number, RowFault("encoding", not_utf8(line)), line[:EXCERPT].decode("latin-1")
        )
    try:
        return NumberedRow(number, parse(text, strict or Strict()))
    except RowFault as fault:
        return NumberedRow(number, fault, text[:EXCERPT])


def parse(text: str, decoder: Strict) -> Any:
    """One JSON value; raises `RowFault` where it is none."""
    if text.startswith("\ufeff"):
        raise RowFault(
            "encoding", "a byte order mark stands before it; files were joined as they were"
        )
    decoder.forget()
    try:
        value, end = decoder.json.raw_decode(text, _skip(text, 0))
    except json.JSONDecodeError as fault:
        raise RowFault("json", _reason(fault, text)) from None
    except RecursionError:
        raise RowFault("json", "not valid JSON: it is nested too deep") from None
    except ValueError:
        raise RowFault("json", "not valid JSON: it holds a number of too many digits") from None
    if text[end:].strip():
        raise RowFault("json", f"not valid JSON: more text follows it from column {end + 1}")
    decoder.check(text)
    return value


def not_utf8(data: bytes) -> str:
    """The fault of bytes that are not UTF-8, with the encoding that they look like."""
    return f"not UTF-8 text; it reads like {encoding_of(data)}, save it again as UTF-8"


WINDOWS = "cp1252 (Windows)"
LATIN = "Latin-1"
MANY = re.compile(rb"[\x80-\xff]{4}")
"""What hardly stands in words of Latin letters."""


def encoding_of(data: bytes) -> str:
    """The encoding that bytes which are not UTF-8 look like."""
    high = [byte for byte in data if byte >= 0x80]
    if len(high) > max(4, 0.4 * len(data)):
        return "an encoding such as GB18030 or Shift JIS"
    return WINDOWS if any(0x80 <= byte < 0xA0 for byte in high) else LATIN


def is_by_windows(line: bytes) -> bool:
    """Whether a line that is not UTF-8 was saved by a program such as Excel on Windows: it has the
    line end, or a quotation mark or a dash of its encoding, and reads like Latin letters."""
    named = encoding_of(line)
    if MANY.search(line) or named not in (WINDOWS, LATIN):
        return False
    return named == WINDOWS or line.endswith(b"\r\n")


def ends_with_returns(head: bytes) -> bool:
    """Whether lines end with carriage returns alone, as old Macs' and some exports' do, by the
    beginning of a file."""
    return b"\r" in head.rstrip(b"\r") and b"\n" not in head and b"\0" not in head


def _reason(fault: json.JSONDecodeError, text: str) -> str:
    if "\0" in text:
        return "not valid JSON: it holds NUL bytes, as UTF-16 text and cut-off files do"
    if fault.pos >= len(text.rstrip()) or fault.msg.startswith("Unterminated string"):
        return "not valid JSON: it is cut off"
    hint = ""
    if text[fault.pos : fault.pos + 1] == "'":
        hint = "; JSON wants double quotes"
    return f"not valid JSON: {fault.msg[:1].lower()}{fault.msg[1:]} at column {fault.colno}{hint}"


class Strict:
    """A decoder that remembers what JSON forbids but Python's reader lets pass."""

    def __init__(self) -> None:
        self.fault = ""
        self.json = json.JSONDecoder(object_pairs_hook=self._object, parse_constant=self._constant)

    def forget(self) -> None:
        """Drops what was found in a value that could not be read to its end."""
        self.fault = ""

    def check(self, text: str) -> None:
        """Raises the first fault since the last check."""
        fault, self.fault = self.fault, ""
        if fault:
            raise RowFault("json", fault)
        if ("\\u" in text or not text.isascii()) and SURROGATE.search(text):
            _check_surrogates(text)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            self.fault = self.fault or f'the key "{twice}" stands twice'
        return found

    def _constant(self, name: str) -> None:
        self.fault = self.fault or f"{name} is not valid JSON; write null or leave the key out"


SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")


def _check_surrogates(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RowFault("encoding", not_utf8(text.encode("utf-8", "surrogateescape"))) from None
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise RowFault("encoding", "it holds half a surrogate pair (\\ud800 to \\udfff)") from None


# Values that span lines


def _text(data: bytes) -> str:
    """Text in which bytes that are not UTF-8 stand as lone surrogates, for a fault of their row."""
    return data.decode("utf-8", "surrogateescape")


def _spans_lines(data: bytes) -> bool:
    """Whether the first line is a value that goes on in the next."""
    first = data.lstrip().partition(b"\n")[0].decode("utf-8", "replace")
    try:
        json.JSONDecoder().raw_decode(first)
    except json.JSONDecodeError as fault:
        return first.startswith("{") and fault.pos >= len(first.rstrip())
    except (RecursionError, ValueError):
        return False
    return False


SPACE = re.compile(r"[ \t\r\n]*")


def _skip(text: str, at: int) -> int:
    found = SPACE.match(text, at)
    return found.end() if found else at


class _Document:
    """JSON read value by value, so that each has a line and one that is bad costs no other."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._decoder = Strict()
        self._line, self._counted = 1, 0
        self._resumed = False
        """Whether the last value was given up for the next one that begins a line."""

    def array(self, at: int = 0) -> Iterator[NumberedRow]:
        """The items of the array that begins at or after `at`."""
        at = self._text.index("[", at) + 1
        at = _skip(self._text, at)
        if self._text[at : at + 1] == "]":
            yield from self._rest(at + 1)
            return
        while True:
            end, row = self._value(at)
            yield row
            if end is None:
                return
            end = _skip(self._text, end)
            if self._resumed:
                at, self._resumed = end, False
                continue
            if self._text[end : end + 1] == "]":
                yield from self._rest(end + 1)
                return
            if self._text[end : end + 1] == ",":
                end += 1
            elif end < len(self._text):
                yield self._bad(end, "not valid JSON: a comma is missing before this row")
            at = _skip(self._text, end)
            if at >= len(self._text):
                yield self._bad(len(self._text.rstrip()), "not valid JSON: the array is cut off")
                return

    def values(self) -> Iterator[NumberedRow]:
        """Objects that follow one another; or the rows inside the only one, as in {"data": []}."""
        at, rows = _skip(self._text, 0), []
        while at < len(self._text):
            end, row = self._value(at)
            rows.append(row)
            if end is None:
                break
            at = _skip(self._text, end)
        inner = _inner_list(rows[0].value) if len(rows) == 1 else ""
        if inner:
            key = self._text.index(json.dumps(inner, ensure_ascii=False))
            self._line, self._counted = 1, 0
            yield from self.array(key)
            return
        yield from rows

    def _value(self, at: int) -> tuple[int | None, NumberedRow]:
        """The value at a place and where it ends; None where nothing after it can be told apart."""
        line = self._line_of(at)
        try:
            value, end = self._decoder.json.raw_decode(self._text, at)
            self._decoder.check(self._text[at:end])
            if end - at > MAX_ROW_BYTES:
                raise RowFault("size", f"it is longer than {MAX_ROW_BYTES >> 20} MiB")
        except RowFault as fault:
            return self._end(at), NumberedRow(line, fault, self._text[at : at + EXCERPT])
        except (RecursionError, ValueError) as fault:
            self._decoder.forget()
            reason = "not valid JSON: it is nested too deep or holds too large a number"
            if isinstance(fault, json.JSONDecodeError):
                reason = self._reason(fault)
            return self._resume(at), NumberedRow(
                line, RowFault("json", reason), self._text[at : at + EXCERPT]
            )
        return end, NumberedRow(line, value)

    def _reason(self, fault: json.JSONDecodeError) -> str:
        if fault.pos >= len(self._text.rstrip()):
            return "not valid JSON: the file is cut off"
        return f"not valid JSON: {fault.msg[:1].lower()}{fault.msg[1:]} (line {fault.lineno})"

    def _end(self, at: int) -> int:
        return json.JSONDecoder().raw_decode(self._text, at)[1]

    def _resume(self, at: int) -> int | None:
        """Where the next object begins on a line of its own, as far in as this one."""
        begun = self._text.rfind("\n", 0, at) + 1
        indent = self._text[begun:at]
        if indent.strip(" \t"):
            return None
        found = re.compile(r"\n" + indent + r"(?=\{)").search(self._text, at)
        if found is None:
            return None
        self._resumed = True
        return found.end()

    def _rest(self, at: int) -> Iterator[NumberedRow]:
        rest = self._text[at:].strip()
        if rest and not rest.startswith(("}", ",")):
            yield self._bad(_skip(self._text, at), "not valid JSON: text follows the array's end")

    def _bad(self, at: int, reason: str) -> NumberedRow:
        return NumberedRow(
            self._line_of(at), RowFault("json", reason), self._text[at : at + EXCERPT]
        )

    def _line_of(self, at: int) -> int:
        self._line += self._text.count("\n", self._counted, at)
        self._counted = at
        return self._line


def _inner_list(value: Any) -> str:
    """The key of the only list of objects in an object that is no row itself."""
    if not isinstance(value, dict):
        return ""
    lists = {
        key: item
        for key, item in value.items()
        if isinstance(item, list) and item and all(isinstance(one, dict) for one in item)
    }
    turns = any({"role", "from"} & one.keys() for item in lists.values() for one in item)
    return next(iter(lists)) if len(lists) == 1 and not turns else ""
