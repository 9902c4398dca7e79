"""The tables of a recipe that some stages alone look at: what is optimized, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from workers.protocol.options import option
from workers.protocol.recipe.sections import Section


class Preference(Section, frozen=True):
    """How pairs of a better and a worse answer are learnt from."""

    loss: Annotated[
        Literal[
            "sigmoid",
            "ipo",
            "hinge",
            "robust",
            "exo_pair",
            "nca_pair",
            "bco_pair",
            "sppo_hard",
            "aot",
            "apo_zero",
            "apo_down",
            "discopop",
            "sigmoid_norm",
        ],
        option("Loss", "sigmoid is DPO as published; ipo and robust bear noisy pairs better."),
    ] = "sigmoid"
    beta: Annotated[
        float,
        option(
            "Beta",
            "How hard the model is held to where it started; 0.1 is usual, 1 for ipo, 2 for simpo.",
            gt=0,
            le=10,
        ),
    ] = 0.1
    simpo_gamma: Annotated[
        float,
        option(
            "SimPO margin",
            "By how much the better answer should lead, in stage simpo.",
            ge=0,
            advanced=True,
        ),
    ] = 0.5
    center_rewards_coefficient: Annotated[
        float,
        option(
            "Centring",
            "Pull of a reward model's mean to zero; 0.01 is usual, 0 is off.",
            ge=0,
            le=1,
            advanced=True,
            formerly="centring",
        ),
    ] = 0.0
    rpo_alpha: Annotated[
        float,
        option(
            "Likelihood weight",
            "Weight of the better answer's own likelihood beside the loss; "
            "1 keeps better answers from becoming unlikely too, 0 is the pure loss.",
            ge=0,
            le=10,
            advanced=True,
            formerly="sft_weight",
        ),
    ] = 0.0
    label_smoothing: Annotated[
        float,
        option(
            "Label smoothing",
            "Share of pairs that may be the wrong way round.",
            ge=0,
            lt=0.5,
            advanced=True,
        ),
    ] = 0.0


CISPO_CLIP = 5.0
"""Largest importance ratio in cispo (ScaleRL, Khatri et al. 2025; TRL's GRPOConfig)."""


class RL(Section, frozen=True):
    """How the policy is improved from its own samples."""

    algorithm: Annotated[
        Literal[
            "grpo",
            "dapo",
            "dr_grpo",
            "bnpo",
            "gspo",
            "cispo",
            "sapo",
            "luspo",
            "vespo",
            "rloo",
            "ppo",
        ],
        option(
            "Algorithm",
            "How advantages become a loss; grpo is the usual one, gspo clips whole answers instead "
            "of tokens, rloo uses leave-one-out means, ppo learns a value model beside the policy "
            "(stage rlhf alone).",
        ),
    ] = "grpo"
    group_size: Annotated[
        int, option("Group size", "Answers sampled to each prompt and compared.", ge=2, le=256)
    ] = 8
    kl_coefficient: Annotated[
        float,
        option(
            "KL coefficient",
            "How hard the policy is held to where it started; 0 holds nothing and needs no "
            "reference model.",
            ge=0,
            le=10,
        ),
    ] = 0.05
    clip_epsilon: Annotated[
        float,
        option(
            "Clip range", "How far one update may move a token's probability ratio.", gt=0, lt=10
        ),
    ] = 0.2
    clip_epsilon_high: Annotated[
        float,
        option(
            "Upper clip range",
            "DAPO's clip-higher, 0.28 is usual; 0 takes the clip range. In cispo it is the largest "
            "ratio itself, and 0 takes 5.",
            ge=0,
            lt=10,
            advanced=True,
        ),
    ] = 0.0
    scale_rewards: Annotated[
        Literal["group", "batch", "none"],
        option(
            "Advantage scaling",
            "What advantages are divided by: the group's or the batch's standard deviation, or "
            "nothing (Dr. GRPO); rloo knows batch and none.",
            advanced=True,
            formerly="advantage_scaling",
        ),
    ] = "group"
    max_completion_tokens: Annotated[
        int,
        option(
            "Max completion tokens",
            "Completions are truncated after so many tokens.",
            ge=1,
            le=131_072,
            unit="tokens",
            on_resume=True,
        ),
    ] = 256
    mask_truncated_completions: Annotated[
        bool,
        option(
            "Mask truncated completions",
            "Truncated completions are left out of the loss (DAPO).",
            advanced=True,
            on_resume=True,
            formerly="mask_truncated",
        ),
    ] = False
    temperature: Annotated[
        float, option("Temperature", "How freely answers are sampled.", gt=0, le=5)
    ] = 1.0
    top_p: Annotated[
        float,
        option("Top-p", "Share of the likeliest tokens sampled from.", gt=0, le=1, advanced=True),
    ] = 1.0
    num_iterations: Annotated[
        int,
        option(
            "Updates per batch",
            "Optimizer steps on each batch of answers.",
            ge=1,
            le=64,
            advanced=True,
            formerly="updates_per_batch",
        ),
    ] = 1
    value_coefficient: Annotated[
        float,
        option(
            "Value coefficient",
            "Weight of the value model's loss in ppo; 0.1 is usual.",
            ge=0,
            le=10,
            advanced=True,
        ),
    ] = 0.1
    gae_lambda: Annotated[
        float,
        option(
            "GAE lambda",
            "How far ppo trusts what was earned over what the value model predicts; 1 is all.",
            ge=0,
            le=1,
            advanced=True,
        ),
    ] = 0.95
    fast_generation: Annotated[
        Literal["auto", "transformers", "vllm"],
        option(
            "Generation",
            "auto samples with vLLM on a GPU where it is installed.",
            advanced=True,
            on_resume=True,
        ),
    ] = "auto"
    pause_on: Annotated[
        Literal["never", "alarm"],
        option("Pause by itself", "Pause when the health coach raises an alarm.", advanced=True),
    ] = "never"

    @property
    def upper_clip(self) -> float:
        """Where ratios are clipped from above: a distance from 1; in cispo the ratio itself."""
        return self.clip_epsilon_high or (
            CISPO_CLIP if self.algorithm == "cispo" else self.clip_epsilon
        )

    @property
    def by_answer(self) -> bool:
        """Whether importance ratios are of whole answers instead of single tokens."""
        return self.algorithm in ("gspo", "luspo")


class Distill(Section, frozen=True):
    """How a smaller model learns from a larger one's probabilities."""

    teacher: Annotated[
        str,
        option(
            "Teacher",
            "The model to learn from: starter, smollm2, a hub id, a folder, or run:ID; it needs "
            "the same tokens as the model that learns.",
        ),
    ] = ""
    lmbda: Annotated[
        float,
        option(
            "Own answers",
            "Share of the steps that learn on the model's own answers instead of the data's.",
            ge=0,
            le=1,
            formerly="on_policy",
        ),
    ] = 0.5
    beta: Annotated[
        float,
        option(
            "Divergence",
            "Between forward KL (0, covers all that the teacher may say) and reverse KL (1, keeps "
            "to what it likes best).",
            ge=0,
            le=1,
            advanced=True,
            formerly="divergence",
        ),
    ] = 0.5
    temperature: Annotated[
        float,
        option("Temperature", "How freely own answers are sampled.", gt=0, le=5, advanced=True),
    ] = 0.9
    teacher_four_bit: Annotated[
        bool,
        option(
            "Teacher in four bits",
            "The teacher then takes a quarter of the memory and is a little less exact; so it is "
            "always with method qlora.",
            advanced=True,
        ),
    ] = False
