"""What an Axolotl config says of preferences and of reinforcement learning."""

from __future__ import annotations

from typing import Any

from studio.importing.account import Account, Plain
from workers.protocol.options import options_of
from workers.protocol.recipe import RL, Preference
from workers.protocol.sources import HUB_MODEL

GROUPS = (
    Plain("trl.num_generations", "rl.group_size", "whole", 8),
    Plain("trl.max_completion_length", "rl.max_completion_tokens", "whole", 256),
    Plain("trl.beta", "rl.kl_coefficient", "number", 0.0),
    Plain("trl.temperature", "rl.temperature", "number"),
    Plain("trl.top_p", "rl.top_p", "number"),
    Plain("trl.epsilon", "rl.clip_epsilon", "number"),
    Plain("trl.epsilon_high", "rl.clip_epsilon_high", "number"),
    Plain("trl.num_iterations", "rl.num_iterations", "whole"),
    Plain("trl.mask_truncated_completions", "rl.mask_truncated_completions", "switch"),
)
KNOWN_REWARDS: dict[str, dict[str, Any]] = {
    "accuracy_reward": {"kind": "math_answer", "boxed_only": False},
    "reasoning_accuracy_reward": {"kind": "math_answer", "boxed_only": False},
    "think_format_reward": {"kind": "format", "pattern": r"<think>(?!.*<think>).*</think>.*"},
}
"""Functions of trl.rewards that a reward here computes alike."""


def carry_preference(account: Account, stage: str) -> None:
    """Strength and loss of a preference stage."""
    beta = "orpo_alpha" if stage == "orpo" else "rl_beta"
    if account.get("trl.beta") is not None and account.get(beta) is None:
        beta = "trl.beta"
    account.plain((
        Plain(beta, "preference.beta", "number"),
        Plain("simpo_gamma", "preference.simpo_gamma", "number"),
        Plain("dpo_label_smoothing", "preference.label_smoothing", "number"),
        Plain("center_rewards_coefficient", "preference.center_rewards_coefficient", "number"),
    ))  # fmt: skip
    losses = account.names("dpo_loss_type")
    if losses and losses[0] in _choices(Preference, "loss"):
        account.carry("dpo_loss_type", "preference.loss", losses[0])
    for key in ("kto_desirable_weight", "kto_undesirable_weight"):
        if account.get(key) is not None:
            account.change(key, "good and bad answers weigh the same; data.weight balances sets")
    if len(losses) > 1 or account.get("dpo_use_weighting"):
        account.change("dpo_loss_type" if losses else "dpo_use_weighting",
                       "one loss is taken, unweighted")  # fmt: skip
    if account.get("cpo_alpha") is not None:
        account.change("cpo_alpha", "the better answer's own likelihood is left out of SimPO")


def carry_reinforced(account: Account) -> None:
    """Sampling, clipping and rewards of GRPO."""
    if account.get("rl_beta") is not None and account.get("trl.beta") is None:
        account.plain((Plain("rl_beta", "rl.kl_coefficient", "number"), *GROUPS[:2], *GROUPS[3:]))
    else:
        account.plain(GROUPS)
    kind = account.text("trl.loss_type")
    if kind in _choices(RL, "algorithm"):
        account.carry("trl.loss_type", "rl.algorithm", kind)
    elif kind:
        account.change("trl.loss_type", f"{kind} is not offered", "rl.algorithm", "grpo")
    if account.get("trl.scale_rewards") is not None:
        scaled = "group" if account.switch("trl.scale_rewards") else "none"
        account.carry("trl.scale_rewards", "rl.scale_rewards", scaled)
    if account.get("trl.use_vllm") is not None:
        account.keep("trl.use_vllm", "vLLM is used where it is installed: rl.fast_generation")
    _carry_rewards(account)


def _carry_rewards(account: Account) -> None:
    functions = account.names("trl.reward_funcs")
    made = [one for name in functions if (one := _reward(name))]
    if not made or len(made) < len(functions):
        named = ", ".join(functions) or "none"
        account.lack(
            "rewards", f"The rewards of this config are Python functions: {named}.",
            "A config names them, it does not hold them.",
            'Open it in the window and choose rewards there: "math_answer" compares final answers, '
            '"python" holds a function of yours.',
        )  # fmt: skip
        account.change("trl.reward_funcs", "functions are not carried over; add [[rewards]]")
        if account.get("trl.reward_weights") is not None:
            account.change("trl.reward_weights", "they belong to those functions")
        return
    weights = [account.number(f"trl.reward_weights[{number}]") for number in range(len(made))]
    account.put("rewards", [
        {**one, "weight": 1.0 if weight is None else weight}
        for one, weight in zip(made, weights, strict=True)
    ])  # fmt: skip
    for key in ("trl.reward_funcs", "trl.reward_weights"):
        if account.get(key) is not None:
            account.keep(key, "[[rewards]]")


def _reward(name: str) -> dict[str, Any] | None:
    """A function of trl.rewards or a reward model as ours; None where there is none."""
    module, _, function = name.rpartition(".")
    if module.startswith("trl.rewards") and function in KNOWN_REWARDS:
        return KNOWN_REWARDS[function]
    return {"kind": "reward_model", "model": name} if HUB_MODEL.fullmatch(name) else None


def _choices(section: type[Any], key: str) -> tuple[str, ...]:
    return next(one.choices for one in options_of(section) if one.key == key)
