"""One tiny family the whole way, as a user goes: inspect, train, merge, GGUF, parity, chat.

python -m tests.torch.matrix [NAME ...]    takes these families, or all, and writes down how far
                                           each comes: families.json, docs/families.md
python -m tests.torch.matrix --table       writes docs/families.md from what is written down
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec

from tests.fakes.families import FAMILIES, make_family
from tests.fakes.llama_models import models_folder
from workers.__main__ import run_folder
from workers.chat import open_chat_model
from workers.data.reader import Row, read
from workers.data.tokenize.encode import encode
from workers.engines.tokenizer import load_tokenizer
from workers.fetch import Located
from workers.host import Host
from workers.protocol import wire
from workers.protocol.events import Checked, Failed, Finished, Inspected, Metrics, Note
from workers.protocol.jobs import Chat, Export, Inspect, Job, Train
from workers.protocol.recipe import (
    RL,
    Evaluation,
    Lora,
    Model,
    Recipe,
    Source,
    Training,
)
from workers.protocol.refusal import Refusal
from workers.protocol.requests import Say
from workers.protocol.rewards import Format

QUESTIONS = ("Which river flows through {}?", "Name the capital that {} lies in.")
CITIES = ("Vienna", "Paris", "Lisbon", "Prague", "Budapest", "Rome", "Warsaw", "London")
OK = "ok"
SAMPLED_TOKENS = 12
"""Of the answers shown before and after training: a random model's seldom end by themselves."""


RECORD = Path(__file__).with_name("families.json")
TABLE = Path(__file__).parents[2] / "docs" / "families.md"
MANY_STAGES = ("qwen3", "granite", "mistral", "gemma2")
"""Families on which further stages and methods are tried."""
FURTHER = (("dpo", "lora", "pairs"), ("grpo", "lora", "pairs"), ("sft", "qlora", "talks"))


class Outcome(msgspec.Struct, kw_only=True):
    """How far a family came: each step is `ok`, or what was said instead; empty if not reached."""

    model_type: str = ""
    inspect: str = ""
    masks: list[str] = []
    """Which ways the answers were told apart; none where that was not looked at."""
    loss: str = ""
    """`fast`, or `plain` where TRL's faster one was found wrong; empty as above."""
    train: str = ""
    merge: str = ""
    gguf: str = ""
    parity: str = ""
    chat: str = ""
    stages: dict[str, str] = {}
    """Further stages and methods that were tried."""


def write_rows(folder: Path) -> dict[str, Path]:
    """Conversations of one and of two questions, and pairs."""
    asked = [question.format(city) for city in CITIES for question in QUESTIONS]
    turns = [[{"role": "user", "content": one},
              {"role": "assistant", "content": f"You ask “{one}”, and I cannot tell."}]
             for one in asked]  # fmt: skip
    talks = [{"messages": turn} for turn in turns]
    talks += [{"messages": one + other} for one, other in zip(turns[::4], turns[1::4], strict=True)]
    pairs = [{"prompt": one, "chosen": "The Danube does.", "rejected": "No."} for one in asked]
    files = {"talks": talks, "pairs": pairs}
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {name: folder / f"{name}.jsonl" for name in files}


def recipe_of(base: str, data: Path, stage: str = "sft", method: str = "lora") -> Recipe:
    return Recipe(
        name=f"{stage}-{method}",
        stage=stage,  # type: ignore[arg-type]
        model=Model(base=base, method=method),  # type: ignore[arg-type]
        lora=Lora(rank=4, alpha=8),
        data=[Source(source=str(data))],
        training=Training(
            max_steps=1, batch_size=4, max_length=512, save_every_steps=0, learning_rate=1e-3,
            precision="bf16" if method == "qlora" else "fp32",
        ),
        rl=RL(max_completion_tokens=12, group_size=4),
        rewards=[Format(pattern=".*a.*")] if stage == "grpo" else [],
        evaluation=Evaluation(max_rows=2, max_completion_tokens=8),
    )  # fmt: skip


@contextmanager
def forked_converter() -> Iterator[None]:
    """Lets the converter run in a fork of this process, where the libraries that it needs are
    imported already: half the time of a family whose vocabulary is small."""

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryFile("w+") as said:
            child = os.fork()
            if child == 0:
                _become(command[1:], said.fileno())
            status = os.waitpid(child, 0)[1]
            said.seek(0)
            return subprocess.CompletedProcess(
                command, os.waitstatus_to_exitcode(status), "", said.read()
            )

    with patch.object(subprocess, "run", run):
        yield


def _become(arguments: list[str], output: int) -> None:
    """Runs a script to its end in the place of this process."""
    code = 1
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.argv, sys.path[:0] = arguments, [str(Path(arguments[0]).parent)]
        os.environ["HF_HUB_OFFLINE"] = "1"
        runpy.run_path(arguments[0], run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc(file=os.fdopen(2, "w", closefd=False))
    finally:
        sys.stdout.flush()
        os._exit(code)


class Journey:
    """The jobs of one family in a home of its own."""

    def __init__(self, name: str, home: Path, models: Path) -> None:
        self.home = home
        self.base = make_family(name, home / name, models)
        self.files = write_rows(home)
        config = json.loads((self.base / "config.json").read_text())
        self.outcome = Outcome(model_type=config["model_type"])

    def run(self, task: Any, name: str) -> list[Any]:
        """Runs a job within this process; what it said."""
        folder = self.home / "jobs" / name
        folder.mkdir(parents=True)
        created = "2026-01-01T00:00:00+00:00"
        job = Job(id=name, name=name, created=created, home=str(self.home), task=task)
        wire.write_job(folder, job)
        run_folder(folder)
        return [line.event for line in wire.read_events(folder)]

    def go(self, *, further: bool = False) -> Outcome:
        """Every step until one fails; `further` stages and methods where they are asked for."""
        self._inspect()
        self.outcome.train = self.train("sft", "lora", "talks")
        if self.outcome.train == OK:
            self._export()
        if self.outcome.gguf == OK:
            self._chat()
        for stage, method, data in FURTHER if further else ():
            self.outcome.stages[f"{stage} {method}"] = self.train(stage, method, data)
        return self.outcome

    def _inspect(self) -> None:
        source = Source(source=str(self.files["talks"]))
        events = self.run(Inspect(source=source, model=str(self.base), stage="sft"), "inspect")
        found = [event.result for event in events if isinstance(event, Inspected)]
        told = ", ".join(finding.kind for result in found for finding in result.findings)
        self.outcome.inspect = fault_of(events) or told or OK
        tokenizer = load_tokenizer(Located("base", self.base))
        rows: list[Row] = []
        read(source.source, rows=rows)
        with suppress(Refusal):
            made = [one for row in rows for one in encode(row, "sft", tokenizer)]
            self.outcome.masks = sorted({one.mask_source for one in made})

    def train(self, stage: str, method: str, data: str) -> str:
        """One stage by one method; `ok` or what was said."""
        recipe = recipe_of(str(self.base), self.files[data], stage, method)
        with patch("workers.train.context.SAMPLE_TOKENS", SAMPLED_TOKENS):
            events = self.run(Train(recipe=recipe), recipe.name)
        if (stage, method) == ("sft", "lora"):
            notes = [event.text for event in events if isinstance(event, Note)]
            plain = any("plain loss is taken" in note for note in notes)
            self.outcome.loss = "plain" if plain else "fast"
        losses = [event.values for event in events if isinstance(event, Metrics)]
        assert fault_of(events) or any("loss" in values for values in losses)
        return fault_of(events) or OK

    def _export(self) -> None:
        run = self.home / "jobs" / "sft-lora"
        with forked_converter():
            events = self.run(Export(str(run), ["merged", "gguf:f16"]), "export")
        checks = {e.check: e for e in events if isinstance(e, Checked)}
        self.outcome.merge = told(checks, "merged: 16 bits")
        self.outcome.gguf = fault_of(events) or told(checks, "f16: loads")
        compared = [told(checks, f"f16: same {what}") for what in ("tokens", "template", "words")]
        if self.outcome.gguf == OK:
            self.outcome.parity = "; ".join(one for one in compared if one != OK) or OK

    def _chat(self) -> None:
        file = next((self.home / "jobs" / "sft-lora" / "exports").glob("*.gguf"))
        folder = self.home / "jobs" / "chat"
        folder.mkdir(parents=True)
        job = Job(
            id="chat", name="chat", created="", home=str(self.home), task=Chat(model=str(file))
        )
        wire.write_job(folder, job)
        pieces: list[str] = []
        with Host(folder) as host:
            model = open_chat_model(file, self.home, host)
            question = [{"role": "user", "content": "Which river?"}]
            say = Say(messages=question, max_tokens=8, temperature=0.0)
            ended = model.answer(say, pieces.append, lambda: False)
        self.outcome.chat = OK if ended.finish in ("stop", "length") else ended.finish


def told(checks: dict[str, Checked], name: str) -> str:
    check = checks.get(name)
    if check is None:
        return f"{name} was not reached"
    return OK if check.passed else f"{check.check}: {check.detail}"


def fault_of(events: list[Any]) -> str:
    failed = [event for event in events if isinstance(event, Failed)]
    if failed:
        return f"{failed[0].what} {failed[0].cause}"
    return "" if any(isinstance(event, Finished) for event in events) else "did not finish"


def read_record() -> dict[str, Outcome]:
    return msgspec.json.decode(RECORD.read_bytes(), type=dict[str, Outcome])


def write_record(name: str, outcome: Outcome) -> None:
    record = (read_record() if RECORD.is_file() else {}) | {name: outcome}
    record = {name: record[name] for name in FAMILIES if name in record}
    RECORD.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")


STEPS = ("train", "merge", "gguf", "parity", "chat")


def table(record: dict[str, Outcome]) -> str:
    """docs/families.md: what each family can do, and below it why the others cannot."""
    heads = ["family", "model_type", "answers told apart", "loss", *STEPS, "further"]
    rows = [heads, ["---"] * len(heads)]
    reasons = []
    for name, outcome in record.items():
        steps = {step: getattr(outcome, step) for step in STEPS} | outcome.stages
        shown = [MARKS.get(steps[step], "no") for step in STEPS]
        further = [f"{one} {MARKS.get(said, 'no')}" for one, said in outcome.stages.items()]
        rows.append([name, outcome.model_type, ", ".join(outcome.masks), outcome.loss, *shown,
                     ", ".join(further)])  # fmt: skip
        reasons += [f"- **{name}**, {step}: {said}" for step, said in steps.items()
                    if said not in MARKS]  # fmt: skip
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([INTRODUCTION, *lines, "", "## What cannot be done", "",
                      *(reasons or ["Nothing of what was tried."]), ""])  # fmt: skip


MARKS = {OK: "yes", "": ""}
INTRODUCTION = """# Families

Tiny random models of real families, each with two layers or a few more, a real vocabulary and a
real chat template, taken the whole way on a processor: audit of the data, supervised fine-tuning
with LoRA, merging, conversion to GGUF (f16), the comparison of that file with the trained model,
and a chat with it. `tests/fakes/families.py` says how each is made and whose vocabulary stands in
where a family's own is not at hand; `python -m tests.torch.matrix` takes them and writes this page.

Answers are told apart by the template's own marks (generation), in the text of the whole
conversation (spans), or one by one (per answer). The loss is TRL's fast one, or the plain one where
the fast one was found to be wrong for the family before the first step.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Takes tiny families the whole way.")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--table", action="store_true", help="only write the table anew")
    asked = parser.parse_args()
    for name in () if asked.table else asked.names or FAMILIES:
        with tempfile.TemporaryDirectory() as work:
            began = time.monotonic()
            journey = Journey(name, Path(work), models_folder())
            outcome = journey.go(further=name in MANY_STAGES)
        write_record(name, outcome)
        print(f"{name}, {time.monotonic() - began:.0f} s: {outcome}", flush=True)
    TABLE.write_text(table(read_record()))


if __name__ == "__main__":
    main()
