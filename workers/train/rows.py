"""Which rows a run learns from and which it is measured on."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from workers.data.formats import SHAPES, Table, read_table, serves
from workers.data.mix import Rows, mix, position, split
from workers.data.sources import silent
from workers.protocol.recipe import Recipe
from workers.protocol.refusal import Refusal


class Gathered(NamedTuple):
    tables: list[Table]
    training: Rows
    held_out: Rows
    left_out: int
    """Training rows that ask what the test set asks, and are not learnt from."""


def gather(recipe: Recipe, say: Callable[[str], None] = silent) -> Gathered:
    """Reads every source, keeps what the stage can use, and splits and mixes it.

    `say` is told when something slow begins.

    Raises:
        Refusal: a file cannot be read, does not serve the stage, or nothing is left to train on.
    """
    tables = [
        read_table(source.source, mapping=source.mapping, bad_rows=source.bad_rows, say=say)
        for source in recipe.data
    ]
    usable = [_usable(table, recipe) for table in tables]
    weights = [source.weight for source in recipe.data]
    if recipe.evaluation.test:
        test = read_table(recipe.evaluation.test, say=say)
        held_out = test.rows
        asked = {position(row) for row in held_out}
        parts = [[row for row in rows if position(row) not in asked] for rows in usable]
        tables = [*tables, test]
    else:
        pairs = [split(rows, recipe.evaluation.holdout) for rows in usable]
        parts = [training for training, _ in pairs]
        held_out = [row for _, rows in pairs for row in rows]
    training = mix(parts, weights, recipe.training.seed)
    if not training:
        raise Refusal(
            "No row is left to train on.",
            f"All of them are held out by evaluation.holdout = {recipe.evaluation.holdout}"
            f"{' or stand in evaluation.test' if recipe.evaluation.test else ''}.",
            "Lower it, or bring more rows.",
        )
    left_out = sum(map(len, usable)) - sum(map(len, parts)) if recipe.evaluation.test else 0
    # By hash, not by file order: the same rows are measured whichever way the file is sorted.
    held_out = sorted(held_out, key=position)[: recipe.evaluation.max_rows]
    return Gathered(tables, training, held_out, left_out)


def _usable(table: Table, recipe: Recipe) -> Rows:
    rows = [row for row in table.rows if serves(row, recipe.stage)]
    if not rows:
        raise Refusal(
            f"The dataset {table.path} cannot serve the stage '{recipe.stage}'.",
            f"Its rows hold {SHAPES[table.format]}.",
            NEEDS[recipe.stage],
        )
    return rows


NEEDS = {
    "cpt": "Bring plain text, in a text column.",
    "sft": "Bring answers to learn: a chat, or a prompt with a completion.",
    **dict.fromkeys(
        ("dpo", "ipo", "simpo", "orpo", "reward"),
        "Bring pairs of a better and a worse answer to the same prompt.",
    ),
    "kto": "Bring answers with a label that is true or false, or pairs.",
    "rlhf": "Bring prompts; the reward model judges what is answered to them.",
    "distill": "Bring answers, or a chat: both models read them.",
    "grpo": "Bring prompts, with an answer column where a reward compares with it.",
}
"""What each stage learns from."""
