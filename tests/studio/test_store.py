"""The index: events applied twice change nothing, and it can be rebuilt from the folders."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from studio.jobs import Jobs
from studio.paths import Home
from studio.records import JobRow
from studio.store import Store
from workers.protocol.events import (
    Artifact,
    Evaluated,
    Failed,
    Finding,
    FindingCleared,
    Finished,
    Metrics,
    Note,
    Paused,
    Progress,
    Resumed,
    Rollout,
    Sampled,
    Started,
)
from workers.protocol.jobs import Export, Job, Train
from workers.protocol.recipe import Recipe
from workers.protocol.wire import Line

STARTED = Started(pid=1, protocol=1, python="3.11")


def _job(name: str = "j", parent: str | None = None) -> Job:
    task = Export(run_folder="", targets=[]) if parent else Train(recipe=Recipe())
    return Job(id=name, name=name, created="2026-01-01", home="", task=task, parent=parent)


def _lines(*events: object) -> list[Line]:
    return [Line(n, float(n), event) for n, event in enumerate(events, start=1)]  # type: ignore[arg-type]


def test_the_same_events_twice_change_nothing(store: Store) -> None:
    store.add(_job())
    lines = _lines(
        STARTED,
        Progress(done=0, total=2),
        Metrics(step=1, values={"loss": 3.0}, seconds=1.0),
        Metrics(step=2, values={"loss": None}, seconds=2.0),
        Evaluated(when="after", step=2, values={"reward": 1.0}, rows=2, each={"reward": [1, None]}),
        Finished(summary={"steps": 2}),
    )
    for _ in range(2):
        store.apply("j", lines, cursor=99)
    row = store.job("j")
    assert row is not None
    assert (row.status, row.steps, row.total_steps, row.cursor) == ("finished", 2, 2, 99)
    series = store.series("j", "loss")
    assert series.steps == [1, 2]
    assert math.isnan(series.values[1])
    assert store.first_and_last("j") == ({"loss": 3.0}, {"loss": 3.0})
    assert store.last_value("j", "loss") == 3.0
    (evaluation,) = store.evaluations("j")
    assert (evaluation.scores, evaluation.each) == ({"reward": 1.0}, {"reward": [1.0, None]})


def test_a_resume_takes_back_what_came_after_its_step(store: Store) -> None:
    store.add(_job())
    values = [Metrics(step=s, values={"loss": float(s)}) for s in (1, 2, 3)]
    store.apply("j", _lines(*values, Resumed(step=1)), 10)
    assert store.series("j", "loss").steps == [1]


def test_a_failure_keeps_cause_and_remedy(store: Store) -> None:
    store.add(_job())
    store.apply("j", _lines(STARTED, Failed(what="A.", cause="B.", remedy="C.")), 1)
    row = store.job("j")
    assert row is not None
    assert (row.status, row.cause, row.remedy) == ("failed", "A. B.", "C.")


def test_a_start_after_a_failure_is_live_and_its_end_is_the_new_one(store: Store) -> None:
    store.add(_job())
    failed = Failed(what="A.", cause="B.", remedy="C.", kind="out_of_memory")
    values = [Metrics(step=s, values={"loss": float(s)}) for s in (1, 2, 3)]
    measured = [Evaluated(when="during", step=s, values={"loss": 1.0}, rows=4) for s in (0, 2, 3)]
    store.apply("j", _lines(STARTED, *values, *measured, failed), 1)
    assert [row.fault for row in store.halted()] == ["out_of_memory"]
    store.apply("j", _lines(STARTED, Resumed(step=2)), 2)
    row = store.job("j")
    assert row is not None
    assert (row.live, row.cause, row.fault, row.steps) == (True, "", "", 2)
    assert store.series("j", "loss").steps == [1, 2]
    assert [one.step for one in store.evaluations("j")] == [0, 2]
    store.apply("j", _lines(Finished()), 3)
    assert [row.status for row in store.jobs()] == ["finished"]


def test_a_pause_keeps_its_reason_and_a_new_start_forgets_it(store: Store) -> None:
    store.add(_job())
    store.apply("j", _lines(STARTED, Paused(step=3, detail="Paused when asked.")), 1)
    row = store.job("j")
    assert row is not None
    assert (row.status, row.cause) == ("paused", "Paused when asked.")
    assert (row.paused, row.live, row.has_weights) == (True, False, False)
    assert row.remedy
    store.apply("j", _lines(STARTED, Resumed(step=3)), 2)
    row = store.job("j")
    assert row is not None
    assert (row.status, row.cause, row.steps) == ("running", "", 3)


def _finding(step: int, kind: str = "kl_drift") -> Finding:
    return Finding(
        kind=kind, level="warning", step=step, metric="kl", meaning="It drifts.", remedy="Hold it."
    )


def test_a_finding_holds_until_it_has_eased(store: Store) -> None:
    store.add(_job())
    lines = _lines(
        _finding(4), _finding(5, "cut_off"), FindingCleared(kind="kl_drift", step=9), _finding(20)
    )
    for _ in range(2):
        store.apply("j", lines, 1)
    found = [(row.kind, row.since, row.until) for row in store.findings("j")]
    assert found == [("kl_drift", 4, 9), ("cut_off", 5, None), ("kl_drift", 20, None)]
    first = store.findings("j")[0]
    assert (first.level, first.metric) == ("warning", "kl")
    assert (first.meaning, first.remedy) == ("It drifts.", "Hold it.")
    assert store.findings("other") == []


def test_the_answers_of_each_step_are_found_by_its_number(store: Store) -> None:
    store.add(_job())
    kept = [Rollout(step=step, path=f"samples/{step}.json") for step in (2, 1, 10, 2)]
    store.apply("j", _lines(*kept), 1)
    assert store.rollouts("j") == {1: "samples/1.json", 2: "samples/2.json", 10: "samples/10.json"}
    assert list(store.rollouts("j")) == [1, 2, 10]


def test_a_resume_takes_back_findings_and_answers_too(store: Store) -> None:
    store.add(_job())
    kept = [Rollout(step=step, path=f"{step}") for step in (1, 2, 3)]
    store.apply("j", _lines(*kept, _finding(1), _finding(3, "cut_off"), Resumed(step=2)), 1)
    assert list(store.rollouts("j")) == [1, 2]
    assert [row.kind for row in store.findings("j")] == ["kl_drift"]
    store.remove("j")
    assert store.rollouts("j") == {}
    assert store.findings("j") == []


def test_exports_are_found_through_their_run(store: Store) -> None:
    store.add(_job("r"))
    store.add(_job("e", parent="r"))
    store.apply("e", _lines(Artifact(path="/x.gguf", kind="gguf:f16", bytes=5)), 1)
    assert [file.path for file in store.exports_of("r")] == ["/x.gguf"]
    assert store.exports_of("e") == []


def test_removing_a_job_takes_all_of_it(store: Store) -> None:
    store.add(_job())
    store.apply("j", _lines(Metrics(step=1, values={"loss": 1.0})), 1)
    store.remove("j")
    assert store.jobs() == []
    assert store.series("j", "loss").steps == []


def test_an_index_of_another_version_is_begun_anew(home: Home) -> None:
    import sqlite3

    other = sqlite3.connect(home.store)
    other.execute("CREATE TABLE jobs (strange TEXT)")
    other.execute("PRAGMA user_version=77")
    other.commit()
    other.close()
    store = Store(home.store)
    assert store.jobs() == []
    store.close()


def test_a_rebuilt_index_equals_the_old_one(
    jobs: Jobs, recipe: Recipe, follow: Callable[[Jobs, str], JobRow]
) -> None:
    run = jobs.train(recipe)
    before = follow(jobs, run)
    series = jobs.store.series(run, "loss")
    assert jobs.rebuild() == 1
    assert jobs.store.job(run) == before
    assert jobs.store.series(run, "loss") == series


def test_lines_that_are_read_again_are_kept_whole(store: Store) -> None:
    store.add(_job("j"))
    kept = [
        Note(text="one"), Sampled(step=1, prompt="p", completion="c"),
        Evaluated(when="before", step=0, values={"reward": 0.5}, rows=2, each={"reward": [1, 0]}),
    ]  # fmt: skip
    lines = _lines(STARTED, kept[0], Metrics(step=1, values={"loss": 1.0}), *kept[1:])
    store.apply("j", lines, 1)
    store.apply("j", lines, 1)  # twice changes nothing
    found = store.lines("j")
    assert [line.n for line in found] == [2, 4, 5]
    assert [line.event for line in found[:2]] == kept[:2]
    assert found[2].event == msgspec.structs.replace(kept[2], each={})
    assert [line.n for line in store.lines("j", after=2, limit=1)] == [4]
    store.remove("j")
    assert store.lines("j") == []
