"""One tiny family the whole way, as a user goes: inspect, train, merge, GGUF, parity, chat.

python -m tests.torch.matrix [NAME ...]    shows how far each family comes
python -m tests.torch.matrix --write       all of them, into the record and docs/families.md
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from tests.fakes.families import FAMILIES, make_family
from tests.fakes.llama_models import models_folder
from workers.__main__ import run_folder
from workers.chat import open_chat_model
from workers.host import Host
from workers.protocol import wire
from workers.protocol.events import Checked, Failed, Finished, Inspected, Metrics
from workers.protocol.jobs import Chat, Export, Inspect, Job, Train
from workers.protocol.recipe import (
    RL,
    Distill,
    Evaluation,
    Lora,
    Model,
    Recipe,
    Source,
    Training,
)
from workers.protocol.requests import Say
from workers.protocol.rewards import Format

QUESTIONS = ("Which river flows through {}?", "Name the capital that {} lies in.")
CITIES = ("Vienna", "Paris", "Lisbon", "Prague", "Budapest", "Rome", "Warsaw", "London")
OK = "ok"


class Outcome(msgspec.Struct):
    """How far a family came: each field is `ok`, or what was said instead; empty if not reached."""

    model_type: str = ""
    inspect: str = ""
    mask: str = ""
    """Which way the answers were told apart."""
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
        distill=Distill(),
        evaluation=Evaluation(max_rows=2, max_completion_tokens=8),
    )  # fmt: skip


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

    def go(self) -> Outcome:
        """Every step until one fails."""
        self._inspect()
        self.outcome.train = self.train("sft", "lora", "talks")
        if self.outcome.train == OK:
            self._export()
        if self.outcome.gguf == OK:
            self._chat()
        return self.outcome

    def _inspect(self) -> None:
        source = Source(source=str(self.files["talks"]))
        events = self.run(Inspect(source=source, model=str(self.base), stage="sft"), "inspect")
        found = [event.result for event in events if isinstance(event, Inspected)]
        told = ", ".join(finding.kind for result in found for finding in result.findings)
        self.outcome.inspect = fault_of(events) or told or OK

    def train(self, stage: str, method: str, data: str) -> str:
        """One stage by one method; `ok` or what was said."""
        recipe = recipe_of(str(self.base), self.files[data], stage, method)
        events = self.run(Train(recipe=recipe), recipe.name)
        losses = [event.values for event in events if isinstance(event, Metrics)]
        assert fault_of(events) or any("loss" in values for values in losses)
        return fault_of(events) or OK

    def _export(self) -> None:
        run = self.home / "jobs" / "sft-lora"
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Takes tiny families the whole way.")
    parser.add_argument("names", nargs="*", choices=[*FAMILIES, []])
    asked = parser.parse_args()
    for name in asked.names or FAMILIES:
        with tempfile.TemporaryDirectory() as work:
            began = time.monotonic()
            outcome = Journey(name, Path(work), models_folder()).go()
            print(
                name,
                f"{time.monotonic() - began:.0f} s",
                msgspec.json.encode(outcome).decode(),
                flush=True,
            )
