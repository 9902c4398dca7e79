"""Which charts a run has, in which order, and the scores by which it is summed up."""

from __future__ import annotations

from typing import NamedTuple

from studio.widgets import chart


class Plan(NamedTuple):
    """One chart of the page: what stands above it, how values are written, its lines."""

    title: str
    form: chart.Format
    lines: list[chart.Line]
    prefix: str = ""
    """Metrics that begin so each get a line, whatever they are called."""
    quiet: bool = False
    """Shown only once it has been above 0."""

    @property
    def key(self) -> str:
        return self.prefix or self.lines[0].metric


def _measured(metric: str) -> chart.Line:
    return chart.Line(metric, "held-out", "dots")


LOSS = Plan("Loss", chart.plain, [chart.Line("loss"), _measured("eval_loss")])
ACCURACY = Plan("Right on held-out rows", chart.percent, [chart.Line("eval_accuracy", "", "dots")])
TOKEN_ACCURACY = Plan(
    "Token accuracy", chart.percent,
    [chart.Line("token_accuracy"), _measured("eval_token_accuracy")],
)  # fmt: skip
ENTROPY = Plan("Entropy, nats", chart.plain, [chart.Line("entropy"), _measured("eval_entropy")])
REWARD = Plan("Reward", chart.plain, [chart.Line("reward"), _measured("eval_reward")])
PARTS = Plan("Parts of the reward", chart.plain, [], "reward/")
LENGTH = Plan("Answer length, tokens", chart.count, [chart.Line("completion_length")])
CLIPPED = Plan(
    "Clipped tokens", chart.percent,
    [chart.Line("clip_fraction", "all"), chart.Line("clip_low", "below"),
     chart.Line("clip_high", "above")],
)  # fmt: skip
CUT_OFF = Plan("Cut-off answers", chart.percent, [chart.Line("truncation_rate")])
TIMES = Plan(
    "Time of a step", chart.seconds,
    [chart.Line("rollout_seconds", "sampling"), chart.Line("update_seconds", "learning")],
)  # fmt: skip
VALUE_CHARTS = [
    Plan("Policy loss", chart.plain, [chart.Line("policy_loss")]),
    Plan("Value loss", chart.plain, [chart.Line("value_loss")]),
    Plan("Returns foreseen", chart.percent, [chart.Line("explained_variance")]),
    Plan("Clipped values", chart.percent, [chart.Line("value_clip_fraction")]),
]
"""What the value model of PPO does, and the policy beside it."""
KL = Plan("KL from the start, nats", chart.plain, [chart.Line("kl")])
WINS = Plan(
    "Answers that beat the first ones", chart.percent, [chart.Line("eval_win_rate", "", "dots")]
)
GENERAL = [
    Plan("Gradient norm", chart.plain, [chart.Line("gradient_norm")]),
    Plan("Learning rate", chart.scientific, [chart.Line("learning_rate", "", "exact")]),
    Plan("Tokens", chart.rate, [chart.Line("tokens_per_second")]),
    Plan("Memory", chart.size, [chart.Line("memory_bytes", "", "exact")]),
]
GRPO_CHARTS = [
    REWARD, ACCURACY, PARTS,
    KL,
    ENTROPY, LENGTH,
    CUT_OFF,
    Plan("Reward spread in a group", chart.plain, [chart.Line("reward_std")]),
    Plan("Groups without spread", chart.percent, [chart.Line("frac_reward_zero_std")]),
    CLIPPED,
    Plan("Answers without a score", chart.percent, [chart.Line("unscored_share")],
         quiet=True),
    TIMES,
]  # fmt: skip
PREFERRED = [
    Plan(
        "Pairs ordered right",
        chart.percent,
        [chart.Line("pair_accuracy"), _measured("eval_pair_accuracy")],
    ),
    Plan(
        "Margin",
        chart.plain,
        [chart.Line("margin"), _measured("eval_margin")],
    ),
    LOSS,
    ACCURACY,
    WINS,
    Plan(
        "Longer answer wins",
        chart.percent,
        [
            chart.Line("eval_length_bias", "wins", "dots"),
            chart.Line("eval_longer_chosen", "is better", "dots"),
        ],
    ),
    Plan("Calibration error", chart.percent, [chart.Line("eval_calibration_error", "", "dots")]),
    Plan(
        "Implicit reward",
        chart.plain,
        [chart.Line("reward_chosen", "better"), chart.Line("reward_rejected", "worse")],
    ),
    Plan(
        "Reward model's scores",
        chart.plain,
        [
            chart.Line("mean_reward", "mean"),
            chart.Line("min_reward", "lowest"),
            chart.Line("max_reward", "highest"),
        ],
    ),
    Plan(
        "Log-probability of an answer",
        chart.plain,
        [chart.Line("logp_chosen", "better"), chart.Line("logp_rejected", "worse")],
    ),
]
SFT_CHARTS = [LOSS, TOKEN_ACCURACY, ACCURACY, ENTROPY]
"""Charts of reinforcement learning, of learning from preferences and from examples, the telling
ones first."""
PPO_CHARTS = [REWARD, WINS, KL, ENTROPY, *VALUE_CHARTS, LENGTH, CUT_OFF, CLIPPED]
"""Charts of PPO, which looks ahead and compares no groups."""
REINFORCING = ("grpo", "rlhf")
"""Stages that learn from their own answers."""
JUDGED = ("dpo", "ipo", "simpo", "orpo", "kto", "reward")
"""Stages that learn from preferences."""
SCORES = [
    ("accuracy", "Right on held-out rows", "{:.1%}"),
    ("reward", "Held-out reward", "{:.3f}"),
    ("pair_accuracy", "Held-out pairs in the right order", "{:.1%}"),
    ("loss", "Held-out loss", "{:.3f}"),
]
"""What a run is judged by, the most telling first."""


def charts_for(stage: str, algorithm: str = "") -> list[Plan]:
    """Every chart, in the order that tells most of a stage; of rlhf, by its algorithm."""
    if stage == "rlhf" and algorithm == "ppo":
        mine = PPO_CHARTS
    elif stage in REINFORCING:
        mine = [REWARD, WINS, *GRPO_CHARTS] if stage == "rlhf" else GRPO_CHARTS
    else:
        mine = PREFERRED if stage in JUDGED else SFT_CHARTS
    plans = [*mine, *GENERAL, *SFT_CHARTS, *PREFERRED, *GRPO_CHARTS, *PPO_CHARTS]
    return list({plan.key: plan for plan in plans}.values())
