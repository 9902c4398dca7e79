"""PPO's arithmetic as functions of tensors.

Proximal policy optimization (Schulman et al. 2017), generalized advantage estimation (Schulman et
al. 2015), and the details of Huang et al. 2024 ("The N+ Implementation Details of RLHF with PPO")
as TRL's experimental PPOTrainer has them. Shapes: B completions in a batch, T completion tokens,
padded on the right; what lies outside of a mask is passed over.
"""

from __future__ import annotations

import torch


def filled(totals: list[float | None]) -> torch.Tensor:
    """Scores, (B,). One that could not be scored gets the mean of the others, which neither pays
    nor costs."""
    known = [total for total in totals if total is not None]
    mean = sum(known) / len(known) if known else 0.0
    return torch.tensor([mean if total is None else total for total in totals])


def token_rewards(
    kl: torch.Tensor, scores: torch.Tensor, lengths: torch.Tensor, coefficient: float
) -> torch.Tensor:
    """-coefficient · KL at every token, and the score behind the last one, or where the completion
    has no room for that, at the last one: (B, T).

    Args:
        kl: (B, T), 0 outside of the completions.
        scores, lengths: (B,).
    """
    rewards = -coefficient * kl
    last = lengths.clamp(max=kl.shape[1] - 1)[:, None]  # (B, 1)
    return rewards.scatter_add(1, last, scores[:, None].to(rewards))


def gae(rewards: torch.Tensor, values: torch.Tensor, decay: float) -> torch.Tensor:
    """Generalized advantage estimation (Schulman et al. 2015, equation 16), without a discount.

    A_t = δ_t + λ A_{t+1} with δ_t = r_t + V_{t+1} - V_t; all (B, T).
    """
    following = torch.zeros_like(values[:, 0])  # (B,)
    advantages = torch.zeros_like(values)
    for at in reversed(range(values.shape[1])):
        ahead = values[:, at + 1] if at + 1 < values.shape[1] else 0.0
        following = rewards[:, at] + ahead - values[:, at] + decay * following
        advantages[:, at] = following
    return advantages


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean where the mask is true, a scalar; both of one shape."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def whiten(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Shifted and scaled to mean 0 and variance 1 over the mask, with Bessel's correction."""
    mean = masked_mean(values, mask)
    variance = ((values - mean).square() * mask).sum() / (mask.sum() - 1).clamp(min=1)
    return (values - mean) * torch.rsqrt(variance + 1e-8)


def policy_loss(
    log_probs: torch.Tensor, before: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor,
    clip: float,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """The clipped objective (Schulman et al. 2017, equation 7) as a loss, the mean over tokens.

    -min(r A, clip(r, 1 - ε, 1 + ε) A) with the importance ratio r = π / π_sampling.

    Args:
        log_probs, before: of the policy now and when it sampled, (B, T).

    Returns:
        The loss, and the share of tokens where clipping cuts off the gradient.
    """
    ratio = torch.exp((log_probs - before).masked_fill(~mask, 0.0))  # (B, T)
    free = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - clip, 1 + clip)
    clip_fraction = masked_mean((clipped > free).float(), mask)
    return masked_mean(torch.maximum(free, clipped), mask), clip_fraction


def value_loss(
    values: torch.Tensor, before: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor,
    clip: float,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Half the squared error, the larger of that of the value and that of the value kept within
    `clip` of what it was when the batch was sampled (Huang et al. 2024): the mean over tokens.

    Returns:
        The loss, and the share of tokens where the clipped error is the larger one.
    """
    near = torch.clamp(values, before - clip, before + clip)
    free, clipped = (values - returns).square(), (near - returns).square()  # (B, T)
    clip_fraction = masked_mean((clipped > free).float(), mask)
    return 0.5 * masked_mean(torch.maximum(free, clipped), mask), clip_fraction


def explained_variance(values: torch.Tensor, returns: torch.Tensor) -> float:
    """1 - Var(returns - values) / Var(returns): 1 predicts all, 0 no more than the mean does.

    NaN where the returns do not vary. Both (tokens,).
    """
    spread = returns.float().var()
    if len(returns) < 2 or float(spread) < 1e-12:
        return float("nan")
    return float(1 - (returns.float() - values.float()).var() / spread)
