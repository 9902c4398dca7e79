"""A QLoRA stage upon an earlier run starts from what that run learnt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.torch.test_sft import learner
from workers.protocol.events import Evaluated, Failed

Run = Callable[..., list[Any]]


def test_four_bits_keep_what_the_stage_before_has_learnt(
    tiny: Path, tmp_path: Path, train_here: Run
) -> None:
    """Merged into four-bit weights, an update of this size is rounded away nearly whole."""
    first = learner(tiny, name="first", method="lora",
                    training={"max_steps": 30, "learning_rate": 1e-3})  # fmt: skip
    events = train_here(first)
    before, after = [e.values["loss"] or 0.0 for e in events if isinstance(e, Evaluated)]
    learnt = before - after
    assert learnt > 0.02
    run = next(tmp_path.glob("jobs/first-*"))
    second = learner(tiny, name="second", base=f"run:{run.name}", method="qlora",
                     training={"max_steps": 1, "learning_rate": 1e-9})  # fmt: skip
    events = train_here(second)
    assert [event for event in events if isinstance(event, Failed)] == []
    start = next(e for e in events if isinstance(e, Evaluated)).values["loss"] or 0.0
    raw = train_here(learner(tiny, name="raw", method="qlora",
                             training={"max_steps": 1, "learning_rate": 1e-9}))  # fmt: skip
    unlearnt = next(e for e in raw if isinstance(e, Evaluated)).values["loss"] or 0.0
    assert unlearnt - start > 0.8 * learnt
    assert len(list((tmp_path / "models").glob("merged-*"))) == 1
