"""Each kind of reward on answers whose worth is plain, and the sum of several."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.workers.test_reasoning import STARTER, shipped
from workers.answers import boxes, equal_as_mathematics, final_answer, is_right
from workers.data.schema.row import Row
from workers.data.tokenize.encode import encode
from workers.engines.tokenizer import read_tokenizer
from workers.protocol import rewards as asked
from workers.protocol.refusal import Refusal
from workers.rewards import Rewards, Sample, models
from workers.rewards.sandbox import Outcome

Score = Callable[..., float | None]


@pytest.fixture
def score(tmp_path: Path) -> Iterator[Score]:
    """What one reward gives one answer."""
    opened: list[Rewards] = []

    def run(reward: asked.AnyReward, completion: str, answer: str = "42", tokens: int = 5) -> Any:
        opened.append(Rewards([reward], tmp_path))
        prompt = [{"role": "user", "content": "What is 12 + 30?"}]
        return opened[-1].score([Sample(prompt, completion, answer, tokens)]).parts[0][0].value

    yield run
    for rewards in opened:
        rewards.close()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("\\boxed{1} and \\boxed{ 2 }", ["1", "2"]),
        ("\\boxed{\\frac{1}{2}}", ["\\frac{1}{2}"]),
        ("\\boxed {3}", ["3"]),
        ("\\boxed{open", []),
    ],
)
def test_boxes_are_found_with_balanced_braces(text: str, found: list[str]) -> None:
    assert boxes(text) == found


def test_the_final_answer_is_the_last_box_or_the_last_line_after_thinking() -> None:
    assert final_answer("\\boxed{1} no, \\boxed{2}") == "2"
    assert final_answer("<think>7</think>\nSo:\n 8 ") == "8"
    assert final_answer("8", boxed_only=True) is None
    assert final_answer("") is None


@pytest.mark.parametrize(
    ("said", "right", "equal"),
    [
        ("42", "42", True),
        ("042", "42", True),
        ("43", "42", False),
        ("1/2", "0.5", True),
        ("\\frac{1}{2}", "0.5", True),
        ("\\{1, 2\\}", "\\{2, 1\\}", True),
        ("x + 1", "1 + x", True),
        ("9" * 5000, "42", False),
        ("", "42", False),
    ],
)
def test_answers_are_compared_as_mathematics(said: str, right: str, equal: bool) -> None:
    assert equal_as_mathematics(said, right) is equal


def test_several_different_boxes_are_no_answer() -> None:
    assert is_right("\\boxed{42} that is \\boxed{42}", "42")
    assert not is_right("\\boxed{41} or \\boxed{42}", "42")


F, M = asked.Format, asked.Match


@pytest.mark.parametrize(
    ("reward", "completion", "value"),
    [
        (F(), "<think>so</think>\\boxed{1}", 1.0),
        (F(), "<think></think>\\boxed{1}", 0.0),
        (F(), "Well, <think>so</think>\\boxed{1}", 0.0),
        (F(pattern="<think>.*</think>.*\\boxed{.+}"), "<think>a\nb</think>\n\\boxed{1}", 1.0),
        (F(tags="think,answer"), "<think>a</think><answer>b</answer>", 1.0),
        (F(tags="think,answer"), "<answer>b</answer><think>a</think>", 0.5),
        (F(tags="think"), "<think>a</think><think>a</think>", 0.0),
        (asked.MathAnswer(), "so \\boxed{42.0}", 1.0),
        (asked.MathAnswer(), "42", 0.0),
        (asked.MathAnswer(boxed_only=False), "It comes to\n42", 1.0),
        (M(), "\\boxed{ 42 }", 1.0),
        (M(), "42 or 43", 0.0),
        (M(mode="contains"), "it is 42, I think", 1.0),
        (M(mode="regex", pattern="Answer: (\\d+)"), "Answer: 42", 1.0),
        (M(mode="regex", pattern="Answer: (\\d+)"), "Answer: 43", 0.0),
        (asked.JsonSchema(), '```json\n{"a": 1}\n```', 1.0),
        (asked.JsonSchema(), "[1]", 0.25),
        (asked.JsonSchema(), "not json", 0.0),
        (asked.JsonSchema(schema='{"required": ["b"]}'), '{"a": 1}', 0.25),
        (asked.Repetition(ngram=2), "a b a b a b", -0.6),
        (asked.Repetition(ngram=2), "a b c d", 0.0),
    ],
)
def test_a_reward_gives_what_it_says(
    score: Score, reward: asked.AnyReward, completion: str, value: float
) -> None:
    assert score(reward, completion) == pytest.approx(value)


def test_a_choice_is_one_letter(score: Score) -> None:
    assert score(M(mode="choice"), "\\boxed{B}", "b") == 1.0
    assert score(M(mode="choice"), "\\boxed{A or B}", "B") == 0.0


@pytest.mark.parametrize(
    ("tokens", "value"), [(0, -1.0), (5, -0.5), (10, 0), (60, 0), (80, -0.5), (100, -1), (500, -1)]
)
def test_length_falls_evenly_outside_its_bounds(score: Score, tokens: int, value: float) -> None:
    reward = asked.Length(min_tokens=10, max_tokens=100, buffer_tokens=40)
    assert score(reward, "", tokens=tokens) == pytest.approx(value)


def test_language_tells_english_from_german(score: Score) -> None:
    english = "The quick brown fox jumps over the lazy dog and runs away into the forest."
    german = "Der schnelle braune Fuchs springt über den faulen Hund und läuft in den Wald."
    reward = asked.Language(language="en")
    assert (score(reward, english) or 0) > 0.9
    assert (score(reward, german) or 0) < 0.1
    assert score(reward, "") == 0.0


def test_reasoning_gym_verifies_with_its_own_rules(score: Score) -> None:
    pytest.importorskip("reasoning_gym")
    assert score(asked.ReasoningGym(task="chain_sum"), "\\boxed{42}") == 1.0
    assert (score(asked.ReasoningGym(task="chain_sum"), "\\boxed{41}") or 0) < 0.5


def test_a_search_that_never_ends_costs_its_sample(score: Score) -> None:
    assert score(M(mode="regex", pattern="(a|aa)+$"), "a" * 60 + "b") is None


def test_your_own_python_scores(score: Score) -> None:
    code = "def reward(prompt, completion, answer):\n    return prompt.count('1') + len(completion)"
    assert score(asked.Python(code=code), "abc") == 4.0


@pytest.mark.parametrize(
    ("reward", "reason"),
    [
        (F(pattern="("), "no regular expression"),
        (M(mode="regex"), "needs a pattern"),
        (asked.JsonSchema(schema="{"), "no JSON Schema"),
        (asked.Language(language="xx"), "no language"),
        (asked.Python(code="reward = 3"), "cannot be loaded"),
        (asked.Judge(url="file:///etc/passwd"), "not an address"),
    ],
)
def test_what_cannot_work_is_refused_before_the_run(
    score: Score, reward: asked.AnyReward, reason: str
) -> None:
    with pytest.raises(Refusal, match=reason):
        score(reward, "")


class Server(BaseHTTPRequestHandler):
    """A judge that gives seven of ten, and a broken reply to a broken answer."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        broken = "broken" in body["messages"][-1]["content"]
        said = "I cannot say" if broken else "<think>between 3 and 9</think> 7"
        reply = json.dumps({"choices": [{"message": {"content": said}}]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def judge() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_judge_marks_over_an_openai_compatible_endpoint(score: Score, judge: str) -> None:
    assert score(asked.Judge(url=judge, model="m"), "fine") == pytest.approx(0.7)
    assert score(asked.Judge(url=judge, model="m"), "broken") is None
    assert score(asked.Judge(url="http://127.0.0.1:9/v1", seconds=1), "fine") is None


class Given:
    """A scorer that says what it was given."""

    def __init__(self, outcomes: list[Outcome]) -> None:
        self._outcomes = outcomes

    def score(self, samples: Sequence[Sample]) -> list[Outcome]:
        return self._outcomes


def test_the_sum_is_weighted_and_one_fault_takes_the_sample_out(tmp_path: Path) -> None:
    rewards = Rewards([asked.MathAnswer(weight=2.0), asked.MathAnswer(weight=0.5)], tmp_path)
    assert rewards.names == ["math_answer", "math_answer#2"]
    rewards.scorers = [
        Given([Outcome(1.0), Outcome(None, "it hung")]),
        Given([Outcome(-1.0), Outcome(1.0)]),
    ]
    samples = [Sample([], "", "", 0)] * 2
    assert rewards.score(samples).totals == [1.5, None]


@pytest.mark.parametrize("name", ["phi3_5", "gemma4", "deepseek_r1_distill", "glm4moe"])
def test_a_reward_model_reads_what_it_learnt_from(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These templates write the last answer otherwise than behind the prompt of inference."""
    read: list[list[int]] = []
    monkeypatch.setattr(models, "scores", lambda _, __, ids: read.extend(ids) or [0.0])
    scorer = models.TrainedModel.__new__(models.TrainedModel)
    scorer.model, scorer.tokenizer = None, read_tokenizer(STARTER)
    scorer.tokenizer.chat_template = shipped(name)
    completion = "<think>\n2+2\n</think>\n\nFour."
    prompt = [{"role": "user", "content": "Two and two?"}]
    scorer.score([Sample(prompt, completion, "", 1)])
    pair = Row(
        prompt=prompt, completion=[{"role": "assistant", "content": completion}],
        rejected=[{"role": "assistant", "content": "<think>\nno\n</think>\n\nFive."}],
    )  # fmt: skip
    learnt, _ = encode(pair, "reward", scorer.tokenizer)
    assert read == [learnt.input_ids]
