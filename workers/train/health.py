"""The health coach: looks at a run's metrics as they come and says in words what goes wrong.

Pure functions over the stream of metrics; no model, no trainer. A rule looks at the history and
answers with a `Finding` or nothing. Each is told once and again only after it has passed.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import NamedTuple

from workers.protocol.events import Eased, Finding
from workers.protocol.recipe import Recipe
from workers.protocol.rewards import (
    CodeTests,
    Format,
    JsonSchema,
    Language,
    Length,
    Match,
    MathAnswer,
    ReasoningGym,
    Repetition,
    names_of,
)

WINDOW = 5
"""Steps averaged, so that one odd step says nothing."""
FIRST_JUDGED = 10
"""Steps before trends are judged; fewer are noise."""
PASSED_AFTER = 5
"""Steps that a finding must be gone to count as passed."""

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
"""Times the length at the start, with answers being cut off; learning to work things out makes
answers longer too, and that is good."""
LENGTH_EXPLOSION = 3.0
"""Times the length at the start, cut off or not."""
SOME_CUT_OFF = 0.2
CUT_OFF = 0.5
"""Share of answers that reach the longest length."""
HACK_WINDOW = 25
"""Steps over which a rising form and a flat answer are a sign of farming."""
HACK_GAIN, HACK_FLAT = 0.15, 0.03
SPIKE = 10.0
"""Times the median of the gradient norm so far."""
SPIKES = 3
"""Spikes within ten steps; single ones are clipped and do no harm."""
LOSS_RISE = 1.5
"""Times the lowest smoothed loss: fine-tuning has diverged."""
HELD_OUT_RISE = 1.05
"""Times the best held-out loss: the model learns the rows by heart."""
UNSCORED = 0.1

KNOWN_TOP: dict[type, float] = {
    Format: 1.0, MathAnswer: 1.0, Match: 1.0, JsonSchema: 1.0, ReasoningGym: 1.0, CodeTests: 1.0,
    Language: 1.0, Length: 0.0, Repetition: 0.0,
}  # fmt: skip
"""The highest value of the rewards that have one."""
FORM, RIGHT = (Format, JsonSchema, Language), (MathAnswer, Match, ReasoningGym, CodeTests)
"""Rewards for the form, and rewards for being right."""


class Setting(NamedTuple):
    """What the rules need to know of a recipe."""

    stage: str
    top: float | None
    """The highest reachable reward, if it is known."""
    form: tuple[str, ...]
    right: tuple[str, ...]
    """Names of the parts' curves."""


class History:
    """Values by metric and step; steps without a value are left out."""

    def __init__(self) -> None:
        self._series: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self.broken: dict[str, int] = {}
        """Metrics that came without a number (NaN), with the step."""
        self.step = 0

    def add(self, step: int, values: Mapping[str, float | None]) -> None:
        self.step = step
        for name, value in values.items():
            if value is None:
                self.broken[name] = step
            else:
                self._series[name].append((step, value))

    def values(self, name: str) -> list[float]:
        return [value for _, value in self._series.get(name, [])]

    def start(self, name: str) -> float | None:
        """The mean of the first steps."""
        return _mean(self.values(name)[:WINDOW])

    def now(self, name: str) -> float | None:
        """The mean of the last steps; None before there are enough to judge."""
        found = self.values(name)
        return _mean(found[-WINDOW:]) if len(found) >= FIRST_JUDGED else None


def _mean(values: list[float]) -> float | None:
    return statistics.fmean(values) if values else None


Rule = Callable[[History, Setting], "Finding | None"]


def setting_of(recipe: Recipe) -> Setting:
    names = names_of(recipe.rewards)
    tops = [
        KNOWN_TOP[type(reward)] * reward.weight if type(reward) in KNOWN_TOP else None
        for reward in recipe.rewards
    ]
    known = [top for top in tops if top is not None]
    return Setting(
        stage=recipe.stage,
        top=sum(known) if tops and len(known) == len(tops) else None,
        form=tuple(f"reward/{n}" for n, r in zip(names, recipe.rewards, strict=True)
                   if isinstance(r, FORM)),
        right=tuple(f"reward/{n}" for n, r in zip(names, recipe.rewards, strict=True)
                    if isinstance(r, RIGHT)),
    )  # fmt: skip


def broken_numbers(history: History, _: Setting) -> Finding | None:
    found = [name for name in ("loss", "gradient_norm") if history.broken.get(name) == history.step]
    if not found:
        return None
    return Finding(
        kind="not_a_number", level="alarm", step=history.step, metric=found[0],
        meaning="The loss or the gradient is no longer a number: the weights are being destroyed.",
        remedy="Go back to the last checkpoint with a learning rate ten times smaller; in fp16, "
        "switch training.precision to bf16.",
    )  # fmt: skip


def gradient_spikes(history: History, _: Setting) -> Finding | None:
    norms = history.values("gradient_norm")
    if len(norms) < FIRST_JUDGED:
        return None
    usual = statistics.median(norms)
    spikes = sum(norm > SPIKE * max(usual, 1e-8) for norm in norms[-10:])
    if spikes < SPIKES:
        return None
    return Finding(
        kind="gradient_spikes", level="warning", step=history.step, metric="gradient_norm",
        meaning=f"{spikes} of the last ten steps had a gradient over {SPIKE:.0f} times the usual "
        f"({usual:.2g}): learning jumps instead of settling.",
        remedy="Halve the learning rate, lengthen the warm-up, or look at the rows of those steps.",
    )  # fmt: skip


def diverging_loss(history: History, setting: Setting) -> Finding | None:
    losses = history.values("loss")
    if setting.stage == "grpo" or len(losses) < FIRST_JUDGED:
        return None
    smooth = [statistics.fmean(losses[at : at + WINDOW]) for at in range(len(losses) - WINDOW + 1)]
    if smooth[-1] < LOSS_RISE * min(smooth) or smooth[-1] < smooth[0]:
        return None
    return Finding(
        kind="diverging_loss", level="alarm", step=history.step, metric="loss",
        meaning=f"The loss has risen from {min(smooth):.3g} to {smooth[-1]:.3g}, above where it "
        "began: the model is unlearning.",
        remedy="Stop, and start again with a third of the learning rate and a longer warm-up.",
    )  # fmt: skip


def learning_by_heart(history: History, _: Setting) -> Finding | None:
    held_out = history.values("eval_loss")
    if len(held_out) < 3 or held_out[-1] < HELD_OUT_RISE * min(held_out):
        return None
    if not all(later > earlier for earlier, later in pairwise(held_out[-3:])):
        return None
    return Finding(
        kind="learning_by_heart", level="warning", step=history.step, metric="eval_loss",
        meaning=f"On held-out rows the loss rises again ({min(held_out):.3g} to "
        f"{held_out[-1]:.3g}) while training goes on: the rows are being learnt by heart.",
        remedy="Stop here or resume an earlier checkpoint; fewer epochs, more data, or a smaller "
        "LoRA rank.",
    )  # fmt: skip


def entropy_collapse(history: History, setting: Setting) -> Finding | None:
    start, now = history.start("entropy"), history.now("entropy")
    if setting.stage != "grpo" or start is None or now is None or now > ENTROPY_LEFT * start:
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
    latest = _mean(history.values("reward")[-2:])
    return setting.top is not None and latest is not None and latest >= SOLVED * setting.top


def equal_groups(history: History, setting: Setting) -> Finding | None:
    share, reward = history.now("zero_std_share"), history.now("reward")
    if share is None or reward is None or share < EQUAL_GROUPS:
        return None
    if _solved(history, setting):
        return Finding(
            kind="solved", level="advice", step=history.step, metric="zero_std_share",
            meaning=f"In {share:.0%} of the groups all answers earn the same, nearly all there is "
            "to earn: the task is learnt.",
            remedy="Stop here, or bring harder prompts.",
        )  # fmt: skip
    return Finding(
        kind="zero_std_groups", level="warning", step=history.step, metric="zero_std_share",
        meaning=f"In {share:.0%} of the groups all answers earn the same ({reward:.3g} on "
        "average): there is nothing to compare, so the step teaches nothing.",
        remedy="Bring prompts that the model gets right sometimes, run SFT first, raise "
        "rl.group_size or the temperature, or give rewards with steps in between.",
    )  # fmt: skip


def kl_drift(history: History, _: Setting) -> Finding | None:
    now = history.now("kl")
    if now is None or now < KL_FAR:
        return None
    return Finding(
        kind="kl_drift", level="alarm" if now > KL_RUNAWAY else "warning", step=history.step,
        metric="kl",
        meaning=f"The policy is {now:.2g} nats a token away from where it started: it may be "
        "losing what it knew.",
        remedy="Raise rl.kl_coefficient, or lower the learning rate; look at the samples.",
    )  # fmt: skip


def longer_and_longer(history: History, _: Setting) -> Finding | None:
    start, now = history.start("completion_length"), history.now("completion_length")
    cut = history.now("truncated_share")
    if start is None or now is None or cut is None:
        return None
    growing = now > LENGTH_GROWTH * start and cut > SOME_CUT_OFF
    if growing or now > LENGTH_EXPLOSION * start:
        return Finding(
            kind="length_blow_up", level="warning", step=history.step, metric="completion_length",
            meaning=f"Answers have grown from {start:.0f} to {now:.0f} tokens, and {cut:.0%} are "
            "cut off: length may be what is being rewarded.",
            remedy="Add a length reward, check on the Rewards page whether length alone earns "
            "something, or set rl.mask_truncated.",
        )  # fmt: skip
    if cut > CUT_OFF:
        return Finding(
            kind="cut_off", level="warning", step=history.step, metric="truncated_share",
            meaning=f"{cut:.0%} of the answers are cut off before they end, so that they cannot "
            "be right.",
            remedy="Raise rl.max_completion_tokens, or reward ending in time.",
        )  # fmt: skip
    return None


def reward_hacking(history: History, setting: Setting) -> Finding | None:
    """Form up while right answers stand still, or reward up while held-out accuracy falls."""
    reward = history.values("reward")
    accuracy = history.values("eval_accuracy")
    if len(reward) < HACK_WINDOW:
        return None
    gained = (history.now("reward") or 0.0) - (history.start("reward") or 0.0)
    if len(accuracy) >= 2 and gained > HACK_GAIN and accuracy[-1] < accuracy[0] - 2 * HACK_FLAT:
        return _hacked(
            history, "reward",
            f"The reward has risen by {gained:.2g} while held-out accuracy fell from "
            f"{accuracy[0]:.0%} to {accuracy[-1]:.0%}",
        )  # fmt: skip
    if not setting.form or not setting.right:
        return None
    form = sum(_gain(history, name) for name in setting.form)
    right = sum(_gain(history, name) for name in setting.right)
    if form < HACK_GAIN or right > HACK_FLAT or _solved(history, setting):
        return None
    return _hacked(
        history, setting.form[0],
        f"The reward for the form has risen by {form:.2g} while right answers stand still "
        f"({right:+.2g})",
    )  # fmt: skip


def _gain(history: History, name: str) -> float:
    found = history.values(name)
    return statistics.fmean(found[-WINDOW:]) - statistics.fmean(found[:WINDOW]) if found else 0.0


def _hacked(history: History, metric: str, seen: str) -> Finding:
    return Finding(
        kind="reward_hacking", level="warning", step=history.step, metric=metric,
        meaning=f"{seen}: the model learns to please the reward, not to solve the task.",
        remedy="Give being right more weight than the form, and try the rewards on the Rewards "
        "page; look at the best-paid answers of the last steps.",
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


RULES: tuple[Rule, ...] = (
    broken_numbers, diverging_loss, gradient_spikes, learning_by_heart, entropy_collapse,
    equal_groups, kl_drift, longer_and_longer, reward_hacking, unscored_samples,
)  # fmt: skip


class Coach:
    """Hears a run's metrics and tells what is new about its health."""

    def __init__(self, recipe: Recipe) -> None:
        self._setting = setting_of(recipe)
        self._history = History()
        self._open: dict[str, int] = {}
        """Findings told and not passed, with the step at which each was last seen."""

    def hear(self, step: int, values: Mapping[str, float | None]) -> list[Finding | Eased]:
        self._history.add(step, values)
        found = [rule(self._history, self._setting) for rule in RULES]
        seen = {finding.kind: finding for finding in found if finding is not None}
        told: list[Finding | Eased] = [
            finding for kind, finding in seen.items() if kind not in self._open
        ]
        self._open |= dict.fromkeys(seen, step)
        for kind, last in list(self._open.items()):
            if step - last >= PASSED_AFTER:
                del self._open[kind]
                told.append(Eased(kind=kind, step=step))
        return told
