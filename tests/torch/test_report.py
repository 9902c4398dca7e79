"""The Trainer's logs under the wire's names."""

from __future__ import annotations

from workers.train.report import renamed


def test_a_name_of_trl_is_never_taken_for_one_of_the_wire() -> None:
    logs = {"accuracy": 0.75, "margin": 0.5, "frac_reward_zero_std": 0.0, "equal_group_share": 0.25}
    assert renamed(logs) == {"pair_accuracy": 0.75, "margin": 0.5, "frac_reward_zero_std": 0.25}


def test_our_own_trainers_names_and_parts_of_the_reward_go_through() -> None:
    logs = {"clip_fraction": 0.1, "rewards/format/mean": 1.0, "rewards/format/std": 0.2, "eps": 3}
    assert renamed(logs) == {"clip_fraction": 0.1, "reward/format": 1.0, "reward_std/format": 0.2}
