"""The catalogue of what comes with the program and of what is on the hub, and names of datasets."""

from __future__ import annotations

import re
from importlib.metadata import distribution
from pathlib import Path

import pytest

from workers.data.reader import inspect
from workers.protocol.assets import builtin_datasets
from workers.protocol.catalogue import (
    builtin_sets,
    catalogued_licence,
    known_model,
    least_memory,
    read_catalogue,
    smallest_card,
    words_of,
)
from workers.protocol.recipe import Source
from workers.protocol.sources import ACCEPTED, KINDS, PATTERNS, kind_of_file, on_hub
from workers.protocol.stages import STAGES


def test_every_built_in_set_is_in_the_catalogue() -> None:
    assert [entry.name for entry in read_catalogue().builtin] == builtin_datasets()


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("test", [False, True])
def test_built_in_sets_are_offered_to_the_stages_that_the_worker_takes_them_for(
    stage: str, test: bool
) -> None:
    taken = [
        entry.name
        for entry in read_catalogue().builtin
        if entry.test is test and stage in inspect(f"builtin:{entry.name}").stages
    ]

    assert builtin_sets(stage, test=test) == taken


@pytest.mark.parametrize(
    ("stage", "names"),
    [
        ("kto", {"preferences", "feedback"}),
        ("sft", {"preferences", "feedback", "sums"}),
        ("distill", {"preferences", "feedback", "sums"}),
        ("cpt", {"stories"}),
    ],
)
def test_pairs_and_labels_serve_more_than_one_stage(stage: str, names: set[str]) -> None:
    assert names <= set(builtin_sets(stage))


def test_a_licence_is_known_by_name() -> None:
    assert catalogued_licence(Source(source="builtin:sums")) == "Apache-2.0"
    assert catalogued_licence(Source(source="meta-math/MetaMathQA")) == "MIT"
    assert catalogued_licence(Source(source="/data/mine.jsonl")) == ""


FAMILIES = """
qwen2 qwen3 qwen3_5 qwen3_moe gemma3 gemma4 mistral mistral3 gpt_oss granite granitemoehybrid lfm2
lfm2_moe olmo2 olmo3 smollm3 llama phi3 nemotron_h apertus falcon_h1
"""


def test_the_catalogue_reaches_from_laptops_to_24_gb_over_all_families() -> None:
    models = read_catalogue().models
    assert {entry.model_type for entry in models}.issuperset(FAMILIES.split())
    assert len({entry.id for entry in models}) == len(models)
    by_card = {smallest_card(least_memory(entry).qlora) for entry in models}
    assert by_card == {8, 12, 24, None}
    for kind, thinking in (("base", {""}), ("thinking", {"always"})):
        assert {entry.thinking for entry in models if entry.kind == kind} == thinking


def test_transformers_knows_every_family_of_the_catalogue() -> None:
    folder = Path(str(distribution("transformers").locate_file("transformers/models")))
    texts = (path.read_text("utf-8") for path in folder.glob("*/configuration_*.py"))
    known = {name for text in texts for name in re.findall(r'model_type = "(\w+)"', text)}
    assert {entry.model_type for entry in read_catalogue().models} <= known


@pytest.mark.parametrize(
    ("model", "memory", "cards"),
    [
        ("Qwen/Qwen3.5-0.8B", (3.5, 8), (8, 8)),
        ("Qwen/Qwen3-14B", (9.3, 34.8), (12, None)),
        ("Qwen/Qwen3.8-27B", (22.6, 65.9), (24, None)),
        ("openai/gpt-oss-20b", (49.4, 49.4), (None, None)),
    ],
)
def test_least_memory_lies_between_the_published_figures(
    model: str, memory: tuple[float, float], cards: tuple[int | None, int | None]
) -> None:
    entry = known_model(model)
    assert entry is not None
    assert least_memory(entry) == pytest.approx(memory, abs=0.1)
    assert tuple(map(smallest_card, least_memory(entry))) == cards


def test_a_model_is_told_in_a_line() -> None:
    entry = known_model("Qwen/Qwen3-8B")
    assert entry is not None
    assert words_of(entry, least_memory(entry)) == (
        "8.19 billion parameters, 40,960 tokens of context, thinking on or off, takes tools, "
        "Apache-2.0, QLoRA from 8 GB and LoRA from 24 GB."
    )
    assert known_model("somebody/else") is None


def test_datasets_for_tools_thinking_and_preferences_are_there() -> None:
    topics = {topic for entry in read_catalogue().datasets for topic in entry.topics}
    assert topics == {"chat", "math", "preferences", "thinking", "tools"}


@pytest.mark.parametrize(
    ("source", "there"),
    [
        ("org/name", True),
        ("org/name:train", True),
        ("org/name:main:train", True),
        ("builtin:sums", False),
        ("folder/rows.jsonl", False),
        ("folder/rows.csv.gz", False),
        ("/data/rows", False),
        ("rows", False),
    ],
)
def test_a_name_on_the_hub_is_told_from_a_file(source: str, there: bool) -> None:
    assert on_hub(source) is there


def test_what_lies_on_this_disk_is_not_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    assert not on_hub("org/name")


def test_files_are_known_by_their_endings() -> None:
    assert kind_of_file(Path("rows.JSONL.gz")) == "json"
    assert kind_of_file(Path("rows.tsv")) == "csv"
    assert kind_of_file(Path("rows.gz")) is None
    assert all(f"*{ending}" in PATTERNS and ending in ACCEPTED for ending in KINDS)
