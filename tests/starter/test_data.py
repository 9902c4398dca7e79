"""The built-in sets: well formed, right, apart from each other, and rebuilt byte for byte."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT / "assets" / "data"
SOLVED = ("arithmetic", "arithmetic-test", "reasoning", "reasoning-test")
TRAINING = ("arithmetic", "reasoning", "preferences", "feedback", "sums")
TESTS = ("arithmetic-test", "reasoning-test")
SUM = re.compile(r"(\d+)\D+?(\d+)")

Row = dict[str, Any]


def rows(name: str) -> list[Row]:
    text = (DATA / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def prompt_of(row: Row) -> str:
    prompt = row["prompt"]
    return prompt if isinstance(prompt, str) else prompt[0]["content"]


def builder(module: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of packaging/starter, which is a folder of scripts and no package."""
    monkeypatch.syspath_prepend(str(ROOT / "packaging" / "starter"))
    return importlib.import_module(module)


def boxed(text: str) -> str:
    """The content of the last box; empty when there is none."""
    found = re.findall(r"\\boxed\{([^}]*)\}", text)
    return found[-1] if found else ""


@pytest.mark.parametrize("name", SOLVED)
def test_solved_rows_have_prompt_answer_and_chat(name: str) -> None:
    for row in rows(name):
        assert list(row) == ["prompt", "answer", "messages"]
        user, assistant = row["messages"]
        assert user == {"role": "user", "content": row["prompt"]}
        assert assistant["role"] == "assistant"
        assert re.fullmatch(r"<think>.+</think>\\boxed\{.+\}", assistant["content"])
        assert boxed(assistant["content"]) == row["answer"]


@pytest.mark.parametrize("name", SOLVED)
def test_answers_are_right_by_recomputation(name: str) -> None:
    for row in rows(name):
        assert row["answer"] == recompute(row["prompt"]), row["prompt"]


@pytest.mark.parametrize("name", SOLVED)
def test_every_worked_step_is_right(name: str) -> None:
    steps = re.compile(r"(\d+(?:[-+*]\d+)+)=(\d+)")
    for row in rows(name):
        for left, right in steps.findall(row["messages"][1]["content"]):
            assert calculate(left) == int(right), row


def calculate(term: str) -> int:
    """The value of digits joined by +, - or *, without precedence (a step has one kind)."""
    first, *rest = re.split(r"([-+*])", term)
    value = int(first)
    for sign, number in zip(rest[::2], rest[1::2], strict=True):
        value = {"+": value + int(number), "-": value - int(number), "*": value * int(number)}[sign]
    return value


def recompute(prompt: str) -> str:
    """The answer worked out from the question's text alone, apart from the generators."""
    numbers = [int(found) for found in re.findall(r"\d+", prompt)]
    quoted = re.findall(r'"([a-z]+)"', prompt)
    low = prompt.lower()
    if quoted:
        return about_letters(low, quoted)
    if "last digit" in low:
        return str((numbers[0] * numbers[1] if "*" in low else sum(numbers)) % 10)
    if "odd" in low:
        return "odd" if numbers[0] % 2 else "even"
    if any(word in low for word in ("larger", "greater")):
        return str(max(numbers))
    if any(word in low for word in ("smaller", "less:")):
        return str(min(numbers))
    if any(word in low for word in ("sort", "in order")):
        return ", ".join(map(str, sorted(numbers)))
    if any(word in low for word in ("comes next", "comes after")):
        return str(2 * numbers[-1] - numbers[-2])
    taken = (" - ", "minus", "subtract", "take", "difference", "away", "sold", "how many more")
    if any(word in low for word in taken):
        return str(abs(numbers[0] - numbers[1]))
    return str(sum(numbers))


def about_letters(prompt: str, quoted: list[str]) -> str:
    if "back" in prompt or "reverse" in prompt:
        return quoted[0][::-1]
    if len(quoted) == 2:
        letter, word = sorted(quoted, key=len)
        return str(word.count(letter))
    return "".join(sorted(quoted[0]))


def test_no_test_prompt_is_in_another_set() -> None:
    trained = {prompt_of(row) for name in TRAINING for row in rows(name)}
    for name in TESTS:
        assert not trained & {prompt_of(row) for row in rows(name)}
    first, second = ({prompt_of(row) for row in rows(name)} for name in TESTS)
    assert not first & second


def test_no_test_pair_of_operands_is_in_another_set() -> None:
    """A sum is known by its operands whatever the wording, so those may not recur either."""
    trained = {pair for name in TRAINING for pair in pairs(name)}
    for name in TESTS:
        assert not trained & pairs(name)
    assert not pairs("arithmetic-test") & pairs("reasoning-test")


def pairs(name: str) -> set[tuple[int, ...]]:
    """The two numbers, sorted, of every question that has exactly two and asks to calculate."""
    found = set()
    for row in rows(name):
        numbers = re.findall(r"\d+", prompt_of(row))
        compares = re.search(r"larger|greater|smaller|less:", prompt_of(row))
        if len(numbers) == 2 and not compares:
            found.add(tuple(sorted(map(int, numbers))))
    return found


@pytest.mark.parametrize("name", [*TRAINING, *TESTS])
def test_no_prompt_recurs_within_a_set(name: str) -> None:
    found = [prompt_of(row) for row in rows(name)]
    assert len(found) == len(set(found))
    assert len(found) >= 200


def test_preferences_are_conversations_whose_length_tells_nothing() -> None:
    longer = []
    for row in rows("preferences"):
        assert list(row) == ["prompt", "chosen", "rejected", "answer"]
        turns = [turn for key in ("prompt", "chosen", "rejected") for turn in row[key]]
        assert [turn["role"] for turn in turns] == ["user", "assistant", "assistant"]
        chosen, rejected = row["chosen"][0]["content"], row["rejected"][0]["content"]
        assert chosen != rejected
        assert boxed(chosen) == row["answer"] == recompute(prompt_of(row))
        assert not (well_formed(rejected) and boxed(rejected) == boxed(chosen))
        longer.append(len(chosen) - len(rejected))
    assert abs(mean(longer)) < 6
    wins = [gap > 0 for gap in longer if gap]
    assert abs(mean(wins) - 0.5) < 0.1


def well_formed(text: str) -> bool:
    return re.fullmatch(r"<think>((?!</?think>).)+</think>\\boxed\{[^}]+\}", text) is not None


def test_feedback_is_half_good_and_half_bad() -> None:
    found = rows("feedback")
    assert sum(row["label"] for row in found) * 2 == len(found)
    for row in found:
        assert list(row) == ["prompt", "completion", "label", "answer"]
        text = row["completion"][0]["content"]
        right = well_formed(text) and boxed(text) == recompute(prompt_of(row))
        assert right is row["label"]


def test_stories_are_plain_text() -> None:
    found = [row["text"] for row in rows("stories")]
    assert len(found) == len(set(found)) >= 200
    assert all(len(text) > 100 and "<" not in text for text in found)


def test_the_generators_rebuild_the_shipped_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder("sets", monkeypatch).write_sets(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(path.name for path in DATA.glob("*.jsonl"))
    for name in names:
        assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes(), name


def test_the_starter_model_reads_no_held_out_question(monkeypatch: pytest.MonkeyPatch) -> None:
    mixture = builder("mixture", monkeypatch)
    source = mixture.readings("a test of separation")
    read = {next(source).prompt for _ in range(20_000)}
    for name in TESTS:
        assert not read & {prompt_of(row) for row in rows(name)}
