"""A LLaMA-Factory config as a recipe. Keys and defaults: llamafactory/hparams, commit ff6d4d12e."""

from __future__ import annotations

import re
from collections.abc import Collection

from studio.importing.account import Account, Plain, Unfit
from studio.importing.llama_factory_data import carry_datasets
from studio.importing.methods import Keys, carry_methods
from studio.importing.models import carry_base, not_text
from studio.importing.reasons import COMMON, LLAMA_FACTORY, NO_EIGHT_BITS, NOT_GONE_ON_WITH
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

NAME = "LLaMA-Factory"
TEMPLATES = {
    "llama3": "llama-3", "gemma": "gemma", "mistral": "mistral", "alpaca": "alpaca",
    "chatml": "chatml",
    "qwen": "trl:qwen2_5",
    "qwen3": "trl:qwen3",
    "gemma3": "trl:gemma3",
    "phi": "trl:phi3",
    "deepseek3": "trl:deepseekv3",
    "deepseekr1": "trl:deepseek_r1_distill",
    "gpt_oss": "trl:gptoss",
    "cohere": "trl:cohere",
    "lfm2": "trl:lfm2",
}  # fmt: skip
"""Its names of chat templates to ours; models bring the others along."""
SEES = re.compile(
    r"_vl(?:_|$)|^(?:mllama|llava|pixtral|paligemma|minicpm_[vo]|video_llava)|_omni|_audio|ocr|"
    r"vision|\dv$"
)
"""Templates of models for pictures and sound."""
STAGES = {"pt": "cpt", "sft": "sft", "rm": "reward", "dpo": "dpo", "kto": "kto", "ppo": "rlhf"}
LOSSES = {"orpo": "orpo", "simpo": "simpo", "ipo": "ipo", "sigmoid": "dpo", "hinge": "dpo"}
"""By pref_loss, the stage that stage dpo is."""
PLAIN = (
    Plain("learning_rate", "training.learning_rate", "number", 5e-5),
    Plain("per_device_train_batch_size", "training.batch_size", "whole", 8),
    Plain("gradient_accumulation_steps", "training.gradient_accumulation", "whole", 1),
    Plain("cutoff_len", "training.max_length", "whole", 2048),
    Plain("seed", "training.seed", "whole", 42),
    Plain("weight_decay", "training.weight_decay", "number", 0.0),
    Plain("max_grad_norm", "training.max_grad_norm", "number", 1.0),
    Plain("save_steps", "training.save_every_steps", "whole", 500),
    Plain("lora_dropout", "lora.dropout", "number", 0.0),
)
PREFERENCE = (
    Plain("pref_beta", "preference.beta", "number", 0.1),
    Plain("pref_ftx", "preference.rpo_alpha", "number"),
    Plain("dpo_label_smoothing", "preference.label_smoothing", "number"),
    Plain("simpo_gamma", "preference.simpo_gamma", "number"),
)
METHODS = Keys(
    optimizer="optim", rslora="use_rslora", plus_ratio="loraplus_lr_ratio",
    modules="additional_target", patience="early_stopping_steps",
)  # fmt: skip
OTHER_TASKS = {
    "export_dir": "exports a model",
    "infer_backend": "talks to a model",
    "compute_environment": "sets up Accelerate",
    "distributed_type": "sets up Accelerate",
    "do_predict": "writes answers",
}


def is_it(given: dict[str, object]) -> bool:
    """Whether a config's keys are LLaMA-Factory's."""
    return "model_name_or_path" in given or {"stage", "finetuning_type"} <= set(given)


def refuse_other_tasks(given: dict[str, object]) -> None:
    """Refuses LLaMA-Factory's configs that are not for training, where the keys show it."""
    found = next((words for key, words in OTHER_TASKS.items() if key in given), None)
    if found is not None and not given.get("do_train"):
        raise Unfit(
            "not training", f"This config {found}; it trains nothing.",
            "Recipes are of training runs.", "Give a config for training.",
        )  # fmt: skip


def translate(account: Account) -> None:
    """Fills the account's tables and items from a LLaMA-Factory config.

    Raises:
        Unfit: no recipe can be made of it.
    """
    refuse_other_tasks(account.given)
    _refuse_other_senses(account)
    carry_base(account, "model_name_or_path")
    _carry_stage(account)
    _carry_method(account)
    if account.held("stage") == "rlhf" and account.held("model.method") != "qlora":
        account.put("rl.algorithm", "ppo")  # over 4-bit weights there is no value model
    _carry_template(account)
    carry_datasets(account)
    carry_length(account, "num_train_epochs", "max_steps", 3.0)
    account.plain(PLAIN)
    _carry_rest(account)
    fit_to_stage(account, "per_device_train_batch_size", "quantization_bit")
    account.finish((*LLAMA_FACTORY, *COMMON))


def _refuse_other_senses(account: Account) -> None:
    template = account.text("template")
    if SEES.search(template):
        raise not_text(f"The config trains on pictures or sound: its template is {template}.")
    if account.text("mixture_of_depths"):
        raise Unfit("method", "The config changes the model's layers (mixture_of_depths).",
                    "Models are trained as they are.", "Remove that key.")  # fmt: skip


def _carry_stage(account: Account) -> None:
    """The stage; of stage dpo, by its loss. Refuses stages and losses that there are not."""
    stage = account.text("stage") or "sft"
    loss = account.text("pref_loss") or "sigmoid"
    _refuse_unknown("stage", stage, STAGES)
    if stage == "dpo":
        _refuse_unknown("pref_loss", loss, LOSSES)
    ours = LOSSES[loss] if stage == "dpo" else STAGES[stage]
    account.carry("stage", "stage", ours)
    if ours == "dpo":
        account.carry("pref_loss", "preference.loss", loss)
    elif account.get("pref_loss") is not None:
        account.keep("pref_loss", f"stage {ours}" if stage == "dpo" else "not looked at")
    if stage in ("dpo", "kto"):
        account.plain(PREFERENCE)
    if stage == "ppo":
        _carry_ppo(account)
    if account.get("do_train") is not None:
        account.keep("do_train", "a recipe is for training")


def _refuse_unknown(key: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise Unfit("method", f"There is nothing here for {key}: {value}.",
                    f"Known are {', '.join(known)}.", "Choose one of those.")  # fmt: skip


def _carry_ppo(account: Account) -> None:
    """PPO's reward model, which is a folder or an id; one that is an adapter or a server is not."""
    model = account.text("reward_model")
    if not model or account.text("reward_model_type") != "full":  # an adapter where it says nothing
        account.lack(
            "rewards", "The config's reward model is an adapter, a server or not named.",
            "PPO learns from a whole reward model here.",
            "Train one with stage reward, and choose it in the window.",
        )  # fmt: skip
        if model:
            account.change("reward_model", "an adapter or a server cannot score; name a whole "
                           "model")  # fmt: skip
    else:
        account.put("rewards", [{"kind": "reward_model", "model": model}])
        account.keep("reward_model", f"[[rewards]] model = {model}")
    if account.get("reward_model_type") is not None:
        account.keep("reward_model_type", "a whole model")
    account.plain((Plain("ppo_epochs", "rl.num_iterations", "whole", 4),
                   Plain("max_new_tokens", "rl.max_completion_tokens", "whole"),
                   Plain("top_p", "rl.top_p", "number"),
                   Plain("temperature", "rl.temperature", "number")))  # fmt: skip


def _carry_method(account: Account) -> None:
    """How the base is trained: by the kind of fine-tuning and the bits of the weights."""
    kind = account.text("finetuning_type") or "lora"
    bits, dora = account.whole("quantization_bit"), account.switch("use_dora")
    method = "full" if kind == "full" else "qlora" if bits == 4 else "dora" if dora else "lora"
    if kind in ("lora", "full"):
        account.carry("finetuning_type", "model.method", method)
    else:
        account.change("finetuning_type", f"{kind} is not offered: a LoRA adapter is trained",
                       "model.method", method)  # fmt: skip
    if bits is not None:
        told = account.keep if method == "qlora" else account.change
        told("quantization_bit", "model.method says so" if method == "qlora" else NO_EIGHT_BITS)
    if dora is not None:
        told = account.change if dora and method != "dora" else account.keep
        told("use_dora", f"model.method = {method}")
    if account.text("adapter_name_or_path"):
        account.change("adapter_name_or_path", NOT_GONE_ON_WITH)
    if method != "full":
        _carry_adapter(account)


def _carry_adapter(account: Account) -> None:
    rank = account.whole("lora_rank") or 8
    account.carry("lora_rank", "lora.rank", rank)
    account.carry("lora_alpha", "lora.alpha", account.whole("lora_alpha") or 2 * rank)
    if account.get("lora_target") is None:
        account.carry("lora_target", "lora.targets", "all-linear")
    carry_targets(account, "lora_target", False, ("all",))


def _carry_start(account: Account) -> None:
    """PiSSA, over 16-bit weights."""
    if account.switch("pissa_init") and account.held("model.method") == "lora":
        account.carry("pissa_init", "lora.init", "pissa")
        if account.switch("pissa_convert") is not None:
            account.keep("pissa_convert", "what is saved is always plain LoRA")


def _carry_template(account: Account) -> None:
    """The template, and whether it lets the model think; models bring along most that it names."""
    template = account.text("template")
    if template.endswith("_nothink"):
        account.change("template", "the model's own template is taken; whether it thinks follows "
                       "the answers, or model.thinking", "model.template", "auto")  # fmt: skip
    else:
        carry_template(account, "template", TEMPLATES)
    carry_thinking(account, "enable_thinking", account.switch("enable_thinking"))


def _carry_rest(account: Account) -> None:
    carry_scheduler(account, "lr_scheduler_type", "linear")
    carry_warmup(account, "warmup_ratio", "warmup_steps", 0.0)
    carry_precision(account)
    if account.held("evaluation.test") is None:
        carry_holdout(account, "val_size")
    elif account.get("val_size") is not None:
        account.keep("val_size", "eval_dataset decides")
    carry_too_long(account, "cut")
    account.plain((Plain("eval_steps", "evaluation.every_steps", "whole"),))
    off = account.switch("disable_gradient_checkpointing")
    account.carry("disable_gradient_checkpointing", "training.gradient_checkpointing", not off)
    if account.get("gradient_checkpointing") is not None:
        account.keep("gradient_checkpointing", "disable_gradient_checkpointing decides there")
    _carry_packing(account)
    carry_methods(account, METHODS)
    if account.switch("use_muon"):
        account.carry("use_muon", "training.optimizer", "muon")
    _carry_start(account)
    asked = account.switch("train_on_prompt")
    account.carry("train_on_prompt", "training.assistant_only_loss", not asked)


def _carry_packing(account: Account) -> None:
    """Packing, which neat_packing and plain text ask for too."""
    asked = account.switch("packing")
    if account.switch("neat_packing"):
        account.carry("neat_packing", "training.packing", True)
        if asked is not None:
            account.keep("packing", "neat_packing decides")
        return
    plain_text = account.held("stage") == "cpt"
    account.carry("packing", "training.packing", plain_text if asked is None else asked)
    if account.get("neat_packing") is not None:
        account.keep("neat_packing", "off")
