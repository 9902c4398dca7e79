"""Rules for learning from preferences: what is normal, and what is not.

An implicit reward is beta times what an answer's log-probability has gained on the reference's, in
nats (Rafailov et al. 2023).
"""

from __future__ import annotations

from workers.protocol.events import Finding
from workers.train.health.history import FIRST_TRENDS, History, Rule, Setting

FALLING, GROWING = -0.1, 0.2
"""Implicit rewards: the better answers' below zero, and the margin's growth."""
DISPLACED_NATS, DISPLACED_TIMES = 10.0, 2.0
"""The better answers are given up when their log-probability has doubled and lost so much (Razin
et al. 2024, "Unintentional unalignment: likelihood displacement in direct preference
optimization")."""
DRIFT_TIMES = 4.0
"""Times the log-probability at the start that answers have moved from the reference."""
LEAD, ORDERED = 0.5, 0.6
"""A margin's growth, and the share of pairs in order that should come with it."""
LONGER_WINS, BEYOND_DATA = 0.75, 0.15
"""Share of held-out pairs in which the longer answer scores higher, and by how much it exceeds the
share in which the longer one is the better (Singhal et al. 2023)."""


def chosen_falls(history: History, setting: Setting) -> Finding | None:
    """The better answers lose probability: normal while the worse ones lose more, up to a point."""
    reward = history.now("reward_chosen")
    if not setting.stage.implicit_rewards or reward is None or reward > FALLING:
        return None
    start, now = history.start("logp_chosen"), history.now("logp_chosen")
    if start is not None and now is not None and _given_up(start, now):
        return Finding(
            kind="likelihood_displacement", level="warning", step=history.step,
            metric="logp_chosen",
            meaning=f"The better answers themselves have become far less likely ({start:.0f} to "
            f"{now:.0f} nats): what is gained goes to answers that are in no pair.",
            remedy="Set preference.rpo_alpha = 1, which teaches the better answer too; lower the "
            "learning rate, raise preference.beta, or take out pairs that are nearly the same.",
        )  # fmt: skip
    if _grown(history) < GROWING:
        return None
    return Finding(
        kind="chosen_falls", level="advice", step=history.step, metric="reward_chosen",
        meaning=f"The reward of the better answers falls (now {reward:.2g}) while the margin "
        "grows. That is normal: both kinds become less likely, the worse ones by more.",
        remedy="Nothing to do. Watch the samples and the log-probability of the better answers.",
    )  # fmt: skip


def _given_up(start: float, now: float) -> bool:
    return start - now > DISPLACED_NATS and now < DISPLACED_TIMES * start


def _grown(history: History) -> float:
    start, now = history.start("margin"), history.now("margin")
    return now - start if start is not None and now is not None else 0.0


def drift(history: History, setting: Setting) -> Finding | None:
    """Answers have moved so far from the reference that beta no longer holds the model."""
    worse, likely = history.now("reward_rejected"), history.start("logp_rejected")
    if not setting.stage.implicit_rewards or worse is None or likely is None:
        return None
    nats = abs(worse) / setting.beta
    if nats < DRIFT_TIMES * max(abs(likely), DISPLACED_NATS):
        return None
    return Finding(
        kind="beta_too_low", level="warning", step=history.step, metric="reward_rejected",
        meaning=f"The worse answers have moved {nats:.0f} nats from where the model started: "
        f"preference.beta = {setting.beta:g} hardly holds it, and it may forget how to talk.",
        remedy="Raise preference.beta (0.1 to 0.5 is usual), lower the learning rate, or stop "
        "earlier; look at the samples.",
    )  # fmt: skip


def margin_without_accuracy(history: History, setting: Setting) -> Finding | None:
    """Few pairs carry the whole margin."""
    ordered = history.now("pair_accuracy")
    if ordered is None or ordered > ORDERED or _grown(history) < LEAD * setting.beta * 10:
        return None
    if len(history.values("margin")) < 2 * FIRST_TRENDS:
        return None
    return Finding(
        kind="margin_without_accuracy", level="warning", step=history.step, metric="pair_accuracy",
        meaning=f"The margin grows, but only {ordered:.0%} of the pairs are in the right order: a "
        "few pairs are learnt very well and the rest not at all.",
        remedy="Check the data for pairs that contradict each other or stand the wrong way round; "
        "preference.loss = 'ipo' or 'robust' bears them better.",
    )  # fmt: skip


def length_bias(history: History, setting: Setting) -> Finding | None:
    """A reward model that has learnt to measure length."""
    wins, chosen = history.values("eval_length_bias"), history.values("eval_longer_chosen")
    if setting.stage.talks or not wins or not chosen or history.step == 0:
        return None
    if wins[-1] < LONGER_WINS or wins[-1] < chosen[-1] + BEYOND_DATA:
        return None
    return Finding(
        kind="length_bias", level="warning", step=history.step, metric="eval_length_bias",
        meaning=f"The longer answer scores higher in {wins[-1]:.0%} of the held-out pairs, though "
        f"it is the better one in {chosen[-1]:.0%}: this model rewards length.",
        remedy="Bring pairs in which the shorter answer is better, or balance their lengths; else "
        "a policy trained on it will ramble.",
    )  # fmt: skip


RULES: tuple[Rule, ...] = (chosen_falls, drift, margin_without_accuracy, length_bias)
