"""Columns of other names: the likeliest mapping is offered, and nothing where nothing is likely."""

from __future__ import annotations

from typing import Any

import pytest

from workers.data.schema.propose import propose
from workers.protocol.mapping import read_mapping, with_mapping
from workers.protocol.pipeline import Pipeline
from workers.protocol.recipe import Recipe, Source
from workers.protocol.refusal import Refusal

ASKED = [f"How do I return parcel number {n}?" for n in range(30)]
SAID = [f"Put parcel {n} back into its box and bring it to us." for n in range(30)]


def rows(**columns: Any) -> list[dict[str, Any]]:
    """A column is a list of values, or one value for all rows."""
    return [
        {name: value[n] if isinstance(value, list) else value for name, value in columns.items()}
        for n in range(30)
    ]


TURNS = [[{"from": "human", "value": one}, {"from": "gpt", "value": other}]
         for one, other in zip(ASKED, SAID, strict=True)]  # fmt: skip
STARS = [n % 5 + 1 for n in range(30)]
LIKED = [n % 3 == 0 for n in range(30)]

LIKELY: dict[str, tuple[list[dict[str, Any]], dict[str, str], str]] = {
    "a helpdesk's CSV": (
        rows(ticket_id=[f"T-{n}" for n in range(30)], customer_message=ASKED, agent_reply=SAID,
             rating=STARS),
        {"customer_message": "prompt", "agent_reply": "completion"}, "prompt_completion",
    ),
    "camel case and plurals": (
        rows(userQuestions=ASKED, botResponses=SAID),
        {"userQuestions": "prompt", "botResponses": "completion"}, "prompt_completion",
    ),
    "nested names": (
        [{"data": {"query_text": one, "reply": {"body": other}}, "id": at}
         for at, (one, other) in enumerate(zip(ASKED, SAID, strict=True))],
        {"data.query_text": "prompt", "data.reply.body": "completion"}, "prompt_completion",
    ),
    "a thumb": (
        rows(user_input=ASKED, model_output=SAID, user_liked=LIKED),
        {"user_input": "prompt", "model_output": "completion", "user_liked": "label"}, "feedback",
    ),
    "pairs": (
        rows(customer_query=ASKED, better_reply=SAID, worse_reply=[f"No, {one}" for one in ASKED]),
        {"customer_query": "prompt", "better_reply": "chosen", "worse_reply": "rejected"},
        "preference",
    ),
    "turns": (rows(chat_turns=TURNS, topic="returns"), {"chat_turns": "messages"}, "chat"),
    "articles": (
        rows(article_body=SAID, published_date="2026-11-21", section="news"),
        {"article_body": "text"}, "text",
    ),
    "a misspelt name": (
        rows(qestion=ASKED, anwser=SAID), {"qestion": "prompt", "anwser": "completion"},
        "prompt_completion",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LIKELY)
def test_names_say_what_columns_are(name: str) -> None:
    given, mapping, schema = LIKELY[name]
    found = propose(given)
    assert found is not None
    assert (found.mapping, found.format, found.sure) == (mapping, schema, True)
    assert len(found.examples) == 3
    assert set(found.examples[0]) == set(mapping.values())
    assert all(f"{theirs} is {ours}:" in found.why for theirs, ours in mapping.items())


def test_ratings_are_named_and_made_no_labels() -> None:
    found = propose(LIKELY["a helpdesk's CSV"][0])
    assert found is not None
    assert "rating, numbers from 1 to 5, is not used" in found.why
    assert found.options == "--map customer_message=prompt --map agent_reply=completion"


def test_two_texts_of_unknown_names_are_perhaps_a_question_and_its_answer() -> None:
    found = propose(rows(alpha=ASKED, beta=SAID, kind=["x", "y", "z"] * 10))
    assert found is not None
    assert (found.mapping, found.sure) == ({"alpha": "prompt", "beta": "completion"}, False)
    assert found.words.startswith("Perhaps: ")


@pytest.mark.parametrize(
    "given",
    [
        rows(alpha=STARS, beta=[n * 3.1 for n in range(30)]),
        rows(sepal_length=STARS, species=["setosa", "virginica", "versicolor"] * 10),
        rows(alpha=ASKED, beta=SAID, gamma=[f"{one} {one}" for one in SAID]),
        rows(question="Is it so?", label=LIKED),
        [["a", "b"]] * 9,
        [],
    ],
)
def test_nothing_is_offered_where_nothing_is_likely(given: list[Any]) -> None:
    assert propose(given) is None


def test_a_mapping_is_read_from_the_command_line() -> None:
    assert read_mapping(["a=b=prompt", "2:x.y=completion"]) == {
        0: {"a=b": "prompt"}, 2: {"x.y": "completion"},
    }  # fmt: skip
    with pytest.raises(Refusal, match="--map q=promt maps no column"):
        read_mapping(["q=promt"])


def test_a_mapping_goes_to_the_only_source_or_to_the_one_that_is_numbered() -> None:
    one = Recipe(data=[Source(source="a.csv")])
    two = Recipe(data=[Source(source="a.csv"), Source(source="b.csv", mapping={"m": "text"})])
    alone = with_mapping(Pipeline(name="p", stages=[one, one]), ["q=prompt", "r=completion"])
    assert [stage.data[0].mapping for stage in alone.stages] == [
        {"q": "prompt", "r": "completion"}
    ] * 2
    both = Pipeline(name="p", stages=[two])
    (made,) = with_mapping(both, ["2:q=prompt"]).stages
    assert [source.mapping for source in made.data] == [{}, {"q": "prompt"}]
    for given in ("q=prompt", "3:q=prompt"):
        with pytest.raises(Refusal, match="which of 2 datasets"):
            with_mapping(both, [given])
