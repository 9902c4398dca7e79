"""The quick tour: one pipeline from nothing to an answer of the exported file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from studio.headless import Headless
from studio.records import JobRow
from studio.terminal import Terminal
from workers.protocol.assets import assets_folder
from workers.protocol.events import Sampled
from workers.protocol.pipeline import read_pipeline
from workers.protocol.refusal import Refusal
from workers.protocol.wire import read_events

RECIPE = "quick-tour.toml"
TARGET = "gguf:Q8_0"
SHOWN = ("loss", "accuracy", "reward")
"""The scores of the closing table."""


def run(headless: Headless) -> dict[str, Any]:
    """Trains, exports and asks; raises `Refusal` at the first step that does not succeed."""
    pipeline = read_pipeline(assets_folder() / "recipes" / RECIPE)
    headless.terminal.say("1/3  Training: " + ", then ".join(s.name for s in pipeline.stages))
    rows = [_finished(row) for row in headless.follow_all(headless.jobs.train_all(pipeline))]
    if len(rows) < len(pipeline.stages):
        raise Refusal(f"The tour ended after {rows[-1].name}.", rows[-1].cause, rows[-1].remedy)
    headless.terminal.say("2/3  Exporting to GGUF")
    exported, made = headless.export(rows[-1], [TARGET])
    _finished(exported)
    _alike(made["parity"])
    headless.terminal.say("3/3  Asking the exported file")
    prompt = _held_out_prompt(headless, rows[-1])
    headless.terminal.say(f"Question: {prompt}")
    with headless.conversation(Path(made["files"][0]["path"])) as talk:
        answer = talk.say([{"role": "user", "content": prompt}], max_tokens=96, temperature=0.0)
    stages = [_scores(headless, row) for row in rows]
    return {
        "run": rows[-1].id,
        "before": stages[0]["before"],
        "after": stages[-1]["after"],
        "stages": stages,
        "files": made["files"],
        "parity": made["parity"],
        "question": prompt,
        "answer": answer.text,
    }


def _scores(headless: Headless, row: JobRow) -> dict[str, Any]:
    found = headless.evaluation(row.id) or {}
    return {"run": row.id, "name": row.name, "stage": row.stage, "seconds": row.seconds,
            "before": found.get("before"), "after": found.get("after")}  # fmt: skip


def _finished(row: JobRow) -> JobRow:
    if row.status != "finished":
        raise Refusal(f"The tour ended at {row.name}: {row.cause}", row.status, row.remedy)
    return row


def _alike(parity: list[dict[str, Any]]) -> None:
    failed = next((check for check in parity if not check["passed"]), None)
    if failed is not None:
        raise Refusal(
            f"The exported file does not speak like the trained model ({failed['check']}).",
            failed["detail"],
            failed["remedy"],
        )


def _held_out_prompt(headless: Headless, row: JobRow) -> str:
    """A question that the run was measured on and not trained on."""
    said = (line.event for line in read_events(headless.jobs.folder(row.id)))
    return next((e.prompt for e in said if isinstance(e, Sampled)), "What is 12 + 30?")


def print_outcome(terminal: Terminal, outcome: dict[str, Any]) -> None:
    """What changed, as a short table."""
    rows = []
    for stage in outcome["stages"]:
        before, after = stage["before"] or {}, stage["after"] or {}
        shown = [name for name in SHOWN if name in before and name in after]
        for number, name in enumerate(shown):
            rows.append([stage["name"] if number == 0 else "", name, _in_words(name, before[name]),
                         _in_words(name, after[name])])  # fmt: skip
    terminal.table("On held-out questions", ["", "", "before", "after"], rows)
    terminal.say(f"Asked: {outcome['question']}")
    terminal.say(f"The exported file answers: {outcome['answer']}")
    terminal.say(f"Done in {outcome['seconds']:.0f} s. The file: {outcome['files'][0]['path']}")


def _in_words(name: str, value: float) -> str:
    return f"{value:.0%}" if name == "accuracy" else f"{value:.3f}"
