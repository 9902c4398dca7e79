"""A dataset looked at: rows of any kind, columns by hand, tokens as trained, edited copies."""

from __future__ import annotations

import csv
import datetime
import gzip
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import psutil
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.conversations import example_of
from workers.__main__ import run_folder
from workers.browse import Browser
from workers.data.browse.row_cache import CACHE, CachedRows, IndexedRows, open_rows
from workers.data.browse.versions import clean_name
from workers.data.read.files import find
from workers.data.reader import Row, read
from workers.data.tokenize.chat_template import CHATML
from workers.data.tokenize.encode import IGNORED, encode
from workers.data.tokenize.token_view import TokenViewer
from workers.engines.tokenizer import read_tokenizer
from workers.fetch import Located
from workers.host import Host, serve_once
from workers.protocol import wire
from workers.protocol.assets import assets_folder
from workers.protocol.browse import LONGEST_SHOWN, Edits, Opening, RowView, TokenView, Version
from workers.protocol.events import (
    Event,
    Failed,
    Finished,
    Note,
    Opened,
    RowsCounted,
    RowsShown,
    TokensShown,
    VersionSaved,
)
from workers.protocol.jobs import Browse, Job
from workers.protocol.recipe import Column, Source
from workers.protocol.refusal import Refusal
from workers.protocol.requests import MapColumns, Request, SaveVersion, ShowRows, ShowTokens, Stop

STARTER = Located("starter", assets_folder() / "starter" / "model")
ROWS = [{"prompt": f"What is {n}+1?", "completion": f"It is {n + 1}: ü, 数."} for n in range(260)]
PAIR = {"prompt": "Say it.", "chosen": "Well said.", "rejected": "No."}
Told = TypeVar("Told")


def job_of(folder: Path, source: Source, **more: Any) -> Path:
    """A browse job of this process's, with a home beside it."""
    me = psutil.Process()
    owner = {"owner_pid": me.pid, "owner_started": me.create_time()} | more
    folder.mkdir()
    home = str(folder.parent / "home")
    wire.write_job(
        folder, Job(id="b", name="b", created="", home=home, task=Browse(source=source, **owner))
    )
    return folder


class Look:
    """A dataset that is open in this process."""

    def __init__(self, folder: Path, source: Source) -> None:
        self.folder = job_of(folder, source)
        self.home = folder.parent / "home"
        self.host = Host(self.folder)
        self.host.__enter__()
        task = self.host.job.task
        assert isinstance(task, Browse)
        found = find(task.source.source)
        self.rows = open_rows(found, self.folder)
        self.browser = Browser(self.host, task, found, self.rows)
        self._events = wire.follow_events(self.folder)
        self._heard: list[Event] = []
        self.browser.open()
        self.opening: Opening = self.told(Opened).opening

    def told(self, kind: type[Told]) -> Told:
        """The first event of a kind that was not yet taken."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            self._heard += [line.event for line in self._events.read()]
            for event in self._heard:
                if isinstance(event, kind):
                    self._heard.remove(event)
                    return event
            serve_once(self.host, self.browser.handlers, self.browser.step)
        pytest.fail(f"no {kind.__name__} came")

    def ask(self, request: Request, kind: type[Told]) -> Told:
        wire.append_request(self.folder, request)
        return self.told(kind)

    def show(self, first: int, count: int = 50) -> list[RowView]:
        return self.ask(ShowRows(first=first, count=count), RowsShown).rows

    def tokens(self, row: int, **more: Any) -> TokensShown:
        return self.ask(ShowTokens(row=row, **more), TokensShown)

    def view(self, row: int = 0, **more: Any) -> TokenView:
        shown = self.tokens(row, **more)
        assert not shown.reason
        return shown.views[0]

    def counted(self) -> RowsCounted:
        while not self.browser.settled:
            serve_once(self.host, self.browser.handlers, self.browser.step)
        events = [line.event for line in wire.read_events(self.folder)]
        return [event for event in events if isinstance(event, RowsCounted)][-1]

    def close(self) -> None:
        self.rows.close()
        self.host.__exit__(None, None, None)


Open = Callable[..., Look]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    looks: list[Look] = []

    def make(rows: Any, name: str = "d.jsonl", **more: Any) -> Look:
        source = rows
        if not isinstance(rows, str):
            path = tmp_path / name
            data = rows if isinstance(rows, bytes) else lines(rows)
            path.write_bytes(data)
            source = str(path)
        looks.append(Look(tmp_path / f"job{len(looks)}", Source(source=source, **more)))
        return looks[-1]

    yield make
    for look in looks:
        look.close()


def lines(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


# Rows


def test_json_lines_are_open_at_once_and_looked_up_where_they_lie(opened: Open) -> None:
    data = lines(ROWS).replace(b"\n", b"\n\n", 5)
    look = opened(data)
    assert isinstance(look.rows, IndexedRows)
    assert look.opening.format == "prompt_completion"
    assert look.opening.mapping == {"prompt": "prompt", "completion": "completion"}
    assert look.opening.columns == ["prompt", "completion"]
    assert "sft" in look.opening.stages
    shown = look.show(3, 4)
    assert [row.row for row in shown] == [3, 4, 5, 6]
    assert [row.line for row in shown] == [7, 9, 11, 12]
    assert json.loads(shown[0].text) == ROWS[3]
    assert (shown[0].prompt, shown[0].answer) == ("What is 3+1?", "It is 4: ü, 数.")
    assert look.counted() == RowsCounted(rows=260, complete=True)
    assert [row.row for row in look.show(258, 50)] == [258, 259]
    assert look.show(260) == []
    assert not (look.folder / CACHE).exists()


def _as_csv(path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)


MAKERS: dict[str, Callable[[Path], Any]] = {
    "d.json": lambda path: path.write_text(json.dumps(ROWS, indent=1)),
    "d.csv": _as_csv,
    "d.parquet": lambda path: parquet.write_table(pa.Table.from_pylist(ROWS), path),
    "d.jsonl.gz": lambda path: path.write_bytes(gzip.compress(lines(ROWS))),
}


@pytest.mark.parametrize("name", list(MAKERS))
def test_every_other_kind_is_put_down_as_it_is_read(
    opened: Open, tmp_path: Path, name: str
) -> None:
    MAKERS[name](tmp_path / name)
    look = opened(str(tmp_path / name))
    assert isinstance(look.rows, CachedRows)
    assert look.opening.format == "prompt_completion"
    assert [json.loads(row.text) for row in look.show(250, 20)] == ROWS[250:]
    assert look.counted() == RowsCounted(rows=260, complete=True)
    assert (look.folder / CACHE).exists()
    look.rows.close()
    assert not (look.folder / CACHE).exists()


def test_a_folder_names_each_rows_file(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name, rows in (("a.jsonl", ROWS[:3]), ("b.jsonl", ROWS[3:5])):
        (tmp_path / "set" / name).write_bytes(lines(rows))
    shown = opened(str(tmp_path / "set")).show(0)
    assert [(row.row, row.file, row.line) for row in shown] == [
        (0, "a.jsonl", 1), (1, "a.jsonl", 2), (2, "a.jsonl", 3), (3, "b.jsonl", 1),
        (4, "b.jsonl", 2),
    ]  # fmt: skip


def test_reasons_are_those_that_a_run_gives(opened: Open, tmp_path: Path) -> None:
    odd: list[Any] = [*ROWS[:3], {"prompt": "x"}, {"prompt": "", "completion": "y"}, [1], 7]
    look = opened(lines(odd) + b'{"prompt": "torn\n' + b'{"prompt": NaN, "completion": "a"}\n')
    bad: list[Any] = []
    read(str(tmp_path / "d.jsonl"), bad=bad)
    shown = look.show(0)
    assert {row.line: row.reason for row in shown if row.reason} == {
        one.line: one.reason for one in bad
    }
    assert shown[7].text == '{"prompt": "torn'
    assert look.counted().bad == len(bad) == 6


def test_dates_bytes_and_nan_are_no_text(opened: Open, tmp_path: Path) -> None:
    day = datetime.date(2026, 1, 2)
    rows: list[Any] = [
        {"prompt": "a", "completion": "b", "day": day, "raw": b"\x00\xff", "n": float("nan")}
    ]
    rows.append(rows[0] | {"completion": "c"})
    table = pa.Table.from_pylist(rows)
    path = tmp_path / "d.parquet"
    parquet.write_table(table, path)
    look = opened(str(path))
    text = json.loads(look.show(0)[0].text)
    assert text == {"prompt": "a", "completion": "b", "day": "2026-01-02", "raw": "AP8=", "n": None}
    look.ask(MapColumns(mapping={"prompt": "prompt", "day": "completion"}), Opened)
    assert look.show(0)[0].reason == '"day" must be text or a list of messages'


def test_long_rows_come_whole_when_asked_for_alone(opened: Open) -> None:
    long = {"prompt": "a", "completion": "b" * 600_000}
    look = opened([long, long, long, ROWS[0]])
    shown = look.show(0)
    assert [row.whole for row in shown] == [True, False, False, True]
    assert len(shown[1].text) == 2000
    assert json.loads(look.show(1, 1)[0].text) == long


def test_a_packed_file_that_is_cut_off_shows_what_it_has(opened: Open) -> None:
    noise = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(9000)]
    data = gzip.compress(lines([{"prompt": one[:9], "completion": one} for one in noise]))
    look = opened(data[: len(data) // 2], "d.jsonl.gz")
    assert "cannot be unpacked to its end" in look.told(Note).text
    assert 200 < look.counted().rows < 9000
    saving = look.ask(SaveVersion(edits=Edits(dropped=[0])), Note)
    assert (saving.level, "cannot be unpacked" in saving.text) == ("error", True)


@pytest.mark.parametrize("data", [b"", b"\n \n"])
def test_an_empty_dataset_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "d.jsonl").write_bytes(data)
    assert "holds no rows" in refused(tmp_path, tmp_path / "d.jsonl")


def refused(tmp_path: Path, source: Path) -> str:
    """What a job says that ends with a refusal."""
    folder = job_of(tmp_path / "job", Source(source=str(source)))
    assert run_folder(folder) == 1
    told = wire.ending(wire.read_events(folder))
    assert isinstance(told, Failed)
    assert told.kind == "refused"
    return told.what


def test_a_nearly_full_disk_ends_putting_down(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text(json.dumps(ROWS))
    spooled = CachedRows(find(str(tmp_path / "d.json")), tmp_path, least_free_bytes=1 << 60)
    with pytest.raises(Refusal, match="MB free"):
        spooled.advance(1.0)
    spooled.close()


# Columns


def test_columns_that_fit_no_shape_are_mapped_by_hand(opened: Open) -> None:
    rows = [{"q": f"Who {n}?", "more": {"a": {"text": f"I {n}."}, "b": 1}} for n in range(5)]
    look = opened(rows)
    assert look.opening.format is None
    assert "line 1: its keys are more, q" in look.opening.why
    assert look.opening.columns == ["q", "more.a.text", "more.b"]
    assert look.show(0)[0].reason == "its keys are more, q"
    from_mapping: dict[str, Column] = {"q": "prompt", "more.a.text": "completion"}
    opening = look.ask(MapColumns(mapping=from_mapping), Opened).opening
    assert (opening.format, opening.mapping) == ("prompt_completion", from_mapping)
    assert look.show(2, 1)[0].answer == "I 2."
    assert look.counted().bad == 0
    assert look.ask(MapColumns(), Opened).opening.format is None


@pytest.mark.parametrize(
    ("mapping", "told"),
    [
        ({"nix": "prompt", "completion": "completion"}, "has no column nix"),
        ({"prompt": "prompt"}, "no row that can be learnt"),
        ({"prompt": "text", "completion": "text"}, "both for text"),
        ({"prompt": "messages"}, "line 1: the last message"),
    ],
)
def test_a_faulty_mapping_says_what_is_wrong(
    opened: Open, mapping: dict[str, Column], told: str
) -> None:
    look = opened(ROWS)
    opening = look.ask(MapColumns(mapping=mapping), Opened).opening
    assert opening.format is None
    assert told in opening.why
    assert opening.mapping == mapping
    assert look.show(0)[0].reason
    assert look.tokens(0).reason


def test_a_licence_is_told_with_where_it_stands(opened: Open) -> None:
    assert opened("builtin:arithmetic").opening.licence == "Apache-2.0"
    named = opened(ROWS, licence="MIT").opening
    assert (named.licence, named.licence_from) == ("MIT", "the recipe")
    assert opened(ROWS).opening.licence == ""


# Tokens


@pytest.fixture
def tokenizer() -> Any:
    return read_tokenizer(STARTER)


def trained(view: TokenView) -> str:
    return "".join(piece.text for piece in view.pieces if piece.trained)


def test_tokens_are_those_of_training(opened: Open, tokenizer: Any) -> None:
    view = opened(ROWS).view(3)
    turns = [
        {"role": "user", "content": ROWS[3]["prompt"]},
        {"role": "assistant", "content": ROWS[3]["completion"]},
    ]
    example = example_of(turns, tokenizer, 1024)
    assert [piece.trained for piece in view.pieces] == [one != IGNORED for one in example.labels]
    assert (view.tokens, view.trained) == (len(example.input_ids), example.trained_tokens)
    text = "".join(piece.text for piece in view.pieces)
    assert text == tokenizer.apply_chat_template(turns, tokenize=False)
    assert trained(view) == "It is 4: ü, 数.<|im_end|>"
    assert [piece.text for piece in view.pieces if piece.special] == [
        "<|im_start|>", "<|im_end|>", "<|im_start|>", "<|im_end|>",
    ]  # fmt: skip
    assert (view.template, view.warnings, view.truncated_at, view.title) == ("own", [], None, "")


def test_a_letter_of_several_tokens_stands_in_one_piece(opened: Open) -> None:
    view = opened([{"prompt": "a", "completion": "🦊🦊 é"}]).view()
    texts = [piece.text for piece in view.pieces if piece.trained]
    assert "".join(texts) == "🦊🦊 é<|im_end|>"
    assert "" in texts
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(texts)


def test_a_pair_has_two_views(opened: Open) -> None:
    shown = opened([PAIR]).tokens(0)
    assert [view.title for view in shown.views] == ["chosen", "rejected"]
    assert [trained(view) for view in shown.views] == [
        "Well said.<|im_end|>\n", "No.<|im_end|>\n",
    ]  # fmt: skip
    assert [view.warnings for view in shown.views] == [[], []]
    look = opened([PAIR])
    assert [view.title for view in look.tokens(0, stage="sft").views] == [""]


def test_only_the_last_answer_of_a_pair_is_learnt(opened: Open) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
             {"role": "user", "content": "c"}]  # fmt: skip
    pair = {"prompt": turns, "chosen": "d", "rejected": "e"}
    assert [trained(view)[0] for view in opened([pair]).tokens(0).views] == ["d", "e"]
    chat = {"messages": [*turns, {"role": "assistant", "content": "d"}]}
    assert trained(opened([chat], "c.jsonl").view()) == "b<|im_end|>d<|im_end|>"


def test_a_prompt_with_an_answer_shows_the_head_and_trains_nothing(opened: Open) -> None:
    look = opened([{"prompt": "Two and two?", "answer": 4}])
    view = look.view()
    assert (view.trained, trained(view)) == (0, "")
    assert "".join(piece.text for piece in view.pieces).endswith("<|im_start|>assistant\n")
    assert view.warnings == []
    assert look.view(max_length=3).warnings == [
        "The prompt is longer than 3 tokens: the row is left out."
    ]


def test_plain_text_is_learnt_whole_with_its_end(opened: Open, tokenizer: Any) -> None:
    view = opened([{"text": "Once upon a time."}]).view()
    assert all(piece.trained for piece in view.pieces)
    assert trained(view) == "Once upon a time.<|im_end|>"
    assert view.pieces[-1].special
    assert view.template == ""
    assert view.tokens == len(encode(Row(text="Once upon a time."), "cpt", tokenizer)[0].input_ids)


def test_what_lies_behind_the_cut_is_shown_and_told(opened: Open) -> None:
    look = opened(ROWS)
    whole = look.view()
    cut = look.view(max_length=whole.tokens - 4)
    assert (cut.tokens, cut.truncated_at) == (whole.tokens, whole.tokens - 4)
    assert cut.trained < whole.trained
    assert any("is cut off: its last 3 tokens" in told for told in cut.warnings)
    none = look.view(max_length=5)
    assert (none.trained, none.truncated_at) == (0, 5)
    assert any("No token of this row is learnt" in told for told in none.warnings)


def test_long_rows_are_shown_up_to_a_bound(opened: Open) -> None:
    view = opened([{"text": "word " * 9000}]).view()
    assert len(view.pieces) == LONGEST_SHOWN < view.tokens


def test_an_edited_row_is_shown_before_it_is_saved(opened: Open) -> None:
    look = opened(ROWS)
    edited = json.dumps({"prompt": "Who?", "completion": "Me."})
    assert trained(look.view(text=edited)) == "Me.<|im_end|>"
    assert "cut off" in look.tokens(0, text='{"prompt').reason
    assert look.tokens(0, text='{"prompt": "Who?"}').reason


def test_what_cannot_be_shown_has_a_reason(opened: Open) -> None:
    look = opened([*ROWS[:2], {"prompt": 1, "completion": "x"}])
    assert '"prompt" must be text' in look.tokens(2).reason
    assert "no row number 9" in look.tokens(9).reason
    assert "Stage dpo cannot learn" in look.tokens(0, stage="dpo").reason
    assert "no stage 'nix'" in look.tokens(0, stage="nix").reason
    assert "no chat template 'nix'" in look.tokens(0, template="nix").reason
    assert "no base model at" in look.tokens(0, model="/nowhere").reason


def test_another_template_is_told_to_differ(opened: Open) -> None:
    look = opened(ROWS)
    view = look.view(template="llama-3")
    assert view.template == "llama-3"
    assert trained(view) == "It is 1: ü, 数.<|eot_id|>"
    assert any("otherwise than the model's own" in told for told in view.warnings)
    assert any("<|eot_id|> is no token of this model" in told for told in view.warnings)
    assert any("would never stop" in told for told in view.warnings)
    same = look.view(template="chatml")
    assert (same.template, same.warnings) == ("chatml", [])


def chat(*turns: tuple[str, str]) -> Row:
    made = [{"role": role, "content": content} for role, content in turns]
    return Row(prompt=made[:-1], completion=made[-1:])


TALK = chat(("user", "Hi."), ("assistant", "Hello."))


def warned(tokenizer: Any, row: Row = TALK, **more: Any) -> list[str]:
    return TokenViewer(tokenizer, **more).views(row, 0, "sft", 1024)[0].warnings


def test_a_base_model_without_a_template_is_told(tokenizer: Any) -> None:
    tokenizer.chat_template = None
    assert warned(tokenizer) == ["The model has no chat template of its own, so ChatML is used."]


def test_a_masked_or_unknown_end_is_told(tokenizer: Any) -> None:
    tokenizer.chat_template = CHATML.replace("<|im_end|>", "")
    assert any("would never stop" in told for told in warned(tokenizer))
    tokenizer.chat_template = CHATML.replace("<|im_end|>", " Over.<|im_start|>")
    assert any("ends with <|im_start|>" in told for told in warned(tokenizer))
    start = tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert warned(tokenizer, stops_at=[start]) == []
    tokenizer.chat_template = CHATML.replace("<|im_end|>", "<|im_start|>")
    assert warned(tokenizer) == []  # generation is made to stop at it


def test_a_template_that_leaves_turns_out_is_told(tokenizer: Any) -> None:
    tokenizer.chat_template = "{% for message in messages if message.role != 'system' %}" + (
        CHATML.removeprefix("{% for message in messages %}")
    )
    row = chat(("system", "Be brief."), ("user", "Hi."), ("assistant", "Hello."))
    assert warned(tokenizer, row) == ["The template leaves out or changes the system message."]


def test_marks_of_a_template_in_the_text_are_told(tokenizer: Any) -> None:
    row = chat(("user", "[INST] Hi. [/INST]"), ("assistant", "Hello."))
    assert any("marks of a chat template (Llama 2)" in told for told in warned(tokenizer, row))


def test_tools_that_a_template_leaves_out_are_refused_as_in_training(opened: Open) -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    turns: list[Any] = [
        {"role": "user", "content": "Add."},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "1"},
        {"role": "assistant", "content": "One."},
    ]
    assert "leaves out tools" in opened([{"messages": turns}]).tokens(0).reason


# Versions


def save(look: Look, name: str = "", **edits: Any) -> Version:
    return look.ask(SaveVersion(edits=Edits(**edits), name=name), VersionSaved).version


def test_an_edited_copy_holds_the_changes_and_where_it_comes_from(
    opened: Open, tmp_path: Path
) -> None:
    data = b'{"prompt":"a" , "completion":"b"}\n\n{"prompt": "odd"}\n{torn\n' + lines(ROWS[:4])
    look = opened(data, licence="MIT")
    changed = json.dumps({"prompt": "new", "completion": "text"}, indent=2)
    wire.append_request(
        look.folder,
        SaveVersion(edits=Edits(changed={3: changed}, dropped=[4], tags={5: "good", 3: "bad"})),
    )
    note = look.told(Note)
    assert (note.level, "line 4" in note.text) == ("warning", True)
    version = look.told(VersionSaved).version
    path = Path(version.path)
    written = path.read_bytes()
    assert path == look.home / "data" / f"d-{hashlib.sha256(written).hexdigest()[:8]}.jsonl"
    assert written.splitlines()[:2] == [b'{"prompt":"a" , "completion":"b"}', b'{"prompt": "odd"}']
    rest = [json.loads(line) for line in written.splitlines()[2:]]
    assert rest == [
        {"prompt": "new", "completion": "text", "tag": "bad"},
        ROWS[2] | {"tag": "good"},
        ROWS[3],
    ]
    assert msgspec.json.decode(path.with_suffix(".json").read_bytes(), type=Version) == version
    assert (version.rows, version.changed, version.dropped, version.tagged) == (5, 1, 2, 2)
    assert version.source == str(tmp_path / "d.jsonl")
    assert version.source_sha256 == hashlib.sha256(data).hexdigest()
    assert version.sha256 == hashlib.sha256(written).hexdigest()
    assert version.licence == "MIT"
    assert (tmp_path / "d.jsonl").read_bytes() == data
    assert [one.name for one in path.parent.iterdir() if one.name.startswith(".")] == []
    again = opened(str(path))
    assert again.opening.version_of == version.source
    assert again.opening.licence == "MIT"


def test_a_version_of_a_version_keeps_its_name(opened: Open) -> None:
    first = save(opened(ROWS), name="../../my set!.jsonl", dropped=[0])
    assert Path(first.path).name.startswith("my-set-")
    second = save(opened(first.path), dropped=[0])
    assert Path(second.path).name.startswith("my-set-")
    assert Path(second.path).name.count("-") == 2
    assert second.source == first.path
    look = opened(second.path)
    same = look.ask(SaveVersion(edits=Edits()), Note)
    assert (same.level, "Nothing was changed" in same.text) == ("error", True)
    assert version_of(second.path) == second


def version_of(path: str) -> Version:
    return msgspec.json.decode(Path(path).with_suffix(".json").read_bytes(), type=Version)


@pytest.mark.parametrize(
    ("edits", "told"),
    [
        ({"changed": {2: '{"prompt": '}}, "line 3 cannot be saved"),
        ({"changed": {2: "[1]"}}, "it is no object"),
        ({"tags": {4: "good"}}, "line 5 cannot be saved"),
        ({"dropped": [99]}, "no row number 99"),
    ],
)
def test_what_cannot_be_read_again_is_not_written(
    opened: Open, edits: dict[str, Any], told: str
) -> None:
    look = opened(lines(ROWS[:4]) + b"{torn\n")
    note = look.ask(SaveVersion(edits=Edits(**edits)), Note)
    assert note.level == "error"
    assert told in note.text
    assert not any((look.home / "data").glob("*"))


def test_a_version_that_was_changed_by_hand_is_not_written_over(opened: Open) -> None:
    look = opened(ROWS)
    path = Path(save(look, dropped=[0]).path)
    path.write_text("mine")
    other = Path(save(look, dropped=[0]).path)
    assert path.read_text() == "mine"
    assert other != path
    assert other.stem.startswith(path.stem)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def test_versions_of_other_kinds_are_json_lines(opened: Open, tmp_path: Path) -> None:
    _as_csv(tmp_path / "table.csv")
    version = save(opened(str(tmp_path / "table.csv")), dropped=[0, 1])
    assert Path(version.path).name.startswith("table-")
    assert [json.loads(line) for line in _lines(version.path)] == ROWS[2:]
    builtin = save(opened("builtin:arithmetic"), tags={0: "good"})
    assert Path(builtin.path).name.startswith("arithmetic-")


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("../../etc/passwd", "etc-passwd"), ("a/b\\c", "a-b-c"), ("", ""), ("..", ""),
        ("数 é", "数-é"), ("x" * 99, "x" * 64), (".hidden\0", "hidden"),
    ],
)  # fmt: skip
def test_names_stay_in_their_folder(name: str, clean: str) -> None:
    assert clean_name(name) == clean


# The worker


@pytest.mark.parametrize("ends", ["stop", "owner"])
def test_the_worker_answers_until_it_is_stopped_or_its_owner_is_gone(
    tmp_path: Path, ends: str, wait_until: Callable[..., None]
) -> None:
    (tmp_path / "d.json").write_text(json.dumps(ROWS))
    owner = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = psutil.Process(owner.pid)
    folder = job_of(
        tmp_path / "job", Source(source=str(tmp_path / "d.json")),
        owner_pid=owner.pid, owner_started=process.create_time(),
    )  # fmt: skip
    wire.append_request(folder, ShowRows(first=240))
    worker = subprocess.Popen([sys.executable, "-m", "workers", str(folder)])

    def kinds() -> list[type]:
        return [type(line.event) for line in wire.read_events(folder)]

    try:
        wait_until(lambda: {Opened, RowsShown, RowsCounted} <= set(kinds()), 60)
        if ends == "stop":
            wire.append_request(folder, Stop())
        else:
            owner.communicate(b"\n")
        assert worker.wait(20) == 0
    finally:
        worker.kill()
        owner.kill()
        owner.communicate()
        worker.wait()
    assert kinds()[-1] is Finished
    assert not (folder / CACHE).exists()


def test_what_is_no_dataset_is_refused_in_words(tmp_path: Path) -> None:
    assert "There is no dataset at" in refused(tmp_path, tmp_path / "none.jsonl")
