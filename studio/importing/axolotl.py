"""An Axolotl config as a recipe. Keys and defaults: axolotl/utils/schemas, commit 067b021c8."""

from __future__ import annotations

from studio.importing.account import Account, Plain, Unfit
from studio.importing.axolotl_data import carry_datasets
from studio.importing.axolotl_rl import carry_preference, carry_reinforced
from studio.importing.datasets import found_beside
from studio.importing.methods import Keys, carry_methods, carry_start
from studio.importing.models import carry_base, not_text
from studio.importing.reasons import (
    AXOLOTL,
    COMMON,
    NO_EIGHT_BITS,
    NOT_GONE_ON_WITH,
    PLAIN_LORA,
)
from studio.importing.settings import (
    carry_holdout,
    carry_length,
    carry_precision,
    carry_scheduler,
    carry_targets,
    carry_template,
    carry_thinking,
    carry_too_long,
    carry_warmup,
    fit_to_stage,
)
from workers.protocol.templates import is_file

NAME = "Axolotl"
TEMPLATES = {
    "phi_3": "trl:phi3",
    "phi_35": "trl:phi3_5",
    "deepseek_v3": "trl:deepseekv3",
    "qwen_25": "trl:qwen2_5",
    "qwen3": "trl:qwen3",
    "gemma3": "trl:gemma3",
    "gemma4": "trl:gemma4",
    "cohere": "trl:cohere",
    "tokenizer_default": "auto", "chatml": "chatml", "llama3": "llama-3", "gemma": "gemma",
    "mistral_v1": "mistral", "mistral_v2v3": "mistral", "alpaca": "alpaca",
    "tokenizer_default_fallback_chatml": "auto",
}  # fmt: skip
"""Its names of chat templates to ours."""
SEES = frozenset(("llama3_2_vision", "llava", "pixtral", "qwen2_vl"))
"""Chat templates of models for pictures."""
STAGES = {"dpo": "dpo", "ipo": "ipo", "simpo": "simpo", "orpo": "orpo", "kto": "kto",
          "grpo": "grpo", "gdpo": "grpo"}  # fmt: skip
UNKNOWN_METHODS = {
    "ebft": "energy-based fine-tuning (rl: ebft)",
    "process_reward_model": "a process reward model, which scores single steps",
    "diffusion": "a diffusion language model",
    "kd": "from a teacher's probabilities that stand in the data",
}
PLAIN = (
    Plain("learning_rate", "training.learning_rate", "number"),
    Plain("micro_batch_size", "training.batch_size", "whole", 1),
    Plain("gradient_accumulation_steps", "training.gradient_accumulation", "whole", 1),
    Plain("sequence_len", "training.max_length", "whole", 512),
    Plain("seed", "training.seed", "whole", 42),
    Plain("weight_decay", "training.weight_decay", "number", 0.0),
    Plain("max_grad_norm", "training.max_grad_norm", "number"),
    Plain("sample_packing", "training.packing", "switch"),
    Plain("gradient_checkpointing", "training.gradient_checkpointing", "switch"),
    Plain("lora_r", "lora.rank", "whole"),
    Plain("lora_alpha", "lora.alpha", "whole"),
    Plain("lora_dropout", "lora.dropout", "number"),
)


METHODS = Keys(
    optimizer="optimizer", rslora="peft_use_rslora", plus_ratio="loraplus_lr_ratio",
    modules="lora_modules_to_save", embedding_rate="embedding_lr",
    patience="early_stopping_patience",
)  # fmt: skip


def is_it(given: dict[str, object]) -> bool:
    """Whether a config's keys are Axolotl's."""
    return "base_model" in given and isinstance(given["base_model"], str | None)


def translate(account: Account) -> None:
    """Fills the account's tables and items from an Axolotl config.

    Raises:
        Unfit: no recipe can be made of it.
    """
    _refuse_other_tasks(account)
    carry_base(account, "base_model")
    _carry_method(account)
    account.put("stage", _stage(account))
    _carry_template(account)
    carry_datasets(account)
    carry_length(account, "num_epochs", "max_steps", 1.0)
    account.plain(PLAIN)
    _carry_rest(account)
    stage = account.held("stage")
    if stage in ("dpo", "ipo", "simpo", "orpo", "kto", "reward"):
        carry_preference(account, stage)
    elif stage == "grpo":
        carry_reinforced(account)
    fit_to_stage(account, "micro_batch_size", "load_in_4bit")
    account.finish((*AXOLOTL, *COMMON))


def _carry_template(account: Account) -> None:
    """The template of all datasets, else that of the first; and what is handed to it."""
    key = "chat_template" if account.text("chat_template") else "datasets[0].chat_template"
    own = account.text(f"{key}_jinja")
    if own:
        _carry_own_template(account, f"{key}_jinja", own)
        if account.get(key) is not None:
            account.keep(key, f"see {key}_jinja")
    else:
        carry_template(account, key, TEMPLATES)
    thinks = "chat_template_kwargs.enable_thinking"
    carry_thinking(account, thinks, account.switch(thinks))
    effort = account.text("chat_template_kwargs.reasoning_effort")
    if effort in ("low", "medium", "high"):
        key = "chat_template_kwargs.reasoning_effort"
        account.carry(key, "model.reasoning_effort", effort)


def _carry_own_template(account: Account, key: str, own: str) -> None:
    """A template of one's own: its file is named; one that stands in the config is not taken."""
    if is_file(own) and "\n" not in own:
        account.carry(key, "model.template", found_beside(own, account.path))
    else:
        account.change(key, "a template is read from a file: write it into a .jinja file and name "
                       "that in model.template", "model.template", "auto")  # fmt: skip


def _carry_rest(account: Account) -> None:
    if not account.number("learning_rate"):
        raise Unfit("value", "The config has no learning_rate.", "Axolotl asks for one too.",
                    "Add learning_rate: 2e-4, which suits LoRA.")  # fmt: skip
    carry_scheduler(account, "lr_scheduler", "cosine")
    carry_warmup(account, "warmup_ratio", "warmup_steps", 0.03)
    carry_precision(account)
    carry_holdout(account, "val_set_size")
    carry_too_long(account, _too_long(account), "excess_length_strategy")
    _carry_every(account, "save_steps", "training.save_every_steps")
    _carry_every(account, "eval_steps", "evaluation.every_steps")
    on = account.switch("train_on_inputs")
    account.carry("train_on_inputs", "training.assistant_only_loss", not on)
    carry_methods(account, METHODS)
    carry_start(account, "peft_init_lora_weights")
    if account.get("batch_size") is not None:
        account.keep("batch_size", "micro_batch_size and gradient_accumulation_steps decide")


def _too_long(account: Account) -> str:
    return "cut" if account.text("excess_length_strategy") == "truncate" else "drop"


def _carry_every(account: Account, key: str, ours: str) -> None:
    """Steps between two checkpoints or measurements; below 1 a share of all steps."""
    every = account.number(key)
    if every is None:
        return
    total = account.held("training.max_steps", 0)
    if every >= 1 or not every:
        account.carry(key, ours, int(every))
    elif total:
        account.change(key, f"{every:g} of {total} steps", ours, max(1, round(every * total)))
    else:
        account.change(key, "a share of a number of steps that is not known yet")


def _refuse_other_tasks(account: Account) -> None:
    """Refuses what is for pictures or sound, or a method that no stage here has."""
    if account.get("processor_type") or account.text("chat_template") in SEES:
        raise not_text("The config trains on pictures or sound: it names a processor_type.")
    plugins = " ".join(account.names("plugins")).lower()
    if account.text("rl") == "ebft":
        raise _no_such("ebft")
    if account.switch("process_reward_model"):
        raise _no_such("process_reward_model")
    if account.get("diffusion") or "diffusion" in plugins:
        raise _no_such("diffusion")
    if "integrations.kd" in plugins:
        raise _no_such("kd")
    if account.text("rl") not in ("", *STAGES):
        raise Unfit("method", f"There is no stage for rl: {account.text('rl')}.",
                    f"Known are {', '.join(STAGES)}.", "Choose one of those.")  # fmt: skip


def _no_such(method: str) -> Unfit:
    return Unfit(
        "method", f"The config trains {UNKNOWN_METHODS[method]}.",
        "No stage here learns that way.", "Train it with Axolotl, or choose another method.",
    )  # fmt: skip


def _stage(account: Account) -> str:
    """The stage by rl and reward_model; by the datasets' types whether it is plain text."""
    rl = account.text("rl")
    if rl:
        account.carry("rl", "stage", STAGES[rl])
        if rl == "gdpo":
            account.change("rl", "rewards are added up, then compared; not one by one", "stage",
                           "grpo")  # fmt: skip
        return STAGES[rl]
    if account.switch("reward_model"):
        account.carry("reward_model", "stage", "reward")
        return "reward"
    return "sft"  # or cpt, as the datasets say


def _carry_method(account: Account) -> None:
    """How the base is trained: by adapter, its kind and the bits of the weights."""
    adapter = account.text("adapter")
    four = bool(account.switch("load_in_4bit")) or adapter == "qlora"
    dora = bool(account.switch("peft_use_dora"))
    if adapter in ("", "lora", "qlora"):
        kind = "qlora" if four else "dora" if dora else "lora"
        account.carry("adapter", "model.method", kind if adapter else "full")
    else:
        account.change("adapter", PLAIN_LORA, "model.method", "lora")
    if dora and four:
        account.change("peft_use_dora", "over 4-bit weights a plain adapter is trained")
    elif dora:
        account.keep("peft_use_dora", "model.method says so")
    if account.text("lora_model_dir"):
        account.change("lora_model_dir", NOT_GONE_ON_WITH)
    _tell_bits(account)
    _carry_targets(account)


def _tell_bits(account: Account) -> None:
    """What becomes of quantised weights besides 4 bits."""
    if account.get("load_in_4bit") is not None:
        account.keep("load_in_4bit", "model.method says so")
    if account.switch("load_in_8bit"):
        account.change("load_in_8bit", NO_EIGHT_BITS)
    elif account.get("load_in_8bit") is not None:
        account.keep("load_in_8bit", "off")
    if account.get("gptq") is not None:
        told = account.change if account.switch("gptq") else account.keep
        told("gptq", "bases are taken in 16 bits")


def _carry_targets(account: Account) -> None:
    linear = bool(account.switch("lora_target_linear"))
    if linear:
        account.carry("lora_target_linear", "lora.targets", "all-linear")
    elif account.get("lora_target_linear") is not None:
        account.keep("lora_target_linear", "off")
    carry_targets(account, "lora_target_modules", linear, ("all-linear",))
    parameters = account.names("lora_target_parameters")
    if any("experts" in name for name in parameters):
        account.carry("lora_target_parameters", "lora.experts", "on")
