"""Rules for reinforcement learning, from checkable answers or from a reward model."""

from __future__ import annotations

import statistics

from workers.protocol.events import Finding
from workers.train.health.history import (
    WINDOW,
    History,
    Rule,
    Setting,
    mean_of,
)

ENTROPY_LEFT = 0.2
"""Entropy below this share of its start is a collapse. DAPO (Yu et al. 2025, fig. 2b) shows naive
GRPO falling to under a tenth within a few hundred steps; a healthy starter run keeps about half."""
SOLVED = 0.9
"""Of the highest reachable reward: the task is learnt, and equal groups are no fault."""
EQUAL_GROUPS = 0.8
"""Share of groups without spread from which a step teaches next to nothing (DAPO, section 3.2)."""
KL_FAR = 0.5
"""Nats a token from the reference. Healthy runs of the starter model stay under 0.1; Gao et al.
2022 find proxy and true reward parting as KL grows."""
KL_RUNAWAY = 2.0
LENGTH_GROWTH = 1.8
"""Times the length at the start, with answers being truncated; learning to work things out makes
answers longer too, and that is good."""
LENGTH_EXPLOSION = 3.0
"""Times the length at the start, truncated or not."""
SOME_TRUNCATED = 0.2
MOST_TRUNCATED = 0.5
"""Share of answers that reach the longest length."""
HACK_WINDOW = 25
"""Steps over which a rising form and a flat answer are a sign of an exploited reward."""
HACK_GAIN, HACK_FLAT = 0.15, 0.03
UNSCORED = 0.1
CHECKED_REMEDY = (
    "Give being right more weight than the form, and try the rewards on the Rewards page; look at "
    "the best-paid answers of the last steps."
)
REWARD_MODEL_REMEDY = (
    "Raise rl.kl_coefficient, stop earlier, or train the reward model on pairs that hold such "
    "answers; look at the best-paid answers of the last steps."
)
BLIND_AFTER = 20
"""Steps that a value model is given to learn to predict."""


def entropy_collapse(history: History, setting: Setting) -> Finding | None:
    start, now = history.start("entropy"), history.now("entropy")
    if not setting.stage.policy or start is None or now is None or now > ENTROPY_LEFT * start:
        return None
    if _solved(history, setting):
        return None
    return Finding(
        kind="entropy_collapse", level="warning", step=history.step, metric="entropy",
        meaning=f"The policy has become nearly certain of every word (entropy {start:.3g} to "
        f"{now:.3g}) before the task is solved: it no longer tries anything new.",
        remedy="Lower the learning rate, raise rl.kl_coefficient or rl.clip_epsilon_high (0.28), "
        "or sample at a higher temperature.",
    )  # fmt: skip


def _solved(history: History, setting: Setting) -> bool:
    """Whether the latest answers earn nearly all there is to earn."""
    latest = mean_of(history.values("reward")[-2:])
    return setting.top is not None and latest is not None and latest >= SOLVED * setting.top


def zero_variance_groups(history: History, setting: Setting) -> Finding | None:
    share, reward = history.now("frac_reward_zero_std"), history.now("reward")
    if share is None or reward is None or share < EQUAL_GROUPS:
        return None
    if _solved(history, setting):
        return Finding(
            kind="solved", level="advice", step=history.step, metric="frac_reward_zero_std",
            meaning=f"In {share:.0%} of the groups all answers earn the same, nearly all there is "
            "to earn: the task is learnt.",
            remedy="Stop here, or bring harder prompts.",
        )  # fmt: skip
    return Finding(
        kind="zero_std_groups", level="warning", step=history.step, metric="frac_reward_zero_std",
        meaning=f"In {share:.0%} of the groups all answers earn the same ({reward:.3g} on "
        "average): there is nothing to compare, so the step teaches nothing.",
        remedy="Bring prompts that the model gets right sometimes, run SFT first, raise "
        "rl.group_size or the temperature, or give rewards with steps in between.",
    )  # fmt: skip


def kl_drift(history: History, setting: Setting) -> Finding | None:
    now = history.now("kl")  # a mean over tokens; KTO's is a sum over answers
    if not setting.stage.policy or now is None or now < KL_FAR:
        return None
    return Finding(
        kind="kl_drift", level="alarm" if now > KL_RUNAWAY else "warning", step=history.step,
        metric="kl",
        meaning=f"The policy is {now:.2g} nats a token away from where it started: it may be "
        "losing what it knew.",
        remedy="Raise rl.kl_coefficient, or lower the learning rate; look at the samples.",
    )  # fmt: skip


def length_explosion(history: History, _: Setting) -> Finding | None:
    start, now = history.start("completion_length"), history.now("completion_length")
    truncated = history.now("truncation_rate")
    if start is None or now is None or truncated is None:
        return None
    growing = now > LENGTH_GROWTH * start and truncated > SOME_TRUNCATED
    if growing or now > LENGTH_EXPLOSION * start:
        return Finding(
            kind="length_blow_up", level="warning", step=history.step, metric="completion_length",
            meaning=f"Answers have grown from {start:.0f} to {now:.0f} tokens, and {truncated:.0%} "
            "are truncated: length may be what is being rewarded.",
            remedy="Add a length reward, check on the Rewards page whether length alone earns "
            "something, or set rl.mask_truncated_completions.",
        )  # fmt: skip
    if truncated > MOST_TRUNCATED:
        return Finding(
            kind="cut_off", level="warning", step=history.step, metric="truncation_rate",
            meaning=f"{truncated:.0%} of the answers are truncated, so that they cannot "
            "be right.",
            remedy="Raise rl.max_completion_tokens, or reward ending in time.",
        )  # fmt: skip
    return None


def cut_thinking(history: History, _: Setting) -> Finding | None:
    share = history.now("cut_thinking_rate")
    if share is None or share < SOME_TRUNCATED:
        return None
    return Finding(
        kind="cut_thinking", level="warning", step=history.step, metric="cut_thinking_rate",
        meaning=f"{share:.0%} of the answers are truncated while the model is still thinking, so "
        "that nothing is answered.",
        remedy="Raise rl.max_completion_tokens, lower model.reasoning_effort where the model has "
        "levels, or set model.thinking = 'off'.",
    )  # fmt: skip


def reward_hacking(history: History, setting: Setting) -> Finding | None:
    """Form up while right answers stand still, or reward up while held-out accuracy falls."""
    reward = history.values("reward")
    accuracy = history.values("eval_accuracy")
    gained = (history.now("reward") or 0.0) - (history.start("reward") or 0.0)
    if len(accuracy) >= 2 and gained > HACK_GAIN and accuracy[-1] < accuracy[0] - 2 * HACK_FLAT:
        return _hacked(
            history, setting, "reward",
            f"The reward has risen by {gained:.2g} while held-out accuracy fell from "
            f"{accuracy[0]:.0%} to {accuracy[-1]:.0%}",
        )  # fmt: skip
    if len(reward) < HACK_WINDOW or not setting.form or not setting.right:
        return None
    form = sum(_gain(history, name) for name in setting.form)
    right = sum(_gain(history, name) for name in setting.right)
    if form < HACK_GAIN or right > HACK_FLAT or _solved(history, setting):
        return None
    return _hacked(
        history, setting, setting.form[0],
        f"The reward for the form has risen by {form:.2g} while right answers stand still "
        f"({right:+.2g})",
    )  # fmt: skip


def _gain(history: History, name: str) -> float:
    found = history.values(name)
    return statistics.fmean(found[-WINDOW:]) - statistics.fmean(found[:WINDOW]) if found else 0.0


def _hacked(history: History, setting: Setting, metric: str, seen: str) -> Finding:
    return Finding(
        kind="reward_hacking", level="warning", step=history.step, metric=metric,
        meaning=f"{seen}: the model learns to please the reward, not to solve the task.",
        remedy=REWARD_MODEL_REMEDY if setting.stage.scored_by == "reward_model" else CHECKED_REMEDY,
    )  # fmt: skip


def unscored_samples(history: History, _: Setting) -> Finding | None:
    share = history.now("unscored_share")
    if share is None or share < UNSCORED:
        return None
    return Finding(
        kind="unscored_samples", level="warning", step=history.step, metric="unscored_share",
        meaning=f"{share:.0%} of the answers got no score, because a reward raised, hung or gave "
        "no number; they count for nothing.",
        remedy="Open a step to read the faults, and mend the reward.",
    )  # fmt: skip


def negative_explained_variance(history: History, _: Setting) -> Finding | None:
    now = history.now("explained_variance")
    if now is None or len(history.values("explained_variance")) < BLIND_AFTER or now > 0:
        return None
    return Finding(
        kind="negative_explained_variance", level="warning", step=history.step,
        metric="explained_variance",
        meaning=f"The value model predicts less than the plain mean would (explained variance "
        f"{now:.2g}): the advantages are mostly noise.",
        remedy="Raise rl.value_coefficient or training.effective_batch_size, or take "
        "rl.algorithm = 'rloo', which needs no value model.",
    )  # fmt: skip


RULES: tuple[Rule, ...] = (
    entropy_collapse, zero_variance_groups, kl_drift, length_explosion, cut_thinking,
    reward_hacking, unscored_samples, negative_explained_variance,
)  # fmt: skip
