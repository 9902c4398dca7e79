"""A real run on rows of segments: only what their labels ask for is in the loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.torch.test_loss_check import learner
from tests.torch.test_real_templates import write
from workers.protocol.events import Failed, Finished, Metrics

Run = Callable[..., list[Any]]


def test_segments_are_learnt_from_reading_to_the_last_measure(
    tmp_path: Path, tiny: Path, train_here: Run
) -> None:
    pairs = [
        [
            {"text": f"What is {n} + {n}?", "label": False},
            {"text": f" It is {2 * n}.", "label": True},
        ]
        for n in range(40)
    ]
    data = write(tmp_path / "d.jsonl", [{"segments": pair} for pair in pairs])
    events = train_here(learner("sft", str(tiny), data, max_steps=2))
    assert not [event for event in events if isinstance(event, Failed)]
    assert isinstance(events[-1], Finished)
    losses = [event.values["loss"] for event in events
              if isinstance(event, Metrics) and "loss" in event.values]  # fmt: skip
    assert len(losses) == 2
    assert all(loss is not None and 2 < loss < 9 for loss in losses)
