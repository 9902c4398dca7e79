"""Methods beside plain LoRA by AdamW: each is really on, and its result is what speaks."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.torch.test_loss_check import opened
from workers.engines import merge
from workers.engines.adapters import with_adapter
from workers.engines.starts import keep_start, take_out
from workers.fetch import locate_run
from workers.protocol.events import Evaluated, Failed, Finished, Metrics, Note
from workers.protocol.recipe import (
    RL,
    Distill,
    Evaluation,
    Gate,
    Lora,
    Model,
    Recipe,
    Source,
    Training,
)
from workers.protocol.refusal import Refusal
from workers.protocol.rewards import Format
from workers.train import _stage, context
from workers.train.best import Best
from workers.train.method_arguments import method_arguments
from workers.train.optimizers import set_optimizer, settle_state

Run = Callable[..., list[Any]]
PAIRS = [
    {"prompt": f"What is {n} + 1?", "chosen": f"It is {n + 1}.", "rejected": "No."}
    for n in range(10, 40)
]


def learner(base: Any, data: Path, **changes: Any) -> Recipe:
    training: dict[str, Any] = {
        "max_steps": 3, "batch_size": 4, "learning_rate": 1e-2, "max_length": 128,
        "precision": "fp32", "save_every_steps": 0, "weight_decay": 0.0,
    } | changes.pop("training", {})  # fmt: skip
    return Recipe(
        name=changes.pop("name", "tiny"),
        stage=changes.pop("stage", "sft"),
        model=Model(base=str(base), **{"method": "lora"} | changes.pop("model", {})),
        lora=Lora(**{"rank": 4, "alpha": 8} | changes.pop("lora", {})),
        data=[Source(source=str(data))],
        training=Training(**training),
        evaluation=Evaluation(**{"max_rows": 8, "max_completion_tokens": 4}
                              | changes.pop("evaluation", {})),
        **changes,
    )  # fmt: skip


def of(kind: type, events: list[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def measured(events: list[Any], when: str) -> float:
    """The held-out loss."""
    assert of(Failed, events) == []
    return next(one.values["loss"] for one in of(Evaluated, events) if one.when == when)


def newest(home: Path) -> Path:
    return max((home / "jobs").iterdir(), key=lambda path: path.stat().st_mtime_ns)


@pytest.fixture
def sums(tiny: Path) -> Path:
    return tiny / "sums.jsonl"


@pytest.mark.parametrize(
    "lora",
    [
        pytest.param({"init": "pissa"}, id="pissa"),
        pytest.param({"init": "olora", "rslora": True}, marks=pytest.mark.slow, id="olora-rslora"),
        pytest.param({"init": "gaussian", "rslora": True}, marks=pytest.mark.slow, id="gaussian"),
        pytest.param(
            {"init": "pissa", "modules_to_save": "embed_tokens, lm_head"},
            marks=pytest.mark.slow, id="pissa-embeddings",
        ),
    ],
)  # fmt: skip
def test_a_run_upon_a_run_begins_where_that_one_ended(
    tiny: Path, sums: Path, train_here: Run, tmp_path: Path, lora: dict[str, Any]
) -> None:
    first = train_here(learner(tiny, sums, lora=lora))
    run = newest(tmp_path)
    before, after = measured(first, "before"), measured(first, "after")
    assert before - after > 0.1
    config = json.loads((run / "adapter" / "adapter_config.json").read_text())
    assert config["r"] == (4 if lora["init"] == "gaussian" else 8)
    assert config["init_lora_weights"] is True
    second = train_here(learner(f"run:{run.name}", sums, training={"max_steps": 1}))
    assert measured(second, "before") == pytest.approx(after, abs=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("then", ["lora", "qlora"])
def test_embeddings_that_are_tied_stay_so_through_training_and_merging(
    train_here: Run, tmp_path: Path, then: str
) -> None:
    """The starter's output layer is its embeddings; for four bits it is merged file by file."""
    whole = {"modules_to_save": "embed_tokens"}
    first = train_here(learner("starter", Path("builtin:arithmetic"), lora=whole))
    run = newest(tmp_path)
    assert abs(measured(first, "before") - measured(first, "after")) > 0.02
    second = train_here(
        learner(f"run:{run.name}", Path("builtin:arithmetic"), model={"method": then},
                training={"max_steps": 1, "precision": "fp32" if then == "lora" else "auto"})
    )  # fmt: skip
    tolerance = 1e-3 if then == "lora" else 0.05
    assert measured(second, "before") == pytest.approx(measured(first, "after"), rel=tolerance)
    merged: Any = merge.merge(locate_run(run, tmp_path, print)).model
    ends = (merged.get_input_embeddings().weight, merged.get_output_embeddings().weight)
    assert torch.equal(*ends)


@pytest.mark.parametrize(
    ("stage", "lora"),
    [
        ("reward", {}),
        ("grpo", {"modules_to_save": "embed_tokens"}),
        ("distill", {"modules_to_save": "embed_tokens"}),
        pytest.param("sft", {"modules_to_save": "embed_tokens"}, marks=pytest.mark.slow),
        pytest.param("dpo", {"modules_to_save": "lm_head"}, marks=pytest.mark.slow),
    ],
)
def test_layers_in_32_bits_compute_beside_those_in_16(
    tiny: Path, sums: Path, train_here: Run, tmp_path: Path, stage: str, lora: dict[str, Any]
) -> None:
    """Layers that are trained whole have 32 bits, among others of 16: in the check of the loss, in
    sampling, in learning and in measuring."""
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("\n".join(map(json.dumps, PAIRS)))
    short = RL(group_size=4, max_completion_tokens=4)
    more: dict[str, Any] = {
        "grpo": {"rewards": [Format(pattern=".*")], "rl": short},
        "distill": {"distill": Distill(teacher=str(tiny)), "rl": short},
    }.get(stage, {})
    data = pairs if stage in ("reward", "dpo") else sums
    training = {"max_steps": 1, "precision": "bf16"}
    events = train_here(learner(tiny, data, stage=stage, lora=lora, training=training, **more))
    assert of(Failed, events) == []
    assert {one.when for one in of(Evaluated, events)} == {"before", "after"}


def test_a_start_that_was_kept_is_taken_out_again(tiny: Path, sums: Path, tmp_path: Path) -> None:
    def model() -> Any:
        return AutoModelForCausalLM.from_pretrained(tiny)

    ids = torch.tensor([[5, 6, 7, 8]])
    whole = model()(ids).logits
    begun: Any = with_adapter(model(), learner(tiny, sums, lora={"init": "pissa"}), print,
                              four_bit=False)  # fmt: skip
    keep_start(begun, tmp_path / "start")
    again: Any = with_adapter(model(), learner(tiny, sums), print, four_bit=False)
    take_out(again, tmp_path / "start")
    assert torch.allclose(begun(ids).logits, whole, atol=1e-5)
    for one in (begun, again):
        with one.disable_adapter():
            assert not torch.allclose(one(ids).logits, whole, atol=1e-2)
    theirs = dict(begun.named_parameters())
    for name, weight in again.named_parameters():
        assert torch.allclose(weight, theirs[name], atol=1e-6), name


def test_an_adapter_is_trained_further_and_stays_one(
    tiny: Path, sums: Path, train_here: Run, tmp_path: Path
) -> None:
    first = train_here(learner(tiny, sums))
    base = newest(tmp_path)
    goes_on = {"continue_adapter": True}
    second = train_here(learner(f"run:{base.name}", sums, model=goes_on, lora={"rank": 8}))
    run = newest(tmp_path)
    assert measured(second, "before") == pytest.approx(measured(first, "after"), abs=1e-4)
    assert measured(second, "after") < measured(second, "before")
    assert any("rank 4 and alpha 8" in note.text for note in of(Note, second))

    located = locate_run(run, tmp_path, print)
    assert located.adapters == (run / "adapter",)
    assert located.folder == tiny
    third = train_here(learner(f"run:{run.name}", sums, training={"max_steps": 1}))
    assert measured(third, "before") == pytest.approx(measured(second, "after"), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "how"),
    [("dpo", "continued"), ("dpo", "pissa"), ("kto", "continued"), ("dpo", "in 16 bits")],
)
def test_what_is_preferred_is_held_to_where_the_adapter_began(
    tiny: Path, sums: Path, train_here: Run, tmp_path: Path, stage: str, how: str
) -> None:
    base, more = str(tiny), {"lora": {"init": "pissa"}}
    precision = "bf16" if how == "in 16 bits" else "fp32"
    if how != "pissa":
        whole = {"modules_to_save": "embed_tokens"} if precision == "bf16" else {}
        train_here(learner(tiny, sums, lora=whole))
        base, more = f"run:{newest(tmp_path).name}", {"model": {"continue_adapter": True}}
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("\n".join(map(json.dumps, PAIRS)))
    training = {"max_steps": 2, "precision": precision}
    events = train_here(learner(base, pairs, stage=stage, training=training, **more))
    assert of(Failed, events) == []
    step = next(event for event in of(Metrics, events) if event.step == 1)
    assert step.values["reward_chosen"] == pytest.approx(0, abs=1e-4)
    assert step.values["loss"] == pytest.approx(0.6931 if stage == "dpo" else 0.5, abs=1e-3)
    assert not (newest(tmp_path) / "adapter" / "ref").exists()


def made(recipe: Recipe, tmp_path: Path) -> Any:
    """The trainer of a recipe, its optimizer set."""
    with opened(recipe, Path(tempfile.mkdtemp(dir=tmp_path))) as here:
        trainer: Any = _stage(recipe).build_trainer(here)
        set_optimizer(recipe, trainer)
        return trainer


def test_b_and_embeddings_have_rates_of_their_own(tiny: Path, sums: Path, tmp_path: Path) -> None:
    lora = {"plus_ratio": 16, "modules_to_save": "embed_tokens, lm_head"}
    rates = {"learning_rate": 1e-3, "embedding_learning_rate": 1e-4, "weight_decay": 0.1}
    trainer = made(learner(tiny, sums, lora=lora, training=rates), tmp_path)
    names = {id(weight): name for name, weight in trainer.model.named_parameters()}
    found = {names[id(weight)]: (group["lr"], group["weight_decay"])
             for group in trainer.optimizer.param_groups for weight in group["params"]}  # fmt: skip
    assert len(found) == sum(weight.requires_grad for weight in trainer.model.parameters())
    for name, (rate, decay) in found.items():
        kind = "lora_B" if "lora_B" in name else "lora_A" if "lora_A" in name else "whole"
        assert rate == pytest.approx({"lora_B": 16e-3, "lora_A": 1e-3, "whole": 1e-4}[kind]), name
        assert decay == 0.1
    assert sum("modules_to_save" in name for name in found) == 2
    trainer.create_scheduler(10)
    trainer.optimizer.step()
    assert {group["lr"] for group in trainer.optimizer.param_groups}  # the schedule knows each


def test_muon_turns_matrices_and_adamw_all_else(tiny: Path, sums: Path, tmp_path: Path) -> None:
    training = {"optimizer": "muon", "learning_rate": 1e-2, "weight_decay": 0.0}
    trainer = made(learner(tiny, sums, model={"method": "full"}, training=training), tmp_path)
    model, optimizer = trainer.model, trainer.optimizer
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    model(**batch_of(trainer)).loss.backward()
    kinds = {name: "momentum_buffer" for name, weight in model.named_parameters()
             if weight.ndim == 2 and "embed" not in name and "lm_head" not in name}  # fmt: skip
    optimizer.step()
    for name, weight in model.named_parameters():
        assert kinds.get(name, "exp_avg") in optimizer.state[weight], name
        step = (weight.detach() - before[name]).norm() / weight.numel() ** 0.5
        if name in kinds:  # at most 0.2 times the rate (Liu et al. 2025), AdamW's first is 1
            assert 0.05e-2 < step < 0.25e-2, name
    stored = copy.deepcopy(optimizer.state_dict())
    again = made(learner(tiny, sums, model={"method": "full"}, training=training), tmp_path)
    again.optimizer.load_state_dict(stored)
    again.model.load_state_dict(model.state_dict())
    for trained in (trainer, again):
        trained.model.zero_grad()
        trained.model(**batch_of(trainer)).loss.backward()
        trained.optimizer.step()
    for one, other in zip(model.parameters(), again.model.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def batch_of(trainer: Any) -> dict[str, torch.Tensor]:
    row = trainer.train_dataset[0]
    return {name: torch.tensor([row[name]]) for name in ("input_ids", "labels")}


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
@pytest.mark.parametrize("name", ["adamw_8bit", "paged_adamw_8bit"])
def test_eight_bits_hold_the_optimizers_state(
    tiny: Path, sums: Path, tmp_path: Path, name: str
) -> None:
    training = {"optimizer": name, "learning_rate": 1e-2}
    trainer = made(learner(tiny, sums, model={"method": "full"}, training=training), tmp_path)
    optimizer = trainer.create_optimizer()
    trainer.model(**batch_of(trainer)).loss.backward()
    optimizer.step()
    wide = trainer.model.model.layers[0].mlp.up_proj.weight
    assert optimizer.state[wide]["state1"].dtype == torch.uint8


@pytest.mark.parametrize(("then", "told"), [("adamw_8bit", 1), ("auto", 0)])
def test_a_run_may_go_on_with_another_optimizer(
    tiny: Path, sums: Path, tmp_path: Path, then: str, told: int
) -> None:
    first = made(learner(tiny, sums), tmp_path)
    optimizer = first.create_optimizer()
    first.model(**batch_of(first)).loss.backward()
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 3e-3
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")

    notes: list[str] = []
    recipe = learner(tiny, sums, training={"optimizer": then})
    second = made(recipe, tmp_path)
    settle_state(recipe, second, tmp_path, notes.append)
    assert len(notes) == told
    goes_on = second.create_optimizer()
    goes_on.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    assert goes_on.param_groups[0]["lr"] == 3e-3
    assert bool(goes_on.state) == (not told)
    second.model(**batch_of(second)).loss.backward()
    goes_on.step()


def test_embedding_noise_is_there_in_training_alone(tiny: Path, sums: Path, tmp_path: Path) -> None:
    losses = {}
    for alpha in (0.0, 50.0):
        training = {"max_steps": 1, "neftune_noise_alpha": alpha}
        trainer = made(learner(tiny, sums, training=training), tmp_path)
        before = trainer.evaluate()["eval_loss"]
        trainer.train()
        losses[alpha] = (
            before,
            next(one["loss"] for one in trainer.state.log_history if "loss" in one),
        )
    assert losses[0.0][0] == losses[50.0][0]
    assert abs(losses[0.0][1] - losses[50.0][1]) > 1e-3


def test_batches_hold_examples_of_like_length(tiny: Path, tmp_path: Path) -> None:
    data = tmp_path / "lengths.jsonl"
    rows = [{"prompt": "Say it.", "completion": "It is " * (1 + n % 16)} for n in range(64)]
    data.write_text("\n".join(map(json.dumps, rows)))
    spreads = {}
    for grouped in (True, False):
        trainer = made(learner(tiny, data, training={"group_by_length": grouped}), tmp_path)
        batches = [batch["attention_mask"].sum(1) for batch in trainer.get_train_dataloader()]
        spreads[grouped] = sum(int(of.max() - of.min()) for of in batches)
    assert spreads[True] < spreads[False] / 2


@pytest.mark.parametrize("stage", ["dpo", "simpo", "orpo", "reward"])
def test_pairs_are_grouped_by_the_longer_of_their_answers(
    tiny: Path, tmp_path: Path, stage: str
) -> None:
    data = tmp_path / "pairs.jsonl"
    rows = [{"prompt": "Say it.", "chosen": "It is " * (1 + n % 16), "rejected": "No."}
            for n in range(64)]  # fmt: skip
    data.write_text("\n".join(map(json.dumps, rows)))
    recipe = learner(tiny, data, stage=stage, training={"group_by_length": True})
    trainer = made(recipe, tmp_path)
    order = list(trainer._get_train_sampler())
    lengths = [trainer.train_dataset[at]["length"] for at in order]
    steps = [max(lengths[at : at + 4]) - min(lengths[at : at + 4]) for at in range(0, 56, 4)]
    assert sum(steps) / len(steps) < (max(lengths) - min(lengths)) / 4
    next(iter(trainer.get_train_dataloader()))


def test_attention_is_computed_as_asked_or_refused(tiny: Path, sums: Path, tmp_path: Path) -> None:
    eager = made(learner(tiny, sums, training={"attention": "eager"}), tmp_path)
    assert eager.model.config._attn_implementation == "eager"
    layer = eager.model.base_model.model.model.layers[0].self_attn
    assert layer.config._attn_implementation == "eager"
    flash = learner(tiny, sums, training={"attention": "flash_attention_2"})
    with pytest.raises(Refusal) as refused, opened(flash, tmp_path):
        pass
    assert "flash_attention_2" in refused.value.what


def test_examples_are_packed_as_asked(tiny: Path, sums: Path, tmp_path: Path) -> None:
    lengths = {}
    for strategy in ("bfd", "wrapped"):
        packing = {"packing": True, "packing_strategy": strategy, "max_length": 64}
        trainer = made(learner(tiny, sums, training=packing), tmp_path)
        lengths[strategy] = [len(ids) for ids in trainer.train_dataset["input_ids"]]
    assert set(lengths["wrapped"][:-1]) == {64}
    assert any(length < 64 for length in lengths["bfd"][:-1])
    assert sum(lengths["wrapped"]) == sum(lengths["bfd"])


def test_offloading_without_a_gpu_is_refused(tiny: Path, sums: Path, tmp_path: Path) -> None:
    recipe = learner(tiny, sums, training={"activation_offloading": True})
    with pytest.raises(Refusal, match="without a GPU"):
        made(recipe, tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_model_learns_the_same(
    tiny: Path, sums: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced as for the compiler, and run without it: that takes minutes on two cores."""

    def uncompiled(*asked: Any) -> dict[str, Any]:
        found = method_arguments(*asked)
        return found | ({"torch_compile_backend": "eager"} if found.get("torch_compile") else {})

    monkeypatch.setattr(context, "method_arguments", uncompiled)
    losses = []
    for on in (False, True):
        training = {"max_steps": 1, "torch_compile": on}
        torch._dynamo.utils.counters.clear()
        trainer = made(learner(tiny, sums, training=training), tmp_path)
        trainer.train()
        losses.append(next(one["loss"] for one in trainer.state.log_history if "loss" in one))
        assert (torch._dynamo.utils.counters["frames"]["ok"] > 0) == on
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_the_best_is_the_result_and_patience_ends_the_run(
    tiny: Path, sums: Path, train_here: Run
) -> None:
    """At such a rate, the loss falls once and then rises."""
    evaluation = {"every_steps": 1, "keep_best": True, "early_stopping_patience": 2,
                  "gate": Gate(metric="loss")}  # fmt: skip
    training = {"max_steps": 12, "learning_rate": 0.1, "scheduler": "constant"}
    events = train_here(learner(tiny, sums, evaluation=evaluation, training=training))
    found = {one.step: one.values["loss"] for one in of(Evaluated, events) if one.when == "during"}
    best = min(found, key=lambda step: found[step])
    last = max(found)
    assert last == best + 2 < 12
    assert measured(events, "after") == pytest.approx(found[best], abs=1e-4)
    assert found[last] > found[best] + 0.01
    told = " ".join(note.text for note in of(Note, events))
    assert "Training ends early: 2 measurements" in told
    assert f"The result is the model of step {best}" in told
    assert of(Finished, events)[0].summary == {"steps": last}


def test_a_measurement_that_is_taken_once_more_counts_once(tmp_path: Path) -> None:
    """A run that goes on from a checkpoint measures again what came after it."""
    recipe = Recipe(evaluation=Evaluation(early_stopping_patience=3, every_steps=10))

    def heard(*measured: tuple[int, float]) -> bool:
        best = Best(recipe, tmp_path, torch.nn.Linear(1, 1))
        for step, loss in measured:
            best.hear(step, {"eval_loss": loss})
        return best.exhausted

    assert not heard((10, 2.0), (20, 1.0), (30, 1.5), (40, 1.5))
    assert not heard((20, 1.0), (30, 1.5), (40, 1.5))
    assert heard((50, 1.5))
