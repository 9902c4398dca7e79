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
