"""Configs of other programs become recipes, and every key of theirs is accounted for."""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from studio.importing import Imported, Unfit, import_config, reading, write_recipe
from studio.importing.account import leaves
from studio.importing.axolotl import TEMPLATES as AXOLOTL_TEMPLATES
from studio.importing.llama_factory import TEMPLATES as FACTORY_TEMPLATES
from studio.importing.yaml_file import MOST_BYTES, YamlFile, read_yaml
from tests.studio import configs
from workers.protocol.pipeline import read_pipeline
from workers.protocol.refusal import Refusal
from workers.protocol.rewards import Format, MathAnswer, RewardModel
from workers.protocol.templates import template_fault

CONFIGS = {name: text for name, text in vars(configs).items() if name.isupper()}
BESIDE = {"DATASET_INFO", "NEW_DATASETS"}
Read = Callable[..., Imported]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Imports one of the configs by its name, or a text, with its data beside it."""
    for file in ("talks.jsonl", "held-out.jsonl", "rows.jsonl"):
        (tmp_path / file).write_text("{}")
    for folder in ("data", "rows"):
        (tmp_path / folder).mkdir()
    (tmp_path / "data" / "dataset_info.json").write_text(configs.DATASET_INFO)
    (tmp_path / "new_demo.yaml").write_text(configs.NEW_DATASETS)

    def imported(text: str, name: str = "mine.yaml", data: str = "", model: str = "") -> Imported:
        path = tmp_path / name
        path.write_text(CONFIGS.get(text, text))
        return import_config(path, data=data, model=model)

    return imported


def value(imported: Imported, path: str) -> Any:
    table, _, key = path.rpartition(".")
    return getattr(getattr(imported.recipe, table) if table else imported.recipe, key)


def is_below(path: str, key: str) -> bool:
    return path == key or path.startswith((f"{key}.", f"{key}["))


def keys(imported: Imported, *fates: Any) -> set[str]:
    return {item.key for fate in fates for item in imported.of(fate)}


@pytest.mark.parametrize("name", sorted(CONFIGS.keys() - BESIDE))
def test_every_key_is_told_once_and_the_recipe_is_read_back(
    name: str, read: Read, tmp_path: Path
) -> None:
    imported = read(name, data="builtin:arithmetic" if name == "UNSLOTH_SETTINGS" else "")
    imported.check()
    fields = imported.fields()
    told = [*fields["carried"], *fields["changed"], *fields["unknown"]]
    assert len(told) == len(set(told))
    given = [path for path, _ in leaves(read_yaml(tmp_path / "mine.yaml").tables)]
    sections = ("data.", "training.", "lora.", "logging.")
    for path in set(given) - {"model_name"}:
        places = (path, *(f"{section}{path}" for section in sections))
        assert any(is_below(place, key) for place in places for key in told), path
    written = write_recipe(imported, tmp_path / "mine.toml")
    assert read_pipeline(written).stages == [imported.recipe]
    assert "very-secret" not in written.read_text()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "AXOLOTL_QLORA",
            {
                "stage": "sft", "model.base": "acme/small-8b", "model.method": "qlora",
                "model.template": "alpaca", "lora.rank": 32, "lora.alpha": 16,
                "lora.targets": "all-linear", "training.epochs": 3.0, "training.max_steps": 0,
                "training.learning_rate": 2e-4, "training.batch_size": 2,
                "training.gradient_accumulation": 4, "training.max_length": 4096,
                "training.packing": True, "training.warmup_ratio": 0.1,
                "training.too_long": "drop", "training.seed": 42, "evaluation.holdout": 0.05,
                "training.gradient_checkpointing": True, "training.assistant_only_loss": True,
            },
        ),
        (
            "AXOLOTL_CHAT",
            {
                "stage": "sft", "model.method": "full", "model.template": "trl:qwen3",
                "model.thinking": "off", "training.max_steps": 200, "training.seed": 7,
                "training.warmup_ratio": 0.05, "training.scheduler": "constant",
                "training.precision": "bf16", "training.too_long": "cut",
                "training.assistant_only_loss": False, "evaluation.every_steps": 50,
                "training.save_every_steps": 50, "evaluation.holdout": 0.0,
            },
        ),
        (
            "AXOLOTL_DPO",
            {
                "stage": "dpo", "preference.beta": 0.2, "preference.loss": "apo_zero",
                "model.method": "dora", "model.template": "chatml", "lora.targets": "all-linear",
                "training.warmup_ratio": 0.03,
            },
        ),
        (
            "AXOLOTL_KTO",
            {
                "stage": "kto", "model.base": "unsloth/small-1b", "model.method": "qlora",
                "model.template": "llama-3", "preference.beta": 0.5, "training.batch_size": 2,
                "training.gradient_accumulation": 4,
            },
        ),
        ("AXOLOTL_ORPO", {"stage": "orpo", "preference.beta": 0.1, "model.template": "chatml",
                           "lora.experts": "on"}),
        (
            "AXOLOTL_GRPO",
            {
                "stage": "grpo", "rl.group_size": 4, "rl.max_completion_tokens": 512,
                "rl.kl_coefficient": 0.001, "rl.clip_epsilon_high": 0.28,
                "rl.algorithm": "dr_grpo", "rl.scale_rewards": "none", "rl.temperature": 0.9,
                "training.batch_size": 3, "training.gradient_accumulation": 4,
            },
        ),
        (
            "AXOLOTL_REWARD",
            {
                "stage": "reward", "model.method": "lora", "model.template": "auto",
                "preference.center_rewards_coefficient": 0.01,
            },
        ),
        (
            "AXOLOTL_PRETRAIN",
            {"stage": "cpt", "model.method": "full", "training.max_steps": 1000,
             "training.packing": True},
        ),
        ("AXOLOTL_OWN_COLUMNS", {"stage": "sft", "model.method": "lora"}),
        (
            "FACTORY_SFT",
            {
                "stage": "sft", "model.method": "lora", "model.template": "auto",
                "model.thinking": "auto", "lora.rank": 8, "lora.alpha": 16,
                "lora.targets": "all-linear", "training.epochs": 3.0, "training.batch_size": 1,
                "training.gradient_accumulation": 8, "training.save_every_steps": 500,
                "training.gradient_checkpointing": True, "training.too_long": "cut",
                "evaluation.holdout": 0.1, "evaluation.every_steps": 500,
            },
        ),
        (
            "FACTORY_DPO",
            {
                "stage": "orpo", "model.method": "qlora", "model.template": "llama-3",
                "lora.targets": "q_proj,v_proj", "preference.beta": 0.2,
                "training.max_steps": 100, "training.warmup_ratio": 0.1,
                "training.scheduler": "linear",
            },
        ),
        (
            "FACTORY_KTO",
            {"stage": "kto", "model.method": "lora", "training.batch_size": 2,
             "training.gradient_accumulation": 4, "training.epochs": 3.0,
             "training.learning_rate": 5e-5},
        ),
        (
            "FACTORY_PRETRAIN",
            {"stage": "cpt", "model.method": "full", "training.packing": True,
             "training.batch_size": 8},
        ),
        (
            "FACTORY_PPO",
            {"stage": "rlhf", "rl.algorithm": "ppo", "rl.num_iterations": 2,
             "rl.max_completion_tokens": 128, "model.thinking": "on"},
        ),
        (
            "FACTORY_NEW",
            {"stage": "dpo", "model.method": "qlora", "lora.rank": 16,
             "training.gradient_accumulation": 8, "training.warmup_ratio": 0.0},
        ),
        (
            "UNSLOTH_LORA",
            {"stage": "sft", "model.method": "qlora", "lora.targets": "q_proj,k_proj",
             "lora.rank": 64, "training.assistant_only_loss": False, "training.seed": 3407,
             "training.gradient_checkpointing": True, "training.save_every_steps": 0,
             "evaluation.holdout": 0.0},
        ),
        (
            "UNSLOTH_FULL",
            {"stage": "cpt", "model.method": "full", "training.epochs": 2.0,
             "training.gradient_checkpointing": False, "training.learning_rate": 2e-5,
             "training.gradient_accumulation": 4},
        ),
        (
            "UNSLOTH_REQUEST",
            {"stage": "cpt", "model.base": "unsloth/small-8b", "model.method": "dora",
             "training.learning_rate": 1e-4, "lora.targets": "all-linear",
             "lora.rank": 16, "training.gradient_accumulation": 1},
        ),
    ],
)  # fmt: skip
def test_what_is_carried_over(name: str, expected: dict[str, Any], read: Read) -> None:
    imported = read(name)
    assert {path: value(imported, path) for path in expected} == expected


def test_data_is_named_with_its_part_and_its_columns(read: Read, tmp_path: Path) -> None:
    def data(name: str) -> list[tuple[str, int, dict[str, str]]]:
        return [(one.source, one.limit, dict(one.mapping)) for one in read(name).recipe.data]

    assert data("AXOLOTL_QLORA") == [
        ("acme/instructions:train", 500, {}), ("acme/more:clean:train", 0, {}),
    ]  # fmt: skip
    here = str(tmp_path)
    assert data("AXOLOTL_CHAT") == [
        (f"{here}/talks.jsonl", 0, {"dialogue": "messages", "functions": "tools"})
    ]
    assert read("AXOLOTL_CHAT").recipe.evaluation.test == f"{here}/held-out.jsonl"
    assert data("AXOLOTL_PRETRAIN") == [("acme/web:sample:train", 0, {"body": "text"})]
    assert data("AXOLOTL_OWN_COLUMNS") == [
        (f"{here}/rows/rows.csv", 0, {"question_text": "prompt", "reply": "completion"})
    ]
    assert data("FACTORY_SFT") == [
        (f"{here}/data/greetings.json", 1000, {}), (f"{here}/data/tools.json", 1000, {}),
    ]  # fmt: skip
    assert data("FACTORY_DPO") == [("acme/pairs:en:train_prefs", 0, {})]
    assert data("FACTORY_KTO") == [
        (f"{here}/data/thumbs.json", 0, {"dialogue": "messages", "label": "label"})
    ]
    assert data("FACTORY_NEW") == [("acme/pairs:train_prefs", 300, {})]
    assert data("UNSLOTH_FULL") == [(f"{here}/rows.jsonl", 0, {})]
    assert data("UNSLOTH_REQUEST") == [("acme/web:en:train", 1000, {})]


def changed(imported: Imported) -> dict[str, str]:
    return {item.key: item.words for item in imported.of("changed")}


def test_what_is_not_the_same_is_told_and_why(read: Read) -> None:
    imported = read("AXOLOTL_QLORA")
    assert keys(imported, "unknown") == {"frobnicate"}
    assert {"flash_attention", "wandb_project", "output_dir"} <= keys(imported, "needless")
    assert "one GPU" in changed(imported)["deepspeed"]
    assert imported.pipeline.stages[0].training.optimizer == "paged_adamw_8bit"
    assert "data.weight" in changed(imported)["datasets"]
    assert "2 × 4" in changed(read("AXOLOTL_KTO"))["micro_batch_size"]
    assert "4-bit" in changed(read("AXOLOTL_REWARD"))["load_in_4bit"]
    fields = imported.fields()
    assert set(fields["changed"]) == keys(imported, "changed", "needless")
    assert fields["unknown"] == ["frobnicate"]
    assert "learning_rate" in fields["carried"]


def test_rewards_that_are_known_are_carried_and_others_are_asked_for(read: Read) -> None:
    assert read("AXOLOTL_GRPO").recipe.rewards == [
        MathAnswer(boxed_only=False),
        Format(weight=0.5, pattern=r"<think>(?!.*<think>).*</think>.*"),
        RewardModel(weight=0.25, model="acme/reward-model"),
    ]
    assert read("FACTORY_PPO").recipe.rewards == [RewardModel(model="acme/reward-model")]
    imported = read(configs.AXOLOTL_GRPO.replace("trl.rewards.accuracy_reward", "mine.reward"))
    with pytest.raises(Unfit, match=r"mine\.reward"):
        imported.check()
    assert imported.recipe.rl.group_size == 4


def test_settings_without_data_name_their_model_and_take_data(read: Read) -> None:
    imported = read("UNSLOTH_SETTINGS")
    assert imported.recipe.model.base == "unsloth/Small-0.6B"
    with pytest.raises(Unfit, match="no dataset"):
        imported.check()
    made = read("UNSLOTH_SETTINGS", data="acme/rows:train", model="run:earlier")
    made.check()
    assert (made.recipe.model.base, made.recipe.data[0].source) == (
        "run:earlier", "acme/rows:train",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "kind", "match"),
    [
        ("AXOLOTL_ORPO+processor_type: AutoProcessor", "not text", "pictures"),
        ("AXOLOTL_ORPO+base_model: acme/small-vl-2b", "not text", "pictures"),
        ("AXOLOTL_ORPO+rl: ebft", "method", "energy-based"),
        ("AXOLOTL_ORPO+process_reward_model: true", "method", "single steps"),
        ("AXOLOTL_ORPO+learning_rate: fast", "value", "not a number"),
        ("AXOLOTL_ORPO+base_model: acme/small-GPTQ", "quantised base", "quantised"),
        ("AXOLOTL_ORPO+datasets: [{path: acme/a, type: mine.transform}]", "data", "Python"),
        ("AXOLOTL_ORPO+datasets: [{path: acme/a}]", "data", "no type"),
        ("AXOLOTL_QLORA+datasets: [{path: a/b, type: completion}, {path: a/c, type: alpaca}]",
         "data", "mixes"),
        ("FACTORY_SFT+dataset: seen_demo", "not text", "seen_demo"),
        ("FACTORY_SFT+template: qwen2_vl", "not text", "qwen2_vl"),
        ("FACTORY_SFT+dataset: elsewhere", "data", "elsewhere"),
        ("FACTORY_SFT+mixture_of_depths: convert", "method", "layers"),
        ("model_name_or_path: a/b\nexport_dir: out", "not training", "exports"),
        ("compute_environment: LOCAL_MACHINE", "not training", "Accelerate"),
        ("UNSLOTH_LORA+audio_type: snac", "not text", "sound"),
        ("name: something\nsteps: 3", "not training", "no program|known"),
    ],
)  # fmt: skip
def test_why_there_is_no_recipe(text: str, kind: str, match: str, read: Read) -> None:
    name, plus, more = text.partition("+")
    whole = f"{CONFIGS[name]}\n{more}\n" if plus else text
    with pytest.raises(Unfit, match=match) as refused:
        read(whole).check()
    assert refused.value.kind == kind
    assert refused.value.remedy


def test_a_key_that_stands_twice_is_told(read: Read) -> None:
    imported = read(f"{configs.AXOLOTL_ORPO}\nsequence_len: 2048\n")
    assert imported.recipe.training.max_length == 2048
    assert any("twice" in item.why for item in imported.of("changed"))


def test_names_of_templates_are_there() -> None:
    known = {*AXOLOTL_TEMPLATES.values(), *FACTORY_TEMPLATES.values()}
    assert {name: fault for name in known if (fault := template_fault(name))} == {}


def _bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        "base_model: !!python/object/apply:os.system ['true']",
        "base_model: !!python/name:os.system",
        _bomb(9),
        "a: &a [*a]",
        "x: &x {k: 1}\n" + "\n".join(
            f"y{n}: &y{n} {{<<: [{', '.join(['*x' if n == 0 else f'*y{n - 1}'] * 30)}]}}"
            for n in range(6)
        ),
        "a: " + "[" * 5000,
        "a:\n" + "\n".join(" " * n + "- " for n in range(1, 400)),
        "? [1, 2]\n: 3",
        "1: one",
        "a: {2: two}",
        "- one\n- two",
        "just words",
        "",
        "a: *nothing",
        "a: [1",
        "a: 2024-99-99",
        "a: " + "9" * 5000,
        "base_model: a/b\n---\nbase_model: c/d",
        "#" * (MOST_BYTES + 1),
    ],
    ids=range(19),
)  # fmt: skip
def test_hostile_files_are_refused_in_words(text: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile.yaml"
    path.write_text(text)
    with pytest.raises(Refusal) as refused:
        import_config(path)
    assert refused.value.what
    assert refused.value.remedy


@pytest.mark.parametrize("raw", [b"\xff\xfe\x00", b"base_model: \x00"])
def test_what_is_no_text_is_refused(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "hostile.yaml"
    path.write_bytes(raw)
    with pytest.raises(Refusal):
        import_config(path)


@pytest.mark.parametrize(
    "name",
    [
        "AXOLOTL_GRPO",
        *(
            pytest.param(one, marks=pytest.mark.slow)
            for one in sorted(CONFIGS.keys() - BESIDE - {"AXOLOTL_GRPO"})
        ),
    ],
)
def test_values_of_any_kind_are_taken_or_refused_in_words(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = yaml.safe_load(CONFIGS[name])
    path = tmp_path / "mine.yaml"
    path.write_text("")
    for place, odd in itertools.product(places(whole), ODD):
        changed = copy.deepcopy(whole)
        *way, last = place
        table = functools.reduce(lambda at, key: at[key], way, changed)
        table[last] = copy.deepcopy(odd)
        monkeypatch.setattr(reading, "read_yaml", lambda _, at=changed: YamlFile(at, []))
        with contextlib.suppress(Refusal):
            imported = import_config(path)
            assert imported.text
            assert all(item.words for item in imported.items)
            imported.check()


ODD = (0, "x" * 5000, [{"a": [1]}], {"name": ["x"]}, "~nobody/x", "\x00")


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value of a config, tables and lists among them."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*way, key)
            yield from places(inner, (*way, key))


def test_a_key_cannot_write_into_the_recipe(read: Read, tmp_path: Path) -> None:
    """Keys and values stand in comments; a line break in one must not end the comment."""
    hostile = '"x\\n[[rewards]]\\nkind = \\"python\\"\\ncode = \\"1\\"": 1'
    imported = read(f"{configs.AXOLOTL_ORPO}\n{hostile}\n")
    written = write_recipe(imported, tmp_path / "mine.toml")
    assert read_pipeline(written).stages == [imported.recipe]
    assert imported.recipe.rewards == []


def test_what_is_there_is_not_written_over_unasked(read: Read, tmp_path: Path) -> None:
    imported = read("AXOLOTL_ORPO")
    assert write_recipe(imported, None) == tmp_path / "mine.toml"
    with pytest.raises(Refusal, match="already"):
        write_recipe(imported, None)
    with pytest.raises(Refusal, match="could not be written"):
        write_recipe(imported, tmp_path / "no folder" / "mine.toml")


def test_methods_are_taken_over_where_the_stage_has_them(read: Read) -> None:
    more = """
peft_use_rslora: true
loraplus_lr_ratio: 16
lora_modules_to_save: [embed_tokens, lm_head]
embedding_lr: 1e-5
neftune_noise_alpha: 5
save_total_limit: 3
early_stopping_patience: 2
load_best_model_at_end: true
eval_steps: 50
val_set_size: 0.05
"""
    base = configs.AXOLOTL_QLORA
    recipe = read(base + more).pipeline.stages[0]
    assert (recipe.lora.rslora, recipe.lora.plus_ratio) == (True, 16)
    assert recipe.lora.modules_to_save == "embed_tokens, lm_head"
    assert recipe.training.embedding_learning_rate == 1e-5
    assert recipe.training.neftune_noise_alpha == 5
    assert recipe.training.save_total_limit == 3
    assert recipe.evaluation.early_stopping_patience == 2
    assert recipe.evaluation.keep_best
    started = read(base + "peft_init_lora_weights: pissa\n")
    assert started.pipeline.stages[0].lora.init == "default"  # over four bits
    assert "16-bit weights" in changed(started)["peft_init_lora_weights"]
    other = read(base + "rl: dpo\nneftune_noise_alpha: 5\n")
    assert "fine-tuning alone" in changed(other)["neftune_noise_alpha"]
