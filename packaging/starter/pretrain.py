"""Trains the starter model from nothing on the mixture, on the CPU, and writes its folder.

A plain loop: rows are drawn, sorted by length into batches, and learnt with Muon and AdamW under a
cosine fall of the rate. Answers count in full, questions little, since what is asked is random.
Thirteen minutes on two cores.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import torch
from mixture import Reading, readings
from torch.nn import functional
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
)

SEED = 7
STEPS = 2400
BATCH = 64
POOL_BATCHES = 40
MUON_RATE = 0.02
ADAM_RATE = 3e-3
WARMUP = 100
QUESTION_WEIGHT = 0.1
SHAPE: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 640,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
CONTEXT = 512

Row = tuple[list[int], list[float]]
"""Token ids, and how much each counts as a target."""


def write_model(folder: Path, steps: int = STEPS) -> None:
    """Trains and writes weights (bf16), settings and the numbers for the model card."""
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = LlamaForCausalLM(_config(tokenizer))
    model.train()
    optimizers = _optimizers(model)
    began, recent = time.perf_counter(), []
    for step, batch in enumerate(islice(_batches(tokenizer), steps), start=1):
        rate = _rate(step, steps)
        loss = _loss(model, *batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["initial"]
            optimizer.step()
            optimizer.zero_grad()
        recent.append(loss.item())
        if step % 50 == 0:
            spent = time.perf_counter() - began
            print(f"step {step}/{steps}  loss {sum(recent) / len(recent):.3f}  {spent:.0f} s",
                  flush=True)  # fmt: skip
            recent.clear()
    _write(model, folder)


def _config(tokenizer: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        **SHAPE,
    )


def _optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices of the layers, AdamW for all else."""
    matrices = [p for p in model.model.layers.parameters() if p.ndim > 1]
    known = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in known]
    optimizers = [
        torch.optim.Muon(matrices, lr=MUON_RATE, weight_decay=0.01, momentum=0.95),
        torch.optim.AdamW(others, lr=ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial"] = group["lr"]
    return optimizers


def _rate(step: int, steps: int) -> float:
    """The share of the peak: warm-up, then a cosine down to a twentieth."""
    if step < WARMUP:
        return step / WARMUP
    done = (step - WARMUP) / max(1, steps - WARMUP)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done))


def _batches(tokenizer: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of ids (rows, tokens) and weights of the same shape; rows of like length."""
    source = readings(f"pretraining {SEED}")
    draw = Random(SEED)
    while True:
        pool = [encode(tokenizer, row) for row in islice(source, BATCH * POOL_BATCHES)]
        pool.sort(key=lambda row: len(row[0]))
        groups = [pool[at : at + BATCH] for at in range(0, len(pool), BATCH)]
        draw.shuffle(groups)
        for group in groups:
            yield _padded(group, tokenizer.pad_token_id)


def encode(tokenizer: Any, row: Reading) -> Row:
    """A chat in the template with its answer counting in full; a story counts throughout."""
    if not row.answer:
        ids = [*_ids(tokenizer, row.prompt), tokenizer.eos_token_id]
        return ids, [1.0] * len(ids)
    messages = [{"role": "user", "content": row.prompt}]
    if row.system:
        messages.insert(0, {"role": "system", "content": row.system})
    asked = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    question = _ids(tokenizer, asked)
    answer = [*_ids(tokenizer, row.answer), tokenizer.eos_token_id]
    return [*question, *answer], [QUESTION_WEIGHT] * len(question) + [1.0] * len(answer)


def _ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _padded(rows: list[Row], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded; a causal model needs no mask for that, the padding counts nothing."""
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([ids + [pad] * (longest - len(ids)) for ids, _ in rows])
    weights = torch.tensor([w + [0.0] * (longest - len(w)) for _, w in rows])
    return ids, weights


def _loss(model: LlamaForCausalLM, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean of the next-token negative log-likelihood."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    loss = functional.cross_entropy(
        logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
    )
    counted = weights[:, 1:].flatten()
    return (loss * counted).sum() / counted.sum()


def _write(model: Any, folder: Path) -> None:
    config = model.config
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
        max_new_tokens=96,
    )
    model.to(torch.bfloat16).save_pretrained(folder)
