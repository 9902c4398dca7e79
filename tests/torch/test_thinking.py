"""Thinking and tools from the data to the file that is shipped: trained, measured, asked alike."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from tests.torch.test_export import Exported, _all, export  # noqa: F401
from tests.workers.test_reasoning import shipped
from workers.chat import ChatModel, GgufChatModel, TransformersChatModel
from workers.data.tokenize.chat_template import CHATML, render
from workers.data.tokenize.template_head import Defaults, defaults_of, with_defaults
from workers.engines.tokenizer import load_tokenizer
from workers.fetch import Located
from workers.protocol import wire
from workers.protocol.assets import assets_folder
from workers.protocol.events import Checked, Failed, Finished, Metrics, Note, Sampled
from workers.protocol.recipe import RL, Evaluation, Model, Recipe, Source, Training
from workers.protocol.requests import Say
from workers.protocol.rewards import Format
from workers.protocol.rollouts import Rollouts, path_of
from workers.protocol.templates import fingerprint
from workers.train.context import settle_template

Run = Callable[..., list[Any]]
TURNS = [{"role": "user", "content": "What is 12 + 30?"}]
CLOSED = "<think>\n\n</think>\n\n"
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
DEMANDS_TOOLS = "{% if not tools %}{{ raise_exception('no tools') }}{% endif %}"
TINY = {"max_steps": 1, "precision": "fp32", "save_every_steps": 0, "max_length": 128}


def starter(folder: Path, template: str) -> Path:
    """The starter with another chat template."""
    shutil.copytree(assets_folder() / "starter" / "model", folder)
    for path in (folder / "chat_template.jinja", folder / "tokenizer_config.json"):
        if path.suffix == ".jinja":
            path.write_text(template)
        else:
            path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))
    return folder


def written(path: Path, rows: list[dict[str, Any]]) -> list[Source]:
    path.write_text("\n".join(map(json.dumps, rows)))
    return [Source(source=str(path))]


def said(model: ChatModel, **asked: Any) -> str:
    pieces: list[str] = []
    say = Say(messages=TURNS, max_tokens=4, temperature=0.0, **asked)
    model.answer(say, pieces.append, lambda: False)
    return "".join(pieces)


@pytest.fixture
def taught(train_here: Run, tmp_path: Path) -> tuple[Located, list[Any]]:
    """A model that thinks by its template, after a step on plain answers, and what was told."""
    base = starter(tmp_path / "base", shipped("qwen3_5_think"))
    rows = [{"prompt": f"What is {n} + 30?", "completion": f"{n + 30}"} for n in range(9)]
    recipe = Recipe(
        name="plain", model=Model(base=str(base)), data=written(tmp_path / "d.jsonl", rows),
        training=Training(**TINY | {"batch_size": 4}),  # type: ignore[arg-type]
        evaluation=Evaluation(holdout=0.2, max_completion_tokens=4),
    )  # fmt: skip
    events = train_here(recipe)
    assert _all(events, Failed) == []
    (run,) = (tmp_path / "jobs").glob("plain*")
    return Located(str(base), base, (run / "adapter",)), events


def test_a_model_taught_plain_answers_is_asked_for_plain_answers_ever_after(
    taught: tuple[Located, list[Any]],
) -> None:
    located, events = taught
    assert any("is asked to answer without" in note.text for note in _all(events, Note))
    assert not any("<think>" in one.completion for one in _all(events, Sampled))
    tokenizer = load_tokenizer(located)
    assert defaults_of(str(tokenizer.chat_template)) == Defaults("off")
    resolved = wire.read_job(located.adapters[0].parent).resolved
    assert resolved is not None
    assert resolved.model["template_sha256"] == fingerprint(str(tokenizer.chat_template))
    assert render(TURNS, tokenizer, generation=True).endswith(CLOSED)
    trained = TransformersChatModel(located)
    assert trained.thinking == "off"
    assert "<think>" not in said(trained)
    assert said(trained, thinking="on").startswith("<think>\n")


@pytest.mark.slow  # it converts a model; the line itself is held to llama.cpp's formatter elsewhere
def test_the_exported_file_asks_as_the_model_was_trained(
    taught: tuple[Located, list[Any]],
    export: Exported,  # noqa: F811
) -> None:
    located, _ = taught
    told = export(located.adapters[0].parent, "gguf:f16")
    assert all(check.passed for check in _all(told, Checked))
    trained = TransformersChatModel(located)
    file = GgufChatModel(next(located.adapters[0].parent.rglob("*.gguf")))
    assert file.thinking == "off"
    assert said(file) == said(trained)
    assert said(file, thinking="on") == said(trained, thinking="on")


@pytest.mark.slow  # it converts a model
def test_a_file_whose_template_opens_every_thought_shows_where_it_begins(
    train_here: Run,
    export: Exported,  # noqa: F811
    tmp_path: Path,
) -> None:
    base = starter(tmp_path / "base", CHATML.replace("assistant\n{%", "assistant\n<think>\n{%"))
    rows = [{"prompt": f"{n} + 1?", "completion": f"<think>\n{n}\n</think>\n\n{n + 1}"}
            for n in range(9)]  # fmt: skip
    train_here(
        Recipe(
            name="opens", model=Model(base=str(base)), data=written(tmp_path / "d.jsonl", rows),
            training=Training(**TINY | {"batch_size": 4}),  # type: ignore[arg-type]
            evaluation=Evaluation(holdout=0.0),
        )
    )  # fmt: skip
    (run,) = (tmp_path / "jobs").glob("opens*")
    export(run, "gguf:f16")
    file = GgufChatModel(next(run.rglob("*.gguf")))
    assert file.thinking == ""
    assert said(file).startswith("<think>\n")
    trained = TransformersChatModel(Located(str(base), base, (run / "adapter",)))
    assert said(file) == said(trained)


def test_a_run_that_goes_on_keeps_the_day_on_which_it_began(tmp_path: Path) -> None:
    dated = "{{ strftime_now('%d %B %Y') }}" + CHATML
    begun = with_defaults(dated, today=date(2026, 1, 31))
    (tmp_path / "chat_template.jinja").write_text(begun)
    tokenizer = SimpleNamespace(chat_template=with_defaults(dated, today=date(2026, 2, 1)))
    context: Any = SimpleNamespace(
        recipe=Recipe(name="dated"), loaded=SimpleNamespace(tokenizer=tokenizer)
    )
    settle_template(context, tmp_path)
    assert tokenizer.chat_template == begun


@pytest.fixture
def demanding(tmp_path: Path) -> Recipe:
    """Reinforcement learning on a template that takes no conversation without tools, and opens a
    thought in its prompt."""
    opened = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
    assert opened != CHATML
    rows = [{"prompt": f"{n} + 1?", "answer": str(n + 1), "tools": TOOLS} for n in range(12)]
    return Recipe(
        name="demanding", stage="grpo",
        model=Model(base=str(starter(tmp_path / "base", DEMANDS_TOOLS + opened)), method="full"),
        data=written(tmp_path / "d.jsonl", rows),
        training=Training(**TINY | {"batch_size": 4}),  # type: ignore[arg-type]
        rl=RL(group_size=4, max_completion_tokens=3),
        rewards=[Format(tags="think")],
        evaluation=Evaluation(holdout=0.2),
    )  # fmt: skip


def test_tools_and_an_opened_thought_reach_rollouts_rewards_and_measures(
    train_here: Run, demanding: Recipe, tmp_path: Path
) -> None:
    events = train_here(demanding)
    assert _all(events, Failed) == []
    assert _all(events, Finished)
    (run,) = (tmp_path / "jobs").glob("demanding*")
    kept = msgspec.json.decode((run / path_of(1)).read_bytes(), type=Rollouts)
    texts = [one.text for group in kept.groups for one in group.samples]
    assert texts
    assert all(text.startswith("<think>\n") for text in texts)
    values = next(one.values for one in _all(events, Metrics) if "cut_thinking_rate" in one.values)
    assert values["cut_thinking_rate"] == 1.0
    assert any("still thinking" in note.text for note in _all(events, Note))
    assert wire.read_job(run).task.recipe == demanding  # type: ignore[union-attr]
