"""What is measured on held-out rows: means, and what each row gave."""

from __future__ import annotations

from workers.data.reader import Row
from workers.evaluate import Completion, Measured, accuracy_of


def _row(answer: str) -> Row:
    return Row(prompt=[{"role": "user", "content": "What is 1 + 1?"}], answer=answer)


def test_right_answers_are_counted_and_kept_row_by_row() -> None:
    said = [Completion("2", 1, truncated=False), Completion("It is 3", 3, truncated=True)]
    measured = accuracy_of([_row("2"), _row("2")], said)
    assert measured.values == {"accuracy": 0.5, "completion_length": 2.0, "truncation_rate": 0.5}
    assert measured.each == {"accuracy": [1.0, 0.0]}


def test_what_is_measured_in_two_ways_is_put_together() -> None:
    one, other = Measured({"loss": 1.0}), Measured({"reward": 0.5}, {"reward": [0.5, None]})
    both = Measured({"loss": 1.0, "reward": 0.5}, {"reward": [0.5, None]})
    assert one | other == both
