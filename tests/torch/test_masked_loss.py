"""The loss of a real batch is the mean over the assistant's tokens, and over nothing else."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from workers.data.tokenize.encode import IGNORED
from workers.engines.transformers import load_for_training
from workers.fetch import locate_model
from workers.host import Host
from workers.protocol import wire
from workers.protocol.jobs import Job, Train
from workers.protocol.recipe import Evaluation, Model, Recipe, Source, Training
from workers.train import sft
from workers.train.context import TrainingContext
from workers.train.dataset import build_dataset

ROWS = (
    '{"prompt": "What is 12 + 30?", "completion": "It is 42."}',
    '{"prompt": "Say a short word, then a longer one.", "completion": "Boat. Lantern."}',
    '{"prompt": "1 + 1?", "completion": "2"}',
)


def test_the_trainers_loss_is_the_formula_on_the_starter_model(tmp_path: Path) -> None:
    """-(1 / sum m) sum m log p, in 32 bits by hand, over a padded batch with masked prompts."""
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(ROWS))
    recipe = Recipe(
        name="masked",
        model=Model(base="starter", method="full"),
        data=[Source(source=str(data))],
        training=Training(batch_size=3, precision="fp32", max_steps=1, save_every_steps=0),
        evaluation=Evaluation(holdout=0.0),
    )
    job = Job(id="masked", name="masked", created="2026-01-01T00:00:00+00:00",
              home=str(tmp_path), task=Train(recipe=recipe))  # fmt: skip
    (tmp_path / "job").mkdir()
    wire.write_job(tmp_path / "job", job)
    located = locate_model("starter", tmp_path, lambda text: None)
    loaded = load_for_training(recipe, located)
    with Host(tmp_path / "job") as host, ExitStack() as closing:
        rows = build_dataset(recipe)
        context = TrainingContext(
            recipe, host, loaded, located, rows.training, rows.held_out, closing
        )
        trainer = sft.build_trainer(context)
        batch: dict[str, Any] = next(iter(trainer.get_train_dataloader()))
        model: Any = trainer.model.eval()  # type: ignore[union-attr]
        with torch.no_grad():
            loss = float(trainer.compute_loss(model, dict(batch)))
            logits = model(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
            ).logits
    labels = batch["labels"][:, 1:]
    mask = (labels != IGNORED).float()
    log_p = torch.log_softmax(logits[:, :-1].float(), dim=-1)
    picked = log_p.gather(2, labels.clamp(min=0)[..., None])[..., 0]
    assert loss == pytest.approx(float(-(mask * picked).sum() / mask.sum()), abs=1e-5)
    assert abs(loss - float(-picked.mean())) > 0.01
    learnt = {str(loaded.tokenizer.decode(row[row != IGNORED])) for row in batch["labels"]}
    end = loaded.tokenizer.eos_token
    assert learnt == {f"It is 42.{end}", f"Boat. Lantern.{end}", f"2{end}"}
