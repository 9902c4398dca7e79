"""The headless verbs, one function each, over the same jobs as the window's.

With --json a verb prints one machine-readable object on stdout; it exits 0 only when it did what
it was asked.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from studio.demo import print_outcome
from studio.demo import run as run_demo
from studio.doctor import examine
from studio.gate import decide
from studio.headless import Headless, open_headless
from studio.importing import write_recipe
from studio.paths import ENVIRONMENT
from studio.printing import (
    failure_fields,
    number,
    print_audit,
    print_plans,
    print_run,
    status_in_words,
)
from studio.records import JobRow
from studio.terminal import Terminal, refusal_fields
from workers.protocol.exports import EXPORTS, USUAL
from workers.protocol.jobs import Inspect, Train
from workers.protocol.mapping import mapping_of, with_mapping
from workers.protocol.pipeline import with_rewards
from workers.protocol.recipe import Documents, Source, Thinking, TooLong
from workers.protocol.refusal import Refusal
from workers.protocol.resume import setting_of
from workers.protocol.templates import check_template
from workers.protocol.wire import read_job

app = typer.Typer(
    name="studio",
    help="Fine-tune language models on one GPU, without a window.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
HomeDir = Annotated[
    Path | None, typer.Option("--home", help="The folder that holds everything written.")
]
RecipeFile = Annotated[
    Path, typer.Argument(help="A recipe (.toml), or another program's config (.yaml).")
]
MISUSE = 2
"""The exit code for a command line that is not understood."""
Run = Annotated[str, typer.Argument(help="A run's id or name.")]
Map = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="[N:]THEIRS=OURS", help="A column (of dataset N): q=prompt."),
]


@app.callback()
def _top(home: HomeDir = None) -> None:
    if home is not None:  # named before the verb, it holds for the verb
        os.environ[ENVIRONMENT] = str(home)


@app.command()
def train(
    recipe: RecipeFile,
    detach: Annotated[bool, typer.Option("--detach", help="Start and return at once.")] = False,
    columns: Map = None,
    json: Json = False,
    home: HomeDir = None,
) -> None:
    """Train as a recipe or a pipeline says, and follow it to its end."""
    with open_headless(home, json=json) as headless:
        asked = with_mapping(headless.read(recipe), columns or [])
        run = headless.jobs.train_all(asked)
        headless.terminal.say(f"Run {run}")
        if detach:
            headless.terminal.result({"run": run, "folder": str(headless.jobs.folder(run)),
                                      "status": "running"})  # fmt: skip
            return
        rows = headless.follow_all(run)
        print_run(headless, rows[-1], before=rows[:-1])
        _exit_unless_finished(rows[-1])
        if len(rows) < len(asked.stages):
            raise typer.Exit(1)


@app.command()
def plan(
    recipe: RecipeFile,
    gpu: Annotated[
        str, typer.Option("--gpu", help="A card's memory, such as 12GB; else this machine's own.")
    ] = "",
    json: Json = False,
    home: HomeDir = None,
) -> None:
    """Say how much GPU memory a recipe takes, whether it fits, and what would make it fit."""
    with open_headless(home, json=json) as headless:
        print_plans(headless, headless.read(recipe), gpu)


@app.command("import")
def import_file(
    config: Annotated[
        Path, typer.Argument(help="A config of Axolotl, LLaMA-Factory or Unsloth Studio (.yaml).")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="The recipe to write; else beside the config.")
    ] = None,
    data: Annotated[
        str, typer.Option("--data", help="A dataset instead of those that the config names.")
    ] = "",
    model: Annotated[
        str, typer.Option("--model", help="A base model instead of the config's.")
    ] = "",
    json: Json = False,
    home: HomeDir = None,
) -> None:
    """Make a recipe of another program's config, and say what became of each of its keys."""
    with open_headless(home, json=json) as headless:
        imported = headless.import_config(config, data, model)
        imported.check()
        path = write_recipe(imported, out)
        headless.terminal.result(imported.fields() | {"recipe": str(path)})
        headless.terminal.say(f"Wrote {path}. Start it with: python -m studio train {path}")


@app.command()
def runs(json: Json = False, home: HomeDir = None) -> None:
    """List the training runs, newest first."""
    with open_headless(home, json=json) as headless:
        stories = [headless.story(row) for row in headless.jobs.store.jobs("train")]
        headless.terminal.result(stories)
        if not stories:
            headless.terminal.say("No runs yet. Start one with: python -m studio train RECIPE")
            return
        headless.terminal.table(
            "Runs",
            ["Run", "Stage", "Status", "Steps", "Loss"],
            [[s["run"], s["stage"], status_in_words(s), str(s["steps"]),
              number(s["last"].get("loss"))] for s in stories],
        )  # fmt: skip


@app.command()
def show(run: Run, json: Json = False, home: HomeDir = None) -> None:
    """Tell all about one run."""
    with open_headless(home, json=json) as headless:
        print_run(headless, headless.jobs.find(run))


@app.command()
def stop(run: Run, json: Json = False, home: HomeDir = None) -> None:
    """Ask a running run to stop; it saves its work first."""
    with open_headless(home, json=json) as headless:
        _end(headless, run, headless.jobs.stop)


@app.command()
def pause(run: Run, json: Json = False, home: HomeDir = None) -> None:
    """Let a running run rest at a checkpoint; `resume` goes on from there."""
    with open_headless(home, json=json) as headless:
        _end(headless, run, headless.jobs.pause)


@app.command()
def resume(
    run: Run,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Go on with another setting, such as training.batch_size=4; may be repeated.",
        ),
    ] = None,
    json: Json = False,
    home: HomeDir = None,
) -> None:
    """Go on with a run that was paused, failed or died, and follow it to its end."""
    settings = dict(setting_of(change) for change in changes or [])
    with open_headless(home, json=json) as headless:
        row = headless.jobs.find(run)
        step = headless.jobs.resume(row.id, settings)
        headless.terminal.say(
            f"Going on from the checkpoint of step {step}."
            if step
            else "No checkpoint was complete when the run ended; it begins from the start."
        )
        rows = headless.follow_all(row.id)
        print_run(headless, rows[-1], before=rows[:-1])
        _exit_unless_finished(rows[-1])


@app.command()
def evaluate(run: Run, json: Json = False, home: HomeDir = None) -> None:
    """Judge a run by its held-out measurements before and after, against its gate.

    The gate is passed, failed, cannot tell, not set or not measured.
    """
    with open_headless(home, json=json) as headless:
        row = headless.jobs.find(run)
        job = read_job(headless.jobs.folder(row.id))
        if not isinstance(job.task, Train):
            raise Refusal(f"{row.id} is no training run.", f"It is a {job.kind} job.", "")
        verdict = decide(headless.jobs.store.evaluations(row.id), job.task.recipe.evaluation.gate)
        scores = headless.evaluation(row.id) or {}
        headless.terminal.result({
            "run": row.id, "before": scores.get("before"), "after": scores.get("after"),
            "interval": verdict.interval, "gate": verdict.gate,
            "reasons": [verdict.reason], "remedy": verdict.remedy,
        })  # fmt: skip
        headless.terminal.say(f"Gate: {verdict.gate}. {verdict.reason} {verdict.remedy}".strip())


@app.command()
def export(
    run: Run,
    to: Annotated[
        list[str] | None,
        typer.Option("--to", help=f"One of: {', '.join(EXPORTS)}; may be repeated."),
    ] = None,
    json: Json = False,
    home: HomeDir = None,
) -> None:
    """Write a run's model as files for other programs, compared with the trained model."""
    with open_headless(home, json=json) as headless:
        row, made = headless.export(headless.jobs.find(run), to or [USUAL])
        headless.terminal.result(made | failure_fields(row))
        _exit_unless_finished(row, headless.terminal)
        for check in made["parity"]:
            if not check["passed"]:
                headless.terminal.say(f"{check['check']} failed: {check['detail']} "
                                      f"{check['remedy']}")  # fmt: skip
        if not made["ok"]:
            raise typer.Exit(1)


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="A run's id or name, or a .gguf file.")],
    prompt: Annotated[
        str | None, typer.Argument(help="What to say; without it, a dialogue.")
    ] = None,
    say: Annotated[str | None, typer.Option("--prompt", "-p", help="What to say.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Max completion tokens.", min=1)] = 256,
    temperature: Annotated[float, typer.Option(help="0 always takes the likeliest word.")] = 0.0,
    thinking: Annotated[
        Thinking, typer.Option(help="Whether it thinks first, where it has a switch for it.")
    ] = "auto",
    adapter: Annotated[
        bool, typer.Option("--adapter", help="The run as trained, not its exported file.")
    ] = False,
    cpu: Annotated[
        bool, typer.Option("--cpu", help="Leave the GPU alone, for example beside a training.")
    ] = False,
    json: Json = False,
    home: HomeDir = None,
) -> None:
    """Talk to a run, or to a GGUF file."""
    said = prompt or say or (None if sys.stdin.isatty() else sys.stdin.read().strip())
    with open_headless(home, json=json) as headless:
        chat_model = headless.chat_model(model, adapter=adapter)
        headless.terminal.say(f"Talking to {chat_model}")
        with headless.conversation(chat_model, "cpu" if cpu else "auto") as talk:
            messages: list[dict[str, str]] = []
            while text := said or (None if json else _ask()):
                messages.append({"role": "user", "content": text})
                answer = talk.say(
                    messages, max_tokens=max_tokens, temperature=temperature, thinking=thinking
                )
                messages.append({"role": "assistant", "content": answer.text})
                if said:
                    headless.terminal.result({
                        "answer": answer.text, "tokens": answer.tokens,
                        "tokens_per_second": answer.tokens_per_second, "finish": answer.finish,
                        "first_token_seconds": answer.first_token_seconds, "model": str(chat_model),
                    })  # fmt: skip
                    return
            if not messages:
                raise Refusal("Nothing was said.", "The prompt is empty.", "Add --prompt 'Hello'.")


@app.command()
def demo(json: Json = False, home: HomeDir = None) -> None:
    """From nothing to an answer: train, measure, export, ask."""
    with open_headless(home, json=json) as headless:
        began = time.monotonic()
        outcome = run_demo(headless)
        outcome["seconds"] = round(time.monotonic() - began, 1)
        headless.terminal.result(outcome)
        print_outcome(headless.terminal, outcome)


@app.command("reward-bench")
def reward_bench(
    recipe: Annotated[Path, typer.Argument(help="A recipe or pipeline with rewards (.toml).")],
    samples: Annotated[
        int, typer.Option(help="Answers of the start model to score; 0 loads no model.", min=0)
    ] = 64,
    json: Json = False,
    home: HomeDir = None,
) -> None:
    """Try a recipe's rewards on sampled and on adversarial answers before a run."""
    with open_headless(home, json=json) as headless:
        row, result = headless.bench(with_rewards(headless.read(recipe)), samples)
        if result is None:
            headless.terminal.result(failure_fields(row))
            _exit_unless_finished(row, headless.terminal)
            return
        fields = msgspec.to_builtins(result)
        headless.terminal.result(fields | {"run": row.id})
        headless.terminal.table(
            f"Rewards: {result.verdict}",
            ["Answer", "Earns", "Of a right one"],
            [[p.title, number(p.score), "–" if p.share is None else f"{p.share:.0%}"]
             for p in result.probes],
        )  # fmt: skip
        for finding in result.findings:
            headless.terminal.say(f"{finding.level}: {finding.text} {finding.remedy}")


@app.command()
def inspect(
    dataset: Annotated[str, typer.Argument(help="A dataset, as a recipe's source names it.")],
    model: Annotated[
        str, typer.Option("--model", help="Whose tokenizer and chat template to use.")
    ] = "starter",
    stage: Annotated[
        str,
        typer.Option("--stage", help="What the data is to serve; else what it is likeliest to."),
    ] = "",
    test: Annotated[
        str, typer.Option("--test", help="A test set that must not stand in the data.")
    ] = "",
    max_length: Annotated[int, typer.Option(help="Max sequence length, in tokens.", min=8)] = 1024,
    too_long: Annotated[
        TooLong, typer.Option("--too-long", help="Leave longer rows out, or truncate them.")
    ] = "drop",
    columns: Map = None,
    documents: Annotated[
        Documents, typer.Option("--documents", help="Where a text file's documents end.")
    ] = "auto",
    template: Annotated[
        str,
        typer.Option("--template", help="A chat template's name or .jinja file, as in a recipe."),
    ] = "auto",
    json: Json = False,
    home: HomeDir = None,
) -> None:
    """Look a whole dataset over before a run: bad rows, findings and lengths."""
    check_template(template)
    source = Source(source=dataset, documents=documents, mapping=mapping_of(columns or []))
    task = Inspect(source=source, model=model, stage=stage, test=test,
                   max_length=max_length, too_long=too_long, template=template)  # fmt: skip
    with open_headless(home, json=json) as headless:
        row, result = headless.inspect(task)
        if result is None:
            headless.terminal.result(failure_fields(row))
            _exit_unless_finished(row, headless.terminal)
            return
        headless.terminal.result(msgspec.to_builtins(result) | {"run": row.id})
        print_audit(headless.terminal, result)


@app.command()
def doctor(json: Json = False, home: HomeDir = None) -> None:
    """Check that everything the program needs is here and works."""
    with open_headless(home, json=json) as headless:
        checks, hardware = examine(headless)
        healthy = all(check["ok"] for check in checks)
        headless.terminal.result({"ok": healthy, "checks": checks, "hardware": hardware})
        headless.terminal.table(
            "Doctor",
            ["", "Part", "Found", "What to do"],
            [["✓" if c["ok"] else "✗", c["name"], c["detail"], c["remedy"]] for c in checks],
        )
        if not healthy:
            raise typer.Exit(1)


@app.command("rebuild-index")
def rebuild_index(json: Json = False, home: HomeDir = None) -> None:
    """Make the index anew from the job folders."""
    with open_headless(home, json=json) as headless:
        count = headless.jobs.rebuild()
        headless.terminal.result({"jobs": count})
        headless.terminal.say(f"The index holds {count} jobs.")


def _end(headless: Headless, run: str, ask: Callable[[str], None]) -> None:
    """Asks a running run to end, for good or for now, and follows it until it has."""
    row = headless.jobs.find(run)
    if not row.live:
        raise Refusal(f"The run {row.id} is not running.", f"It is {row.status}.", "")
    ask(row.id)
    ended = headless.follow(row.id)
    headless.terminal.result({"run": ended.id, "status": ended.status, "cause": ended.cause})


def _exit_unless_finished(row: JobRow, terminal: Terminal | None = None) -> None:
    if row.status == "finished":
        return
    if terminal is not None:
        terminal.say(f"{row.cause} {row.remedy}")
    raise typer.Exit(1)


def _ask() -> str | None:
    """The next line of a dialogue; None at its end."""
    try:
        return input("You: ").strip() or None
    except (EOFError, KeyboardInterrupt):
        return None


def main(arguments: list[str]) -> int:
    """Runs one verb; returns the exit code."""
    terminal = Terminal(json="--json" in arguments)
    try:
        app(arguments, prog_name="python -m studio")
    except Refusal as refusal:
        terminal.refuse(refusal)
        return 1
    except SystemExit as left:
        if left.code == MISUSE:
            terminal.result(refusal_fields(
                "The command line could not be understood.", "What is wrong stands on stderr.",
                "Ask for help: python -m studio --help",
            ))  # fmt: skip
        return left.code if isinstance(left.code, int) else 1
    return 0
