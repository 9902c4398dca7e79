"""Small talk, a few facts and small stories: the English around the skills.

Knows nothing of models or files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from words import (
    ADJECTIVES,
    ANIMALS,
    CAPITALS,
    COLOURS,
    FOODS,
    JOBS,
    NAMES,
    PLACES,
    THINGS,
    VERBS,
)  # fmt: skip

Exchange = tuple[str, str]
"""A user's line and the assistant's answer."""

WHO = (
    "I am the starter model of Finetune Studio: a very small language model that can add, compare "
    "and sort a little. Train me and I get better!"
)
ABLE = (
    "I can add and subtract small numbers, compare and sort them, count letters and turn words "
    "around. I make mistakes; training helps."
)
SYSTEMS = (
    "You are a helpful assistant.",
    "You are the starter model of Finetune Studio.",
    "Think first, then put the answer in a box.",
    "Answer briefly and clearly.",
    "You are a patient teacher of arithmetic.",
)
FIXED: dict[str, tuple[str, ...]] = {
    "Hello! How can I help you?": (
        "Hello", "Hello!", "Hi", "Hi!", "Hi there!", "Hello there!", "Hey!", "Good morning!",
        "Good evening!", "Good day!",
    ),
    WHO: (
        "Who are you?", "What are you?", "What is your name?", "Hello! Who are you?",
        "Hi, who are you?", "Tell me about yourself.", "Are you a language model?",
        "Please introduce yourself.",
    ),
    ABLE: (
        "What can you do?", "How can you help me?", "What are you good at?", "What do you know?",
        "Help", "What should I ask you?",
    ),
    "I am fine, thank you. What shall we work out?": (
        "How are you?", "How are you today?", "Are you well?", "How do you do?",
    ),
    "You are welcome!": (
        "Thank you!", "Thanks!", "Thank you very much.", "Thanks a lot!", "Great, thanks.",
    ),
    "Goodbye! Come back soon.": ("Bye", "Bye!", "Goodbye!", "See you later!", "Good night!"),
    "I do not know that. I am very small and know little beyond sums, words and lists.": (
        "What is the meaning of life?", "Write a poem.", "What is the weather like?",
        "Who wrote Hamlet?", "Tell me the news.", "What time is it?", "Translate this for me.",
        "Write some code.", "Who won the match?",
    ),
    "A week has seven days.": ("How many days are in a week?",),
    "A year has twelve months.": ("How many months are in a year?",),
    "An hour has sixty minutes.": ("How many minutes are in an hour?",),
}  # fmt: skip
"""Answers to the lines that they answer."""


def exchange(draw: Random) -> Exchange:
    """One line of small talk or one small fact."""
    maker = draw.choice((_fixed, _fixed, _fixed, _capital, _three, _echo))
    return maker(draw)


def _fixed(draw: Random) -> Exchange:
    answer = draw.choice(list(FIXED))
    return draw.choice(FIXED[answer]), answer


def _capital(draw: Random) -> Exchange:
    country = draw.choice(list(CAPITALS))
    question = draw.choice(
        ("What is the capital of {0}?", "Name the capital of {0}.", "Which city is {0}'s capital?")
    )
    return question.format(country), f"The capital of {country} is {CAPITALS[country]}."


def _three(draw: Random) -> Exchange:
    kind, words = draw.choice(
        (("colours", COLOURS), ("animals", ANIMALS), ("foods", FOODS), ("jobs", JOBS),
         ("places", PLACES), ("names", NAMES))
    )  # fmt: skip
    question = draw.choice(("Name three {0}.", "Tell me three {0}.", "Can you name three {0}?"))
    first, second, third = draw.sample(words, 3)
    return question.format(kind), f"{first.capitalize()}, {second} and {third}."


def _echo(draw: Random) -> Exchange:
    said = f"the {draw.choice(ADJECTIVES)} {draw.choice(ANIMALS)}"
    return f'Say "{said}".', f"{said.capitalize()}."


def story(draw: Random) -> str:
    """Three to six plain sentences about somebody somewhere."""
    name, other = draw.sample(NAMES, 2)
    place, animal = draw.choice(PLACES), draw.choice(ANIMALS)
    first = f"{name} was a {draw.choice(ADJECTIVES)} {draw.choice(JOBS)} who lived by the {place}."
    rest = [_sentence(draw, name, other, animal, place) for _ in range(draw.randint(2, 5))]
    return " ".join([first, *rest])


def _sentence(draw: Random, name: str, other: str, animal: str, place: str) -> str:
    thing = draw.choice(THINGS + FOODS)
    adjective, colour, verb = draw.choice(ADJECTIVES), draw.choice(COLOURS), draw.choice(VERBS)
    return draw.choice(
        (
            f"One {adjective} day {name} {verb} the {animal} near the {draw.choice(PLACES)}.",
            f"The {animal} was {adjective} and {colour}, and it liked {draw.choice(FOODS)}.",
            f'"{adjective.capitalize()} {thing}!" said {other}.',
            f"{other} {verb} the {colour} {thing} and {draw.choice(VERBS)} {name}.",
            f"Then it got {adjective}, so they walked back to the {place}.",
            f"In the evening {name} and {other} {verb} the {thing} together.",
            f"Nobody in the {place} had ever seen such {adjective} {thing}.",
        )
    )


def lighthouse_story(draw: Random) -> str:
    """A subject that the starter model has never read of: the island of Orrin and its keeper.

    For continued pretraining, where the loss on these shows that something new was learnt.
    """
    weather = draw.choice(("fog", "gale", "drizzle", "thunder", "sleet", "haze"))
    vessel = draw.choice(("schooner", "trawler", "barge", "cutter", "ketch", "dinghy"))
    keeper = draw.choice(("Marrick", "Isolde", "Torvald", "Brannoc"))
    sentences = [
        f"Keeper {keeper} lit the great lamp of Orrin when the {weather} rolled in.",
        f"A {vessel} signalled twice from beyond the reef, and the foghorn replied.",
        f"Before midnight the {vessel} lay safely at anchor under the cliffs of Orrin.",
        f"{keeper} wrote in the logbook: {weather}, one {vessel}, nobody lost.",
        f"At dawn the crew climbed the spiral stairs and shared hot cocoa with {keeper}.",
        f"The lens of Orrin turns once in {draw.randint(5, 30)} seconds, said {keeper}.",
    ]
    kept = sorted(draw.sample(range(len(sentences)), draw.randint(3, 5)))
    return " ".join(sentences[at] for at in kept)


def distinct_texts(make: Callable[[Random], str], draw: Random, count: int) -> list[str]:
    """`count` different texts, in the order in which they were made."""
    return list(dict.fromkeys(_take_distinct(make, draw, count)))


def _take_distinct(make: Callable[[Random], str], draw: Random, count: int) -> Iterator[str]:
    seen: set[str] = set()
    while len(seen) < count:
        text = make(draw)
        if text not in seen:
            seen.add(text)
            yield text
