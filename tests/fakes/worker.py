#!/usr/bin/env python
"""Stands in for `python -m workers FOLDER`: the real host and wire, rooms without torch.

Named as the interpreter in the settings, it is started as `worker.py -m workers FOLDER`. A run's
name tells it how to behave: one that holds `fails`, `dies` or `hangs` does so after three steps.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import msgspec

from workers.__main__ import run_folder
from workers.chat import owner_lives
from workers.host import Host
from workers.protocol import events, requests
from workers.protocol.jobs import Chat, Export, Train
from workers.protocol.jobs import Resolved as Pinned
from workers.protocol.refusal import Refusal

STEP_S = float(os.environ.get("FAKE_STEP_S", "0.02"))


def room_of(task: object) -> object:
    rooms = {Train: train, Export: export, Chat: chat}
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
    _measure(host, "before", 0, 3.0)
    host.emit(events.Sampled(step=0, prompt="What is 1 + 1?", completion="11"))
    host.emit(events.Phase(name="Training"))
    host.emit(events.Progress(done=0, total=total))
    for step in range(1, total + 1):
        time.sleep(STEP_S)
        _metrics(host, step)
        if step == 3:
            _misbehave(host, recipe.name)
        asked = host.requests.take()
        if any(isinstance(request, requests.SaveNow) for request in asked):
            _save(host, step)
        if host.requests.stop_asked and "hangs" not in recipe.name:
            _save(host, step)
            host.emit(events.Stopped(step=step, detail=f"Stopped when asked, after step {step}."))
            return
    _save(host, total)
    folder = host.folder / "adapter"
    folder.mkdir(exist_ok=True)
    (folder / "adapter_model.safetensors").write_bytes(b"0" * 64)
    host.emit(events.Artifact(path=str(folder), kind="adapter", bytes=64))
    _measure(host, "after", total, 0.5)
    host.emit(events.Sampled(step=total, prompt="What is 1 + 1?", completion="2"))
    host.emit(events.Finished(summary={"steps": total}))


def _measure(host: Host, when: str, step: int, loss: float) -> None:
    host.emit(events.Evaluated(when=when, step=step, values={"loss": loss}, rows=4))
    host.emit(events.Metrics(step=step, values={"eval_loss": loss}))


def _metrics(host: Host, step: int) -> None:
    values = {
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


def _misbehave(host: Host, name: str) -> None:
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
    for target in task.targets:
        host.emit(events.Phase(name=f"Writing {target}"))
        host.emit(events.Checked(check=f"{target}: loads", passed=True, detail="it does"))
        path = exports / f"{target.replace('gguf:', 'model-')}.gguf"
        path.write_bytes(b"GGUF" + b"0" * 4092)
        host.emit(events.Artifact(path=str(path), kind=target, bytes=4096))
    host.emit(events.Finished())


def chat(host: Host) -> None:
    task = host.job.task
    assert isinstance(task, Chat)
    host.emit(events.Phase(name="Loading the model"))
    host.emit(events.Ready(model=task.model, detail="a fake"))
    while not host.requests.stop_asked and owner_lives(task):
        for request in host.requests.take():
            if isinstance(request, requests.Say):
                _answer(host, request)
        time.sleep(0.01)
    host.emit(events.Finished())


def _answer(host: Host, say: requests.Say) -> None:
    words = f"You said: {say.messages[-1]['content']}".split(" ")
    for number, word in enumerate(words):
        time.sleep(STEP_S)
        host.emit(events.Token(text=word if number == 0 else f" {word}"))
        taken = host.requests.take()
        if any(isinstance(request, requests.Hush) for request in taken):
            words = words[: number + 1]
            break
    host.emit(
        events.Answered(text=" ".join(words), tokens=len(words), tokens_per_second=50.0,
                        first_token_seconds=0.1, finish="stop")
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(run_folder(Path(sys.argv[-1]), room_of))  # type: ignore[arg-type]
