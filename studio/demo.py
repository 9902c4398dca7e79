"""The quick tour: one recipe from nothing to an answer of the exported file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from studio.headless import Headless
from studio.store import JobRow
from studio.terminal import Terminal
from workers.protocol.assets import assets_folder
from workers.protocol.events import Sampled
from workers.protocol.recipe import read_recipe
from workers.protocol.refusal import Refusal
from workers.protocol.wire import read_events

RECIPE = "demo.toml"
TARGET = "gguf:Q4_K_M"


def run(headless: Headless) -> dict[str, Any]:
    """Trains, exports and asks; raises `Refusal` at the first step that does not succeed."""
    recipe = read_recipe(assets_folder() / "recipes" / RECIPE)
    headless.terminal.say(f"1/3  Training {recipe.model.base} on {recipe.data[0].source}")
    trained = _finished(headless.follow(headless.jobs.train(recipe)))
    headless.terminal.say("2/3  Exporting to GGUF")
    exported, made = headless.export(trained, [TARGET])
    _finished(exported)
    headless.terminal.say("3/3  Asking the exported file")
    prompt = _held_out_prompt(headless, trained)
    headless.terminal.say(f"Question: {prompt}")
    with headless.conversation(Path(made["files"][0]["path"])) as talk:
        answer = talk.say([{"role": "user", "content": prompt}], max_tokens=96, temperature=0.0)
    scores = headless.evaluation(trained.id) or {}
    return {
        "run": trained.id,
        "before": scores.get("before"),
        "after": scores.get("after"),
        "files": made["files"],
        "parity": made["parity"],
        "question": prompt,
        "answer": answer.text,
    }


def _finished(row: JobRow) -> JobRow:
    if row.status != "finished":
        raise Refusal(f"The tour ended at {row.name}: {row.cause}", row.status, row.remedy)
    return row


def _held_out_prompt(headless: Headless, row: JobRow) -> str:
    """A question that the run was measured on and not trained on."""
    said = (line.event for line in read_events(headless.jobs.folder(row.id)))
    return next((e.prompt for e in said if isinstance(e, Sampled)), "What is 12 + 30?")


def tell(terminal: Terminal, outcome: dict[str, Any]) -> None:
    """What changed, as a short table."""
    before, after = outcome["before"] or {}, outcome["after"] or {}
    rows = [[name.replace("_", " "), f"{before[name]:.3f}", f"{after[name]:.3f}"]
            for name in before if name in after and name != "rows"]  # fmt: skip
    terminal.table("Held-out rows", ["", "before", "after"], rows)
    terminal.say(f"Asked: {outcome['question']}")
    terminal.say(f"The exported file answers: {outcome['answer']}")
    terminal.say(f"Done in {outcome['seconds']:.0f} s. The file: {outcome['files'][0]['path']}")
