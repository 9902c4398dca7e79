"""The starter as policy or reward model, and short recipes on it, for formulas and runs."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from workers.protocol.assets import assets_folder
from workers.protocol.recipe import Evaluation, Lora, Model, Recipe, Source, Training

STARTER = assets_folder() / "starter" / "model"


def of(kind: type, events: list[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def moved(model: Any, by: float = 0.01) -> Any:
    """The model, a little away from where it was."""
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += by * torch.randn_like(weight)
    return model


def starter() -> Any:
    return AutoModelForCausalLM.from_pretrained(STARTER, dtype=torch.float32)


def reward_model() -> Any:
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(
        STARTER, num_labels=1, dtype=torch.float32
    )
    model.config.pad_token_id = 1
    return model


def of_stage(stage: Any, name: str, **changes: Any) -> Recipe:
    training = {"max_steps": 2, "batch_size": 4, "precision": "fp32", "save_every_steps": 0,
                "max_length": 128, "learning_rate": 3e-4} | changes.pop("training", {})  # fmt: skip
    return Recipe(
        name=name, stage=stage, model=Model(base="starter", method=changes.pop("method", "lora")),
        lora=Lora(rank=8, alpha=16), data=[Source(source=changes.pop("data"))],
        training=Training(**training), evaluation=Evaluation(holdout=0.02, max_rows=4),
        **changes,
    )  # fmt: skip
