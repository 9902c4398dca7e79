"""The verb `inspect` with the real worker: its object, its refusals, and Stop."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.__main__ import main
from studio.jobs import Jobs
from studio.records import JobRow
from tests.conftest import WorkerHere
from workers.data.reader import read_table
from workers.protocol import wire
from workers.protocol.events import Inspected, Progress
from workers.protocol.jobs import Inspect
from workers.protocol.recipe import Source
from workers.protocol.refusal import Refusal

Verb = Callable[..., tuple[int, Any]]

pytestmark = pytest.mark.torch  # transformers loads torch beside the tokenizer


def verb(tmp_path: Path, *arguments: str) -> list[str]:
    return ["inspect", *arguments, "--json", "--home", str(tmp_path / "home")]


@pytest.fixture
def inspect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Verb:
    """The verb with the real worker, both within this process: its code and its object."""
    monkeypatch.setattr("studio.jobs.launch", WorkerHere)

    def run(*arguments: str) -> tuple[int, Any]:
        code = main(verb(tmp_path, *arguments))
        return code, json.loads(capsys.readouterr().out)

    return run


def write(path: Path, rows: list[Any]) -> str:
    lines = [line if isinstance(line, str) else json.dumps(line) for line in rows]
    path.write_text("\n".join(lines))
    return str(path)


def test_a_dataset_is_told_whole_with_all_that_is_wrong(tmp_path: Path) -> None:
    rows: list[Any] = [
        {"prompt": f"Say {word}", "completion": f"{word}, as you said: {word}."}
        for word in ("boat", "lamp", "reef", "storm", "crew", "rope", "sail", "wind")
    ]
    rows[2] = "{broken"
    rows[3] = {"prompt": "Say it", "completion": "[INST] Hi [/INST]"}
    rows[4] = {"prompt": "{{messages}}", "completion": "What is it?"}
    rows[5] = {"prompt": "long " * 100, "completion": "Yes."}
    rows[6] = {"prompt": "Tell all", "completion": "and so on " * 100}
    test = write(tmp_path / "test.jsonl", [rows[0]])
    path = write(tmp_path / "d.jsonl", rows)
    ended = subprocess.run(
        [sys.executable, "-m", "studio",
         *verb(tmp_path, path, "--max-length", "64", "--too-long", "cut", "--test", test)],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    told = json.loads(ended.stdout)
    assert ended.returncode == 0
    assert (told["format"], told["rows"], told["stage"]) == ("prompt_completion", 7, "sft")
    assert told["stages"] == ["sft", "rlhf", "grpo", "distill"]
    assert [line["line"] for line in told["bad"]] == [3]
    assert "not valid JSON" in told["bad"][0]["reason"]
    found = {one["kind"]: one for one in told["findings"]}
    assert set(found) == {
        "wrong_template", "template_literal", "no_trained_tokens", "answer_cut_off", "truncated",
        "test_overlap",
    }  # fmt: skip
    for one in found.values():
        assert {"level", "count", "share", "examples", "meaning", "remedy"} <= one.keys()
        assert one["count"] >= 1 <= len(one["examples"]) <= 3
    assert 0 < told["trained_token_share"] < 1
    assert told["tokens"]["percentiles"]["p100"] > 64


def test_a_file_of_bad_rows_alone_is_told_too(tmp_path: Path, inspect: Verb) -> None:
    alike = {"prompt": "Hi", "chosen": "Yes", "rejected": "Yes"}
    code, told = inspect(write(tmp_path / "bad.jsonl", ["{", alike]))
    assert code == 0
    assert (told["format"], told["rows"], told["stages"]) == (None, 0, [])
    assert [line["line"] for line in told["bad"]] == [1, 2]
    assert [one["kind"] for one in told["findings"]] == ["chosen_equals_rejected"]
    assert told["trained_token_share"] is None


def test_what_reading_passed_over_is_told(tmp_path: Path, inspect: Verb) -> None:
    path = tmp_path / "d.csv"
    said = '"[{""role"": ""user"", ""content"": ""café?""}, {""role"": ""assistant"", ""content"": '
    more = ', {""role"": ""user"", ""content"": ""And?""}'
    rows = [f'{said}""Yes.""}}{more * goes_on}]"' for goes_on in (0, 1, 1)]
    path.write_bytes("\r\n".join(["messages", *rows, ""]).encode("cp1252"))
    code, told = inspect(str(path))
    assert (code, told["rows"], told["bad"]) == (0, 3, [])
    found = {one["kind"]: (one["count"], one["level"]) for one in told["findings"]}
    assert found["goes_on"] == (2, "advice")
    assert found["by_windows"] == (3, "advice")


def test_of_very_many_bad_lines_the_first_are_listed_and_all_counted(
    tmp_path: Path, inspect: Verb
) -> None:
    rows: list[Any] = [{"prompt": "Hi", "completion": "Ho"}, *["{"] * 3000]
    code, told = inspect(write(tmp_path / "d.jsonl", rows))
    assert (code, told["rows"], told["bad_total"]) == (0, 1, 3000)
    assert [line["line"] for line in told["bad"]] == list(range(2, 1002))


def test_columns_of_other_names_are_proposed_once_and_taken_by_map(
    tmp_path: Path, inspect: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "desk.jsonl", [
        {"customer_message": f"Number {n} is broken.", "agent_reply": f"Send {n} back.",
         "rating": n % 5} for n in range(300)
    ])  # fmt: skip
    code, told = inspect(path)
    assert (code, told["rows"], told["bad_total"]) == (0, 0, 300)
    (group,) = told["bad_groups"]
    assert (group["count"], group["places"]) == (300, ["1", "2", "3"])
    mapping = {"customer_message": "prompt", "agent_reply": "completion"}
    assert told["proposal"]["mapping"] == mapping
    assert len(told["proposal"]["examples"]) == 3
    options = [word for theirs, ours in mapping.items() for word in ("--map", f"{theirs}={ours}")]
    assert main(["inspect", path, "--home", str(tmp_path / "home")]) == 0
    said = capsys.readouterr()
    words = " ".join((said.out + said.err).split())
    assert words.count("its keys are") == 1
    assert "Line 1: its keys are" in words
    assert "(and 299 more lines: 2, 3, …)" in words
    assert f"To take it, add: {' '.join(options)}" in words
    code, told = inspect(path, *options)
    assert (code, told["rows"], told["bad_total"], told["proposal"]) == (0, 300, 0, None)
    with pytest.raises(Refusal, match=r"300 of 300 rows.*299 more lines: 2, 3.*--map customer"):
        read_table(path)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl"),
        (["builtin:sums", "--stage", "dpo"], "cannot serve"),
        (["builtin:sums", "--model", "nobody-such"], "nobody-such"),
    ],
)
def test_what_cannot_be_inspected_is_refused(
    inspect: Verb, arguments: list[str], word: str
) -> None:
    code, told = inspect(*arguments)
    assert code == 1
    assert word in told["error"]
    assert told["remedy"]


def test_an_audit_says_how_far_it_is_and_obeys_stop(
    detached: Jobs,
    tmp_path: Path,
    wait_until: Callable[..., None],
    follow: Callable[..., JobRow],
) -> None:
    words = [f"word{n}" for n in range(300)]
    path = tmp_path / "many.jsonl"
    with path.open("w") as file:
        for n in range(40_000):
            said = " ".join(words[n % 7 : 290 : 1 + n % 3])
            file.write(json.dumps({"prompt": f"Number {n}", "completion": said}) + "\n")
    job = detached.start(Inspect(source=Source(source=str(path))))

    def progress() -> list[Progress]:
        lines = wire.read_events(detached.folder(job))
        told = [line.event for line in lines if isinstance(line.event, Progress)]
        return [one for one in told if one.unit == "rows"]

    wait_until(lambda: detached.poll() is not None and progress(), 120)
    detached.stop(job)
    row = follow(detached, job)
    assert row.status == "stopped"
    first = progress()[0]
    assert first.total == 40_000
    assert first.seconds_left is not None
    assert first.words.endswith(f" of 40,000 rows, {round(first.seconds_left)} s left")
    events = [line.event for line in wire.read_events(detached.folder(job))]
    assert not any(isinstance(event, Inspected) for event in events)


def test_a_template_of_ones_own_is_linted_and_used(tmp_path: Path, inspect: Verb) -> None:
    data = write(tmp_path / "d.jsonl", [{"prompt": f"Ask {n}", "completion": "Say"} for n in "ab"])
    path = tmp_path / "mine.jinja"
    path.write_text("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}")
    code, told = inspect(data, "--template", str(path))
    assert code == 0
    assert told["template_findings"][0]["text"].startswith("Nothing ends an answer")
    assert [one["level"] for one in told["template_findings"]] == ["error", "warning", "info"]
    path.write_text("{% for m in messages %}")
    code, told = inspect(data, "--template", str(path))
    assert code == 1
    assert "mine does not render (line 1)" in told["error"]
    assert inspect(data, "--template", "chatlm")[1]["cause"] == "Did you mean chatml?"
    assert "'Mine'" in inspect(data, "--template", "Mine")[1]["error"]
