"""The best of the held-out measurements during training, and the weights that reached it.

The weights that training moves are written beside the run whenever they are the best so far, so
that a run that is broken off and goes on, or ends in a worse place, still has them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import msgspec
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from workers.folders import write_folder
from workers.protocol import wire
from workers.protocol.metrics import HELD_OUT, SCORES, lower_is_better, present_name
from workers.protocol.recipe import Recipe

FOLDER, STATE, WEIGHTS = "best", "best.json", "weights.safetensors"


class Standing(msgspec.Struct, frozen=True):
    """The best measurement so far."""

    metric: str
    value: float
    step: int
    behind: int = 0
    """Measurements since then."""
    heard: int = 0
    """The step of the last of them; a run that goes on from before it measures it again."""


class Best:
    """Follows the measurements of a run whose recipe asks for its best, or for an early stop."""

    def __init__(self, recipe: Recipe, run: Path, model: nn.Module) -> None:
        self._options = recipe.evaluation
        self._folder = run / FOLDER
        self._model = model
        self.standing = _read(self._folder / STATE)
        self.measured = 0
        """The step of the last measurement."""

    @property
    def asked(self) -> bool:
        return self._options.keep_best or self._options.early_stopping_patience > 0

    @property
    def exhausted(self) -> bool:
        """Whether so many measurements brought no gain that training is to end."""
        patience = self._options.early_stopping_patience
        return bool(patience and self.standing and self.standing.behind >= patience)

    def hear(self, step: int, curves: Mapping[str, float | None]) -> None:
        """Takes a measurement: points of curves by name, as `context.measure` gives them."""
        self.measured = step
        metric = self._metric(curves)
        value = curves.get(f"{HELD_OUT}{metric}")
        if not self.asked or value is None or not math.isfinite(value):
            return
        last = self.standing
        if last is None or (value < last.value if lower_is_better(metric) else value > last.value):
            found = Standing(metric, value, step, heard=step)
            self._write(found, with_weights=self._options.keep_best)
        elif step > last.heard:
            behind = msgspec.structs.replace(last, behind=last.behind + 1, heard=step)
            self._write(behind, with_weights=False)

    def _metric(self, curves: Mapping[str, float | None]) -> str:
        """The gate's measure where a gate is set, else the most telling that there is."""
        if self.standing:
            return self.standing.metric
        if self._options.gate:
            return present_name(self._options.gate.metric)
        there = (name for name in SCORES if curves.get(f"{HELD_OUT}{name}") is not None)
        return next(there, SCORES[-1])

    def _write(self, standing: Standing, *, with_weights: bool) -> None:
        self.standing = standing
        state = msgspec.json.encode(standing)
        if not with_weights:
            self._folder.mkdir(exist_ok=True)
            wire.write_atomically(self._folder / STATE, state)
            return

        def fill(target: Path) -> None:
            save_file(_trained(self._model), target / WEIGHTS)
            (target / STATE).write_bytes(state)

        write_folder(self._folder, fill)

    def restore(self, step: int) -> str:
        """Puts the best weights back where the recipe keeps them and training has moved on.

        Returns what was done, in a sentence; nothing where the last weights are the best.
        """
        best = self.standing
        if not self._options.keep_best or best is None or best.step == step:
            return ""
        stored = load_file(self._folder / WEIGHTS)
        with torch.no_grad():
            for name, weight in _moving(self._model).items():
                weight.copy_(stored[name])
        return (
            f"The result is the model of step {best.step}, where held-out "
            f"{best.metric.replace('_', ' ')} was best ({best.value:.4g}), not that of the last "
            f"step, {step}."
        )

    def why_ended(self) -> str:
        assert self.standing is not None
        return (
            f"Training ends early: {self.standing.behind} measurements brought no gain in held-out "
            f"{self.standing.metric.replace('_', ' ')} over {self.standing.value:.4g} at step "
            f"{self.standing.step}."
        )


def _read(path: Path) -> Standing | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Standing)
    except (OSError, msgspec.DecodeError):
        return None


def _moving(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that training moves, by name; tied ones once."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def _trained(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().contiguous() for name, weight in _moving(model).items()}
