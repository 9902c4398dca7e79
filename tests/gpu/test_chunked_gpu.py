"""Losses by chunks on the GPU: a fraction of the memory, and the same loss."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from trl import DPOConfig

from workers.train.tokenized import TokenizedDPO

WORDS, LENGTH = 151_936, 512


def trainer_of(folder: Path, tiny: Path, **options: Any) -> Any:
    """Two pairs of 512 tokens over Qwen's number of words; the model has one layer."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=256, intermediate_size=512, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config)
    model.to("cuda", torch.bfloat16)
    draw = random.Random(0)

    def ids(length: int) -> list[list[int]]:
        return [[draw.randrange(3, WORDS) for _ in range(length)] for _ in range(2)]

    rows = {"prompt_ids": ids(128), "chosen_ids": ids(384), "rejected_ids": ids(384)}
    adapted: Any = get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"]))
    trainer = TokenizedDPO(
        model=adapted,
        args=DPOConfig(output_dir=str(folder), bf16=True, report_to="none", max_length=LENGTH,
                       per_device_train_batch_size=2, gradient_checkpointing=False, **options),
        train_dataset=Dataset.from_dict(rows),
        processing_class=AutoTokenizer.from_pretrained(tiny),
    )  # fmt: skip
    adapted.delete_adapter("ref")
    return trainer


def step(trainer: Any) -> tuple[float, int]:
    """The loss, and the most bytes that were held beside the model."""
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    with trainer.accelerator.autocast():
        loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    return float(loss), torch.cuda.max_memory_allocated() - held


def test_a_preference_step_by_chunks_takes_a_fraction_of_the_memory(
    tmp_path: Path, tiny: Path
) -> None:
    trainer = trainer_of(tmp_path, tiny)
    by_chunks, little = step(trainer)
    trainer.chunked = False
    plain, much = step(trainer)
    assert by_chunks == pytest.approx(plain, rel=5e-3)
    assert little < much / 4


@pytest.mark.skipif(importlib.util.find_spec("liger_kernel") is None, reason="no liger-kernel")
def test_ligers_loss_is_that_by_chunks(tmp_path: Path, tiny: Path) -> None:
    by_chunks, _ = step(trainer_of(tmp_path, tiny))
    fused, _ = step(trainer_of(tmp_path, tiny, use_liger_kernel=True))
    assert fused == pytest.approx(by_chunks, rel=5e-3)
