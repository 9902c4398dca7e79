"""The names of TRL and Transformers that training uses although they are not public.

Everything else goes through public methods: reward functions with `log_metric`, `training_step`,
`compute_loss`, `log`, `save_model`. A release that changes one of these names fails the test of
this list before it fails a run.
"""

from __future__ import annotations

from typing import NamedTuple


class PrivateName(NamedTuple):
    """One name, and what of it has to stay."""

    owner: str
    """The class, or the module, by its full name."""
    name: str
    parameters: tuple[str, ...]
    """The first parameters of a method or function, `self` left out."""
    source: str
    """A line that stands in the owner's source, where the name is a variable."""
    purpose: str


_BOTH = ("selective_log_softmax", "entropy_from_logits")
LOSS_FUNCTIONS: dict[str, tuple[str, ...]] = {
    "trl.trainer.dpo_trainer": _BOTH,
    "trl.trainer.kto_trainer": _BOTH,
    "trl.trainer.grpo_trainer": _BOTH,
    "trl.trainer.rloo_trainer": _BOTH,
    "trl.trainer.sft_trainer": _BOTH,
    "trl.experimental.cpo.cpo_trainer": _BOTH[:1],
    "trl.experimental.orpo.orpo_trainer": _BOTH[:1],
}
"""By module of TRL's: what its loss asks of logits."""

PRIVATE_NAMES = (
    PrivateName(
        "trl.GRPOTrainer", "_logs", (), 'self._logs["advantages"].extend(',
        "the advantages of a batch, in its order, for the record of a step's completions",
    ),
    PrivateName(
        "trl.RLOOTrainer", "_logs", (), 'self._logs["advantages"].extend(',
        "the same",
    ),
    PrivateName(
        "trl.GRPOTrainer", "_get_per_token_logps_and_entropies",
        ("model", "input_ids", "attention_mask", "logits_to_keep"), "",
        "what the loss is made of, held to the model's own forward pass before the first step",
    ),
    PrivateName(
        "trl.RLOOTrainer", "_get_per_token_logps_and_entropies",
        ("model", "input_ids", "attention_mask", "logits_to_keep"), "",
        "the same",
    ),
    PrivateName(
        "trl.trainer.sft_trainer", "_chunk", ("h", "w", "b", "lbl"), "",
        "replaced, so that no copy of the output layer in 32 bits is made",
    ),
    PrivateName(
        "trl.GRPOTrainer", "_tokenize_prompts", ("prompts",),
        "", "overridden, so that prompts which are rendered text get no second begin token",
    ),
    PrivateName("trl.RLOOTrainer", "_tokenize_prompts", ("prompts",), "", "the same"),
    PrivateName(
        "trl.GRPOTrainer", "_generate_single_turn", ("prompt_ids", "images", "multimodal_fields"),
        "", "overridden, so that a completion ends at any token that ends an answer",
    ),
    PrivateName(
        "trl.RLOOTrainer", "_generate_single_turn", ("prompt_ids", "images", "multimodal_fields"),
        "", "the same",
    ),
    PrivateName(
        "trl.GRPOTrainer", "_generate", ("prompts",), "ids[-1] not in eos_and_pad",
        "asks for truncation by comparing the last token, which may stand for the named one",
    ),
    PrivateName(
        "trl.DPOTrainer", "_prepare_dataset", ("dataset",), "",
        "overridden, so that rows which are token ids already stay as they are",
    ),
    PrivateName(
        "trl.KTOTrainer", "_prepare_dataset", ("dataset", "processing_class", "args"), "",
        "the same",
    ),
    *(
        PrivateName(
            "trl.DistillationTrainer", name, parameters, "",
            "overridden, so that a step may learn on the data's answers instead of its own",
        )
        for name, parameters in (
            ("_generate_and_score_completions", ("inputs",)),
            ("_tokenize_prompts", ("prompts",)),
            ("_generate_single_turn", ("prompt_ids", "images", "multimodal_fields")),
        )
    ),
    PrivateName(
        "trl.DistillationTrainer", "_compute_loss",
        ("unwrapped_student", "inputs", "num_items_in_batch"), "",
        "overridden, so that both models' own logits are compared",
    ),
    PrivateName(
        "trl.DistillationTrainer", "_metrics", (),
        'self._metrics[mode]["num_tokens"] = [self.state.num_input_tokens_seen]',
        "counts the tokens of the data's answers too",
    ),
    *(
        PrivateName(
            module, name, ("logits",), "",
            "replaced while a loss is taken by chunks, for logits that are deferred",
        )
        for module, names in LOSS_FUNCTIONS.items()
        for name in names
    ),
    PrivateName(
        "peft.tuners.tuners_utils.BaseTunerLayer", "_disable_adapters", (),
        "_disable_adapters: bool = False",
        "calls a head once more as it was called for the reference, its adapter off",
    ),
    PrivateName(
        "transformers.Trainer", "_prepare_inputs", ("inputs",), "",
        "moves the longest batch to the device, which is tried before the first step",
    ),
    PrivateName(
        "transformers.Trainer", "_load_from_checkpoint", ("resume_from_checkpoint", "model"), "",
        "overridden by PPO, which has a value model beside the policy",
    ),
    PrivateName(
        "trl.trainer.utils", "disable_dropout_in_model", ("model",), "",
        "without dropout PPO's importance ratio begins at 1",
    ),
)  # fmt: skip
