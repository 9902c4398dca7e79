"""Planning a recipe's memory: models found on this disk, cards as people write them, the verb."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from studio.planning import (
    find_geometry,
    gpu_bytes,
    hub_folders,
    hungriest,
    least_for,
    plan_fields,
    plan_pipeline,
    plan_recipe,
    summary,
)
from workers.estimate import GIB, known_config, known_geometry, plan
from workers.protocol.assets import assets_folder
from workers.protocol.catalogue import CARDS_GB, least_memory, read_catalogue
from workers.protocol.pipeline import parse_pipeline, read_pipeline
from workers.protocol.recipe import Recipe
from workers.protocol.refusal import Refusal

RECIPE = """
name = "{name}"
stage = "{stage}"
[model]
base = "{base}"
[[data]]
source = "somebody/rows"
"""


def recipe(base: str, stage: str = "sft", name: str = "a") -> str:
    return RECIPE.format(base=base, stage=stage, name=name)


def itself(base: str) -> str:
    return base


@pytest.mark.parametrize("text", ["12", "12GB", "12 gb", "12GiB", "12G", "12.0 GB"])
def test_a_card_is_written_as_people_write_it(text: str) -> None:
    assert gpu_bytes(text) == 12 * GIB


@pytest.mark.parametrize("text", ["", "big", "-1", "0", "12TB", "RTX 4090"])
def test_what_is_no_size_of_a_card_is_refused(text: str) -> None:
    with pytest.raises(Refusal, match="no size of a card"):
        gpu_bytes(text)


def write_config(folder: Path, model: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(known_config(model)))
    return folder


def test_a_folder_is_counted_by_its_config(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "model", "Qwen/Qwen3-1.7B")
    assert find_geometry(str(folder), itself) == known_geometry("Qwen/Qwen3-1.7B")


def test_what_was_fetched_before_is_counted_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert find_geometry("somebody/tuned", itself) is None
    write_config(tmp_path / "models--somebody--tuned" / "snapshots" / "abc", "Qwen/Qwen3-4B")
    assert find_geometry("somebody/tuned", itself) == known_geometry("Qwen/Qwen3-4B")


def test_a_run_is_as_large_as_the_model_that_it_began_with() -> None:
    roots = {"run:first": "Qwen/Qwen3-4B"}
    assert find_geometry("run:first", lambda base: roots[base]) == known_geometry("Qwen/Qwen3-4B")


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"HF_HUB_CACHE": "{}"}, ""),
        ({"HF_HOME": "{}"}, "hub"),
        ({"XDG_CACHE_HOME": "{}"}, "huggingface/hub"),
    ],
)
def test_the_hubs_cache_is_where_its_environment_says(
    tmp_path: Path, environment: dict[str, str], folder: str
) -> None:
    snapshot = tmp_path / folder / "models--a--b" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    told = {name: value.format(tmp_path) for name, value in environment.items()}
    assert hub_folders("a/b", told) == [snapshot]


def test_every_stage_of_a_pipeline_is_planned_and_the_hungriest_told() -> None:
    first, then = recipe("Qwen/Qwen3-1.7B", name="first"), recipe("previous", "dpo", "then")
    stages = [f"[[stages]]{one}" for one in (first, then)]
    text = 'name = "both"\n' + "\n".join(stages).replace("[model]", "[stages.model]").replace(
        "[[data]]", "[[stages.data]]"
    )
    plans = plan_pipeline(parse_pipeline(text), itself, 12 * GIB)
    assert [one.stage for one in plans] == ["sft", "dpo"]
    fields = plan_fields(plans)
    assert fields["high_bytes"] == max(one.high_bytes for one in plans)
    assert len(fields["stages"]) == 2


def test_a_model_that_nobody_knows_is_refused_with_what_to_do() -> None:
    with pytest.raises(Refusal, match="is not known") as refused:
        plan_pipeline(parse_pipeline(recipe("somebody/new-7B")), itself, None)
    assert "Fetch it first" in refused.value.remedy


def test_a_model_that_nobody_knows_is_simulated_where_that_can_be_asked_for() -> None:
    asked: list[str] = []

    def simulate(given: Recipe) -> dict[str, int]:
        asked.append(given.model.base)
        return {"weights": 4 * GIB, "activations": GIB}

    pipeline = parse_pipeline(recipe("somebody/new-7B"))
    (made,) = plan_pipeline(pipeline, itself, 12 * GIB, simulate)
    assert asked == ["somebody/new-7B"]
    assert made.simulated
    assert made.fits
    assert made.parts["weights"] == 4 * GIB
    assert made.cards == [8, 12, 16, 24]


@pytest.mark.slow
@pytest.mark.torch
def test_the_verb_simulates_a_family_that_no_arithmetic_knows(tmp_path: Path, capsys: Any) -> None:
    from studio.cli import main

    folder = write_config(tmp_path / "model", "swiss-ai/Apertus-8B-2509")
    path = tmp_path / "recipe.toml"
    path.write_text(recipe(str(folder)))
    asked = ["plan", str(path), "--gpu", "24GB", "--json", "--home", str(tmp_path / "home")]
    assert main(asked) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["simulated"] is True
    assert told["parts"]["weights"] == pytest.approx(2 * 8.053e9, rel=0.01)


def words(card: int | None, name: str = "") -> str:
    sizes = known_geometry("Qwen/Qwen3-4B")
    assert sizes is not None
    made = plan(parse_pipeline(recipe("Qwen/Qwen3-4B")).stages[0], sizes, card and card * GIB)
    return summary(made, name)


def test_a_plan_is_told_in_a_sentence() -> None:
    assert words(12, "an RTX 4070").startswith("Fits: needs ")
    assert "of the 12.0 GB of an RTX 4070; micro-batch" in words(12, "an RTX 4070")
    assert words(8).startswith("Does not fit: needs ")
    assert "and the card has 8.0 GB" in words(8)
    assert words(None).endswith("It fits cards of 12 GB and more.")


def test_the_verb_gives_one_object(tmp_path: Path, capsys: Any) -> None:
    from studio.cli import main

    path = tmp_path / "recipe.toml"
    path.write_text(recipe("Qwen/Qwen3-8B"))
    asked = ["plan", str(path), "--gpu", "8GB", "--json", "--home", str(tmp_path / "home")]
    assert main(asked) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"parts", "low_bytes", "high_bytes", "fits", "suggestions"} <= set(told)
    assert told["fits"] is False
    assert told["suggestions"][0]["changes"]
    assert told["low_bytes"] < sum(told["parts"].values()) < told["high_bytes"]


def test_the_verb_shows_parts_and_a_sentence(tmp_path: Path, capsys: Any) -> None:
    from studio.cli import main

    path = tmp_path / "recipe.toml"
    path.write_text(recipe("Qwen/Qwen3-4B"))
    assert main(["plan", str(path), "--gpu", "12GB", "--home", str(tmp_path / "home")]) == 0
    shown = capsys.readouterr()
    assert "Weights" in shown.out
    assert "Fits: needs" in shown.err


RECIPES = sorted((assets_folder() / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_needs_what_it_says(path: Path) -> None:
    """Those that run without a GPU train the model that comes with the program alone."""
    pipeline = read_pipeline(path)
    plans = plan_pipeline(pipeline, itself, None)
    if not pipeline.gpu_memory_gb:
        roots = {one.model.base for one in pipeline.stages if ":" not in one.model.base}
        assert roots <= {"starter", "previous"}
        return
    most = hungriest(plans)
    assert pipeline.gpu_memory_gb == math.ceil(most.high_bytes / GIB * 10) / 10
    assert "studio plan" in pipeline.memory_source
    assert f"Fits a {most.cards[0]} GB card." in pipeline.summary
    assert all(plan.fits for plan in plan_pipeline(pipeline, itself, most.cards[0] * GIB))


def test_the_catalogue_says_of_a_card_what_the_plan_says() -> None:
    """Of every model whose sizes are known: what is said to fit is planned to fit, and else not."""
    known = [one for one in read_catalogue().models if known_geometry(one.id)][::6]
    assert len(known) > 10
    for entry in known:
        for method, least in zip(("qlora", "lora"), least_for(entry), strict=True):
            asked = recipe(entry.id).replace(f'"{entry.id}"', f'"{entry.id}"\nmethod = "{method}"')
            made = plan_recipe(parse_pipeline(asked).stages[0], itself, None)
            cards = [card for card in CARDS_GB if least <= card]
            assert made.cards == cards, (entry.id, method)
    unknown = msgspec.structs.replace(known[0], id="somebody/else")
    assert least_for(unknown) == least_memory(unknown)
