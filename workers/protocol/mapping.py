"""A dataset's columns by our names: what is proposed, and how it is written on a command line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any, get_args

import msgspec

from workers.protocol.pipeline import Pipeline
from workers.protocol.recipe import Column, Source
from workers.protocol.refusal import Refusal

COLUMNS: tuple[str, ...] = get_args(Column)
_NUMBERED = re.compile(r"(?P<number>\d+):(?P<rest>.+)", re.DOTALL)


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """The likeliest mapping of columns that nothing is known of; taken only when asked for."""

    mapping: dict[str, str]
    """Their columns to ours."""
    format: str
    """The name of the schema that it gives."""
    sure: bool
    """Whether the names of all columns say so; else their contents decided."""
    why: str
    """What decided it, in sentences."""
    examples: list[dict[str, str]] = []
    """The first rows by our names, at most three, in a line each."""

    @property
    def options(self) -> str:
        """As the command line takes it."""
        return " ".join(
            f"--map {shlex.quote(f'{theirs}={ours}')}" for theirs, ours in self.mapping.items()
        )

    @property
    def words(self) -> str:
        """One sentence that tells how likely it is, and why."""
        return f"{'Likely' if self.sure else 'Perhaps'}: {self.why}"


def read_mapping(given: Sequence[str]) -> dict[int, dict[str, Column]]:
    """Options THEIRS=OURS or NUMBER:THEIRS=OURS by the number of the source, 0 where none is named.

    Raises:
        Refusal: an option is written otherwise, or names no column of ours.
    """
    made: dict[int, dict[str, Any]] = {}
    for option in given:
        numbered = _NUMBERED.fullmatch(option)
        number, text = (int(numbered["number"]), numbered["rest"]) if numbered else (0, option)
        theirs, _, ours = text.rpartition("=")
        if not theirs or ours not in COLUMNS:
            raise Refusal(
                f"--map {option} maps no column.",
                "A column is mapped by THEIRS=OURS.",
                f"OURS is one of {', '.join(COLUMNS)}. For example: --map question=prompt",
            )
        made.setdefault(number, {})[theirs] = ours
    return made


def mapping_of(given: Sequence[str]) -> dict[str, Column]:
    """The same of the one dataset that there is."""
    found = read_mapping(given)
    if any(number > 1 for number in found):
        raise Refusal("--map names another dataset.", "There is one.", "Leave the number out.")
    return found.get(0, {}) | found.get(1, {})


def with_mapping(asked: Pipeline, given: Sequence[str]) -> Pipeline:
    """A pipeline whose sources have the mapping of a command line.

    Raises:
        Refusal: an option is no mapping, or it does not say which of several sources is meant.
    """
    found = dict.fromkeys(one.source for stage in asked.stages for one in stage.data)
    sources = list(found)
    mappings: dict[str, dict[str, Column]] = {}
    for number, mapping in read_mapping(given).items():
        if number > len(sources) or (not number and len(sources) > 1):
            raise Refusal(
                f"--map does not say which of {len(sources)} datasets is meant.",
                "; ".join(f"{at} is {source}" for at, source in enumerate(sources, 1)) + ".",
                "Write its number first, for example: --map 1:question=prompt",
            )
        mappings.setdefault(sources[max(0, number - 1)], {}).update(mapping)
    stages = [
        msgspec.structs.replace(stage, data=[_mapped(one, mappings) for one in stage.data])
        for stage in asked.stages
    ]
    return msgspec.structs.replace(asked, stages=stages)


def _mapped(source: Source, mappings: dict[str, dict[str, Column]]) -> Source:
    mapping = mappings.get(source.source, source.mapping)
    return msgspec.structs.replace(source, mapping=mapping)
