"""A recipe reads, writes, and refuses with the key's path and what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.protocol.options import options_of
from workers.protocol.recipe import (
    Recipe,
    Training,
    format_recipe,
    parse_recipe,
    read_recipe,
    sections,
)
from workers.protocol.refusal import Refusal

GOOD = 'name = "x"\n[[data]]\nsource = "builtin:arithmetic"\n'


def test_what_is_written_reads_back_equal() -> None:
    recipe = parse_recipe(GOOD + "[training]\nlearning_rate = 3e-4\nseed = 7\n")
    assert parse_recipe(format_recipe(recipe)) == recipe
    assert recipe.training.learning_rate == 3e-4


@pytest.mark.parametrize(
    ("text", "path", "advice"),
    [
        ('naem = "x"\n', "naem", "Did you mean 'name'?"),
        (GOOD + "[training]\nlearning_rte = 1\n", "training.learning_rte", "learning_rate"),
        (GOOD + '[training]\nlearning_rate = "fast"\n', "training.learning_rate", "default"),
        (GOOD + "[training]\nbatch_size = 0\n", "training.batch_size", "Batch size"),
        (GOOD + '[model]\nmethod = "magic"\n', "model.method", "LoRA"),
        ('[[data]]\nsorce = "a"\n', "data[0].sorce", "source"),
        ('stage = "magic"\n' + GOOD, "stage", "sft"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_path(text: str, path: str, advice: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_recipe(text, "r.toml")
    assert path in caught.value.what
    assert "r.toml" in caught.value.what
    assert advice in caught.value.remedy + caught.value.cause


def test_impossible_combinations_are_refused() -> None:
    for text in (
        'name = "x"\n',
        GOOD + '[model]\nmethod = "qlora"\n[training]\nprecision = "fp32"\n',
        'name = " "\n[[data]]\nsource = "a"\n',
    ):
        with pytest.raises(Refusal):
            parse_recipe(text)


def test_a_missing_or_broken_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="There is no recipe"):
        read_recipe(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("name = ")
    with pytest.raises(Refusal, match="not valid TOML"):
        read_recipe(broken)
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'name = "caf\xe9"')
    with pytest.raises(Refusal, match="UTF-8"):
        read_recipe(latin)


def test_every_option_is_declared_with_label_help_and_default() -> None:
    for path, section in sections().items():
        declared = {option.key: option for option in options_of(section)}
        for option in declared.values():
            assert option.label, path
            assert option.help.endswith("."), option
        if section is Training:
            assert declared["learning_rate"].default == 1e-4
            assert declared["batch_size"].minimum == 1
            assert declared["scheduler"].choices == ("cosine", "linear", "constant")


def test_the_recipes_that_come_along_are_valid() -> None:
    from workers.protocol.assets import assets_folder

    paths = list((assets_folder() / "recipes").glob("*.toml"))
    assert paths
    for path in paths:
        assert isinstance(read_recipe(path), Recipe)
