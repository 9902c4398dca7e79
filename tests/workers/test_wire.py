"""Lines on disk: numbered, followed by byte cursor, tolerant of torn and later ones."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from workers.protocol import wire
from workers.protocol.events import (
    Event,
    Failed,
    Finding,
    FindingCleared,
    Finished,
    Metrics,
    Phase,
    Started,
    Unknown,
)
from workers.protocol.jobs import Job, Train
from workers.protocol.recipe import Recipe
from workers.protocol.refusal import Refusal
from workers.protocol.requests import Say, Stop


def test_an_event_survives_the_wire() -> None:
    event = Metrics(step=3, values={"loss": 1.5, "entropy": None}, seconds=2.0)
    line = wire.decode_event(wire.encode_event(7, event))
    assert (line.n, line.event) == (7, event)


def test_an_event_of_a_later_version_becomes_unknown() -> None:
    later = b'{"n": 1, "t": 0.5, "event": {"type": "Sang", "tune": "la"}}'
    assert wire.decode_event(later).event == Unknown(
        name="Sang", fields={"type": "Sang", "tune": "la"}
    )
    changed = b'{"n": 1, "t": 0.5, "event": {"type": "Phase", "title": "other"}}'
    assert isinstance(wire.decode_event(changed).event, Unknown)


def test_a_request_of_a_later_version_is_passed_over() -> None:
    assert wire.decode_request(b'{"type": "Dance"}') is None
    assert wire.decode_request(msgspec.json.encode(Stop())) == Stop()
    say = Say(messages=[{"role": "user", "content": "hi"}])
    assert wire.decode_request(msgspec.json.encode(say)) == say


def test_following_reads_each_line_once_and_waits_for_a_torn_one(tmp_path: Path) -> None:
    path = tmp_path / wire.EVENTS
    first, second = (wire.encode_event(n, Phase(name=str(n))) for n in (1, 2))
    path.write_bytes(first + second[:10])
    follower = wire.follow_events(tmp_path)
    assert [line.n for line in follower.read()] == [1]
    assert follower.behind
    assert list(follower.read()) == []
    with path.open("ab") as file:
        file.write(second[10:])
    assert [line.n for line in follower.read()] == [2]
    assert not follower.behind


def test_following_in_small_bites_loses_nothing(tmp_path: Path) -> None:
    lines = [wire.encode_event(n, Phase(name="x" * n)) for n in range(1, 50)]
    (tmp_path / wire.EVENTS).write_bytes(b"".join(lines))
    follower = wire.follow_events(tmp_path)
    heard: list[int] = []
    while follower.behind:
        heard += [line.n for line in follower.read(limit_bytes=100)]
    assert heard == list(range(1, 50))


def test_a_line_that_is_no_event_is_passed_over(tmp_path: Path) -> None:
    good = wire.encode_event(1, Finished())
    (tmp_path / wire.EVENTS).write_bytes(b'{"n": 1, "t"\n' + good)
    assert [line.event for line in wire.read_events(tmp_path)] == [Finished()]


def test_a_job_that_was_started_again_has_not_ended(tmp_path: Path) -> None:
    failed = Failed(what="A.", cause="B.", remedy="C.")
    started = Started(pid=1, protocol=1, python="3.11")
    said: list[Event] = [started, failed]
    for more, end in ((None, failed), (started, None), (Finished(), Finished())):
        said += [more] if more else []
        lines = b"".join(wire.encode_event(n, event) for n, event in enumerate(said, start=1))
        (tmp_path / wire.EVENTS).write_bytes(lines)
        assert wire.ending(wire.read_events(tmp_path)) == end


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    wire.write_atomically(path, b"old")
    with pytest.raises(TypeError):
        wire.write_atomically(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


def test_a_job_survives_the_wire_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    job = Job(id="a", name="a", created="now", home="/h", task=Train(recipe=Recipe()))
    wire.write_job(tmp_path, job)
    assert wire.read_job(tmp_path) == job
    assert job.kind == "train"
    (tmp_path / wire.JOB).write_text("{")
    with pytest.raises(Refusal, match="cannot be read"):
        wire.read_job(tmp_path)
    with pytest.raises(Refusal, match="holds no job"):
        wire.read_job(tmp_path / "none")


def test_events_of_an_earlier_version_are_read_under_present_names() -> None:
    values = {"clip_share": 0.5, "eval_longer_wins": 0.25, "loss": 1.0}
    old = [
        {"type": "Metrics", "step": 3, "values": values, "seconds": 1.0},
        {"type": "Finding", "kind": "k", "level": "advice", "step": 3, "metric": "zero_std_share",
         "meaning": "m", "remedy": "r"},
        {"type": "Eased", "kind": "k", "step": 4},
    ]  # fmt: skip
    lines = [msgspec.json.encode({"n": 1, "t": 0.0, "event": event}) for event in old]

    metrics, finding, cleared = (wire.decode_event(line).event for line in lines)

    assert isinstance(metrics, Metrics)
    assert metrics.values == {"clip_fraction": 0.5, "eval_length_bias": 0.25, "loss": 1.0}
    assert isinstance(finding, Finding)
    assert finding.metric == "frac_reward_zero_std"
    assert cleared == FindingCleared(kind="k", step=4)


def test_a_job_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """Its recipes, those that are to follow too, hold keys that have another name now."""
    job = Job(id="a", name="a", created="now", home="/h", task=Train(recipe=Recipe()),
              then=[Recipe(name="b")])  # fmt: skip
    plain = msgspec.to_builtins(job)
    for recipe in (plain["task"]["recipe"], *plain["then"]):
        recipe["training"]["warmup"] = recipe["training"].pop("warmup_ratio")
        recipe["rl"]["updates_per_batch"] = recipe["rl"].pop("num_iterations")
    (tmp_path / wire.JOB).write_bytes(msgspec.json.encode(plain))

    assert wire.read_job(tmp_path) == job


def test_numbers_that_are_none_become_null() -> None:
    values = {"a": 1, "b": float("nan"), "c": float("inf"), "d": None}
    assert wire.finite(values) == {"a": 1.0, "b": None, "c": None, "d": None}
