#!/usr/bin/env python
"""Stands in for the look into a dataset: the real host and wire, words in place of tokens.

Reads JSON lines; a file named `million.jsonl` has so many rows, made up as they are asked for. A
source whose name holds `gone` fails, and a row that holds `dies` kills the worker when its tokens
are asked for. Checks are played as by the other fake worker.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path

import worker

from workers.__main__ import run_folder
from workers.host import Host, serve
from workers.protocol import events, requests
from workers.protocol.assets import builtin_dataset
from workers.protocol.browse import Opening, Piece, RowView, TemplateFinding, TokenView, Version
from workers.protocol.jobs import Browse
from workers.protocol.mapping import Proposal
from workers.protocol.refusal import Refusal

MILLION = 1_000_000

SERVED = {
    "chosen": ["dpo", "ipo", "simpo", "cpo", "orpo", "kto", "reward"],
    "label": ["kto"], "completion": ["sft", "dpo"], "messages": ["sft", "distill"],
    "prompt": ["grpo", "rlhf", "distill"], "text": ["cpt"],
}  # fmt: skip
"""The stages that a column serves; completions serve DPO as well, for the token view's sides."""


def stages_of(columns: set[str], *, builtin: bool) -> list[str]:
    """Of a file with completions what they serve alone, of a built-in set all that it serves."""
    columns = columns if builtin or "completion" not in columns else {"completion"}
    return [stage for column, stages in SERVED.items() if column in columns for stage in stages]


def proposal_of(first: dict[str, str]) -> Proposal | None:
    """Of a row with a `customer_message`."""
    if "customer_message" not in first:
        return None
    mapping = {"customer_message": "prompt", "agent_reply": "completion"}
    example = {ours: first[theirs] for theirs, ours in mapping.items()}
    return Proposal(
        mapping=mapping,
        format="prompt_completion",
        sure=True,
        why="these look like questions with answers.",
        examples=[example],
    )


class Look:
    """One open dataset."""

    def __init__(self, host: Host, task: Browse) -> None:
        self.host, self.task = host, task
        self.mapping: dict[str, str] = dict(task.source.mapping)
        name = task.source.source
        if "gone" in name:
            raise Refusal("It is gone.", "It was named so.", "Name it otherwise.")
        self.path = builtin_dataset(name[8:]) if name.startswith("builtin:") else Path(name)
        self.million = "million" in name
        self.lines = [] if self.million else self.path.read_text().splitlines()
        self.count = MILLION if self.million else len(self.lines)

    def open(self) -> None:
        try:
            first = json.loads(self.text(0))
        except ValueError:
            raise Refusal("It cannot be read.", "It is not JSON.", "Write JSON lines.") from None
        known = {"prompt", "completion", "messages", "text", "chosen", "rejected", "answer"}
        found = {column: column for column in first if column in known}
        mapping = self.mapping or found
        shape = "prompt_completion" if mapping else None
        name = self.task.source.source
        sidecar = self.path.with_suffix(".json")
        version = json.loads(sidecar.read_text()) if sidecar.is_file() else {}
        self.host.emit(events.Opened(opening=Opening(
            source=name, path=str(self.path), format=shape,
            why="It has a prompt." if mapping else "No column is a prompt.", mapping=mapping,
            columns=list(first), licence="MIT",
            stages=stages_of(set(mapping.values()), builtin=name.startswith("builtin:")),
            proposal=None if mapping else proposal_of(first),
            licence_from="the fake", version_of=version.get("source", ""),
        )))  # fmt: skip
        bad = sum(bool(self.view(row).reason) for row in range(min(self.count, 1000)))
        self.host.emit(events.RowsCounted(rows=self.count, complete=True, bad=bad))

    def text(self, row: int) -> str:
        if self.million:
            return json.dumps({"prompt": f"Question {row}", "completion": f"Answer {row}"})
        return self.lines[row]

    def view(self, row: int) -> RowView:
        text = self.text(row)
        try:
            given = json.loads(text)
        except ValueError:
            return RowView(row=row, line=row + 1, text=text, reason="not valid JSON")
        asked = {ours: str(given.get(theirs, "")) for theirs, ours in self.mapping.items()}
        asked = asked or {key: str(value) for key, value in given.items()}
        return RowView(row=row, line=row + 1, text=text, prompt=asked.get("prompt", ""),
                       answer=asked.get("completion", ""))  # fmt: skip

    def answer(self, request: requests.Request) -> None:
        match request:
            case requests.ShowRows(first=first, count=count):
                rows = [self.view(row) for row in range(first, min(first + count, self.count))]
                self.host.emit(events.RowsShown(first=first, rows=rows))
            case requests.MapColumns(mapping=mapping):
                self.mapping = dict(mapping)
                self.open()
            case requests.ShowTokens():
                self.host.emit(self.tokens(request))
            case requests.ShowTemplate(template=template):
                shown = f"{{{{ messages }}}} of {template}"
                self.host.emit(events.TemplateShown(template=template, jinja=shown))
            case requests.TryTemplate():
                self.host.emit(self.tried(request))
            case requests.SaveVersion():
                self.save(request)
            case _:
                pass

    def tokens(self, request: requests.ShowTokens) -> events.TokensShown:
        text = request.text or self.text(request.row)
        if "dies" in text:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            given = json.loads(text)
        except ValueError:
            return events.TokensShown(row=request.row, reason="not valid JSON")
        sides = ["chosen", "rejected"] if "chosen" in given else [""]
        views = [self.side(request, given, side) for side in sides]
        return events.TokensShown(row=request.row, views=views)

    def tried(self, request: requests.TryTemplate) -> events.TemplateTried:
        """The row's tokens, or the line at which `broken` stands."""
        lines = request.jinja.split("\n")
        if "broken" in request.jinja:
            line = next(number for number, one in enumerate(lines, 1) if "broken" in one)
            return events.TemplateTried(row=request.row, reason="It is broken.", line=line)
        found = TemplateFinding(level="warning", text="It asks oddly.", remedy="Mend it.", line=2)
        asked = requests.ShowTokens(row=request.row, text=request.text, max_length=64)
        return events.TemplateTried(
            row=request.row, views=self.tokens(asked).views, findings=[found] * (len(lines) > 1)
        )

    def side(self, request: requests.ShowTokens, given: dict[str, str], side: str) -> TokenView:
        asked = re.findall(r"\s*\S+", str(given.get("prompt", "")))
        said = re.findall(r"\s*\S+|\n", str(given.get(side or "completion", "")))
        pieces = [Piece("<|im_start|>", False, True), *(Piece(word, False) for word in asked)]
        pieces += [*(Piece(word, True) for word in said), Piece("<|im_end|>", True, True)]
        cut = request.max_length if len(pieces) > request.max_length else None
        return TokenView(
            row=request.row, title=side, pieces=pieces, tokens=len(pieces),
            trained=sum(piece.trained for piece in pieces[:cut]), truncated_at=cut,
            template=request.template or "chatml",
            warnings=[f"{request.model} is a fake."] if request.stage == "dpo" else [],
        )  # fmt: skip

    def save(self, request: requests.SaveVersion) -> None:
        edits = request.edits
        if any("refuse" in text for text in edits.changed.values()):
            self.host.emit(events.Note(text="Row 1 cannot be saved.", level="error"))
            return
        kept = [row for row in range(self.count) if row not in edits.dropped]
        rows = [edits.changed.get(row, self.text(row)) for row in kept]
        folder = Path(self.host.job.home) / "data"
        folder.mkdir(exist_ok=True)
        path = folder / f"{request.name or self.path.stem}-v.jsonl"
        path.write_text("".join(f"{row}\n" for row in rows))
        version = Version(
            source=self.task.source.source, source_sha256="", path=str(path), sha256="",
            rows=len(rows), changed=len(edits.changed), dropped=len(edits.dropped),
            tagged=len(edits.tags), created="2026-11-21T10:00:00+00:00", licence="MIT",
        )  # fmt: skip
        told = {name: getattr(version, name) for name in version.__struct_fields__}
        path.with_suffix(".json").write_text(json.dumps(told))
        self.host.emit(events.VersionSaved(version=version))


def browse(host: Host) -> None:
    task = host.job.task
    assert isinstance(task, Browse)
    look = Look(host, task)
    look.open()
    kinds = (
        requests.ShowRows,
        requests.MapColumns,
        requests.ShowTokens,
        requests.SaveVersion,
        requests.ShowTemplate,
        requests.TryTemplate,
    )
    serve(host, dict.fromkeys(kinds, look.answer))
    host.emit(events.Finished())


def handler_of(task: object) -> object:
    return browse if isinstance(task, Browse) else worker.handler_of(task)


if __name__ == "__main__":
    sys.exit(run_folder(Path(sys.argv[-1]), handler_of))  # type: ignore[arg-type]
