"""Questions with one exact answer: each skill is a function from a random source to a `Question`.

The worked steps are what a pupil would write down: columns from the right for sums, the deciding
digit for comparisons, letters one by one for words. Knows nothing of models or files.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from random import Random

from words import NAMES, SPELLED, THINGS

HELD_OUT_PARTS = 8
"""One question in so many, by its key, is kept for the test sets and seen in no training."""


@dataclass(frozen=True)
class Question:
    """A question in plain English, the steps to its answer, and the answer."""

    skill: str
    prompt: str
    work: str
    answer: str
    key: str
    """What is asked about, apart from the wording: `47 85` for every sum of these two numbers."""
    quick: str = ""
    """The whole sum in one go, where the skill is arithmetic."""

    @property
    def reply(self) -> str:
        """The worked answer, as the assistant is to give it."""
        return f"<think>{self.work}</think>\\boxed{{{self.answer}}}"

    @property
    def held_out(self) -> bool:
        return zlib.crc32(self.key.encode()) % HELD_OUT_PARTS == 0


ADD = (
    "What is {a} + {b}?",
    "{a} + {b} = ?",
    "How much is {a} plus {b}?",
    "Add {a} and {b}.",
    "Please add {b} to {a}.",
    "Calculate {a} + {b}.",
    "What do you get if you add {a} and {b}?",
    "Find the sum of {a} and {b}.",
    "Can you tell me what {a} plus {b} is?",
    "Compute {a} + {b}, please.",
)
SUBTRACT = (
    "What is {a} - {b}?",
    "{a} - {b} = ?",
    "How much is {a} minus {b}?",
    "Subtract {b} from {a}.",
    "Please take {b} away from {a}.",
    "Calculate {a} - {b}.",
    "What is left if you take {b} from {a}?",
    "Find the difference between {a} and {b}.",
    "Can you tell me what {a} minus {b} is?",
    "Compute {a} - {b}, please.",
)
ADD_STORIES = (
    "{name} has {a} {things} and gets {b} more. How many {things} does {name} have now?",
    "There are {a} {things} on one table and {b} on another. How many {things} are there?",
    "{name} found {a} {things} and {other} found {b}. How many {things} did they find together?",
)
SUBTRACT_STORIES = (
    "{name} has {a} {things} and gives {b} away. How many {things} are left?",
    "A shop had {a} {things} and sold {b}. How many {things} are left?",
    "{name} has {a} {things} and {other} has {b}. How many more {things} does {name} have?",
)


def add_columns(a: int, b: int) -> str:
    """Adds from the right, the carry as a last term: `47+85: 7+5=12, 4+8+1=13`."""
    steps, carry = [], 0
    for place in range(max(len(str(a)), len(str(b)))):
        left, right = a // 10**place % 10, b // 10**place % 10
        total = left + right + carry
        steps.append(f"{left}+{right}{'+1' if carry else ''}={total}")
        carry = total // 10
    return f"{a}+{b}: " + ", ".join(steps)


def subtract_columns(a: int, b: int) -> str:
    """Subtracts from the right, borrowing where needed: `85-47: 15-7=8, 8-4-1=3`."""
    steps, borrowed = [], 0
    for place in range(len(str(a))):
        left, right = a // 10**place % 10, b // 10**place % 10
        short = left - right - borrowed < 0
        result = left + 10 * short - right - borrowed
        steps.append(f"{left + 10 * short}-{right}{'-1' if borrowed else ''}={result}")
        borrowed = int(short)
    return f"{a}-{b}: " + ", ".join(steps)


def sum_of(draw: Random, a: int, b: int, wordings: tuple[str, ...], skill: str) -> Question:
    low, high = sorted((a, b))
    prompt = _worded(draw, wordings, a, b)
    answer = str(a + b)
    return Question(skill, prompt, add_columns(a, b), answer, f"{low} {high}", f"{a}+{b}={answer}")


def difference_of(draw: Random, a: int, b: int, wordings: tuple[str, ...], skill: str) -> Question:
    prompt = _worded(draw, wordings, a, b)
    answer = str(a - b)
    return Question(skill, prompt, subtract_columns(a, b), answer, f"{b} {a}", f"{a}-{b}={answer}")


def _worded(draw: Random, wordings: tuple[str, ...], a: int, b: int) -> str:
    name, other = draw.sample(NAMES, 2)
    return draw.choice(wordings).format(
        a=a, b=b, name=name, other=other, things=draw.choice(THINGS)
    )


def _two_numbers(draw: Random, digits: int) -> tuple[int, int]:
    low, high = 10 ** (digits - 1), 10**digits - 1
    return draw.randint(low, high), draw.randint(low, high)


def add_two_digits(draw: Random) -> Question:
    return sum_of(draw, *_two_numbers(draw, 2), ADD, "add two digits")


def add_three_digits(draw: Random) -> Question:
    return sum_of(draw, *_two_numbers(draw, 3), ADD, "add three digits")


def subtract_two_digits(draw: Random) -> Question:
    b, a = sorted(_two_numbers(draw, 2))
    return difference_of(draw, a, b, SUBTRACT, "subtract two digits")


def subtract_three_digits(draw: Random) -> Question:
    b, a = sorted(_two_numbers(draw, 3))
    return difference_of(draw, a, b, SUBTRACT, "subtract three digits")


def word_problem(draw: Random) -> Question:
    """A sum or a difference of two-digit numbers, told as a small story."""
    a, b = _two_numbers(draw, 2)
    if draw.random() < 0.5:
        return sum_of(draw, a, b, ADD_STORIES, "word problem")
    return difference_of(draw, max(a, b), min(a, b), SUBTRACT_STORIES, "word problem")


def compare(draw: Random) -> Question:
    """The larger or smaller of two numbers of equal length; the deciding digit is named."""
    a, b = _two_numbers(draw, draw.choice((2, 3)))
    if draw.random() < 0.5:  # numbers that begin alike are the harder ones
        b = a // 10 * 10 + draw.randrange(10)
    while a == b:
        b = a // 10 * 10 + draw.randrange(10)
    larger = draw.random() < 0.5
    wordings = LARGER if larger else SMALLER
    pairs = zip(str(a), str(b), strict=True)
    work = []
    for left, right in pairs:
        work.append(f"{left}{'=' if left == right else '<' if left < right else '>'}{right}")
        if left != right:
            break
    answer = max(a, b) if larger else min(a, b)
    low, high = sorted((a, b))
    prompt = draw.choice(wordings).format(a=a, b=b)
    key = f"{'larger' if larger else 'smaller'} {low} {high}"
    return Question("compare", prompt, ", ".join(work), str(answer), key)


LARGER = (
    "Which is larger, {a} or {b}?",
    "Which number is greater: {a} or {b}?",
    "Give the larger of {a} and {b}.",
)
SMALLER = (
    "Which is smaller, {a} or {b}?",
    "Which number is less: {a} or {b}?",
    "Give the smaller of {a} and {b}.",
)


def sort_numbers(draw: Random) -> Question:
    numbers = draw.sample(range(1, 100), draw.choice((3, 4, 4, 5)))
    prompt = draw.choice(SORT_NUMBERS).format(items=", ".join(map(str, numbers)))
    ordered = sorted(numbers)
    work = f"{ordered[0]} to {ordered[-1]}"
    return Question("sort numbers", prompt, work, ", ".join(map(str, ordered)), f"sort {ordered}")


SORT_NUMBERS = (
    "Sort these numbers from small to large: {items}.",
    "Put {items} in order, smallest first.",
    "Sort {items}.",
)


def sort_letters(draw: Random) -> Question:
    letters = draw.sample("abcdefghijklmnopqrstuvwxyz", draw.choice((3, 4, 5)))
    prompt = draw.choice(SORT_LETTERS).format(items="".join(letters))
    ordered = sorted(letters)
    return Question(
        "sort letters", prompt, "<".join(ordered), "".join(ordered), f"sort {''.join(ordered)}"
    )


SORT_LETTERS = (
    'Sort the letters "{items}" by the alphabet.',
    'Put the letters "{items}" in alphabetical order.',
    'Which order do the letters "{items}" have in the alphabet?',
)


def _word(draw: Random) -> str:
    """A real word, or a made-up one so that the answer cannot be known by heart."""
    if draw.random() < 0.5:
        return draw.choice(SPELLED)
    return "".join(
        draw.choice("bcdfghklmnprstvwz" if at % 2 == 0 else "aeiou")
        for at in range(draw.choice((4, 5, 6, 7)))
    )


def count_letters(draw: Random) -> Question:
    """How often a letter stands in a word; each hit is numbered as it is met."""
    word = _word(draw)
    letter = draw.choice(word) if draw.random() < 0.8 else draw.choice("aeiourst")
    seen, steps = 0, []
    for here in word:
        seen += here == letter
        steps.append(f"{here}{seen}" if here == letter else here)
    prompt = draw.choice(COUNT_LETTERS).format(letter=letter, word=word)
    return Question("count letters", prompt, "".join(steps), str(seen), f"count {letter} in {word}")


COUNT_LETTERS = (
    'How many times does "{letter}" occur in "{word}"?',
    'Count the letter "{letter}" in the word "{word}".',
    'How often do you see "{letter}" in "{word}"?',
)


def reverse_word(draw: Random) -> Question:
    word = _word(draw)[:6]
    work = ", ".join(f"{at}{letter}" for at, letter in enumerate(word, start=1))
    prompt = draw.choice(REVERSE).format(word=word)
    return Question("reverse word", prompt, work, word[::-1], f"reverse {word}")


REVERSE = (
    'Write "{word}" backwards.',
    'Reverse the word "{word}".',
    'What is "{word}" spelled backwards?',
)


def parity(draw: Random) -> Question:
    number = draw.randint(10, 9999)
    last = number % 10
    word = "odd" if last % 2 else "even"
    prompt = draw.choice(PARITY).format(number=number)
    return Question("even or odd", prompt, f"last digit {last}", word, f"parity {number}")


PARITY = ("Is {number} even or odd?", "Is the number {number} odd or even?")


def last_digit(draw: Random) -> Question:
    """The last digit of a sum or a product: only the last digits matter."""
    a, b = draw.randint(11, 999), draw.randint(11, 999)
    sign = draw.choice("+*")
    x, y = a % 10, b % 10
    result = x + y if sign == "+" else x * y
    prompt = draw.choice(LAST_DIGIT).format(a=a, b=b, sign=sign)
    low, high = sorted((a, b))
    return Question(
        "last digit", prompt, f"{x}{sign}{y}={result}", str(result % 10),
        f"{low} {high}",
    )  # fmt: skip


LAST_DIGIT = ("What is the last digit of {a} {sign} {b}?", "Give the last digit of {a} {sign} {b}.")


def sequence(draw: Random) -> Question:
    """The next number of an arithmetic sequence; the step is named."""
    first, step = draw.randint(1, 40), draw.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 10))
    numbers = [first + step * at for at in range(5)]
    prompt = draw.choice(SEQUENCE).format(items=", ".join(map(str, numbers[:4])))
    work = f"+{step}, {numbers[3]}+{step}={numbers[4]}"
    return Question("sequence", prompt, work, str(numbers[4]), f"sequence {first} {step}")


SEQUENCE = ("Which number comes next: {items}?", "What comes after {items}?")

Skill = Callable[[Random], Question]

ARITHMETIC: dict[Skill, float] = {
    add_two_digits: 0.35,
    subtract_two_digits: 0.25,
    add_three_digits: 0.2,
    subtract_three_digits: 0.2,
}
"""The skills of the built-in arithmetic sets with their shares."""

REASONING: dict[Skill, float] = {
    word_problem: 0.16,
    compare: 0.14,
    sort_numbers: 0.1,
    sort_letters: 0.12,
    count_letters: 0.12,
    reverse_word: 0.1,
    parity: 0.08,
    last_digit: 0.1,
    sequence: 0.08,
}
"""The mixed skills of the reasoning sets with their shares."""


def questions(draw: Random, skills: dict[Skill, float], *, held_out: bool) -> Iterator[Question]:
    """Endless questions of the given skills, all from the held-out part or none."""
    makers, shares = list(skills), list(skills.values())
    while True:
        (make,) = draw.choices(makers, shares)
        question = make(draw)
        if question.held_out == held_out:
            yield question


def distinct(
    source: Iterator[Question], count: int, without: Collection[str] = ()
) -> list[Question]:
    """The first `count` questions with different keys, none of them among `without`."""
    found: dict[str, Question] = {}
    while len(found) < count:
        question = next(source)
        if question.key not in without:
            found.setdefault(question.key, question)
    return list(found.values())
