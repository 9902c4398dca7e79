"""The README tells the truth about options and metrics."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.pages.run import charts_for
from workers.protocol.options import options_of
from workers.protocol.recipe import sections
from workers.protocol.rewards import KINDS

README = (Path(__file__).parents[1] / "README.md").read_text()
OPTIONS = [
    option
    for path, section in sections().items()
    for option in options_of(section, f"{path}." if path else "")
]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.path)
def test_every_option_stands_in_the_table_as_declared(option: object) -> None:
    row = next(li for li in README.splitlines() if li.startswith(f"| `{option.path}` |"))  # type: ignore[attr-defined]
    assert option.help in row  # type: ignore[attr-defined]
    if "NODEFAULT" not in repr(option.default):  # type: ignore[attr-defined]
        assert f"`{option.default!r}`" in row  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_reward_is_explained_with_its_options(kind: str) -> None:
    row = next(li for li in README.splitlines() if li.startswith(f"| `{kind}` |"))
    for option in options_of(KINDS[kind]):
        assert option.key == "weight" or f"`{option.key}`" in row


def test_every_charted_metric_is_explained() -> None:
    plans = [*charts_for("grpo"), *charts_for("rlhf", "ppo")]
    lines = (line.metric for plan in plans for line in plan.lines)
    for name in {metric.removeprefix("eval_") for metric in lines}:
        assert f"`{name}`" in README, name
