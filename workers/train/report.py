"""Between the Trainer and the wire: its logs become Metrics, requests become its controls."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from workers.protocol.events import Finding, Metrics, Note, Phase, Progress, Saved
from workers.protocol.metrics import LOGGED
from workers.protocol.requests import SampleNow, SaveNow
from workers.protocol.stages import spec_of
from workers.protocol.wire import finite
from workers.train import checkpoints, context
from workers.train.best import Best
from workers.train.context import Stage, TrainingContext
from workers.train.dry_run import dry_run
from workers.train.health import Coach
from workers.train.temperature import open_thermometer


def renamed(logs: Mapping[str, Any]) -> dict[str, Any]:
    """The Trainer's values under the wire's names; of rewards, each part's mean and deviation.

    Our own trainer, of PPO, uses the wire's names itself. TRL's `accuracy` is another one.
    """
    values = {ours: logs[theirs] for theirs, ours in LOGGED.items() if theirs in logs}
    for key, value in logs.items():
        first, _, rest = key.partition("/")
        name, _, statistic = rest.rpartition("/")
        if first == "rewards" and statistic in ("mean", "std"):
            values[f"reward/{name}" if statistic == "mean" else f"reward_std/{name}"] = value
    return {
        name: value.item() if isinstance(value, torch.Tensor) else value
        for name, value in values.items()
    }


class AlreadyTrained(Exception):
    """The checkpoint that was taken up is that of the last step; the Trainer would take another."""


class Report(TrainerCallback):
    """Says what the Trainer logs, has its health looked at, and does what the studio asks."""

    def __init__(self, here: TrainingContext, stage: Stage, trainer: Trainer) -> None:
        self._context = here
        self._host = here.host
        self._stage = stage
        self._trainer = trainer
        self._coach = Coach(here.recipe)
        assert trainer.model is not None
        self._best = Best(here.recipe, here.host.folder, trainer.model)
        self._began = time.perf_counter()
        self._last_log = self._began
        self._last_tokens = 0.0
        self.why_paused = ""
        """The reason, when it was the coach or the card's heat that paused the run."""
        self._thermometer = open_thermometer(here.host.job.pause_above_celsius, here.closing)

    @property
    def seconds(self) -> float:
        """Since training began."""
        return round(time.perf_counter() - self._began, 3)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        state.compute_steps(args, state.max_steps)  # a checkpoint brings those it was made with
        if state.global_step >= state.max_steps:
            raise AlreadyTrained
        dry_run(self._context, self._trainer)
        self._host.emit(Phase(name="Training"))
        self._host.emit(Progress(done=state.global_step, total=state.max_steps))
        self._last_tokens = float(state.num_input_tokens_seen)
        self._began = self._last_log = time.perf_counter()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        asked = self._host.requests.take()
        if any(isinstance(request, SaveNow) for request in asked):
            control.should_save = True
        every = self._context.recipe.evaluation.every_steps
        if every and state.global_step % every == 0 and state.global_step < state.max_steps:
            self._look("during")
        elif any(isinstance(request, SampleNow) for request in asked):
            self._look("")
        if self._best.exhausted and self._may_end(state.global_step):
            self._host.emit(Note(text=self._best.why_ended()))
            control.should_training_stop = True
        self._feel_heat(state.global_step)
        if self._host.requests.end_asked and self._may_end(state.global_step):
            control.should_save = control.should_training_stop = True

    def _feel_heat(self, step: int) -> None:
        """Pauses the run where its card has got as hot as the user allows."""
        found = self._thermometer.too_hot()
        if found is not None:
            self.why_paused = (
                f"Paused at step {step}: the GPU is at {found} °C, and the settings pause training "
                f"at {self._host.job.pause_above_celsius} °C. Resume it when the GPU has cooled."
            )
            self._host.requests.pause_asked = True

    def _may_end(self, step: int) -> bool:
        """A pause waits for the end of a batch's updates, so that no answer is trained twice."""
        updates = self._context.recipe.rl.num_iterations
        spec = spec_of(self._context.recipe.stage, self._context.recipe.rl.algorithm)
        window = updates if spec.grouped else 1
        return self._host.requests.stop_asked or step % window == 0

    def _look(self, moment: str) -> None:
        """Measures or samples in the middle of training; its time is not the training's."""
        began = time.perf_counter()
        if moment:
            self.measure(moment)
        context.sample(self._context, self._trainer)
        self._last_log += time.perf_counter() - began

    def measure(self, moment: str) -> None:
        """Measures on the held-out rows; the coach hears of it too."""
        seconds = self.seconds if moment != "before" else 0.0
        curves = context.measure(self._context, self._stage, self._trainer, moment, seconds)
        step = self._trainer.state.global_step
        if moment == "during":
            self._best.hear(step, curves)
        self._examine(step, curves)

    def settle(self) -> None:
        """At the end of training: gives the model its best weights where the recipe keeps them."""
        step = self._trainer.state.global_step
        if self._context.recipe.evaluation.keep_best and self._best.measured != step:
            self._look("during")
        if told := self._best.restore(step):
            self._host.emit(Note(text=told))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if logs is None or "loss" not in logs:
            return  # the closing summary, or a measurement, which has its own event
        values = renamed(logs)
        values |= self._speed(values.get("tokens") or self._last_tokens)
        values["memory_bytes"] = memory_bytes()
        told = finite(values)
        self._host.emit(Metrics(step=state.global_step, values=told, seconds=self.seconds))
        self._examine(state.global_step, told)

    def _examine(self, step: int, values: dict[str, float | None]) -> None:
        """Lets the coach look; on an alarm the run pauses if the recipe says so."""
        for found in self._coach.hear(step, values):
            self._host.emit(found)
            if not isinstance(found, Finding) or found.level != "alarm":
                continue
            if self._context.recipe.rl.pause_on == "alarm":
                self.why_paused = f"Paused by the health coach at step {step}: {found.meaning}"
                self._host.requests.pause_asked = True

    def _speed(self, tokens: float) -> dict[str, float]:
        now = time.perf_counter()
        speed = (tokens - self._last_tokens) / max(now - self._last_log, 1e-9)
        self._last_log, self._last_tokens = now, tokens
        return {"tokens_per_second": speed}

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
