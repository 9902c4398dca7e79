"""Every metric of a run, declared once: what it means, which way is better, where it is drawn.

Trainers' logs are read by the names given here, charts are laid out by them, and gates, lists of
runs and README's table follow. To add a metric: its entry in `METRICS`, and the line that emits it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Form = Literal["plain", "percent", "count", "seconds", "scientific", "rate", "size"]
"""How a value is written."""
Look = Literal["smooth", "exact", "dots"]
"""How a line is drawn: through a moving average, as it is, or as points measured now and then."""
HELD_OUT = "eval_"
"""How the names of curves begin whose points are measured on held-out rows."""


class Drawn(msgspec.Struct, frozen=True):
    """Where a metric is drawn."""

    chart: str
    """A key of `CHARTS`."""
    legend: str = ""
    look: Look = "smooth"


class MetricSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One number that a run reports."""

    name: str
    """On the wire; before it stands `eval_` where it is a curve of held-out measurements."""
    meaning: str
    unit: str = ""
    form: Form = "plain"
    better: Literal["up", "down"] | None = None
    trainers: tuple[str, ...] = ()
    """What TRL and Transformers call it in their logs."""
    former: tuple[str, ...] = ()
    """What events of earlier versions call it."""
    drawn: Drawn | None = None
    """Its curve during training."""
    held_out: Drawn | None = None
    """Its curve on held-out rows."""
    score: str = ""
    """As a run's held-out result is headed; empty where a run is not told by it."""
    score_form: str = ""
    brief: str = ""
    """As it stands in a list of runs."""


class ChartSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One chart of a run; its lines are the metrics that name it."""

    key: str
    """The first metric on it, or how the names of its metrics begin."""
    title: str
    form: Form
    prefix: bool = False
    """Whether every metric whose name begins with the key gets a line."""
    quiet: bool = False
    """Whether it is shown only once it has been above 0."""


def _eval(chart: str, legend: str = "held-out") -> Drawn:
    return Drawn(chart, legend, "dots")


_METRICS = (
    MetricSpec(
        name="loss",
        meaning="mean negative log-likelihood of the tokens in the loss",
        unit="nats",
        better="down",
        trainers=("loss",),
        drawn=Drawn("loss"),
        held_out=_eval("loss"),
        score="Held-out loss",
        score_form="{:.3f}",
        brief="loss {:.4f}",
    ),
    MetricSpec(
        name="token_accuracy",
        meaning="share of the tokens in the loss that were the likeliest prediction",
        form="percent",
        better="up",
        trainers=("mean_token_accuracy",),
        drawn=Drawn("token_accuracy"),
        held_out=_eval("token_accuracy"),
    ),
    MetricSpec(
        name="accuracy",
        meaning="share of held-out questions answered right, greedily",
        form="percent",
        better="up",
        held_out=_eval("eval_accuracy", ""),
        score="Right on held-out rows",
        score_form="{:.1%}",
        brief="{:.0%} right",
    ),
    MetricSpec(
        name="entropy",
        meaning="mean entropy of the predictions",
        unit="nats",
        trainers=("entropy",),
        drawn=Drawn("entropy"),
        held_out=_eval("entropy"),
    ),
    MetricSpec(
        name="pair_accuracy",
        meaning="share of pairs in the right order",
        form="percent",
        better="up",
        trainers=("rewards/accuracies", "accuracy"),
        drawn=Drawn("pair_accuracy"),
        held_out=_eval("pair_accuracy"),
        score="Held-out pairs in the right order",
        score_form="{:.1%}",
        brief="{:.0%} of pairs",
    ),
    MetricSpec(
        name="margin",
        meaning="mean difference of the rewards of a pair's two answers",
        better="up",
        trainers=("rewards/margins", "margin"),
        drawn=Drawn("margin"),
        held_out=_eval("margin"),
    ),
    MetricSpec(
        name="reward_chosen",
        meaning="implicit reward of the better answer of a pair",
        better="up",
        trainers=("rewards/chosen",),
        drawn=Drawn("reward_chosen", "better"),
    ),
    MetricSpec(
        name="reward_rejected",
        meaning="implicit reward of the worse answer of a pair",
        trainers=("rewards/rejected",),
        drawn=Drawn("reward_chosen", "worse"),
    ),
    MetricSpec(
        name="logp_chosen",
        meaning="log-probability of the better answer of a pair",
        unit="nats",
        trainers=("logps/chosen",),
        drawn=Drawn("logp_chosen", "better"),
    ),
    MetricSpec(
        name="logp_rejected",
        meaning="log-probability of the worse answer of a pair",
        unit="nats",
        trainers=("logps/rejected",),
        drawn=Drawn("logp_chosen", "worse"),
    ),
    MetricSpec(
        name="mean_reward",
        meaning="mean of a reward model's scores of the answers in a batch",
        trainers=("mean_reward",),
        drawn=Drawn("mean_reward", "mean"),
    ),
    MetricSpec(
        name="min_reward",
        meaning="lowest of a reward model's scores of the answers in a batch",
        trainers=("min_reward",),
        former=("lowest_reward",),
        drawn=Drawn("mean_reward", "lowest"),
    ),
    MetricSpec(
        name="max_reward",
        meaning="highest of a reward model's scores of the answers in a batch",
        trainers=("max_reward",),
        former=("highest_reward",),
        drawn=Drawn("mean_reward", "highest"),
    ),
    MetricSpec(
        name="calibration_error",
        meaning="mean distance between how sure a reward model is of held-out pairs and how often "
        "it is right",
        form="percent",
        better="down",
        held_out=_eval("eval_calibration_error", ""),
    ),
    MetricSpec(
        name="length_bias",
        meaning="share of held-out pairs whose longer answer scores higher",
        form="percent",
        former=("longer_wins",),
        held_out=_eval("eval_length_bias", "wins"),
    ),
    MetricSpec(
        name="longer_chosen",
        meaning="share of held-out pairs whose longer answer is the better one",
        form="percent",
        held_out=_eval("eval_length_bias", "is better"),
    ),
    MetricSpec(
        name="win_rate",
        meaning="share of held-out questions whose answer earns more than the one before training, "
        "a tie counting half",
        form="percent",
        better="up",
        held_out=_eval("eval_win_rate", ""),
    ),
    MetricSpec(
        name="reward",
        meaning="mean weighted sum of the rewards over a step's answers; `reward/NAME` is the mean "
        "of one of them",
        better="up",
        trainers=("reward",),
        drawn=Drawn("reward"),
        held_out=_eval("reward"),
        score="Held-out reward",
        score_form="{:.3f}",
        brief="reward {:.3f}",
    ),
    MetricSpec(
        name="reward_std",
        meaning="standard deviation of the reward; `reward_std/NAME` is that of one of them",
        trainers=("reward_std",),
        drawn=Drawn("reward_std"),
    ),
    MetricSpec(
        name="frac_reward_zero_std",
        meaning="share of groups whose answers all earn the same",
        form="percent",
        better="down",
        trainers=("equal_group_share",),
        former=("zero_std_share",),
        drawn=Drawn("frac_reward_zero_std"),
    ),
    MetricSpec(
        name="unscored_share",
        meaning="share of answers that a reward could not score",
        form="percent",
        better="down",
        trainers=("unscored_share",),
        drawn=Drawn("unscored_share"),
    ),
    MetricSpec(
        name="kl",
        meaning="estimated KL divergence from the reference, a token",
        unit="nats",
        trainers=("kl",),
        drawn=Drawn("kl"),
    ),
    MetricSpec(
        name="clip_fraction",
        meaning="share of tokens whose importance ratio was clipped",
        form="percent",
        trainers=("clip_ratio/region_mean",),
        former=("clip_share",),
        drawn=Drawn("clip_fraction", "all"),
    ),
    MetricSpec(
        name="clip_low",
        meaning="share of tokens whose importance ratio was clipped from below",
        form="percent",
        trainers=("clip_ratio/low_mean",),
        drawn=Drawn("clip_fraction", "below"),
    ),
    MetricSpec(
        name="clip_high",
        meaning="share of tokens whose importance ratio was clipped from above",
        form="percent",
        trainers=("clip_ratio/high_mean",),
        drawn=Drawn("clip_fraction", "above"),
    ),
    MetricSpec(
        name="completion_length",
        meaning="mean length of a step's or of held-out prompts' completions",
        unit="tokens",
        form="count",
        trainers=("completions/mean_length",),
        former=("answer_tokens",),
        drawn=Drawn("completion_length"),
    ),
    MetricSpec(
        name="max_completion_length",
        meaning="length of a step's longest completion",
        unit="tokens",
        form="count",
        trainers=("completions/max_length",),
        former=("longest_completion",),
    ),
    MetricSpec(
        name="truncation_rate",
        meaning="share of a step's or of held-out prompts' completions that were truncated",
        form="percent",
        better="down",
        trainers=("completions/clipped_ratio",),
        former=("truncated_share", "cut_off_share"),
        drawn=Drawn("truncation_rate"),
    ),
    MetricSpec(
        name="cut_thinking_rate",
        meaning="share of a step's or of held-out prompts' completions that were truncated while "
        "still thinking",
        form="percent",
        better="down",
        trainers=("cut_thinking_rate",),
    ),
    MetricSpec(
        name="policy_loss",
        meaning="PPO's clipped policy loss",
        trainers=("policy_loss",),
        drawn=Drawn("policy_loss"),
    ),
    MetricSpec(
        name="value_loss",
        meaning="squared error of PPO's value model",
        better="down",
        trainers=("value_loss",),
        drawn=Drawn("value_loss"),
    ),
    MetricSpec(
        name="explained_variance",
        meaning="share of the returns' variance that PPO's value model explains",
        form="percent",
        better="up",
        trainers=("explained_variance",),
        drawn=Drawn("explained_variance"),
    ),
    MetricSpec(
        name="value_clip_fraction",
        meaning="share of PPO's value predictions that were clipped",
        form="percent",
        trainers=("value_clip_fraction",),
        former=("value_clip_share",),
        drawn=Drawn("value_clip_fraction"),
    ),
    MetricSpec(
        name="rollout_seconds",
        meaning="time of a step spent sampling, scoring included",
        unit="seconds",
        form="seconds",
        trainers=("rollout_seconds",),
        drawn=Drawn("rollout_seconds", "sampling"),
    ),
    MetricSpec(
        name="reward_seconds",
        meaning="time of a step spent scoring",
        unit="seconds",
        form="seconds",
        trainers=("reward_seconds",),
    ),
    MetricSpec(
        name="update_seconds",
        meaning="time of a step spent learning",
        unit="seconds",
        form="seconds",
        trainers=("update_seconds",),
        drawn=Drawn("rollout_seconds", "learning"),
    ),
    MetricSpec(
        name="gradient_norm",
        meaning="length of the gradient before clipping",
        trainers=("grad_norm",),
        drawn=Drawn("gradient_norm"),
    ),
    MetricSpec(
        name="learning_rate",
        meaning="of the step",
        form="scientific",
        trainers=("learning_rate",),
        drawn=Drawn("learning_rate", look="exact"),
    ),
    MetricSpec(
        name="tokens_per_second",
        meaning="tokens read a second",
        unit="tokens a second",
        form="rate",
        better="up",
        drawn=Drawn("tokens_per_second"),
    ),
    MetricSpec(
        name="tokens",
        meaning="tokens read in all",
        unit="tokens",
        form="count",
        trainers=("num_tokens",),
    ),
    MetricSpec(
        name="epoch",
        meaning="passes over the data so far",
        trainers=("epoch",),
    ),
    MetricSpec(
        name="memory_bytes",
        meaning="most GPU memory held so far; without a GPU, this process's memory",
        unit="bytes",
        form="size",
        drawn=Drawn("memory_bytes", look="exact"),
    ),
)

METRICS: dict[str, MetricSpec] = {metric.name: metric for metric in _METRICS}
"""Every metric by its name on the wire."""

_CHARTS = (
    ChartSpec(key="loss", title="Loss", form="plain"),
    ChartSpec(key="token_accuracy", title="Token accuracy", form="percent"),
    ChartSpec(key="eval_accuracy", title="Right on held-out rows", form="percent"),
    ChartSpec(key="entropy", title="Entropy, nats", form="plain"),
    ChartSpec(key="pair_accuracy", title="Pairs ordered right", form="percent"),
    ChartSpec(key="margin", title="Margin", form="plain"),
    ChartSpec(key="eval_win_rate", title="Answers that beat the first ones", form="percent"),
    ChartSpec(key="eval_length_bias", title="Longer answer wins", form="percent"),
    ChartSpec(key="eval_calibration_error", title="Calibration error", form="percent"),
    ChartSpec(key="reward_chosen", title="Implicit reward", form="plain"),
    ChartSpec(key="mean_reward", title="Reward model's scores", form="plain"),
    ChartSpec(key="logp_chosen", title="Log-probability of an answer", form="plain"),
    ChartSpec(key="reward", title="Reward", form="plain"),
    ChartSpec(key="reward/", title="Reward components", form="plain", prefix=True),
    ChartSpec(key="kl", title="KL from the start, nats", form="plain"),
    ChartSpec(key="completion_length", title="Answer length, tokens", form="count"),
    ChartSpec(key="truncation_rate", title="Truncated answers", form="percent"),
    ChartSpec(key="reward_std", title="Reward spread in a group", form="plain"),
    ChartSpec(key="frac_reward_zero_std", title="Groups without spread", form="percent"),
    ChartSpec(key="clip_fraction", title="Clip fraction", form="percent"),
    ChartSpec(key="unscored_share", title="Answers without a score", form="percent", quiet=True),
    ChartSpec(key="rollout_seconds", title="Time of a step", form="seconds"),
    ChartSpec(key="policy_loss", title="Policy loss", form="plain"),
    ChartSpec(key="value_loss", title="Value loss", form="plain"),
    ChartSpec(key="explained_variance", title="Explained variance", form="percent"),
    ChartSpec(key="value_clip_fraction", title="Clipped values", form="percent"),
    ChartSpec(key="gradient_norm", title="Gradient norm", form="plain"),
    ChartSpec(key="learning_rate", title="Learning rate", form="scientific"),
    ChartSpec(key="tokens_per_second", title="Tokens", form="rate"),
    ChartSpec(key="memory_bytes", title="Memory", form="size"),
)
CHARTS: dict[str, ChartSpec] = {chart.key: chart for chart in _CHARTS}
"""Every chart by its key."""
GENERAL = ("gradient_norm", "learning_rate", "tokens_per_second", "memory_bytes")
"""Charts that follow those of the stage, whatever it is."""
SCORES = ("accuracy", "reward", "pair_accuracy", "loss")
"""Held-out measures that a run is told by, the most telling first."""
BRIEF = ("eval_accuracy", "eval_pair_accuracy", "reward", "eval_loss", "loss")
"""Curves whose last value stands for a run in a list, the most telling first."""

TRAINERS = {theirs: metric.name for metric in _METRICS for theirs in metric.trainers}
"""The trainers' names to those on the wire."""
LOGGED = {name: name for name in METRICS} | TRAINERS
"""Names in logs to those on the wire; what is no trainer's name is our own."""
FORMER = {
    f"{begin}{old}": f"{begin}{metric.name}"
    for metric in _METRICS
    for old in metric.former
    for begin in ("", HELD_OUT)
}
"""Curves' names in events of earlier versions to the present ones."""


def present_name(curve: str) -> str:
    """A metric or a curve as it is called now."""
    return FORMER.get(curve, curve)


def metric_of(curve: str) -> MetricSpec:
    """The metric of which a curve consists, held-out or not."""
    return METRICS[curve.removeprefix(HELD_OUT)]


def lines_of(chart: str) -> list[tuple[str, Drawn]]:
    """The curves of a chart and how they are drawn; the one that names it comes first."""
    found: list[tuple[str, Drawn]] = []
    for metric in _METRICS:
        for begin, drawn in (("", metric.drawn), (HELD_OUT, metric.held_out)):
            if drawn is not None and drawn.chart == chart:
                found.append((f"{begin}{metric.name}", drawn))
    return found


def lower_is_better(metric: str) -> bool:
    """Whether a fall of a held-out measure is a gain."""
    found = METRICS.get(metric)
    return found is not None and found.better == "down"
