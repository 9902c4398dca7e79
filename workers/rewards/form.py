"""Rewards for the form of an answer: a pattern, a structure of tags, JSON that fits a schema."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from workers.protocol.rewards import Format, JsonSchema
from workers.rewards.answers import PATTERN_LIMIT_S, compiled
from workers.rewards.sample import Each, Sample, Scorer, unusable

ANY_JSON = 0.25


def build(reward: Format | JsonSchema, _home: Path, _stack: ExitStack) -> Scorer:
    if isinstance(reward, JsonSchema):
        return Each(_fits(reward.schema))
    if reward.tags:
        tags = [tag.strip() for tag in reward.tags.split(",") if tag.strip()]
        return Each(lambda sample: tag_share(sample.completion, tags))
    pattern = compiled("format", reward.pattern)
    return Each(
        lambda sample: (
            pattern.fullmatch(sample.completion.strip(), timeout=PATTERN_LIMIT_S) is not None
        )
    )


def tag_share(text: str, tags: list[str]) -> float:
    """The share of tags that open and close exactly once, hold something and stand in order."""
    place = 0
    good = 0
    for tag in tags:
        opening, closing = f"<{tag}>", f"</{tag}>"
        at, end = text.find(opening), text.find(closing)
        once = text.count(opening) == 1 and text.count(closing) == 1
        if once and place <= at < end and text[at + len(opening) : end].strip():
            good += 1
            place = end + len(closing)
    return good / max(1, len(tags))


def _fits(schema: str) -> Callable[[Sample], float]:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        wanted = json.loads(schema) if schema.strip() else {"type": "object"}
        Draft202012Validator.check_schema(wanted)
    except (ValueError, SchemaError) as fault:
        raise unusable(
            "json_schema", f"Its schema is no JSON Schema: {str(fault)[:200]}.",
            "Mend rewards.schema.",
        ) from None  # fmt: skip
    # A reference to elsewhere stays unresolved: nothing is fetched.
    validator = Draft202012Validator(wanted)

    def score(sample: Sample) -> float:
        try:
            value = json.loads(_json_part(sample.completion))
        except (ValueError, RecursionError):
            return 0.0
        return 1.0 if validator.is_valid(value) else ANY_JSON

    return score


FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)


def _json_part(text: str) -> str:
    """After any thinking, and out of its code fence when it stands in one."""
    said = text.rpartition("</think>")[2].strip()
    fenced = FENCE.search(said)
    return fenced.group(1) if fenced else said
