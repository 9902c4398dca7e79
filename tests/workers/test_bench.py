"""The reward bench names every bad reward and lets good ones pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.bench import examine
from workers.data.reader import Row, read_table
from workers.protocol.bench import BenchResult
from workers.protocol.rewards import AnyReward, Format, Length, Match, MathAnswer, Python
from workers.rewards import Rewards, Sample
from workers.rewards.references import reference_findings

BAD = {
    "exploited by length": "def reward(prompt, completion, answer):\n"
    "    return len(completion) / 1000",
    "form alone": "import re\ndef reward(prompt, completion, answer):\n"
    "    return float(bool(re.fullmatch(r'<think>.*</think>.*boxed{.+}', completion, re.S)))",
    "echo": "def reward(prompt, completion, answer):\n    return float(answer in completion)",
    "always one": "def reward(prompt, completion, answer):\n    return 1.0",
    "fails on nothing": "def reward(prompt, completion, answer):\n"
    "    return float(completion.split()[-1].endswith('{' + answer + '}'))",
    "capitals decide": "def reward(prompt, completion, answer):\n"
    "    return float('boxed{' + answer + '}' in completion and 'We work' in completion)",
}  # fmt: skip
NAMED = {
    "exploited by length": "over_long",
    "form alone": "wrong_value",
    "echo": "echo",
    "always one": "blind",
    "fails on nothing": "fails:empty",
    "capitals decide": "other_case",
}
GOOD: dict[str, list[AnyReward]] = {
    "the answer": [MathAnswer()],
    "the answer and a little for the form": [MathAnswer(), Format(weight=0.2)],
    "the exact answer, not too long": [Match(mode="exact"), Length(max_tokens=400, weight=0.1)],
}


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return list(read_table("builtin:arithmetic").rows[:16])


@pytest.fixture
def tried(rows: list[Row], tmp_path: Path) -> Iterator[object]:
    opened: list[Rewards] = []

    def run(rewards: list[AnyReward], samples: list[Sample] | None = None) -> BenchResult:
        opened.append(Rewards(rewards, tmp_path))
        return examine(opened[-1], rows, samples or [], group_size=4)

    yield run
    for rewards in opened:
        rewards.close()


@pytest.mark.parametrize("name", BAD)
def test_a_bad_reward_is_suspect_and_its_fault_is_named(name: str, tried) -> None:  # noqa: ANN001
    result = tried([Python(code=BAD[name])])
    assert result.verdict == "suspect"
    assert NAMED[name] in [finding.kind for finding in result.findings]


@pytest.mark.parametrize("name", GOOD)
def test_a_good_reward_passes(name: str, tried) -> None:  # noqa: ANN001
    result = tried(GOOD[name])
    assert result.verdict == "ok", result.findings


def test_form_that_pays_half_is_told_in_words(tried) -> None:  # noqa: ANN001
    pattern = "<think>.*</think>.*\\boxed{.+}"
    result = tried([Format(pattern=pattern, weight=0.5), Match(weight=0.5)])
    (found,) = [f for f in result.findings if f.kind == "format_alone"]
    assert found.text == (
        "Empty thinking and a wrong value scores 0.50, a right answer 1.00: it can be exploited."
    )


def test_samples_are_summed_up(rows: list[Row], tried) -> None:  # noqa: ANN001
    row = rows[0]
    right = Sample(row.prompt, f"<think>so</think>\\boxed{{{row.answer}}}", row.answer, 9)
    bad = right._replace(completion="no")
    result = tried([MathAnswer(), Format(weight=0.5)], [right, bad, bad, bad, *[right] * 4])
    answer, form, total = result.rewards
    assert (answer.mean, answer.zero_variance_share, total.mean) == (0.625, 0.5, 0.9375)
    assert form.std == pytest.approx(0.4841, abs=1e-4)
    assert result.agreement[0].correlation == pytest.approx(1.0)
    assert (result.samples, result.prompts) == (8, 2)


# Reference answers

PROSE = "He would have to sell half as many as he did in the month before that one"


def asked(question: str, answer: str) -> Row:
    return Row(prompt=[{"role": "user", "content": question}], answer=answer)


@pytest.mark.parametrize(
    ("answer", "rewards", "checked"),
    [
        ("72", [MathAnswer()], True),
        ("48/2 = 24, and twice that are 48 + 24 = 72 #### 72", [MathAnswer()], True),
        ("48/2 = 24, so it is \\boxed{72}", [MathAnswer()], True),
        ("Paris", [MathAnswer()], True),
        ("Paris", [Match(mode="choice")], False),
        ("B", [Match(mode="choice")], True),
        (PROSE, [MathAnswer()], False),
        (PROSE, [MathAnswer(), Python(code=BAD["always one"])], True),
    ],
)  # fmt: skip
def test_references_that_no_reward_can_check_are_named(
    tmp_path: Path, answer: str, rewards: list[AnyReward], checked: bool
) -> None:
    opened = Rewards(rewards, tmp_path)
    try:
        found = reference_findings(opened, [asked(f"How many, {n}?", answer) for n in range(4)])
    finally:
        opened.close()
    assert [one.kind for one in found] == [] if checked else ["unchecked_answers"]
    assert checked or (found[0].level == "suspect" and "4 of 4 rows" in found[0].text)


def test_references_that_stand_in_their_question_are_named(tmp_path: Path) -> None:
    opened = Rewards([Match()], tmp_path)
    told = [asked(f"Which is it (it is {name})?", name) for name in ("Paris", "Rome")]
    kept = [asked("What is 12 + 34?", "46"), asked("Is 46 right?", "46"), asked("Romeo?", "Rome")]
    (found,) = reference_findings(opened, [*told, *kept])
    assert (found.kind, found.level) == ("answer_in_question", "advice")
    assert "2 of 5 rows" in found.text
    assert not reference_findings(opened, kept)
