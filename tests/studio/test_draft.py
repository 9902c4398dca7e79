"""The recipe being made: what follows from what was chosen, without a window."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from studio.draft import (
    OPTIONS,
    UNNAMED,
    Base,
    DraftModel,
    RecipeDraft,
    RewardModelChoice,
    defaults,
    draft_of,
    kind_of_base,
    method,
    pipeline,
    preceded_by_sft,
    recipe,
    shown_options,
    shown_steps,
    values,
    with_stage_defaults,
)
from studio.draft_faults import first_fault, impossible
from studio.draft_source import draft_source
from tests.studio.drafts import SMOLLM2, STARTER, SUMS, on_sums
from workers.protocol.assets import assets_folder
from workers.protocol.pipeline import PREVIOUS, Pipeline, read_pipeline
from workers.protocol.recipe import (
    RL,
    Method,
    Model,
    Recipe,
    Source,
    Stage,
    Training,
    format_recipe,
    parse_recipe,
)
from workers.protocol.rewards import Format, MathAnswer, RewardModel
from workers.protocol.stages import PARAMETERS, STAGES

# Defaults


def test_defaults_follow_the_stage_and_the_size_of_the_base() -> None:
    tiny, small = values(on_sums("grpo")), values(on_sums("grpo", SMOLLM2))

    assert (tiny["training.effective_batch_size"], tiny["training.learning_rate"]) == (64, 2e-4)
    assert (small["training.effective_batch_size"], small["training.learning_rate"]) == (64, 1e-5)
    assert (method(on_sums("grpo")), method(on_sums("grpo", SMOLLM2))) == (
        "full",
        "lora",
    )
    assert tiny["rl.max_completion_tokens"] == 56
    assert small["rl.max_completion_tokens"] == 512
    assert (tiny["training.max_steps"], small["training.max_steps"]) == (60, 0)


def test_defaults_follow_the_method() -> None:
    draft = on_sums("rlhf")

    assert values(draft)["rl.algorithm"] == "ppo"
    assert values(on_sums("rlhf", SMOLLM2))["rl.algorithm"] == "rloo"
    assert values(draft.with_method("qlora"))["rl.algorithm"] == "rloo"


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("base", ["starter", "smollm2", "org/name"])
def test_a_draft_has_the_defaults_of_a_file_that_says_nothing(stage: Stage, base: str) -> None:
    """The same recipe comes out of the window and of the command line."""
    text = (
        f'name = "{UNNAMED}"\nstage = "{stage}"\nmodel.base = "{base}"\n'
        '[[data]]\nsource = "builtin:arithmetic"\n'
        '[[rewards]]\nkind = "reward_model"\nmodel = "run:r"\n[distill]\nteacher = "t"\n'
    )
    chosen = on_sums(
        stage,
        Base(name=base, parameters=PARAMETERS.get(base)),
        rewards=(RewardModel(model="run:r"),),
        reward_model="run:r",
    ).with_option("distill.teacher", "t")

    assert recipe(chosen) == parse_recipe(text)


def test_what_was_entered_stays_when_the_stage_changes() -> None:
    draft = on_sums().with_option("training.batch_size", 24)
    later = msgspec.structs.replace(draft, stage="grpo")

    assert recipe(later).training.batch_size == 24
    assert recipe(later).training.learning_rate == 2e-4


def test_a_default_that_is_entered_follows_like_one_that_is_not() -> None:
    path = "training.effective_batch_size"
    draft = on_sums().with_option(path, 24)
    reset = draft.with_option(path, defaults(draft)[path])

    assert reset.options == {}
    assert values(msgspec.structs.replace(reset, stage="grpo"))[path] == 64


def test_a_method_that_was_chosen_stays() -> None:
    draft = on_sums("grpo")

    assert draft.with_method("full").method is None
    chosen = draft.with_method("dora")
    assert method(msgspec.structs.replace(chosen, stage="sft", base=SMOLLM2)) == "dora"


# What is asked for


def test_only_stages_that_are_scored_ask_for_rewards() -> None:
    assert [s for s in get_args(Stage) if "Rewards" in shown_steps(on_sums(s))] == [
        "rlhf",
        "grpo",
    ]


def test_settings_are_those_that_the_stage_looks_at() -> None:
    sft, dpo, cpt = (shown_options(on_sums(stage)) for stage in ("sft", "dpo", "cpt"))

    assert {"training.packing", "training.assistant_only_loss", "lora.rank"} <= sft
    assert not {"rl.group_size", "preference.beta", "distill.teacher"} & sft
    assert {"preference.beta", "preference.loss"} <= dpo
    assert "training.packing" not in dpo
    assert "training.assistant_only_loss" not in cpt


def test_settings_are_those_that_the_algorithm_looks_at() -> None:
    ppo = on_sums("rlhf")
    rloo = ppo.with_option("rl.algorithm", "rloo")

    assert "rl.value_coefficient" in shown_options(ppo)
    assert "rl.group_size" not in shown_options(ppo)
    assert "rl.value_coefficient" not in shown_options(rloo)
    assert "rl.group_size" in shown_options(rloo)


def test_an_algorithm_brings_its_own_defaults() -> None:
    gspo = on_sums("grpo").with_option("rl.algorithm", "gspo")
    assert recipe(gspo).rl.clip_epsilon == 3e-4
    assert recipe(gspo.with_option("rl.algorithm", "grpo")).rl.clip_epsilon == 0.2
    assert recipe(on_sums("rlhf").with_option("rl.algorithm", "rloo")).rl.scale_rewards == "none"
    assert recipe(on_sums("rlhf").with_option("rl.algorithm", "grpo")).rl.scale_rewards == "group"


def test_an_adapter_may_be_trained_further_where_the_base_is_a_run() -> None:
    further = "model.continue_adapter"
    run = Base(kind="run", name="run:answers", root="starter", answers=True)
    upon = on_sums("sft", base=run).with_option(further, True).with_method("lora")
    assert further in shown_options(upon)
    assert recipe(upon).model.continue_adapter
    for other in (upon.with_method("full"), on_sums("sft").with_option(further, True)):
        assert further not in shown_options(other)
        assert not recipe(other).model.continue_adapter


def test_thinking_is_asked_for_where_the_base_may_have_a_switch() -> None:
    def shown(known: str, stage: Stage = "sft") -> set[str]:
        base = Base(kind="hub", name="org/name", root="org/name", thinking=known)
        return shown_options(on_sums(stage, base)) & {"model.thinking", "model.reasoning_effort"}

    assert shown("switch") == shown("") == {"model.thinking", "model.reasoning_effort"}
    assert shown("always") == {"model.reasoning_effort"}
    assert shown("no") == shown("switch", "cpt") == set()


def test_answers_have_room_where_the_model_thinks() -> None:
    base = Base(kind="hub", name="org/name", root="org/name", thinking="switch")
    lengths = ("rl.max_completion_tokens", "evaluation.max_completion_tokens")

    def room(draft: RecipeDraft) -> list[int]:
        return [values(draft)[path] for path in lengths]

    sft, grpo = on_sums("sft", base), on_sums("grpo", base)
    assert room(grpo) == room(sft.with_option("model.thinking", "on")) == [2048, 2048]
    assert max(room(sft) + room(grpo.with_option("model.thinking", "off"))) < 2048
    chosen = sft.with_option("model.thinking", "on")
    assert recipe(chosen).model.thinking == "on"
    assert draft_of(pipeline(chosen), base).options == chosen.options


def test_full_training_has_no_adapter_to_ask_for() -> None:
    shown = shown_options(on_sums().with_method("full"))

    assert not [path for path in shown if path.startswith("lora.")]


# There and back


@pytest.mark.parametrize("path", sorted((assets_folder() / "recipes").glob("*.toml")))
def test_every_ready_recipe_goes_through_a_draft_unchanged(path: Path) -> None:
    given = read_pipeline(path)
    draft = draft_of(given, Base(name=given.stages[0].model.base, parameters=PARAMETERS["starter"]))

    assert pipeline(draft).stages == given.stages
    assert first_fault(draft) is None
    assert impossible(draft) is None


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("how", get_args(Method))
def test_a_recipe_of_any_stage_goes_through_a_draft_unchanged(stage: Stage, how: Method) -> None:
    given = Recipe(
        name="mine",
        stage=stage,
        model=Model(base="smollm2", method=how, template="gemma", engine="transformers"),
        data=[
            Source(source="a.jsonl", weight=1 / 3, limit=9, licence="MIT", mapping={"q": "prompt"})
        ],
        training=Training(learning_rate=3e-4, max_steps=7),
        rl=RL(algorithm="rloo", group_size=4),
        rewards=[RewardModel(model="run:judge", weight=2.0), Format(weight=0.5)],
    )

    assert recipe(draft_of(Pipeline(name="mine", stages=[given]), SMOLLM2)) == given


def test_what_follows_the_first_stage_is_kept_until_it_is_dropped() -> None:
    given = read_pipeline(assets_folder() / "recipes" / "quick-tour.toml")
    draft = draft_of(given, STARTER, ready="quick-tour.toml")

    assert pipeline(draft).stages[1:] == given.stages[1:]
    alone = draft.without_followers()
    assert pipeline(alone).stages == given.stages[:1]
    assert alone.ready == ""


def test_another_reward_model_takes_the_place_of_the_recipes() -> None:
    given = Recipe(
        stage="rlhf", rewards=[Format(), RewardModel(model="run:a", weight=2.0), MathAnswer()]
    )
    draft = draft_of(Pipeline(name="", stages=[given]), STARTER)
    other = msgspec.structs.replace(draft, reward_model="run:b")

    assert draft.reward_model == "run:a"
    assert recipe(other).rewards == [
        Format(), RewardModel(model="run:b", weight=2.0), MathAnswer(),
    ]  # fmt: skip


def test_a_run_without_a_name_gets_one() -> None:
    assert recipe(on_sums(name="  ")).name == UNNAMED
    assert recipe(on_sums(name=" sums ")).name == "sums"


def test_sft_can_be_put_first() -> None:
    draft = on_sums("dpo", name="polish")
    made = preceded_by_sft(draft)
    first, then = made.stages

    assert (first.name, first.stage, first.training.learning_rate) == ("polish-sft", "sft", 4e-3)
    assert (then.stage, then.model.base, made.name) == ("dpo", PREVIOUS, "polish")
    assert first.data == then.data == [Source(source="builtin:arithmetic")]


# Data


def test_a_dataset_is_added_once() -> None:
    draft = RecipeDraft()
    for source in ("", "builtin:sums", "a.jsonl", "builtin:sums"):
        draft = draft.with_source(Source(source=source))

    assert [one.source for one in draft.sources] == ["builtin:sums", "a.jsonl"]
    assert [one.source for one in draft.without_source("builtin:sums").sources] == ["a.jsonl"]


def test_what_is_typed_of_a_dataset_reaches_the_recipe() -> None:
    draft = on_sums().with_source_changed(SUMS.source, weight="3", limit="1,500", licence=" MIT ")

    assert recipe(draft).data == [Source(source=SUMS.source, weight=3.0, limit=1500, licence="MIT")]


def test_a_dataset_that_was_looked_at_replaces_itself() -> None:
    looked_at = Source(source=SUMS.source, mapping={"q": "prompt"}, bad_rows="skip")
    draft = on_sums().with_source_changed(SUMS.source, weight="2").with_source_read_as(looked_at)

    assert recipe(draft).data == [msgspec.structs.replace(looked_at, weight=2.0)]
    assert RecipeDraft().with_source_read_as(looked_at).sources == (draft_source(looked_at),)


def test_bad_rows_can_be_skipped() -> None:
    assert recipe(on_sums().with_bad_rows_skipped(SUMS.source)).data[0].bad_rows == "skip"


def test_a_new_run_on_other_data_has_no_test_set_of_the_old() -> None:
    draft = on_sums(test="builtin:arithmetic-test").on_data(Source(source="votes.jsonl"))

    assert recipe(draft).evaluation.test == ""
    assert [one.source for one in draft.sources] == ["votes.jsonl"]


# Settings


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("how", get_args(Method))
@pytest.mark.parametrize("base", ["starter", "Qwen/Qwen3-0.6B"])
def test_there_are_settings_for_every_stage_that_a_file_may_hold(
    stage: Stage, how: Method, base: str
) -> None:
    plain = Recipe(stage=stage, model=Model(base=base, method=how))
    filled = with_stage_defaults(plain, PARAMETERS.get(base))

    assert msgspec.toml.decode(format_recipe(filled), type=Recipe) == filled


def test_every_setting_but_the_test_set_is_asked_for() -> None:
    assert {"rl.group_size", "training.max_steps", "evaluation.holdout"} <= set(OPTIONS)
    assert "evaluation.test" not in OPTIONS


# The present draft

RUNS = {
    "answers": Recipe(stage="sft", model=Model(base="starter")),
    "liked": Recipe(stage="dpo", model=Model(base="run:answers")),
    "scores": Recipe(stage="reward", model=Model(base="smollm2")),
}


@pytest.fixture
def model() -> DraftModel:
    return DraftModel(RUNS.__getitem__)


def test_changes_are_called_back_and_only_those(model: DraftModel) -> None:
    seen: list[str] = []
    model.follow(lambda: seen.append(model.draft.stage))

    model.change(stage="dpo")
    model.change(stage="dpo")
    model.become(model.draft.with_option("training.max_steps", 5))

    assert seen == ["dpo", "dpo"]


def test_who_is_called_back_may_change_theon_sums(model: DraftModel) -> None:
    model.follow(lambda: model.change(name=model.draft.stage))
    last: list[str] = []
    model.follow(lambda: last.append(model.draft.name))

    model.change(stage="kto")

    assert set(last) == {"kto"}


def test_a_base_is_known_by_the_runs_that_it_comes_from(model: DraftModel) -> None:
    assert model.draft.base == model.base_of("starter", "starter")

    model.choose_base("run", "run:liked")

    assert (model.draft.base.root, model.draft.base.answers) == ("starter", True)
    assert model.draft.base.parameters == PARAMETERS["starter"]


def test_opening_a_file_keeps_what_is_known_of_runs_and_rows(model: DraftModel) -> None:
    model.offer_reward_models([("run:scores", "scores")])
    model.change(rows={"builtin:sums": 400})
    given = Recipe(stage="kto", model=Model(base="run:answers"), data=[Source(source="a.jsonl")])

    model.open(Pipeline(name="", stages=[given]))

    assert recipe(model.draft) == given
    assert model.draft.rows == {"builtin:sums": 400}
    assert model.draft.reward_models == (RewardModelChoice("run:scores", "scores", "smollm2"),)


def test_the_first_reward_model_is_taken_until_another_is_chosen(model: DraftModel) -> None:
    model.offer_reward_models([("run:scores", "scores")])
    assert model.draft.reward_model == "run:scores"

    model.change(reward_model="/models/other")
    model.offer_reward_models([("run:scores", "scores")])
    assert model.draft.reward_model == "/models/other"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("starter", "starter"),
        ("smollm2", "smollm2"),
        ("org/name", "hub"),
        ("run:one", "run"),
        ("/models/mine", "folder"),
        ("mine", "folder"),
    ],
)
def test_where_a_base_comes_from_is_told_by_its_name(name: str, kind: str) -> None:
    assert kind_of_base(name) == kind
