"""Foreign code in the sandbox: whatever it tries, it costs its own sample and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import wait_for
from workers.protocol.refusal import Refusal
from workers.rewards.sandbox import Outcome, Sandbox, bubblewrap

ROOT = Path(__file__).parents[2]
BWRAP = bubblewrap()
CODE = f"""
import os, socket
HERE = {str(ROOT)!r}
def reward(prompt, completion, answer):
    exec(completion)
    return 1.0
"""
LIMIT_S = 1.0

needs_bubblewrap = pytest.mark.skipif(BWRAP is None, reason="bubblewrap cannot run here")


@pytest.fixture(params=["bubblewrap", "rlimits"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    if request.param == "bubblewrap" and BWRAP is None:
        pytest.skip("bubblewrap cannot run here")
    bwrap = BWRAP if request.param == "bubblewrap" else None
    with Sandbox("reward", CODE, 256, bwrap) as opened:
        opened.check()
        yield opened


@pytest.fixture
def contained() -> Iterator[Sandbox]:
    with Sandbox("reward", CODE, 256, BWRAP) as opened:
        opened.check()
        yield opened


def run(sandbox: Sandbox, attack: str) -> Outcome:
    """The outcome of an attack, after which a harmless call must still be scored."""
    calls = [{"prompt": "", "completion": code, "answer": ""} for code in (attack, "pass")]
    attacked, harmless = sandbox.run(calls, 2 * LIMIT_S)
    assert harmless == Outcome(1.0)
    return attacked


@pytest.mark.parametrize(
    ("attack", "fault"),
    [
        ("while True: pass", "longer than"),
        ("while True:\n try:\n  while True: pass\n except BaseException: pass", "longer than"),
        ("bytearray(10**10)", "MemoryError"),
        ("raise ValueError('no')", "ValueError: no"),
        ("raise SystemExit", "SystemExit"),
        ("os._exit(0)", "without a value"),
        ("os.kill(os.getpid(), 11)", "without a value"),
        ("open('/tmp/finetune-studio-large', 'w').write('x' * 10**8)", "File too large"),
    ],
)
def test_hanging_raising_and_dying_cost_that_sample(
    sandbox: Sandbox, attack: str, fault: str
) -> None:
    outcome = run(sandbox, attack)
    assert outcome.value is None
    assert fault in outcome.fault


@needs_bubblewrap
@pytest.mark.parametrize(
    ("attack", "fault"),
    [
        ("socket.create_connection(('127.0.0.1', 80), 1)", "Error"),
        ("socket.create_connection(('192.0.2.1', 80), 1)", "unreachable"),
        ("open(HERE + '/pyproject.toml')", "No such file"),
        ("open('/etc/passwd')", "No such file"),
        ("os.listdir(os.path.expanduser('~root') + '/.ssh')", "No such file"),
        ("open(HERE + '/planted', 'w')", "Error"),
        ("open('/usr/planted', 'w')", "Error"),
        ("os.kill(1, 9)", "Error"),
        ("os.setuid(0)", "Operation not permitted"),
    ],
)
def test_there_is_no_network_and_nothing_to_read_or_write(
    contained: Sandbox, attack: str, fault: str
) -> None:
    outcome = run(contained, attack)
    assert outcome.value is None
    assert fault in outcome.fault
    assert not (ROOT / "planted").exists()


@needs_bubblewrap
def test_a_fork_bomb_ends_with_its_sample(contained: Sandbox) -> None:
    outcome = run(contained, "while True: os.fork()")
    assert outcome.value is None
    assert contained._child is not None
    ours = psutil.Process(contained._child.pid)  # bubblewrap's first, with its second and the child
    wait_for(lambda: len(ours.children(recursive=True)) <= 2)


@needs_bubblewrap
def test_what_kills_the_child_is_told_and_the_next_call_gets_a_new_one(contained: Sandbox) -> None:
    assert "brought the sandbox down" in run(contained, "os.kill(-1, 9)").fault


def test_a_batch_that_hangs_ends_within_its_limit_and_a_second(sandbox: Sandbox) -> None:
    calls = [{"prompt": "", "completion": "while True: pass", "answer": ""}] * 16
    began = time.monotonic()
    outcomes = sandbox.run(calls, LIMIT_S)
    assert time.monotonic() - began < LIMIT_S + 1
    assert [outcome.value for outcome in outcomes] == [None] * 16


@pytest.mark.parametrize(
    ("returned", "fault"),
    [("None", "returned None"), ("float('nan')", "returned nan"), ("'high'", "returned 'high'")],
)
def test_nonsense_is_no_score(returned: str, fault: str) -> None:
    code = f"def reward(prompt, completion, answer):\n    return {returned}"
    with Sandbox("reward", code, 256, BWRAP) as opened:
        (outcome,) = opened.run([{"prompt": "", "completion": "", "answer": ""}], LIMIT_S)
    assert outcome.value is None
    assert fault in outcome.fault


@pytest.mark.parametrize("code", ["import nothing_of_that_name", "x = 1", "def reward(:"])
def test_code_that_cannot_be_loaded_is_refused_before_the_run(code: str) -> None:
    with Sandbox("reward", code, 256, BWRAP) as opened, pytest.raises(Refusal, match="loaded"):
        opened.check()


def test_the_tests_of_an_answers_code_are_counted() -> None:
    tests = "assert double(2) == 4\nassert double(0) == 0\nassert double(1) == 3"
    with Sandbox("tests", "", 256, BWRAP) as opened:
        outcomes = opened.run(
            [
                {"completion": "def double(x):\n    return 2 * x", "answer": tests},
                {"completion": "def double(x:", "answer": tests},
                {"completion": "while True: pass", "answer": tests},
            ],
            3 * LIMIT_S,
        )
    assert outcomes[0].value == pytest.approx(2 / 3)
    assert [outcome.value for outcome in outcomes[1:]] == [None, None]
