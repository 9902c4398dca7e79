"""Between the Trainer and the wire: its logs become Metrics, requests become its controls."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from workers.host import Host
from workers.protocol.events import Evaluated, Metrics, Phase, Progress, Saved
from workers.protocol.requests import SaveNow
from workers.protocol.wire import finite
from workers.train import checkpoints

NAMES = {
    "loss": "loss",
    "grad_norm": "gradient_norm",
    "learning_rate": "learning_rate",
    "entropy": "entropy",
    "mean_token_accuracy": "token_accuracy",
    "num_tokens": "tokens",
    "epoch": "epoch",
}
"""The Trainer's names to those on the wire, which README's 'Metrics' explains."""


class Report(TrainerCallback):
    """Says what the Trainer logs and does what the studio asks, once a step."""

    def __init__(self, host: Host, held_out_rows: int) -> None:
        self._host = host
        self._rows = held_out_rows
        self._began = time.perf_counter()
        self._last_log = self._began
        self._last_tokens = 0.0
        self.moment = "during"
        """Which measurement the next evaluation is: before, during or after."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._host.emit(Phase(name="Training"))
        self._host.emit(Progress(done=state.global_step, total=state.max_steps))
        self._began = self._last_log = time.perf_counter()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        asked = self._host.requests.take()
        if any(isinstance(request, SaveNow) for request in asked):
            control.should_save = True
        if self._host.requests.stop_asked:
            control.should_save = control.should_training_stop = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if logs is None or "loss" not in logs:
            return  # the closing summary, or an evaluation, which has its own event
        values = {name: logs[key] for key, name in NAMES.items() if key in logs}
        values |= self._speed(values.get("tokens", self._last_tokens))
        values["memory_bytes"] = memory_bytes()
        self._host.emit(
            Metrics(
                step=state.global_step,
                values=finite(values),
                seconds=self._seconds(),
            )
        )

    def _seconds(self) -> float:
        return round(time.perf_counter() - self._began, 3)

    def _speed(self, tokens: float) -> dict[str, float]:
        now = time.perf_counter()
        speed = (tokens - self._last_tokens) / max(now - self._last_log, 1e-9)
        self._last_log, self._last_tokens = now, tokens
        return {"tokens_per_second": speed}

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        measured = metrics or {}
        values = finite({
            name: measured[f"eval_{key}"]
            for key, name in NAMES.items()
            if f"eval_{key}" in measured and name in ("loss", "entropy", "token_accuracy")
        })  # fmt: skip
        step = state.global_step
        self._host.emit(Evaluated(when=self.moment, step=step, values=values, rows=self._rows))
        curves = {f"eval_{name}": value for name, value in values.items()}
        self._host.emit(Metrics(step=step, values=curves, seconds=self._seconds()))
        self._last_log = time.perf_counter()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        folder = Path(args.output_dir or "") / f"checkpoint-{state.global_step}"
        checkpoints.seal(folder, state.global_step)
        self._host.emit(Saved(step=state.global_step, path=str(folder)))
        self._last_log = time.perf_counter()


def memory_bytes() -> int:
    """Most GPU memory held so far, or what this process holds now on the CPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved()
    return psutil.Process().memory_info().rss
