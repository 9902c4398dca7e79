"""Losses by chunks: the same numbers and gradients as over the logits themselves."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from msgspec import structs
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from trl import DistillationConfig, GRPOConfig, RLOOConfig

from tests.torch.tiny_families import OPTIONS, SIZE, WHOLE, random_model
from workers.protocol.options import options_of
from workers.protocol.recipe import Distill, Preference, Recipe, Training
from workers.protocol.refusal import Refusal
from workers.train import chunked
from workers.train.deferring import deferred_logits
from workers.train.distill import Distiller, divergence
from workers.train.grpo import LoggedGRPOTrainer, LoggedRLOOTrainer
from workers.train.liger import plain_head, use_liger
from workers.train.tokenized import (
    CPOConfig,
    DPOConfig,
    KTOConfig,
    ORPOConfig,
    TokenizedCPO,
    TokenizedDPO,
    TokenizedKTO,
    TokenizedORPO,
)
from workers.train.value_model import log_probabilities

CLOSE = 1e-5
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": False},
    "gemma2": {"head_dim": 16, "final_logit_softcapping": 5.0},
    "granite": {"logits_scaling": 8.0},
    "cohere": {"logit_scale": 0.25},
    "falcon_h1": {
        "head_dim": 16, "mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 16,
        "mamba_chunk_size": 64, "mamba_d_ssm": 128, "lm_head_multiplier": 0.5,
    },
}  # fmt: skip
"""One that gives its head's output as it is, and those that scale, bound or multiply it."""
LOSSES = [
    choice for option in options_of(Preference) if option.key == "loss"
    for choice in option.choices or ()
]  # fmt: skip


def family(name: str, words: int = 61) -> PreTrainedModel:
    """A random model with large logits, and with an adapter's effect on every one of them."""
    from transformers import CONFIG_MAPPING

    torch.manual_seed(0)
    kind: Any = CONFIG_MAPPING[name]
    config = kind(**SIZE | {"vocab_size": words} | FAMILIES[name])
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(20)
    return model


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Chunks are small; of how many tokens logits were made each time."""
    sizes: list[int] = []
    make = chunked.Source.logits

    def logits(source: chunked.Source, hidden: torch.Tensor) -> torch.Tensor:
        sizes.append(len(hidden))
        return make(source, hidden)

    monkeypatch.setattr(chunked, "CHUNK", 7)
    monkeypatch.setattr(chunked.Source, "logits", logits)
    return sizes


def test_fused_kernels_are_left_to_models_that_do_no_more_than_their_head() -> None:
    assert [name for name in FAMILIES if plain_head(family(name))] == ["llama"]
    adapted = get_peft_model(family("llama"), LoraConfig(target_modules=["lm_head"]))
    assert not plain_head(adapted)


@pytest.mark.parametrize(
    ("stage", "preference", "fused"),
    [
        ("sft", {}, True),
        ("dpo", {}, True),
        ("dpo", {"loss": "aot"}, False),
        ("dpo", {"rpo_alpha": 0.5}, False),
        ("ipo", {}, False),
        ("kto", {}, False),
        ("orpo", {}, False),
    ],
)
def test_a_stage_is_left_to_fused_kernels_where_they_compute_its_loss(
    monkeypatch: pytest.MonkeyPatch, stage: Any, preference: dict[str, Any], fused: bool
) -> None:
    recipe = Recipe(name="r", stage=stage, preference=Preference(**preference))
    model = family("llama")
    assert not use_liger(recipe, model, "cpu")
    wished = structs.replace(recipe, training=Training(liger_kernel="on"))
    with pytest.raises(Refusal, match="cannot compute"):
        use_liger(wished, model, "cpu")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert use_liger(recipe, model, "cuda") == fused
    off = structs.replace(recipe, training=Training(liger_kernel="off"))
    assert not use_liger(off, model, "cuda")
    if not fused:
        with pytest.raises(Refusal, match="cannot compute"):
            use_liger(wished, model, "cuda")


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gives_its_own_logits_by_chunks(name: str) -> None:
    model = family(name)
    ids = torch.randint(3, 61, (3, 11))
    logits = model(input_ids=ids).logits[:, :-1] / 0.7
    expected = logits.log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    with deferred_logits([model]):
        deferred = model(input_ids=ids).logits[:, :-1] / 0.7
        assert isinstance(deferred, chunked.DeferredLogits)
        found = chunked.token_log_probabilities(deferred, ids[:, 1:])
    torch.testing.assert_close(found, expected, atol=CLOSE, rtol=0)
    torch.testing.assert_close(deferred.tensor(), logits, atol=1e-4, rtol=0)
    entropy = torch.distributions.Categorical(logits=logits).entropy()
    torch.testing.assert_close(chunked.token_entropies(deferred.detach()), entropy, atol=CLOSE,
                               rtol=0)  # fmt: skip
    assert torch.equal(deferred.argmax(-1), logits.argmax(-1))
    assert isinstance(model(input_ids=ids).logits, torch.Tensor)
    assert_same_gradients(model, found.square().sum(), expected.square().sum())


def assert_same_gradients(model: Any, found: torch.Tensor, expected: torch.Tensor) -> None:
    """Of both losses, relative to the largest that the model has."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    both = [torch.autograd.grad(loss, weights, allow_unused=True, retain_graph=True)
            for loss in (found, expected)]  # fmt: skip
    largest = max(float(one.abs().max()) for one in both[1] if one is not None)
    assert largest > 0
    for mine, theirs in zip(*both, strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            torch.testing.assert_close(mine / largest, theirs / largest, atol=CLOSE, rtol=0)


PAIRS = {
    "prompt_ids": [[5, 6, 7], [8, 9], [10, 11, 12, 13]],
    "chosen_ids": [[20, 21, 22, 2], [23, 2], [24, 25, 2]],
    "rejected_ids": [[30, 2], [31, 32, 33, 34, 2], [35, 2]],
}
ANSWERS = {
    "prompt_ids": PAIRS["prompt_ids"],
    "completion_ids": PAIRS["chosen_ids"],
    "label": [True, False, True],
}
KINDS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "dpo": (TokenizedDPO, DPOConfig, {}),
    "kto": (TokenizedKTO, KTOConfig, {}),
    "cpo": (TokenizedCPO, CPOConfig, {"cpo_alpha": 1.0, "loss_type": "sigmoid"}),
    "simpo": (TokenizedCPO, CPOConfig, {"cpo_alpha": 0.0, "loss_type": "simpo"}),
    "orpo": (TokenizedORPO, ORPOConfig, {}),
}


def trainer_of(kind: str, model: Any, folder: Path, tiny: Path, **options: Any) -> Any:
    """A preference trainer, with a reference that is a little different where there is one."""
    cls, config, fixed = KINDS[kind]
    reference = {}
    if kind in ("dpo", "kto"):
        reference["ref_model"] = copy.deepcopy(model)
        with torch.no_grad():
            for weight in reference["ref_model"].parameters():
                weight.add_(torch.randn_like(weight), alpha=0.02)
    rows = Dataset.from_dict(ANSWERS if kind == "kto" else PAIRS)
    return cls(
        model=model,
        args=config(
            output_dir=str(folder), use_cpu=True, bf16=False, report_to="none", beta=0.3,
            per_device_train_batch_size=3, max_length=64, gradient_checkpointing=False,
            **fixed | options,
        ),
        train_dataset=rows,
        eval_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(tiny),
        **reference,
    )  # fmt: skip


def assert_same_by_chunks(trainer: Any, made: list[int], batch: Any = None) -> None:
    """The loss of a batch, its gradients, and the metrics that are shown."""
    batch = batch or next(iter(trainer.get_train_dataloader()))
    losses, metrics = [], []
    for by_chunks in (True, False):
        trainer.chunked = by_chunks
        losses.append(trainer.compute_loss(trainer.model, dict(batch)))
        found: dict[str, float] = {}
        trainer.log(found)
        assert made if by_chunks else not made
        assert max(made, default=0) <= chunked.CHUNK
        made.clear()
        metrics.append({name: value for name, value in found.items() if "logits/" not in name})
    torch.testing.assert_close(*losses, atol=CLOSE, rtol=CLOSE)
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-4)
    assert_same_gradients(trainer.model, *losses)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_preference_loss_is_the_same_by_chunks(
    tmp_path: Path, tiny: Path, made: list[int], loss: str
) -> None:
    trainer = trainer_of("dpo", family("llama"), tmp_path, tiny, label_smoothing=0.1,
                         loss_type=[loss, "sft"], loss_weights=[1.0, 0.5])  # fmt: skip
    assert_same_by_chunks(trainer, made)


@pytest.mark.parametrize("name", ["llama", "gemma2", "granite"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_preference_stage_is_the_same_by_chunks(
    tmp_path: Path, tiny: Path, made: list[int], kind: str, name: str
) -> None:
    assert_same_by_chunks(trainer_of(kind, family(name), tmp_path, tiny), made)


@pytest.mark.parametrize("further", [False, True])
@pytest.mark.parametrize(
    "how",
    [
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    ],
)
def test_a_head_with_an_adapter_is_called_as_it_was(
    tmp_path: Path, tiny: Path, made: list[int], how: dict[str, Any], further: bool
) -> None:
    """The reference is the model with the adapter off, also where the head has one; of an adapter
    that is trained further, the adapter as it was."""
    model: Any = get_peft_model(family("llama"), LoraConfig(r=4, **how)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight), alpha=0.05)
    cls, config, _ = KINDS["dpo"]
    rows = Dataset.from_dict(PAIRS)
    trainer = cls(
        model=model,
        args=config(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none",
                    per_device_train_batch_size=3, max_length=64, gradient_checkpointing=False),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(tiny),
    )  # fmt: skip
    if further:
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if ".default." in name:
                    weight.add_(torch.randn_like(weight), alpha=0.05)
    else:
        model.delete_adapter("ref")  # TRL's copy, as in `drop_reference_copy`
    assert_same_by_chunks(trainer, made)


@pytest.mark.parametrize("name", ["llama", "gemma2", "granite"])
@pytest.mark.parametrize("kind", [LoggedGRPOTrainer, LoggedRLOOTrainer])
def test_policy_gradients_are_the_same_by_chunks(
    tmp_path: Path, tiny: Path, made: list[int], kind: Any, name: str
) -> None:
    model, tokenizer = family(name), AutoTokenizer.from_pretrained(tiny)
    functions: Any = SimpleNamespace(functions=[lambda **_: [0.0]], rewards=None)
    context: Any = SimpleNamespace(loaded=SimpleNamespace(model=model, tokenizer=tokenizer))
    config = GRPOConfig if kind is LoggedGRPOTrainer else RLOOConfig
    trainer = kind(
        context,
        functions,
        model=model,
        args=config(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none",
                    temperature=0.7, beta=0.0, num_generations=2, per_device_train_batch_size=4,
                    gradient_checkpointing=False),
        train_dataset=Dataset.from_dict({"prompt": ["a", "b"]}),
        processing_class=tokenizer,
    )  # fmt: skip
    prompts, completions = torch.randint(3, 61, (4, 5)), torch.randint(3, 61, (4, 9))
    mask = torch.ones_like(completions)
    mask[1, 4:] = 0
    old = torch.full((4, 9), -3.0)
    batch = {
        "prompt_ids": prompts, "prompt_mask": torch.ones_like(prompts),
        "completion_ids": completions, "completion_mask": mask,
        "advantages": torch.tensor([1.0, -0.5, 0.3, -2.0]), "num_items_in_batch": mask.sum(),
        "old_per_token_logps": old, "old_logps": old.sum(1),
    }  # fmt: skip
    assert_same_by_chunks(trainer, made, batch)


@pytest.mark.parametrize("name", ["llama", "gemma2", "granite"])
def test_ppos_log_probabilities_are_the_same_by_chunks(made: list[int], name: str) -> None:
    model, ids = family(name), torch.randint(3, 61, (3, 12))
    seen = torch.ones_like(ids, dtype=torch.bool)
    seen[0, :3] = False
    by_chunks, plain = (
        log_probabilities(model, ids, seen, 8, 0.9, chunked=chunked) for chunked in (True, False)
    )
    assert made
    torch.testing.assert_close(by_chunks, plain, atol=CLOSE, rtol=0)
    assert_same_gradients(model, by_chunks.square().sum(), plain.square().sum())


QUESTIONS = [
    {"input_ids": [5, 6, 7, 20, 21, 2], "labels": [-100, -100, -100, 20, 21, 2]},
    {"input_ids": [8, 9, 23, 2], "labels": [-100, -100, 23, 2]},
    {"input_ids": [10, 30, 11, 31, 32, 2], "labels": [-100, 30, -100, 31, 32, 2]},
    {"input_ids": [12, 13, 33, 2], "labels": [-100, -100, 33, 2]},
]


def distiller(student: Any, folder: Path, tiny: Path, lmbda: float, beta: float) -> Any:
    """A teacher of its own weights beside the student, in steps of two parts."""
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    teacher = copy.deepcopy(student).requires_grad_(False)
    with torch.no_grad():
        for weight in teacher.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    context: Any = SimpleNamespace(
        recipe=Recipe(name="d", stage="distill", distill=Distill(lmbda=lmbda)),
        loaded=SimpleNamespace(model=student, tokenizer=tokenizer),
        loss="chunked",
    )
    config = DistillationConfig(
        output_dir=str(folder), use_cpu=True, bf16=False, report_to="none", beta=beta,
        per_device_train_batch_size=2, gradient_accumulation_steps=2, max_completion_length=9,
        gradient_checkpointing=True, temperature=0.9, generation_kwargs={"use_cache": True},
    )  # fmt: skip
    return Distiller(
        context, model=student, teacher_model=teacher, args=config,
        train_dataset=Dataset.from_list(QUESTIONS), processing_class=tokenizer,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["llama", "gemma2", "granite"])
@pytest.mark.parametrize(("lmbda", "beta"), [(0.0, 0.5), (0.0, 0.0), (1.0, 0.3)])
def test_distillation_is_the_divergence_of_both_models_own_logits(
    tmp_path: Path, tiny: Path, made: list[int], name: str, lmbda: float, beta: float
) -> None:
    """A step's mean over its tokens, be they the data's or those that the student has just said;
    while it says them, its cache saves it reading them again."""
    model = family(name, words=400).train()
    trainer = distiller(model, tmp_path, tiny, lmbda, beta)
    widths: list[int] = []
    model.model.register_forward_pre_hook(
        lambda _, __, given: widths.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    parts = []
    for step in range(2):
        trainer._step = step
        parts.append(trainer._prepare_inputs(QUESTIONS))
    assert set(widths[1:]) == ({1} if lmbda else set())
    longest = trainer.longest_inputs(2)
    lengths = (longest["prompt_mask"].sum(1) + longest["completion_mask"].sum(1)).tolist()
    assert lengths == ([11, 12] if lmbda else [6, 6])  # prompts of 2 and 3 tokens, answers of 9
    losses = []
    for by_chunks in (True, False):
        trainer._by_chunks = by_chunks
        losses.append(sum(trainer.compute_loss(model, dict(part)) for part in parts))
        assert bool(made) == by_chunks
        made.clear()
    found = []
    for part in parts:
        ids = torch.cat([part["prompt_ids"], part["completion_ids"]], 1)
        seen = torch.cat([part["prompt_mask"], part["completion_mask"]], 1)
        width = part["completion_ids"].shape[1]
        student, teacher = (
            one(input_ids=ids, attention_mask=seen).logits[:, -width - 1 : -1]
            for one in (model, trainer.teacher_model)
        )
        learnt = part["completion_mask"] * part.get("tool_mask", 1) == 1
        found.append(divergence(student[learnt], teacher[learnt], beta)[0])
    expected = torch.cat(found).mean()
    for loss in losses:
        torch.testing.assert_close(loss, expected, atol=CLOSE, rtol=CLOSE)
        assert_same_gradients(model, loss, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*OPTIONS, *WHOLE])
def test_every_kind_of_model_gives_its_own_logits_by_chunks(name: str, made: list[int]) -> None:
    model = random_model(name).eval()
    ids = torch.randint(3, 400, (2, 11))
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    logits = model(**given).logits[:, :-1]
    with deferred_logits([model]):
        found = chunked.token_log_probabilities(model(**given).logits[:, :-1], ids[:, 1:])
    expected = logits.log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    assert made
    torch.testing.assert_close(found, expected, atol=CLOSE, rtol=0)
