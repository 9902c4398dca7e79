#!/usr/bin/env python
"""Stands in for `python -m workers FOLDER`: the real host and wire, rooms without torch.

Named as the interpreter in the settings, it is started as `worker.py -m workers FOLDER`. A run's
name tells it how to behave: one that holds `fails`, `dies` or `hangs` does so after three steps,
and reinforcement learning under a name that holds `sick` is unwell from step 4 to step 12, under
one that holds `worsens` ends with fewer right answers than it began with. One that holds `greedy`
runs out of memory after three steps, a checkpoint behind it, unless the batch size is 1; one that
holds `thrifty` too goes on by itself. The export of a run whose name holds `differs` reads text
otherwise than the run does.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import learning
import msgspec

from workers.__main__ import run_folder, run_to_end
from workers.host import Host, serve
from workers.protocol import events, requests, wire
from workers.protocol.audit import (
    AuditExample,
    AuditFinding,
    AuditResult,
    BadLine,
    TokenStatistics,
)
from workers.protocol.exports import record_parity
from workers.protocol.jobs import Chat, Export, Inspect, Train
from workers.protocol.jobs import Resolved as Pinned
from workers.protocol.recipe import Recipe
from workers.protocol.refusal import Refusal

STEP_S = float(os.environ.get("FAKE_STEP_S", "0.02"))


def handler_of(task: object) -> object:
    rooms = {Train: train, Export: export, Chat: chat, Inspect: look}
    return rooms[type(task)]


def train(host: Host) -> None:
    task = host.job.task
    assert isinstance(task, Train)
    recipe = task.recipe
    total = recipe.training.max_steps
    pinned = Pinned(versions={"torch": "fake"}, datasets=[{"sha256": "0" * 64}])
    host.resolve(msgspec.structs.replace(host.job, resolved=pinned))
    host.emit(events.Phase(name="Loading the model"))
    host.emit(events.Resolved(versions={"torch": "fake"}))
    done = _last_saved(host)
    if host.started_before:
        host.emit(events.Resumed(step=done))
    if not done:
        _measure(host, recipe, "before", 0)
        _sample(host, 0)
    host.emit(events.Phase(name="Training"))
    host.emit(events.Progress(done=done, total=total))
    for step in range(done + 1, total + 1):
        time.sleep(STEP_S)
        _take_step(host, recipe, step)
        if step == 3:
            _misbehave(host, recipe)
        if _obeys(host, recipe, step):
            return
    _finish(host, recipe, total)


def _take_step(host: Host, recipe: Recipe, step: int) -> None:
    if recipe.stage in ("grpo", "rlhf"):
        learning.roll_out(host, recipe, step)
        learning.say_metrics(host, recipe, step, step * STEP_S)
        learning.fall_ill(host, recipe, step)
    else:
        _metrics(host, step)
    every = recipe.evaluation.every_steps
    if every and step % every == 0 and step < recipe.training.max_steps:
        _measure(host, recipe, "during", step)
        _sample(host, step)


def _obeys(host: Host, recipe: Recipe, step: int) -> bool:
    """Does what was asked; whether the worker is to end, stopped or paused."""
    asked = host.requests.take()
    if any(isinstance(request, requests.SaveNow) for request in asked):
        _save(host, step)
    if any(isinstance(request, requests.SampleNow) for request in asked):
        _sample(host, step)
    if not host.requests.end_asked or "hangs" in recipe.name or step == recipe.training.max_steps:
        return False
    _save(host, step)
    if host.requests.stop_asked:
        host.emit(events.Stopped(step=step, detail=f"Stopped when asked, after step {step}."))
    else:
        host.emit(events.Paused(step=step, detail=f"Paused when asked, after step {step}."))
    return True


def _finish(host: Host, recipe: Recipe, total: int) -> None:
    _save(host, total)
    folder = host.folder / "adapter"
    folder.mkdir(exist_ok=True)
    (folder / "adapter_model.safetensors").write_bytes(b"0" * 64)
    host.emit(events.Artifact(path=str(folder), kind="adapter", bytes=64))
    _measure(host, recipe, "after", total)
    _sample(host, total)
    host.emit(events.Finished(summary={"steps": total}))


def _measure(host: Host, recipe: Recipe, when: str, step: int) -> None:
    values: dict[str, float | None] = {"loss": 0.5 if when == "after" else 3.0}
    each: dict[str, list[float | None]] = {}
    if recipe.stage in ("grpo", "rlhf"):
        values = learning.scores(recipe, step)
        each = learning.outcomes(values)
    rows = learning.HELD_OUT
    host.emit(events.Evaluated(when=when, step=step, values=values, rows=rows, each=each))
    curves = {f"eval_{name}": value for name, value in values.items()}
    host.emit(events.Metrics(step=step, values=curves))


def _sample(host: Host, step: int) -> None:
    answer = "2" if step else "11"
    host.emit(events.Sampled(step=step, prompt="What is 1 + 1?", completion=answer))


def _metrics(host: Host, step: int) -> None:
    values: dict[str, float | None] = {
        "loss": 3.0 / step, "entropy": 1.0 / step, "token_accuracy": 1 - 0.5 / step,
        "gradient_norm": 1.0, "learning_rate": 1e-4, "tokens_per_second": 900.0,
        "memory_bytes": 1e9,
    }  # fmt: skip
    host.emit(events.Metrics(step=step, values=values, seconds=step * STEP_S))


def _save(host: Host, step: int) -> None:
    folder = host.folder / "checkpoints" / f"checkpoint-{step}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(f'{{"step": {step}, "files": {{}}}}')
    host.emit(events.Saved(step=step, path=str(folder)))


def _last_saved(host: Host) -> int:
    found = (host.folder / "checkpoints").glob("checkpoint-*")
    return max((int(path.name.rpartition("-")[2]) for path in found), default=0)


def _misbehave(host: Host, recipe: Recipe) -> None:
    name = recipe.name
    if "greedy" in name and recipe.training.batch_size > 1:
        _save(host, 2)
        raise MemoryError
    if "fails" in name:
        raise Refusal("It failed.", "It was named so.", "Name it otherwise.")
    if "dies" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    if "hangs" in name:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        host.emit(events.Note(text="Hanging"))
        time.sleep(600)


def export(host: Host) -> None:
    task = host.job.task
    assert isinstance(task, Export)
    exports = Path(task.run_folder) / "exports"
    exports.mkdir(exist_ok=True)
    same = "differs" not in task.run_folder
    for target in task.targets:
        host.emit(events.Phase(name=f"Writing {target}"))
        path = exports / f"{target.replace('gguf:', 'model-')}.gguf"
        path.write_bytes(b"GGUF" + b"0" * 4092)
        host.emit(events.Artifact(path=str(path), kind=target, bytes=4096))
        checks = [
            events.Checked(check=f"{target}: loads", passed=True, detail="it does"),
            events.Checked(check=f"{target}: same tokens", passed=same, detail="so many",
                           remedy="" if same else "Do not use it."),
        ]  # fmt: skip
        for check in checks:
            host.emit(check)
        record_parity(exports, path.name, checks)
    host.emit(events.Finished(summary={"parity": "passed" if same else "failed"}))


def look(host: Host) -> None:
    """Finds a bad line and cut answers in every file but the built-in ones, which are clean."""
    task = host.job.task
    assert isinstance(task, Inspect)
    if "gone" in task.source.source:
        raise Refusal("It is gone.", "It was named so.", "Name it otherwise.")
    for done in (0, 10, 20):
        host.emit(events.Progress(done=done, total=20, unit="rows"))
        time.sleep(STEP_S)
    clean = task.source.source.startswith("builtin:")
    finding = AuditFinding(
        kind="answer_cut_off", level="warning", count=3, share=0.15, meaning="The end is lost.",
        remedy="Raise the length.", examples=[AuditExample(2, "What is 1 + 1?")],
    )  # fmt: skip
    result = AuditResult(
        source=task.source.source, format="chat", stages=["sft"], stage=task.stage,
        model=task.model, rows=20, bad=[] if clean else [BadLine(7, "not valid JSON")],
        findings=[] if clean else [finding], trained_token_share=0.6, seconds=0.1,
        tokens=TokenStatistics(
            total=900, trained=540, max_length=task.max_length, mean=45.0,
            percentiles={"p50": 44, "p95": 60, "p100": 61}, histogram=[],
        ),
    )  # fmt: skip
    host.emit(events.Inspected(result=result))
    host.emit(events.Finished())


def chat(host: Host) -> None:
    task = host.job.task
    assert isinstance(task, Chat)
    host.emit(events.Phase(name="Loading the model"))
    time.sleep(STEP_S)
    thinking = os.environ.get("FAKE_THINKING", "")
    host.emit(events.Ready(model=task.model, detail="a fake", thinking=thinking))
    serve(host, {requests.Say: lambda say: _answer(host, say)})
    host.emit(events.Finished())


def _answer(host: Host, say: requests.Say) -> None:
    words = f"You said: {say.messages[-1]['content']}".split(" ")
    for number, word in enumerate(words):
        time.sleep(STEP_S)
        host.emit(events.Token(text=word if number == 0 else f" {word}"))
        if host.requests.interrupted():
            words = words[: number + 1]
            break
    host.emit(
        events.Answered(text=" ".join(words), tokens=len(words), tokens_per_second=50.0,
                        first_token_seconds=0.1, finish="stop")
    )  # fmt: skip


def run(folder: Path) -> int:
    work = run_to_end if "thrifty" in wire.read_job(folder).name else run_folder
    return work(folder, handler_of)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[-1])))
