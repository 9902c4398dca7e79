"""The catalogue of what comes with the program and of what is on the hub, and names of datasets."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.data.reader import inspect
from workers.protocol.assets import builtin_datasets
from workers.protocol.catalogue import (
    builtin_sets,
    catalogued_licence,
    read_catalogue,
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
