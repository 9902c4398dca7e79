"""Stage cpo: its loss against the paper, in numpy, and a run on the starter model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from workers.data.reader import read_table
from workers.evaluate import render
from workers.protocol.assets import assets_folder
from workers.protocol.events import Evaluated, Failed, Metrics
from workers.protocol.recipe import parse_recipe
from workers.train.tokenized import CPOConfig, TokenizedCPO

BETA, ALPHA = 0.3, 0.5
RECIPE = """
name = "cpo"
stage = "cpo"
lora = { rank = 32, alpha = 64 }
training = { max_steps = 12, batch_size = 8, learning_rate = 1e-2, max_length = 256, \
precision = "fp32", save_every_steps = 0 }
evaluation = { holdout = 0.2, max_rows = 16 }
data = [{ source = "builtin:preferences" }]
"""


def test_a_recipe_weighs_the_better_answers_likelihood_by_one() -> None:
    recipe = parse_recipe(RECIPE)
    assert (recipe.preference.rpo_alpha, recipe.preference.beta) == (1.0, 0.1)


def test_the_loss_is_that_of_the_paper(tmp_path: Any) -> None:
    """Of the answers' log-probabilities p: the mean of -log sigmoid(beta (p chosen - p rejected)),
    and alpha times the negative mean of all tokens of better answers (Xu et al. 2024)."""
    from datasets import Dataset

    folder = assets_folder() / "starter" / "model"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = read_table("builtin:preferences").rows[:4]

    def ids_of(messages: Any, *, generation: bool = False) -> list[int]:
        text = render(messages, tokenizer, generation=generation)
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    prompts = [ids_of(row.prompt, generation=True) for row in rows]
    columns: dict[str, Any] = {"prompt_ids": prompts}
    for side, field in (("chosen", "completion"), ("rejected", "rejected")):
        whole = [ids_of([*row.prompt, *getattr(row, field)]) for row in rows]
        columns[f"{side}_ids"] = [
            ids[len(prompt) :] for ids, prompt in zip(whole, prompts, strict=True)
        ]
    made = Dataset.from_dict(columns)
    trainer = TokenizedCPO(
        model=model,
        args=CPOConfig(
            output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", beta=BETA,
            cpo_alpha=ALPHA, loss_type="sigmoid", per_device_eval_batch_size=4, max_length=256,
            gradient_checkpointing=False,
        ),
        train_dataset=made,
        eval_dataset=made,
        processing_class=tokenizer,
    )  # fmt: skip

    def log_probabilities(prompt: list[int], answer: list[int]) -> np.ndarray:
        """Of the answer's tokens, by a plain forward pass; (answer tokens,)."""
        ids = torch.tensor([prompt + answer])
        with torch.no_grad():
            found = torch.log_softmax(model(input_ids=ids).logits[0, :-1].double(), dim=-1)
        return found.gather(1, ids[0, 1:, None])[len(prompt) - 1 :, 0].numpy()

    chosen, rejected = (
        [log_probabilities(*pair) for pair in zip(prompts, columns[f"{side}_ids"], strict=True)]
        for side in ("chosen", "rejected")
    )
    gaps = np.array([one.sum() - other.sum() for one, other in zip(chosen, rejected, strict=True)])
    expected = np.logaddexp(0, -BETA * gaps).mean() - ALPHA * np.concatenate(chosen).mean()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, abs=1e-5)


def test_it_improves_its_loss_on_held_out_rows(train_here: Callable[..., list[Any]]) -> None:
    events = train_here(parse_recipe(RECIPE))

    assert not [event for event in events if isinstance(event, Failed)]
    before, after = (event for event in events if isinstance(event, Evaluated))
    first, final = before.values["loss"], after.values["loss"]
    assert first is not None
    assert final is not None
    assert final < 0.8 * first
    assert after.values["pair_accuracy"] == 1.0
    last = [event for event in events if isinstance(event, Metrics)][-2].values
    assert all(last[name] is not None for name in ("margin", "logp_chosen", "logp_rejected"))
