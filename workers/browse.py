"""Shows a dataset row by row and token by token, and writes edited copies of it.

Answers requests until Stop, or until the studio that owns it is gone; in between it counts rows, a
little at a time. Loads a tokenizer when tokens are first asked for, never weights.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from workers.data import licences
from workers.data.audit.row_text import completion_of
from workers.data.browse.row_cache import CachedRow, Rows, open_rows
from workers.data.browse.versions import place_of, save, unreadable_note, version_at
from workers.data.read.files import DataFiles, RawRow, find
from workers.data.read.jsonl import Strict, parse
from workers.data.reader import (
    SAMPLED_ROWS,
    Row,
    RowFault,
    parser_of,
    serves,
    shapes,
    stages_of,
)
from workers.data.schema.parser import RowParser
from workers.data.schema.propose import propose
from workers.host import Handlers, Host, serve
from workers.protocol.browse import Opening, RowView
from workers.protocol.events import (
    Finished,
    Note,
    Opened,
    Phase,
    Progress,
    RowsCounted,
    RowsShown,
    TemplateShown,
    TemplateTried,
    TokensShown,
    VersionSaved,
)
from workers.protocol.jobs import Browse
from workers.protocol.recipe import Column, Stage
from workers.protocol.refusal import Refusal
from workers.protocol.requests import (
    AnyRequest,
    MapColumns,
    SaveVersion,
    ShowRows,
    ShowTemplate,
    ShowTokens,
    TryTemplate,
)
from workers.protocol.stages import likeliest
from workers.protocol.templates import check_template

if TYPE_CHECKING:
    from workers.data.browse.template_test import LoadedTokenizer, TemplateTest
    from workers.data.tokenize.token_view import TokenViewer

SLICE_S = 0.02
"""Counting goes on for so long between two looks at what is asked."""
REPORT_EVERY_S = 0.5
WATCHED_EVERY_S = 0.2
LOOKED_ROWS = 64
MOST_ROWS = 500
"""Rows that one answer holds at most."""
MOST_LETTERS = 1 << 20
"""Beyond so many in one answer, rows come with their beginning alone."""
BEGINNING = 2000
SHORT = 160
MOST_COLUMNS = 200
DEEPEST = 4


def run(host: Host) -> None:
    """Runs a browse job from its folder's job.json to its ending event."""
    task = host.job.task
    assert isinstance(task, Browse)
    host.emit(Phase(name="Reading the data"))
    found = find(
        task.source.source, lambda text: host.emit(Phase(name=text)), task.source.documents
    )
    with contextlib.closing(open_rows(found, host.folder)) as rows:
        browser = Browser(host, task, found, rows)
        with contextlib.closing(browser):
            browser.open()
            serve(host, browser.handlers, browser.step)
    host.emit(Finished())


class Browser:
    """One open dataset, and what is known of it."""

    def __init__(self, host: Host, task: Browse, found: DataFiles, rows: Rows) -> None:
        self._host = host
        self._task = task
        self._found = found
        self._rows = rows
        self._home = Path(host.job.home)
        self._licence = licences.of(task.source, found)
        self._waiting: list[AnyRequest] = []
        self._sample: list[CachedRow] = []
        self._parser: RowParser | None = None
        self._stages: list[Stage] = []
        self._refused = ""
        self._viewers: dict[tuple[str, str], TokenViewer] = {}
        self._template_test: TemplateTest | None = None
        self._looked = self._bad = 0
        self._reported = float("-inf")
        self.settled = False
        self._fault_noted = False
        self._answers: Handlers = {
            ShowRows: self._show_rows, MapColumns: lambda request: self._map(request.mapping),
            ShowTokens: lambda request: host.emit(self._tokens(request)), SaveVersion: self._save,
            ShowTemplate: lambda request: host.emit(self._template(request)),
            TryTemplate: lambda request: host.emit(self._tried(request)),
        }  # fmt: skip
        self.handlers: Handlers = dict.fromkeys(self._answers, self._on_request)

    # The clock

    def open(self) -> None:
        """Reads the first rows and says what they were taken for.

        Raises:
            Refusal: there are none, or they cannot be read.
        """
        while self._rows.known < SAMPLED_ROWS and not self._rows.complete:
            self._rows.advance(SLICE_S)
            if self._host.requests.interrupted() and self._host.requests.stop_asked:
                return
        self._sample = list(self._rows.rows(0, min(SAMPLED_ROWS, self._rows.known)))
        if not self._sample:
            raise Refusal(
                f"The dataset {self._found.path} holds no rows.",
                "The file is empty.",
                f"Each row needs {shapes()}.",
            )
        self._map(self._task.source.mapping)

    def step(self) -> bool:
        """Answers what waited for its rows, and counts on; False when there is nothing to do."""
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            self._on_request(request)
        return self._count()

    def _on_request(self, request: AnyRequest) -> None:
        """Answers at once, or leaves it to a later step, when the rows that it takes are known."""
        if _needed(request) <= self._rows.known or self._rows.complete:
            self._answers[type(request)](request)
        else:
            self._waiting.append(request)

    # Counting

    def _count(self) -> bool:
        """One small step of counting and looking at rows; False when all is done."""
        if self.settled:
            return False
        if not self._rows.complete:
            self._rows.advance(SLICE_S)
        else:
            self._note_fault()
            self._look()
        self.settled = self._rows.complete and self._looked >= self._rows.known
        if self.settled or time.monotonic() - self._reported >= REPORT_EVERY_S:
            self._reported = time.monotonic()
            self._host.emit(
                RowsCounted(rows=self._rows.known, complete=self._rows.complete, bad=self._bad)
            )
        return True

    def _look(self) -> None:
        """Looks at rows that were not looked at yet, for a while."""
        until = time.monotonic() + SLICE_S
        while self._looked < self._rows.known and time.monotonic() < until:
            for kept in self._rows.rows(self._looked, LOOKED_ROWS):
                self._looked += 1
                self._bad += bool(self._made(kept.value)[1])

    def _note_fault(self) -> None:
        fault = self._rows.fault
        if fault is not None and not self._fault_noted:
            self._fault_noted = True
            self._host.emit(Note(text=str(fault), level="error"))

    # What the rows are

    def _map(self, mapping: dict[str, Column]) -> None:
        source = self._task.source.source
        items = [RawRow(kept.file, kept.line, kept.value) for kept in self._sample]
        self._parser, self._refused = None, ""
        self._viewers.clear()
        try:
            self._parser = parser_of(source, mapping or None, items)
        except Refusal as refusal:
            self._refused = str(refusal)
        self._looked = self._bad = 0
        self.settled = False
        self._host.emit(Opened(opening=self._opening(mapping)))

    def _opening(self, mapping: dict[str, Column]) -> Opening:
        parser = self._parser
        made = [row for kept in self._sample if (row := self._made(kept.value)[0])]
        if parser is not None:
            parser.settle()
        self._stages = stages_of(made)
        detected = parser.detected if parser is not None and made else None
        licence, licence_from = self._licence
        version = version_at(self._found.path)
        return Opening(
            source=self._task.source.source,
            path=str(self._found.path),
            format=detected.format if detected else None,
            why=detected.why if detected else self._refused or self._missing(),
            mapping=dict(detected.mapping if detected else mapping),
            columns=columns_of(self._sample),
            stages=list(self._stages),
            licence=licence,
            licence_from=licence_from,
            version_of=version.source if version else "",
            documents=self._found.documents_words,
            proposal=propose([kept.value for kept in self._sample])
            if detected is None and not mapping
            else None,
        )

    def _missing(self) -> str:
        first = self._sample[0]
        reason = self._made(first.value)[1]
        return (
            f"None of the first {len(self._sample)} rows can be used; {place_of(first)}: {reason}. "
            f"Each row needs {shapes()}."
        )

    def _made(self, value: Any) -> tuple[Row | None, str]:
        """A row as a run would make it, or why it cannot be used."""
        if self._parser is None:
            return None, self._refused
        try:
            return self._parser.row(value), ""
        except RowFault as fault:
            return None, str(fault)

    # Rows

    def _show_rows(self, request: ShowRows) -> None:
        first, count = max(request.first, 0), min(max(request.count, 0), MOST_ROWS)
        left = MOST_LETTERS
        views: list[RowView] = []
        for row, kept in enumerate(self._rows.rows(first, count), start=first):
            whole = count == 1 or len(kept.text) <= left
            left -= len(kept.text) if whole else BEGINNING
            views.append(self._view(row, kept, whole=whole))
        self._host.emit(RowsShown(first=first, rows=views))

    def _view(self, row: int, kept: CachedRow, *, whole: bool) -> RowView:
        made, reason = self._made(kept.value)
        prompt, answer = _short(made) if made else ("", "")
        text = kept.text if whole else kept.text[:BEGINNING]
        return RowView(
            row=row, line=kept.line, file=kept.file, text=text, whole=whole, reason=reason,
            prompt=prompt, answer=answer,
        )  # fmt: skip

    # Tokens

    def _tokens(self, request: ShowTokens) -> TokensShown:
        try:
            made = self._asked(request)
            stage = self._stage(request.stage, made)
            viewer = self._viewer(request.model or self._task.model, request.template or "auto")
            length = request.max_length or self._task.max_length
            views = viewer.views(made, request.row, stage, length, request.too_long)
        except RowFault as fault:
            return TokensShown(row=request.row, reason=f"The row cannot be used: {fault}.")
        except Refusal as refusal:
            return TokensShown(row=request.row, reason=str(refusal))
        except Exception as fault:  # templates raise what they like, TemplateError mostly
            reason = f"The chat template does not take this row: {fault}"[:500]
            return TokensShown(row=request.row, reason=reason)
        return TokensShown(row=request.row, views=views)

    def _template(self, request: ShowTemplate) -> TemplateShown:
        try:
            text = self._templates().text(request.model or self._task.model, request.template)
        except Refusal as refusal:
            return TemplateShown(template=request.template, reason=str(refusal))
        return TemplateShown(template=request.template, jinja=text)

    def _tried(self, request: TryTemplate) -> TemplateTried:
        try:
            made = self._asked(request)
            stage = self._stage(request.stage, made)
            return self._templates().try_on(
                made, request.row, request.jinja, request.model or self._task.model, stage,
                request.max_length or self._task.max_length,
            )  # fmt: skip
        except RowFault as fault:
            return TemplateTried(row=request.row, reason=f"The row cannot be used: {fault}.")
        except Refusal as refusal:
            return TemplateTried(row=request.row, reason=str(refusal))

    def _templates(self) -> TemplateTest:
        if self._template_test is None:
            from workers.data.browse.template_test import TemplateTest

            self._template_test = TemplateTest(
                self._tokenizer, self._host.folder, thought=self._thought()
            )
        return self._template_test

    def close(self) -> None:
        if self._template_test is not None:
            self._template_test.close()

    def _asked(self, request: ShowTokens | TryTemplate) -> Row:
        if request.text:
            value = parse(request.text, Strict())
        else:
            kept = next(iter(self._rows.rows(max(request.row, 0), 1)), None)
            if kept is None:
                raise RowFault("schema", f"the dataset has no row number {request.row}")
            value = kept.value
        made, reason = self._made(value)
        if made is None:
            raise RowFault("schema", reason)
        return made

    def _stage(self, asked: str, made: Row) -> Stage:
        known = get_args(Stage)
        if asked and asked not in known:
            raise Refusal(f"There is no stage '{asked}'.", "It may be misspelt.",
                          f"Known are {', '.join(known)}.")  # fmt: skip
        served: list[Stage] = [stage for stage in self._stages if serves(made, stage)]
        stage = asked or likeliest(served or stages_of([made]))
        if not stage:
            raise RowFault("schema", "no stage can learn from it")
        return stage  # type: ignore[return-value]

    def _viewer(self, model: str, template: str) -> TokenViewer:
        key = (model, template)
        if key not in self._viewers:
            self._viewers[key] = self._load(model, template)
        return self._viewers[key]

    def _load(self, model: str, template: Any) -> TokenViewer:
        check_template(template)
        from workers.data.tokenize.token_view import TokenViewer

        tokenizer, stops_at = self._tokenizer(model)
        return TokenViewer(tokenizer, template, stops_at, thought=self._thought())

    def _thought(self) -> bool:
        """Whether an answer of the first rows has thinking beside it."""
        return any(row.thinks for kept in self._sample if (row := self._made(kept.value)[0]))

    def _tokenizer(self, model: str) -> LoadedTokenizer:
        self._host.emit(Phase(name="Loading the tokenizer"))
        from workers.data.browse.template_test import LoadedTokenizer
        from workers.engines.tokenizer import locate_tokenizer, read_tokenizer, stopping_tokens

        located = locate_tokenizer(
            model, self._home, lambda text: self._host.emit(Phase(name=text))
        )
        return LoadedTokenizer(read_tokenizer(located), stopping_tokens(located))

    # Versions

    def _save(self, request: SaveVersion) -> None:
        self._host.emit(Phase(name="Saving the edited copy"))
        try:
            self._read_on()
            saved = save(
                self._rows, request.edits, self._found, self._home / "data", name=request.name,
                licence=self._licence[0], progress=self._progress,
            )  # fmt: skip
        except Refusal as refusal:
            self._host.emit(Note(text=str(refusal), level="error"))
            return
        if saved is None:
            return
        if saved.unreadable:
            self._host.emit(Note(text=unreadable_note(saved), level="warning"))
        self._host.emit(VersionSaved(version=saved.version))

    def _read_on(self) -> None:
        """Gets to know all rows; refuses where the dataset cannot be read to its end."""
        while not self._rows.complete and self._progress(self._rows.known):
            self._rows.advance(WATCHED_EVERY_S)
        if self._rows.fault is not None:
            raise self._rows.fault

    def _progress(self, done: int) -> bool:
        """Says how far saving is; False when it is to end."""
        if time.monotonic() - self._reported >= WATCHED_EVERY_S:
            self._reported = time.monotonic()
            total = self._rows.known if self._rows.complete else 0
            self._host.emit(Progress(done=done, total=total, unit="rows"))
            return not self._host.requests.interrupted()
        return not self._host.requests.stop_asked


def _needed(request: AnyRequest) -> int:
    """Rows that must be known before a request can be answered."""
    match request:
        case ShowRows():
            return request.first + min(request.count, MOST_ROWS)
        case ShowTokens() | TryTemplate():
            return 0 if request.text else request.row + 1
        case _:
            return 0


def _short(row: Row) -> tuple[str, str]:
    """What is asked and what is answered, in a line each."""
    asked = row.prompt[-1]["content"] if row.prompt else row.plain
    said = completion_of(row) if row.completion else row.answer
    return _in_a_line(asked), _in_a_line(said)


def _in_a_line(text: str) -> str:
    words = " ".join(text[: 4 * SHORT].split())
    return words if len(words) <= SHORT else words[: SHORT - 1].rstrip() + "…"


def columns_of(sample: list[CachedRow]) -> list[str]:
    """All columns of the first rows in their order, nested ones by a dot."""
    found = dict.fromkeys(
        name
        for kept in sample
        if isinstance(kept.value, dict)
        for name in _names(kept.value, DEEPEST)
    )
    return list(found)[:MOST_COLUMNS]


def _names(value: dict[str, Any], deeper: int) -> Iterator[str]:
    for name, inner in value.items():
        if isinstance(inner, dict) and inner and deeper:
            yield from (f"{name}.{one}" for one in _names(inner, deeper - 1))
        else:
            yield name
