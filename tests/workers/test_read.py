"""Files of every kind become the same rows; what is broken in them is named, never guessed at."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from workers.data.browse.line_index import LineIndex
from workers.data.browse.row_cache import open_rows
from workers.data.read.conversations import MOST_TURNS
from workers.data.read.fault import RowFault
from workers.data.read.files import find, read_rows
from workers.data.read.jsonl import MAX_ROW_BYTES
from workers.data.reader import BadRow, Table, read, read_table
from workers.protocol.refusal import Refusal

ROWS = [{"prompt": f"What is {n}+1?", "completion": f"It is {n + 1}: ü, 数."} for n in range(7)]
GOOD = b'{"prompt": "a", "completion": "b"}'


def _lines(*rows: bytes) -> bytes:
    return b"\n".join(rows) + b"\n"


def _json_lines(rows: list[dict[str, Any]] = ROWS) -> bytes:
    return _lines(*(json.dumps(row, ensure_ascii=False).encode() for row in rows))


def _csv(delimiter: str = ",") -> bytes:
    lines = [delimiter.join(ROWS[0]), *(delimiter.join(f'"{v}"' for v in r.values()) for r in ROWS)]
    return "\r\n".join(lines).encode()


def _stream(path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


def _twice() -> bytes:
    """A Parquet file with two columns of one name."""
    names, sink = ["prompt", "completion", "completion"], pa.BufferOutputStream()
    table = pa.Table.from_arrays([pa.array(["a"])] * 3, names=names)
    parquet.write_table(table, sink)
    return sink.getvalue().to_pybytes()


# Round trips

WRITERS: dict[str, Callable[[Path], object]] = {
    "d.jsonl": lambda path: path.write_bytes(_json_lines()),
    "d.ndjson": lambda path: path.write_bytes(_json_lines()),
    "array.json": lambda path: path.write_text(json.dumps(ROWS, indent=2)),
    "lines.json": lambda path: path.write_bytes(_json_lines()),
    "document.json": lambda path: path.write_text(json.dumps({"version": 1, "data": ROWS})),
    "objects.json": lambda path: path.write_text("\n".join(json.dumps(r, indent=1) for r in ROWS)),
    "d.csv": lambda path: path.write_bytes(_csv()),
    "semicolons.csv": lambda path: path.write_bytes(b"\xef\xbb\xbf" + _csv(";")),
    "d.tsv": lambda path: path.write_bytes(_csv("\t")),
    "d.parquet": lambda path: parquet.write_table(pa.Table.from_pylist(ROWS), path),
    "d.feather": lambda path: feather.write_feather(pa.Table.from_pylist(ROWS), str(path)),
    "d.arrow": _stream,
    "unnamed": lambda path: path.write_bytes(_json_lines()),
}


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, name: str, packing: str) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    if packing:
        data = path.read_bytes()
        path = tmp_path / (name + packing)
        packed = (
            gzip.compress(data) if packing == ".gz" else pa.compress(data, "zstd", asbytes=True)
        )
        path.write_bytes(packed)
    table = read_table(str(path))
    told = [(row.prompt[0]["content"], row.completion[0]["content"]) for row in table.rows]
    assert told == [tuple(row.values()) for row in ROWS]
    assert table.format == "prompt_completion"
    assert len(table.sha256) == 64


def test_conversations_survive_parquet_and_csv(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "a, b"}, {"role": "assistant", "content": 'c "d"\ne'}]
    rows = [{"messages": said}] * 3
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    cell = json.dumps(said).replace('"', '""')
    (tmp_path / "d.csv").write_text(f'messages\n"{cell}"\n')
    assert [row.messages for row in read_table(str(tmp_path / "d.parquet")).rows] == [said] * 3
    assert read_table(str(tmp_path / "d.csv")).rows[0].messages == said


def test_thumbs_survive_csv(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("prompt,completion,label\na,b,True\na,c,0\n")
    assert [row.label for row in read_table(str(tmp_path / "d.csv")).rows] == [True, False]


def test_plain_text_gives_a_row_a_paragraph(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_bytes(b"\xef\xbb\xbfOne\ntwo.\r\n\r\n\r\nThree.\n\ncaf\xe9\n")
    table = read_table(str(path), bad_rows="skip")
    assert [row.text for row in table.rows] == ["One\ntwo.", "Three."]
    assert [(bad.line, "Latin-1" in bad.reason) for bad in table.bad] == [(7, True)]
    assert table.detected.stages == ["cpt"]


# Folders


def test_a_folder_is_its_files_in_order_without_notes_and_indexes(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_bytes(_json_lines(ROWS[4:]))
    (tmp_path / "a.csv").write_bytes(_csv())
    (tmp_path / "README.txt").write_text("About these rows.")
    (tmp_path / "dataset_info.json").write_text("{}")
    (tmp_path / ".hidden.jsonl").write_text("{")
    table = read_table(str(tmp_path))
    assert len(table.rows) == 7 + 3
    before = table.sha256
    (tmp_path / "b.jsonl").write_bytes(_json_lines(ROWS[3:]))
    assert read_table(str(tmp_path)).sha256 != before


def test_a_bad_row_in_a_folder_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(_json_lines())
    (tmp_path / "b.jsonl").write_bytes(_lines(GOOD, b"{"))
    with pytest.raises(Refusal, match=r"b\.jsonl line 2: not valid JSON: it is cut off"):
        read_table(str(tmp_path))


def test_a_folder_that_would_mix_training_and_test_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="holds no data file"):
        read_table(str(tmp_path))
    for name in ("train-00000-of-00001.jsonl", "test.jsonl"):
        (tmp_path / name).write_bytes(_json_lines())
    with pytest.raises(Refusal, match="several splits: test, train") as caught:
        read_table(str(tmp_path))
    assert "Name one file" in caught.value.remedy


# Broken files: what is written, the lines at fault with a word of their reason, and the good rows


class Broken(NamedTuple):
    data: bytes
    bad: list[tuple[int, str]]
    good: int
    name: str = "d.jsonl"


BROKEN: dict[str, Broken] = {
    "a line that is no JSON": Broken(_lines(GOOD, b"hello", GOOD), [(2, "expecting value")], 2),
    "a stray comma": Broken(
        _lines(GOOD, b'{"prompt": "a",}', GOOD), [(2, "at column 16")], 2
    ),
    "single quotes": Broken(_lines(GOOD, b"{'prompt': 'a'}"), [(2, "double quotes")], 1),
    "a line cut off": Broken(_lines(GOOD, b'{"prompt": "a", "comp'), [(2, "it is cut off")], 1),
    "two rows on a line": Broken(_lines(GOOD, GOOD + GOOD), [(2, "more text follows")], 1),
    "rows that are no objects": Broken(
        _lines(GOOD, b"[1]", b"7"), [(2, "this is list"), (3, "int")], 1
    ),
    "a missing column": Broken(
        _lines(GOOD, b'{"prompt": "a"}'), [(2, "the column completion is missing")], 1
    ),
    "a column of a wrong type": Broken(
        _lines(GOOD, b'{"prompt": "a", "completion": 3}'), [(2, '"completion" must be text')], 1
    ),
    "a null": Broken(
        _lines(GOOD, b'{"prompt": "a", "completion": null}'), [(2, '"completion" is empty')], 1
    ),
    "an empty turn": Broken(
        _lines(GOOD, b'{"prompt": "a", "completion": " "}'), [(2, "message 2 is empty")], 1
    ),
    "mixed shapes": Broken(
        _lines(GOOD, b'{"text": "a"}', GOOD), [(2, "it is text where the rows before are")], 2
    ),
    "roles out of turn": Broken(
        _lines(GOOD, b'{"prompt": [{"role": "assistant", "content": "a"}], "completion": "b"}'),
        [(2, "first message must be the user's")], 1,
    ),
    "Latin-1": Broken(
        _lines(GOOD, '{"prompt": "café", "completion": "b"}'.encode("latin-1"), GOOD),
        [(2, "Latin-1")], 2,
    ),
    "cp1252": Broken(
        _lines(GOOD, '{"prompt": "“a”", "completion": "b"}'.encode("cp1252")), [(2, "cp1252")], 1
    ),
    "Shift JIS": Broken(
        _lines(GOOD, "日本語日本語".encode("shift-jis")), [(2, "GB18030 or Shift JIS")], 1
    ),
    "UTF-16 behind UTF-8": Broken(
        _lines(GOOD) + '{"prompt": "a"}'.encode("utf-16-le"), [(2, "NUL bytes")], 1
    ),
    "a byte order mark within": Broken(
        _lines(GOOD, b"\xef\xbb\xbf" + GOOD), [(2, "byte order mark")], 1
    ),
    "a byte order mark on every line": Broken(
        _lines(*[b"\xef\xbb\xbf" + GOOD] * 3), [(2, "byte order mark"), (3, "byte order mark")], 1
    ),
    "a column of many types": Broken(
        _lines(GOOD, b'{"prompt": 3, "completion": "b"}', b'{"prompt": ["a"], "completion": "b"}',
               b'{"prompt": {"a": 1}, "completion": "b"}', b'{"prompt": "a", "completion": true}',
               b'{"prompt": [{"role": "user", "content": "a"}], "completion": "b"}', GOOD),
        [(2, '"prompt" must be text'), (3, "message 1 must be an object"),
         (4, '"prompt" must be text'), (5, '"completion" must be text')], 3,
    ),
    "lines that end with CRLF": Broken(
        b"\r\n".join([GOOD, b'{"prompt":', GOOD, b""]), [(2, "cut off")], 2
    ),
    "lines that end with CR": Broken(
        b"\r".join([GOOD, b'{"prompt":', GOOD, b""]), [(2, "cut off")], 2
    ),
    "CSV whose lines end with CR": Broken(
        b'prompt,completion\ra,b\rc\rd,"e\rf"\r', [(3, "1 fields where")], 2, "d.csv"
    ),
    "an array whose lines end with CR": Broken(
        b"[\r" + GOOD + b',\r{"prompt": "a", "prompt": "b"}\r]', [(3, "stands twice")], 1, "d.json"
    ),
    "CSV with a field of many megabytes": Broken(
        b'prompt,completion\na,b\na,"' + b"a" * (MAX_ROW_BYTES + 1) + b'"\nc,d\n',
        [(3, "field limit")], 2, "d.csv",
    ),
    "CSV in two encodings": Broken(
        "prompt,completion\r\nä,b\r\n".encode() + "ö,d\r\n".encode("latin-1"),
        [(3, "Latin-1")], 1, "d.csv",
    ),
    "CSV of Chinese letters by Windows": Broken(
        b"prompt,completion\r\na,b\r\n" + "这是什么,好\r\n".encode("gbk"),
        [(3, "not UTF-8 text")], 1, "d.csv",
    ),
    "a key twice": Broken(
        _lines(GOOD, b'{"prompt": "a", "prompt": "c", "completion": "b"}'),
        [(2, 'the key "prompt" stands twice')], 1,
    ),
    "a key twice, deep": Broken(
        _lines(GOOD, b'{"prompt": [{"role": "user", "role": "x", "content": "a"}]}'),
        [(2, 'the key "role" stands twice')], 1,
    ),
    "NaN and Infinity": Broken(
        _lines(GOOD, b'{"prompt": "a", "completion": NaN}', b'{"prompt": -Infinity}'),
        [(2, "NaN is not valid JSON"), (3, "-Infinity is not")], 1,
    ),
    "half a surrogate pair": Broken(
        _lines(GOOD, rb'{"prompt": "\ud83d", "completion": "b"}'), [(2, "surrogate")], 1
    ),
    "a control character": Broken(
        _lines(GOOD, b'{"prompt": "a\tb", "completion": "b"}'), [(2, "invalid control")], 1
    ),
    "a row of many megabytes": Broken(
        _lines(GOOD, b'{"prompt": "' + b"a" * (MAX_ROW_BYTES + 1), GOOD), [(2, "longer than 8")], 2
    ),
    "nested too deep": Broken(
        _lines(GOOD, b"[" * 200_000, GOOD), [(2, "nested too deep")], 2
    ),
    "a number without end": Broken(
        _lines(GOOD, b'{"a": ' + b"9" * 5000 + b"}", GOOD), [(2, "too many digits")], 2
    ),
    "zeros of a disk that was full": Broken(_lines(GOOD, b"\0" * 4096), [(2, "NUL bytes")], 1),
    "an array with a bad item": Broken(
        b"[\n" + GOOD + b",\n{\"prompt\": oops},\n" + GOOD + b"\n]",
        [(3, "expecting value (line 3)")], 2, "d.json",
    ),
    "an array cut off": Broken(
        b"[" + GOOD + b",\n{\"prompt\": ", [(2, "the file is cut off")], 1, "d.json"
    ),
    "an array with a key twice": Broken(
        b"[" + GOOD + b',\n{"a": 1, "a": 2},\n' + GOOD + b"]", [(2, "stands twice")], 2, "d.json"
    ),
    "an array with bytes of Latin-1": Broken(
        b"[" + GOOD + b',\n{"prompt": "\xe9"},\n' + GOOD + b"]", [(2, "Latin-1")], 2, "d.json"
    ),
    "text behind an array": Broken(
        b"[" + GOOD + b"]\nand more", [(2, "text follows the array's end")], 1, "d.json"
    ),
    "CSV with too few fields": Broken(
        b"prompt,completion\na,b\nc\nd,e\n", [(3, "1 fields where the header has 2")], 2, "d.csv"
    ),
    "CSV with a quotation mark not closed": Broken(
        b'prompt,completion\na,b\n"c,d\ne,f\n', [(3, "not closed")], 1, "d.csv"
    ),
    "CSV in Latin-1": Broken(
        b"prompt,completion\na,b\n\xe9,c\n", [(3, "Latin-1")], 1, "d.csv"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named_and_the_good_rows_survive(tmp_path: Path, name: str) -> None:
    broken = BROKEN[name]
    path = tmp_path / broken.name
    path.write_bytes(broken.data)
    table = read_table(str(path), bad_rows="skip")
    assert [bad.line for bad in table.bad] == [line for line, _ in broken.bad]
    for bad, (_, word) in zip(table.bad, broken.bad, strict=True):
        assert word in bad.reason
    assert len(table.rows) == broken.good
    with pytest.raises(Refusal) as caught:
        read_table(str(path))
    first = broken.bad[0][0]
    assert re.search(rf"\bline {first}: |\blines \({first}, ", caught.value.what)
    assert "skip" in caught.value.remedy


def test_a_file_without_a_good_row_is_refused_even_where_bad_ones_may_be_skipped(
    tmp_path: Path,
) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(_lines(b"{", b"{}"))
    with pytest.raises(Refusal, match="2 of 2 rows"):
        read_table(str(path), bad_rows="skip")
    bad: list[BadRow] = []
    assert read(str(path), bad=bad) is None
    assert [row.line for row in bad] == [1, 2]


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("d.parquet", b"PAR1 is not all that it takes", "cannot be read after row 0"),
        ("d.arrow", b"ARROW1 neither", "cannot be read after row 0"),
        ("d.jsonl.gz", gzip.compress(_json_lines())[:-12], "cannot be unpacked"),
        ("d.jsonl.zst", pa.compress(_json_lines(), "zstd", asbytes=True)[:-5], "be unpacked"),
        ("d.csv", b"a,a\n1,2\n", "with the same one"),
        ("d.parquet", _twice(), "two columns called completion"),
        ("d.jsonl", "{}".encode("utf-16"), "reads like UTF-16"),
        ("d.csv", "prompt".encode("utf-16"), "reads like UTF-16"),
        ("weights.pkl", b"\x80\x04", "cannot be told"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_at_all_is_refused(
    tmp_path: Path, name: str, data: bytes, what: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(Refusal, match=what) as caught:
        read_table(str(path))
    assert str(path) in caught.value.what
    assert caught.value.remedy


def test_no_bytes_crash_the_reader(tmp_path: Path) -> None:
    """Every prefix of a good file, and the file with any one byte changed, is read or refused."""
    data = _json_lines(ROWS[:2])
    changed = [data[:at] for at in range(len(data))]
    changed += [data[:at] + b"\xff" + data[at + 1 :] for at in range(len(data))]
    for name in ("d.jsonl", "d.json", "d.csv", "d.txt"):
        for one in changed[::3]:
            (tmp_path / name).write_bytes(one)
            with contextlib.suppress(Refusal):
                assert isinstance(read_table(str(tmp_path / name), bad_rows="skip"), Table)


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [("“Größe”?{0}Gut – sehr\r\ncafé{0}€ 5\r\n", ";"), ("Größe?{0}Gut\r\n", ","),
     ("a{0}b\n“c”{0}d\n", ",")],
)  # fmt: skip
def test_csv_by_excel_on_windows_is_read_and_said_so(
    tmp_path: Path, text: str, delimiter: str
) -> None:
    path = tmp_path / "d.csv"
    rows = text.format(delimiter)
    path.write_bytes(f"prompt{delimiter}completion\r\n{rows}".encode("cp1252"))
    table = read_table(str(path))
    told = [(row.prompt[0]["content"], row.completion[0]["content"]) for row in table.rows]
    assert told == [tuple(line.split(delimiter)) for line in rows.splitlines()]
    assert table.notes == [f"{path} is not UTF-8 and is read as cp1252, as Excel on Windows saves "
                           "CSV."]  # fmt: skip


def test_lines_that_end_with_returns_are_looked_at_like_others(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_bytes(b"\r".join([GOOD, b"{", GOOD]))
    rows = open_rows(find(str(tmp_path / "d.jsonl")), tmp_path)
    rows.advance(1)
    assert [row.line for row in rows.rows(0, 9)] == [1, 2, 3]
    assert "cut off" in str(next(rows.rows(1, 1)).value)
    rows.close()
    (tmp_path / "d.txt").write_bytes(b"One\rtwo.\r\rThree.\r")
    assert [row.text for row in read_table(str(tmp_path / "d.txt")).rows] == ["One\ntwo.", "Three."]


def test_parquet_with_nulls_inside_names_each_row_and_drops_what_only_fills_up(
    tmp_path: Path,
) -> None:
    arguments = pa.struct([("a", pa.int64()), ("b", pa.int64())])
    call = pa.struct([("function", pa.struct([("name", pa.string()), ("arguments", arguments)]))])
    turn = pa.struct([("role", pa.string()), ("content", pa.string()),
                      ("tool_calls", pa.list_(call))])  # fmt: skip
    asked, said = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}
    called = {"role": "assistant",
              "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}  # fmt: skip
    talks = [[asked, said], None, [None, said], [{"role": "user"}, said],
             [{"content": "Hi"}, said], [], [asked, called]]  # fmt: skip
    schema = pa.schema([("messages", pa.list_(turn))])
    rows = [{"messages": talk} for talk in talks]
    parquet.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "d.parquet")
    table = read_table(str(tmp_path / "d.parquet"), bad_rows="skip")
    assert [bad.line for bad in table.bad] == [2, 3, 4, 5, 6]
    words = ("is empty", "must be an object", "no text content", "the role None", "at least one")
    assert all(word in bad.reason for word, bad in zip(words, table.bad, strict=True))
    assert table.rows[0].messages == [asked, said]
    function = table.rows[1].completion[0]["tool_calls"][0]["function"]
    assert function == {"name": "f", "arguments": {"a": 1}}


def test_a_large_row_of_parquet_is_named(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": "c" * (10 << 20)}]
    parquet.write_table(pa.Table.from_pylist([*rows, rows[0]]), tmp_path / "d.parquet")
    table = read_table(str(tmp_path / "d.parquet"), bad_rows="skip")
    assert [(bad.line, bad.reason) for bad in table.bad] == [(2, "it is longer than 8 MiB")]
    assert len(table.rows) == 2


def test_ten_thousand_columns_are_read_and_named_briefly(tmp_path: Path) -> None:
    wide = {f"column_{number}": number for number in range(10_000)}
    good = json.dumps({"prompt": "a", "completion": "b"} | wide).encode()
    (tmp_path / "d.jsonl").write_bytes(_lines(good, json.dumps(wide).encode(), good))
    table = read_table(str(tmp_path / "d.jsonl"), bad_rows="skip")
    assert (len(table.rows), [bad.line for bad in table.bad]) == (2, [2])
    assert len(table.bad[0].reason) < 300
    with pytest.raises(Refusal) as caught:
        read_table(str(tmp_path / "d.jsonl"), mapping={"ask": "prompt", "said": "completion"})
    assert len(str(caught.value)) < 600


# Tables with a turn a row

TURNS = """conversation_id,role,content,topic
7,system,Be brief.,sums
7,user,1+2?,sums
7,assistant,3,sums
8,user,Hi,greetings
8,assistant,"Yes,
hello",greetings
"""


def test_turns_of_a_table_become_the_conversations_that_they_belong_to(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(TURNS)
    rows = list(csv.DictReader(io.StringIO(TURNS, newline="")))
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    for name in ("d.csv", "d.parquet"):
        table = read_table(str(tmp_path / name))
        told = [[(turn["role"], turn["content"]) for turn in row.messages] for row in table.rows]
        assert told == [
            [("system", "Be brief."), ("user", "1+2?"), ("assistant", "3")],
            [("user", "Hi"), ("assistant", "Yes,\nhello")],
        ]
        assert set(table.detected.unused) == {"conversation_id", "topic"}
    shown = open_rows(find(str(tmp_path / "d.csv")), tmp_path)
    shown.advance(1)
    assert [(row.line, len(row.value["messages"])) for row in shown.rows(0, 9)] == [(2, 3), (5, 2)]
    shown.close()


def test_a_conversation_that_lost_a_turn_or_goes_on_elsewhere_is_named(tmp_path: Path) -> None:
    broken = TURNS.replace("7,assistant,3,sums", "7,assistant,3") + TURNS.partition("\n")[2]
    (tmp_path / "d.csv").write_text(broken)
    table = read_table(str(tmp_path / "d.csv"), bad_rows="skip")
    assert [(bad.line, bad.reason) for bad in table.bad] == [
        (4, "it has 3 fields where the header has 4"),
        (2, "line 4 of its conversation 7 cannot be used"),
        (8, "conversation 7 goes on behind another one; sort the rows by conversation_id"),
        (11, "conversation 8 goes on behind another one; sort the rows by conversation_id"),
    ]
    assert [row.messages[0]["content"] for row in table.rows] == ["Hi"]


def test_a_column_that_tells_no_conversations_apart_is_named(tmp_path: Path) -> None:
    rows = [f"1,{('user', 'assistant')[n % 2]},a" for n in range(MOST_TURNS + 4)]
    (tmp_path / "d.csv").write_text("\n".join(["session_id,role,content", *rows]))
    with pytest.raises(Refusal, match="session_id may not tell conversations apart"):
        read_table(str(tmp_path / "d.csv"), bad_rows="skip")


# Pages


def test_pages_give_what_reading_through_gives(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    rows = [json.dumps({"n": n}).encode() for n in range(25)]
    path.write_bytes(b"\xef\xbb\xbf" + b"\n".join([*rows[:10], b"", b" \r", b"{", *rows[10:]]))
    for chunk_bytes in (1 << 20, 7):
        pages = LineIndex(path, chunk_bytes)
        begun = [one.row.value["n"] for one in pages.rows(0, 10)]
        assert begun == list(range(10))
        second = list(pages.rows(10, 10))
        assert [one.row.line for one in second] == list(range(13, 23))
        assert "cut off" in str(second[0].row.value)
        assert [one.row.line for one in pages.rows(20, 10)] == list(range(23, 29))
        assert [one.row.value["n"] for one in pages.rows(25, 9)] == [24]
        assert list(pages.rows(26, 10)) == []
        assert pages.count() == 26
        through = [row for row in read_rows(path) if not isinstance(row.value, RowFault)]
        again = [one.row for one in pages.rows(0, 99)]
        assert [row for row in again if not isinstance(row.value, RowFault)] == through
        pages.close()


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b"", 0), (b"1", 1), (b"1\n", 1), (b"1\n\n2", 2), (b"\n\n", 0), (b"\r\n1\r\n", 1),
        (b"  1\n  \n", 1), (b"1\n ", 1),
    ],
)  # fmt: skip
def test_pages_count_rows(tmp_path: Path, data: bytes, count: int) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(data)
    for chunk_bytes in (1 << 20, 1, 2):
        pages = LineIndex(path, chunk_bytes)
        assert pages.count() == count
        assert len(list(pages.rows(0, 9))) == count
        pages.close()
