"""Chat templates by name and by file: what is taken, what is refused, what a bad one can do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from studio.tasks import keep_template
from workers.data.tokenize import template_trial
from workers.data.tokenize.chat_template import name_of, render, set_chat_template
from workers.data.tokenize.template_trial import (
    STAND_INS,
    Call,
    TemplateTrial,
    check_renders,
)
from workers.engines.tokenizer import read_tokenizer
from workers.fetch import Located
from workers.protocol.assets import assets_folder
from workers.protocol.jobs import Train
from workers.protocol.recipe import Model, Recipe, Source, check_recipe
from workers.protocol.refusal import Refusal
from workers.protocol.templates import (
    COPY,
    LONGEST,
    OURS,
    TRL,
    check_template,
    is_file,
    saved_templates,
    template_label,
    template_text,
    trl_templates,
)
from workers.train import _with_own_template

ASKED = [{"role": "user", "content": "Two and two?"}]
PLAIN = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}\n{% endfor %}"
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture(scope="module")
def trial() -> Iterator[TemplateTrial]:
    with closing(TemplateTrial()) as made:
        yield made


@pytest.mark.parametrize("name", ["auto", *OURS, "trl:qwen3", "trl:qwen3_training", "my.jinja"])
def test_what_a_recipe_may_name(name: str) -> None:
    check_recipe(Recipe(model=Model(template=name), data=[Source(source="builtin:sums")]))


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("chatlm", "Did you mean chatml?"),
        ("qwen3", "Did you mean trl:qwen3?"),
        ("trl:qwen4", "Did you mean trl:qwen3?"),
        ("trl:../../trl/chat_templates/qwen4", "It may be misspelt."),
        ("", "It may be misspelt."),
        ("folder/template.txt", "It may be misspelt."),
    ],
)
def test_a_name_that_no_template_has_is_refused_with_what_there_is(name: str, cause: str) -> None:
    with pytest.raises(Refusal) as told:
        check_template(name)
    assert told.value.cause == cause
    assert "trl:NAME" in told.value.remedy
    with pytest.raises(Refusal, match=r"model\.template"):
        check_recipe(Recipe(model=Model(template=name), data=[Source(source="builtin:sums")]))


def test_every_template_that_trl_ships_is_named_and_read() -> None:
    folder = Path(str(distribution("trl").locate_file("trl/chat_templates")))
    shipped = {path.stem for path in folder.glob("*.jinja")}
    assert set(trl_templates()) == {name for name in shipped if not name.endswith("_training")}
    for name in shipped:
        text = (folder / f"{name}.jinja").read_text(encoding="utf-8")
        assert template_text(f"{TRL}{name}") == text


def test_a_tokenizer_takes_trls_template_and_a_file(tmp_path: Path) -> None:
    tokenizer: Any = read_tokenizer(Located("starter", assets_folder() / "starter" / "model"))
    own = tokenizer.chat_template
    assert set_chat_template(tokenizer, "trl:qwen2_5") == "trl:qwen2_5"
    assert render([*ASKED], tokenizer).startswith("<|im_start|>system\n")
    path = tmp_path / "mine.jinja"
    path.write_text("﻿" + PLAIN, encoding="utf-8")
    assert set_chat_template(tokenizer, str(path)) == "mine"
    assert render([*ASKED], tokenizer) == f"[user] Two and two?{tokenizer.eos_token}\n"
    assert name_of(own) == "own"


def test_files_that_are_no_template_are_refused(tmp_path: Path) -> None:
    big, binary = tmp_path / "big.jinja", tmp_path / "binary.jinja"
    big.write_bytes(b"a" * (LONGEST + 1))
    binary.write_bytes(b"\xff\xfe\x00")
    for path, words in ((big, "longer than 256 kB"), (binary, "cannot be read"),
                        (tmp_path / "none.jinja", "There is no chat template")):  # fmt: skip
        with pytest.raises(Refusal, match=words):
            template_text(str(path))


def test_saved_templates_are_listed_by_their_names(tmp_path: Path) -> None:
    assert saved_templates(tmp_path) == []
    (tmp_path / "templates").mkdir()
    for name in ("b.jinja", "a.jinja", "notes.txt"):
        (tmp_path / "templates" / name).write_text(PLAIN)
    found = saved_templates(tmp_path)
    assert [template_label(path) for path in found] == ["a", "b"]
    assert all(is_file(path) for path in found)


def test_a_trial_gives_the_text_or_the_fault_with_its_line(trial: TemplateTrial) -> None:
    broken = "{{ messages[0].content }}\n{% if x %}"
    refuses = (
        "{% if messages[0].role == 'system' %}\n{{ raise_exception('no system') }}{% endif %}ok"
    )
    system = [{"role": "system", "content": "Be brief."}, *ASKED]
    assert trial.render(PLAIN, [Call(ASKED)], STAND_INS)[0].text == "[user] Two and two?<eos>\n"
    told = trial.render(broken, [Call(ASKED)], STAND_INS)[0]
    assert (told.line, "endif" in told.fault) == (2, True)
    told, taken = trial.render(refuses, [Call(system), Call(ASKED)], STAND_INS)
    assert (told.fault, told.line, taken.text) == ("no system", 2, "ok")
    unsafe = trial.render("{{ ''.__class__.__mro__ }}", [Call(ASKED)], STAND_INS)[0]
    assert "unsafe" in unsafe.fault


def test_an_endless_loop_and_a_full_memory_cost_the_trial_alone(
    trial: TemplateTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trial.render(PLAIN, [Call(ASKED)], STAND_INS)[0].text
    monkeypatch.setattr(template_trial, "SECONDS", 0.3)
    for template in (LOOP, "{{ 'a' * 99999999999 }}"):
        (found,) = trial.render(template, [Call(ASKED)], STAND_INS)
        assert "a loop never ends" in found.fault
    assert trial.render(PLAIN, [Call(ASKED)], STAND_INS)[0].text


def test_a_run_learns_with_its_own_copy_of_the_file(tmp_path: Path) -> None:
    named, folder = tmp_path / "mine.jinja", tmp_path / "run"
    folder.mkdir()
    named.write_text(PLAIN)
    recipe = Recipe(model=Model(template=str(named)), data=[Source(source="builtin:sums")])
    keep_template(Train(recipe=recipe), folder)
    named.write_text("changed since")
    assert _with_own_template(recipe, folder).model.template == str(folder / COPY)
    assert (folder / COPY).read_text() == PLAIN
    named.unlink()
    with pytest.raises(Refusal, match="There is no chat template"):
        keep_template(Train(recipe=recipe), folder)


def test_a_run_refuses_a_template_that_does_not_render(trial: TemplateTrial) -> None:
    with pytest.raises(Refusal, match=r"mine does not render \(line 1\)"):
        check_renders("{{ messages[9].content.a }}", "mine", trial)
