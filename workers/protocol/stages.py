"""The stages of training, each declared once.

The wizard, the command line, the recipe's check and its defaults, the trainers, the charts and
README's table follow from these declarations. To add a stage: its name in `Stage`, its entry in
`STAGES`, and the module in `workers/train` that trains it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import msgspec

Stage = Literal[
    "cpt", "sft", "dpo", "ipo", "simpo", "cpo", "orpo", "kto", "reward", "rlhf", "grpo", "distill"
]  # fmt: skip
Supervision = Literal["text", "completions", "pairs", "labels", "prompts"]
"""What is in the loss: whole texts, the completions of prompts, pairs of a chosen and a rejected
completion, completions labelled desirable or not, or the model's own completions of prompts."""
Field = Literal["text", "completion", "rejected", "label", "prompt", "segments"]
"""A field of `workers.data.reader.Row`."""

S = TypeVar("S", bound=str)
METHOD = "model.method"
ALGORITHM = "rl.algorithm"
TINY = 10_000_000
"""Parameters below which a model counts as tiny: adapters on it learn little at usual rates."""
LARGE = 9_000_000_000
"""Parameters above which adapters are trained at lower rates; those called 8B have up to 8.2."""
PARAMETERS = {"starter": 2_590_464, "smollm2": 134_515_008}
"""Of the models that come with the program; of none other is a tiny one known."""


class Default(msgspec.Struct, frozen=True, kw_only=True):
    """Values that suit a stage better than the options' own defaults."""

    values: dict[str, Any]
    """By key path."""
    source: str
    """The paper, the library or the measurement that they come from."""
    methods: tuple[str, ...] = ()
    """Training methods for which they hold; empty for all."""
    algorithms: tuple[str, ...] = ()
    """Values of rl.algorithm for which they hold; empty for all."""
    tiny: bool = False
    """Whether they hold for tiny models alone."""
    large: bool = False
    """Whether they hold for large models alone."""

    def holds(self, method: str, parameters: int | None, algorithm: str = "") -> bool:
        """Of a model of unknown size it is taken that it is neither tiny nor large."""
        return (
            (not self.methods or method in self.methods)
            and (not self.algorithms or algorithm in self.algorithms)
            and (not self.tiny or (parameters is not None and parameters < TINY))
            and (not self.large or (parameters is not None and parameters > LARGE))
        )


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """What is different in a stage under one rl.algorithm."""

    options: tuple[str, ...]
    charts: tuple[str, ...]
    trainer: str
    value_model: bool


class StageSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of training."""

    id: Stage
    name: str = ""
    """As it stands in a sentence; empty for the id in capitals."""
    title: str
    words: str
    """What it needs and does, for someone who chooses."""
    icon: str
    usual: bool = False
    """Whether it is offered at first sight."""
    supervision: Supervision
    fields: tuple[Field, ...]
    """Of a row: any one of these is enough."""
    bring: str
    """What to bring instead of data that do not serve it."""
    smallest_batch: int = 1
    """Examples that a batch has to hold."""
    teacher: bool = False
    """Whether it learns from another model, held in memory beside it."""
    reference: bool = False
    """Whether the model is held to where it started."""
    generates: bool = False
    """Whether it trains on completions that the model itself samples."""
    talks: bool = True
    """Whether the result speaks; a reward model scores instead."""
    scored_by: Literal["", "rewards", "reward_model"] = ""
    """What scores the sampled completions."""
    rewards_words: str = ""
    """What the rewards are to it."""
    options: tuple[str, ...] = ()
    """Key paths that it looks at and not every stage does."""
    defaults: tuple[Default, ...] = ()
    """Later ones replace earlier ones."""
    charts: tuple[str, ...]
    """Keys of the charts that say most, in order; see `metrics`."""
    measures: tuple[str, ...] = ()
    """Metrics that its trainer measures on the held-out rows."""
    trainer: str
    """Module of `workers.train`."""
    value_model: bool = False
    """Whether a value model is trained beside the policy."""
    variants: dict[str, Variant] = {}
    """By rl.algorithm."""
    objective: str = ""
    """What it does with its examples; empty where training.assistant_only_loss decides."""
    too_long: str = ""
    """What becomes of examples longer than training.max_length; empty where training.too_long
    decides."""
    amount: str = ""
    """The rows that it needs, and how many are usual."""
    cost: str = ""
    """Time and memory, against supervised fine-tuning."""
    votes_words: str = ""
    """What is offered where votes have been made into rows that it learns from."""
    teaches_to_answer: bool = False
    """Whether a base model answers after it."""
    too_early: str = ""
    """What goes wrong on a base that was not fine-tuned to answer; `{name}` is the stage."""

    @property
    def short(self) -> str:
        """The stage as it stands in a sentence."""
        return self.name or self.id.upper()

    @property
    def policy(self) -> bool:
        """Whether it is reinforcement learning: prompts alone, and scored completions."""
        return self.supervision == "prompts"

    @property
    def implicit_rewards(self) -> bool:
        """Whether its rewards are beta times an answer's log-probability against the reference."""
        return self.reference and self.preference

    @property
    def grouped(self) -> bool:
        """Whether completions of one prompt are compared with each other."""
        return self.policy and not self.value_model

    @property
    def templated(self) -> bool:
        """Whether rows are conversations, which a chat template renders."""
        return self.supervision != "text"

    @property
    def learns_answers(self) -> bool:
        """Whether its data holds the answers that it learns from."""
        return self.supervision in ("completions", "pairs", "labels")

    @property
    def preference(self) -> bool:
        """Whether it learns from what is preferred: pairs or labels."""
        return self.supervision in ("pairs", "labels")


_PAIRS = "Bring pairs of a better and a worse answer to the same prompt."
_LIKELIER = "Of each pair, the better answer is made likelier than the worse"
_SHUNS = (
    "{name} only moves it between answers that it gives anyway, so it will learn to shun the worse "
    "ones and still give no good ones"
)
_SPEED = "measured on the starter: tests/benchmarks/stages_learn.py"
FULL = ("full",)
ADAPTERS = ("lora", "qlora", "dora")
_TRL_DPO = "TRL's DPOConfig, KTOConfig and CPOConfig; ten times as much with an adapter"

SFT_CHARTS = ("loss", "token_accuracy", "eval_accuracy", "entropy")
PREFERENCE_CHARTS = (
    "pair_accuracy", "margin", "loss", "eval_accuracy", "eval_win_rate", "eval_length_bias",
    "eval_calibration_error", "reward_chosen", "mean_reward", "logp_chosen",
)  # fmt: skip
_PAIR_MEASURES = ("loss", "pair_accuracy", "margin", "reward_chosen", "reward_rejected")
GRPO_CHARTS = (
    "reward", "eval_accuracy", "reward/", "kl", "entropy", "completion_length", "truncation_rate",
    "reward_std", "frac_reward_zero_std", "clip_fraction", "unscored_share", "rollout_seconds",
)  # fmt: skip
PPO_CHARTS = (
    "reward", "eval_win_rate", "kl", "entropy", "policy_loss", "value_loss", "explained_variance",
    "value_clip_fraction", "completion_length", "truncation_rate", "clip_fraction",
)  # fmt: skip

_RL = (
    "rl.algorithm", "rl.kl_coefficient", "rl.clip_epsilon", "rl.max_completion_tokens",
    "rl.temperature", "rl.num_iterations", "rl.pause_on",
)  # fmt: skip
_GROUPS = (
    *_RL, "rl.group_size", "rl.clip_epsilon_high", "rl.scale_rewards",
    "rl.mask_truncated_completions", "rl.top_p", "rl.fast_generation",
)  # fmt: skip
_CLIPS = (
    Default(
        values={"rl.clip_epsilon": 3e-4, "rl.clip_epsilon_high": 4e-4},
        source="Zheng et al. 2025 (GSPO), 5.1", algorithms=("gspo",),
    ),
    Default(
        values={"rl.clip_epsilon": 2e-3, "rl.clip_epsilon_high": 2.5e-3},
        source="TRL's page on the LUSPO paper, 5.1", algorithms=("luspo",),
    ),
    Default(
        values={"rl.scale_rewards": "none"}, source="Liu et al. 2025 (Dr. GRPO), 3.2",
        algorithms=("dr_grpo",),
    ),
    Default(
        values={"rl.scale_rewards": "none"}, source="Ahmadian et al. 2024 (RLOO), equation 7",
        algorithms=("rloo",),
    ),
)  # fmt: skip
"""What an algorithm was published with, where the options' own defaults are another's."""
_VALUES = (*_RL, "rl.value_coefficient", "rl.gae_lambda")

_OFFLOAD, _BY_LENGTH = "training.activation_offloading", "training.group_by_length"
_TEXTS = (
    _OFFLOAD, _BY_LENGTH, "training.packing", "training.packing_strategy",
    "training.neftune_noise_alpha", "training.torch_compile",
)  # fmt: skip
"""Options of the stages that train on tokens, one after the other."""

_PREFERENCE_RATES = (
    Default(values={"training.learning_rate": 1e-5}, source=_TRL_DPO),
    Default(values={"training.learning_rate": 1e-6}, source=_TRL_DPO, methods=FULL),
)
_TINY_FULL_PREFERENCE = Default(
    values={"training.learning_rate": 3e-4}, source=_SPEED, methods=FULL, tiny=True
)
_TINY_FULL = Default(
    values={"training.learning_rate": 5e-4}, source=_SPEED, methods=FULL, tiny=True
)
_ANSWER_LENGTHS = Default(
    values=dict.fromkeys(("rl.max_completion_tokens", "evaluation.max_completion_tokens"), 512),
    source="worked answers to school mathematics; TRL's 256 cut many of them off",
)
_TINY_ANSWERS = Default(
    values={"rl.max_completion_tokens": 56, "evaluation.max_completion_tokens": 56},
    source="the built-in answers, of which the longest has 43 tokens",
    tiny=True,
)
_TINY_LIKELIHOOD = Default(values={"preference.rpo_alpha": 1.0}, source=_SPEED, tiny=True)
_TRIES_FULL = Default(
    values={METHOD: "full"},
    source="an adapter on a tiny model learns too little from its own tries",
    tiny=True,
)
_TINY_OWN_TRIES = Default(
    values={"training.learning_rate": 2e-4}, source=_SPEED, methods=FULL, tiny=True
)
_TINY_KL = Default(values={"rl.kl_coefficient": 0.05}, source=_SPEED, tiny=True)
_TINY_RANK = Default(values={"lora.rank": 16, "lora.alpha": 32}, source=_SPEED, tiny=True)
_LENGTH = Default(
    values={"training.max_length": 2048},
    source="the examples of Axolotl, LLaMA-Factory and Unsloth; shorter rows cost no more for it",
)


def _rates(adapter: float, full: float, source: str) -> tuple[Default, Default]:
    """Learning rates with an adapter and without."""
    return (
        Default(values={"training.learning_rate": adapter}, source=source),
        Default(values={"training.learning_rate": full}, source=source, methods=FULL),
    )


def _batch(size: int, source: str) -> Default:
    """Examples to each optimizer step."""
    return Default(values={"training.effective_batch_size": size}, source=source)


def _tiny(learning_rate: float, batch_size: int, max_steps: int = 60, **more: Any) -> Default:
    """Values of the table `training` for tiny models."""
    values = {
        "learning_rate": learning_rate, "effective_batch_size": batch_size, "max_steps": max_steps,
        "max_length": 1024, **more,
    }  # fmt: skip
    paths = {f"training.{key}": value for key, value in values.items()}
    return Default(values=paths, source=_SPEED, tiny=True)


_PREFERENCE_BATCH = _batch(32, "Zephyr (Tunstall et al. 2023): DPO with 32 pairs a step")
_GROUPS_BATCH = _batch(64, "eight questions, eight answers to each: one question alone is noise")

_ANSWERS = ("training.reasoning", "training.too_long")
"""Options of every stage that learns answers."""

_DECLARED = (
    StageSpec(
        id="sft",
        title="Supervised fine-tuning",
        words="You have examples of questions with good answers. The model learns to answer like "
        "them. This is where most projects begin.",
        icon="graduation-cap",
        usual=True,
        supervision="completions",
        fields=("completion", "segments"),
        bring="Bring answers to learn: a chat, or a prompt with a completion.",
        options=(*_TEXTS, "training.assistant_only_loss", *_ANSWERS),
        defaults=(
            *_rates(2e-4, 1e-5, "Unsloth's guide to LoRA's hyperparameters; a twentieth in full"),
            Default(
                values={"training.learning_rate": 1e-4},
                source="QLoRA (Dettmers et al. 2023, table 9): 1e-4 for the larger models",
                methods=ADAPTERS,
                large=True,
            ),
            _batch(16, "QLoRA (Dettmers et al. 2023, table 9)"),
            _LENGTH,
            _tiny(4e-3, 16),
            _TINY_FULL,
        ),
        charts=SFT_CHARTS,
        measures=("loss", "entropy", "token_accuracy"),
        trainer="sft",
        amount="Questions with good answers. 50 careful ones change the manner, 500 to 10,000 "
        "teach a task.",
        cost="Minutes on a laptop with the starter. One model in memory with LoRA.",
        teaches_to_answer=True,
    ),
    StageSpec(
        id="grpo",
        title="Reinforcement learning with checkable answers",
        words="You have prompts whose answers can be checked. The model tries, is scored, and does "
        "more of what worked. Best after supervised fine-tuning.",
        icon="medal",
        usual=True,
        supervision="prompts",
        fields=("prompt",),
        bring="Bring prompts, with an answer column where a reward compares with it.",
        reference=True,
        generates=True,
        scored_by="rewards",
        rewards_words="Every answer earns the sum of these, each times its weight. The model does "
        "more of whatever earns most, so try them before training.",
        options=_GROUPS,
        defaults=(
            _TRIES_FULL,
            *_rates(1e-5, 1e-6, "TRL's GRPOConfig, times ten with LoRA"),
            _GROUPS_BATCH,
            Default(values={"rl.kl_coefficient": 0.04}, source="DeepSeekMath (Shao et al. 2024)"),
            *_CLIPS,
            _ANSWER_LENGTHS,
            _tiny(1e-5, 64),
            _TINY_OWN_TRIES,
            _TINY_KL,
            _TINY_ANSWERS,
        ),
        charts=GRPO_CHARTS,
        trainer="grpo",
        amount="Questions whose answers can be checked. 500 to 20,000 are usual; of each, some "
        "tries should succeed.",
        cost="Ten times as long as SFT or more: nearly all of it goes into writing answers. One "
        "model in memory with LoRA.",
        too_early="its tries will hardly ever earn anything, so there is nothing to do more of",
    ),
    StageSpec(
        id="dpo",
        title="Preferences (DPO)",
        words="You have pairs of answers of which one is better. The model learns to prefer the "
        "better kind. Best after supervised fine-tuning.",
        icon="thumbs-up",
        usual=True,
        supervision="pairs",
        fields=("rejected",),
        bring=_PAIRS,
        reference=True,
        options=(
            _OFFLOAD, _BY_LENGTH, "preference.beta", "preference.loss",
            "preference.label_smoothing", "preference.rpo_alpha", *_ANSWERS,
        ),
        defaults=(
            *_PREFERENCE_RATES,
            _PREFERENCE_BATCH,
            _LENGTH,
            _tiny(1e-3, 16),
            _TINY_LIKELIHOOD,
            _TINY_FULL_PREFERENCE,
        ),
        charts=PREFERENCE_CHARTS,
        measures=_PAIR_MEASURES,
        trainer="preference",
        votes_words="Train DPO on it",
        objective=_LIKELIER,
        amount="A question with a better and a worse answer to it. 500 pairs show, 2,000 to 60,000 "
        "are usual.",
        cost="About twice as long as SFT: both answers are read. One model in memory with LoRA.",
        too_early=_SHUNS,
    ),
    StageSpec(
        id="kto",
        title="Thumbs up and down (KTO)",
        words="You have single answers that people liked or did not. The model gives more of the "
        "one and less of the other.",
        icon="thumbs-down",
        usual=True,
        supervision="labels",
        fields=("rejected", "label"),
        bring="Bring answers with a label that is true or false, or pairs.",
        smallest_batch=2,
        reference=True,
        options=(_OFFLOAD, "preference.beta", *_ANSWERS),
        defaults=(
            *_PREFERENCE_RATES,
            _batch(64, "TRL's guide to KTO: 16 to 128 answers a step"),
            _LENGTH,
            _tiny(1e-3, 32),
            _TINY_FULL_PREFERENCE,
        ),
        charts=PREFERENCE_CHARTS,
        measures=_PAIR_MEASURES,
        trainer="preference",
        votes_words="Train KTO on it",
        objective="Answers that were liked are made likelier, the others less likely",
        amount="Answers with a thumb up or down, some hundreds of each. They need not come in "
        "pairs.",
        cost="About twice as long as SFT. One model in memory with LoRA.",
        too_early="{name} only shifts weight between answers that it gives anyway, so it will "
        "learn what to shun and still give no good ones",
    ),
    StageSpec(
        id="ipo",
        title="Preferences, cautious (IPO)",
        words="As DPO, but it stops pulling once the better answer leads by enough. Good for few "
        "or contradictory pairs.",
        icon="scales",
        supervision="pairs",
        fields=("rejected",),
        bring=_PAIRS,
        reference=True,
        options=(
            _OFFLOAD, _BY_LENGTH, "preference.beta", "preference.label_smoothing",
            "preference.rpo_alpha",
            *_ANSWERS,
        ),
        defaults=(
            Default(
                values={"preference.beta": 1.0},
                source="Azar et al. 2023: of answers' means, the target is 1 / (2 beta) nats a "
                "token",
            ),
            *_PREFERENCE_RATES,
            _PREFERENCE_BATCH,
            _LENGTH,
            _tiny(1e-3, 16),
            _TINY_LIKELIHOOD,
            _TINY_FULL_PREFERENCE,
        ),
        charts=PREFERENCE_CHARTS,
        measures=_PAIR_MEASURES,
        trainer="preference",
        objective=_LIKELIER,
        too_early=_SHUNS,
    ),
    StageSpec(
        id="simpo",
        title="Preferences, light (SimPO)",
        words="As DPO, without a second copy of the model to compare with: less memory, and long "
        "answers are not favoured.",
        icon="leaf",
        supervision="pairs",
        fields=("rejected",),
        bring=_PAIRS,
        options=(_BY_LENGTH, "preference.beta", "preference.simpo_gamma", *_ANSWERS),
        defaults=(
            Default(
                values={"preference.beta": 2.0, "preference.simpo_gamma": 1.0},
                source="Meng et al. 2024: beta 2, a margin of half of it",
            ),
            *_rates(1e-5, 5e-7, "Meng et al. 2024; an adapter takes twenty times as much"),
            _PREFERENCE_BATCH,
            _LENGTH,
            _tiny(1e-3, 16),
            Default(values={"preference.simpo_gamma": 0.5}, source=_SPEED, tiny=True),
            _TINY_FULL_PREFERENCE,
        ),
        charts=PREFERENCE_CHARTS,
        measures=_PAIR_MEASURES,
        trainer="preference",
        objective=_LIKELIER,
        too_early=_SHUNS,
    ),
    StageSpec(
        id="cpo",
        title="Preferences with examples (CPO)",
        words="As DPO, without a second copy of the model to compare with; instead the better "
        "answers are learnt as well, which keeps them likely.",
        icon="handshake",
        supervision="pairs",
        fields=("rejected",),
        bring=_PAIRS,
        options=(
            _BY_LENGTH, "preference.beta", "preference.label_smoothing", "preference.rpo_alpha",
            *_ANSWERS,
        ),
        defaults=(
            Default(values={"preference.rpo_alpha": 1.0}, source="TRL's CPOConfig: cpo_alpha"),
            *_PREFERENCE_RATES,
            _PREFERENCE_BATCH,
            _LENGTH,
            _tiny(1e-3, 16),
            _TINY_FULL_PREFERENCE,
        ),
        charts=PREFERENCE_CHARTS,
        measures=_PAIR_MEASURES,
        trainer="preference",
        objective=f"The good answers are learnt. {_LIKELIER}",
        teaches_to_answer=True,
    ),
    StageSpec(
        id="orpo",
        title="Examples and preferences at once (ORPO)",
        words="Pairs teach both the good answer and to avoid the worse one, in one run from a base "
        "model.",
        icon="intersect",
        supervision="pairs",
        fields=("rejected",),
        bring=_PAIRS,
        options=(_BY_LENGTH, "preference.beta", *_ANSWERS),
        defaults=(
            *_rates(1e-5, 8e-6, "Hong et al. 2024"),
            _PREFERENCE_BATCH,
            _LENGTH,
            _tiny(2e-3, 16),
            _TINY_FULL,
        ),
        charts=PREFERENCE_CHARTS,
        measures=_PAIR_MEASURES,
        trainer="preference",
        objective=f"The good answers are learnt. {_LIKELIER}",
        amount="A question with a better and a worse answer to it. 2,000 to 60,000 pairs are "
        "usual.",
        cost="About twice as long as SFT, in one run instead of two. One model in memory.",
        teaches_to_answer=True,
    ),
    StageSpec(
        id="cpt",
        name="continued pretraining",
        title="Continued pretraining",
        words="You have plain text, such as manuals or a language that the model knows little of. "
        "It learns to go on from it, not yet to answer.",
        icon="book",
        supervision="text",
        fields=("text",),
        bring="Bring plain text, in a text column.",
        options=_TEXTS,
        defaults=(
            Default(
                values={"training.packing": True},
                source="no window is left half empty; TRL keeps packed documents apart",
            ),
            *_rates(5e-5, 1e-5, "Unsloth's guide to continued pretraining; Gururangan et al. 2020"),
            Default(
                values={"lora.rank": 64, "lora.alpha": 64},
                source="Biderman et al. 2024: new knowledge needs a high rank",
                methods=ADAPTERS,
            ),
            _batch(32, "Unsloth's guide to continued pretraining, twice over"),
            _LENGTH,
            _tiny(1e-3, 16, packing=False),
            _TINY_FULL,
            _TINY_RANK,
        ),
        charts=SFT_CHARTS,
        measures=("loss", "entropy", "token_accuracy"),
        trainer="sft",
        objective="Every token is in the loss",
        too_long="are split, without loss",
        amount="Plain text, 10 MB or more; less is soon learnt by heart.",
        cost="As long as SFT for as many tokens. One model in memory with LoRA.",
    ),
    StageSpec(
        id="reward",
        name="reward model",
        title="Reward model",
        words="You have pairs of answers of which one is better. The result does not talk: it "
        "scores answers, to serve as a reward later.",
        icon="star",
        supervision="pairs",
        fields=("rejected",),
        bring=_PAIRS,
        talks=False,
        options=(
            _OFFLOAD, _BY_LENGTH, "preference.center_rewards_coefficient", *_ANSWERS,
        ),
        defaults=(
            *_rates(1e-4, 1e-5, "TRL's RewardConfig: 1e-4, and a tenth of it in full"),
            _batch(32, "as for preferences: 32 pairs a step"),
            Default(
                values={"preference.center_rewards_coefficient": 0.01},
                source="Eisenstein et al. 2023",
            ),
            _LENGTH,
            _tiny(5e-4, 16, max_steps=80),
            Default(
                values={"preference.center_rewards_coefficient": 0.0}, source=_SPEED, tiny=True
            ),
        ),
        charts=PREFERENCE_CHARTS,
        measures=("loss", "pair_accuracy", "margin", "mean_reward"),
        trainer="reward_model",
        votes_words="Train a reward model on it",
        objective="Of each pair, the better answer is to get the higher score",
        too_long="are left out",
    ),
    StageSpec(
        id="rlhf",
        title="Reinforcement learning from human feedback (RLHF)",
        words="You have a reward model and questions without answers. The model tries, the reward "
        "model scores, and it does more of what is liked: PPO, RLOO or GRPO.",
        icon="users-three",
        supervision="prompts",
        fields=("prompt",),
        bring="Bring prompts; the reward model scores what is answered to them.",
        reference=True,
        generates=True,
        scored_by="reward_model",
        rewards_words="The last of three runs: first a model that answers (SFT), then a reward "
        "model trained from it on pairs, now the policy, which does more of what the reward model "
        "likes.",
        options=_GROUPS,
        defaults=(
            _TRIES_FULL,
            Default(
                values={"rl.algorithm": "rloo"},
                source="Ahmadian et al. 2024; PPO holds a value model besides, of the policy's "
                "size",
            ),
            *_rates(5e-6, 1e-6, "TRL's RLOOConfig, times five with LoRA"),
            _GROUPS_BATCH,
            *_CLIPS,
            _ANSWER_LENGTHS,
            _tiny(1e-3, 32, max_steps=24),
            _TINY_FULL_PREFERENCE,
            _TINY_ANSWERS,
            Default(
                values={"rl.algorithm": "ppo"},
                source=_SPEED,
                methods=("lora", "dora", "full"),
                tiny=True,
            ),
            Default(values={"rl.num_iterations": 4}, source=_SPEED, tiny=True),
            Default(
                values={"rl.num_iterations": 4},
                source="TRL's PPOConfig: num_ppo_epochs",
                algorithms=("ppo",),
            ),
        ),
        charts=("reward", "eval_win_rate", *GRPO_CHARTS[1:]),
        trainer="grpo",
        variants={
            "ppo": Variant(
                options=_VALUES, charts=PPO_CHARTS, trainer="ppo", value_model=True
            )
        },
        amount="2,000 pairs or more for the reward model, then 1,000 to 20,000 questions without "
        "answers.",
        cost="The most costly: a reward model first, then ten times as long as SFT or more.",
        too_early="its tries will be noise to the reward model, which is then pleased by noise",
    ),
    StageSpec(
        id="distill",
        name="distillation",
        title="Distillation",
        words="A larger model with the same tokens teaches a smaller one, word by word, also on "
        "the smaller one's own answers.",
        icon="student",
        supervision="completions",
        fields=("completion",),
        bring="Bring answers, or a chat: both models read them.",
        teacher=True,
        generates=True,
        options=(
            "distill.teacher", "distill.lmbda", "distill.beta", "distill.temperature",
            "distill.teacher_four_bit",
            "rl.max_completion_tokens", *_ANSWERS,
        ),
        defaults=(
            *_rates(1e-4, 1e-5, "TRL's DistillationConfig has 1e-6 to 1e-5 in full; ten times "
                    "as much with LoRA"),
            _batch(16, "as for supervised fine-tuning"),
            _LENGTH,
            _tiny(1e-3, 16),
            _TINY_FULL,
            _TINY_ANSWERS,
        ),
        charts=SFT_CHARTS,
        measures=("loss",),
        trainer="distill",
        objective="Every word of the answers is to be as likely as the teacher thinks it",
        amount="Questions with answers, 1,000 or more. The teacher needs the same tokens.",
        cost="Longer than SFT by the teacher's reading. Two models in memory, and the larger one "
        "only reads.",
        teaches_to_answer=True,
    ),
)  # fmt: skip

STAGES: dict[str, StageSpec] = {spec.id: spec for spec in _DECLARED}
"""Every stage by its id, in the order in which they are offered."""


SUPERVISIONS: tuple[Supervision, ...] = ("pairs", "labels", "completions", "text", "prompts")
"""What data is most likely meant for, that which asks most of a row first."""


def likeliest(stages: Sequence[S], asked: str = "") -> S | None:
    """The stage asked for, else what data that serves these is most likely meant for."""
    usual = sorted(_DECLARED, key=lambda spec: SUPERVISIONS.index(spec.supervision))
    return min(stages, key=[asked, *(spec.id for spec in usual), *stages].index, default=None)


def talks(stage: str) -> bool:
    """Whether the result of a stage speaks; so is taken of a stage that is not known."""
    return stage not in STAGES or STAGES[stage].talks


def spec_of(stage: str, algorithm: str = "") -> StageSpec:
    """A stage as it is under an rl.algorithm; raises KeyError for a name that is no stage."""
    spec = STAGES[stage]
    variant = spec.variants.get(algorithm)
    return msgspec.structs.replace(spec, **msgspec.structs.asdict(variant)) if variant else spec


STAGE_OPTIONS = frozenset(
    path
    for spec in _DECLARED
    for path in (*spec.options, *(p for v in spec.variants.values() for p in v.options))
)
"""Options that some stages alone look at."""


def applies(path: str, stage: str, algorithm: str = "") -> bool:
    """Whether a stage looks at the option at a key path."""
    return path not in STAGE_OPTIONS or path in spec_of(stage, algorithm).options


def defaults_for(
    stage: str,
    method: str | None = None,
    model_parameters: int | None = None,
    algorithm: str | None = None,
) -> dict[str, Any]:
    """What a stage takes where a recipe does not say, by key path; other options have their own.

    Args:
        stage: its id.
        method: as `model.method` says; None where it is left out, and is among the defaults then.
        model_parameters: of the base; None where that is not known.
        algorithm: as `rl.algorithm` says; None where it is left out, and is among the defaults.
    """

    def held(by_method: str, by_algorithm: str = "") -> dict[str, Any]:
        found = [d for d in declared if d.holds(by_method, model_parameters, by_algorithm)]
        return {path: value for one in found for path, value in one.values.items()}

    declared = STAGES[stage].defaults
    chosen = method or held("").get(METHOD, "lora")
    values = {METHOD: chosen} | held(chosen, algorithm or held(chosen).get(ALGORITHM, ""))
    said = {METHOD: method, ALGORITHM: algorithm}
    return {path: value for path, value in values.items() if said.get(path) is None}
