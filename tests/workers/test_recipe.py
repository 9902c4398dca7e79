"""A recipe reads, writes, and refuses with the key's path and what to write instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from workers.protocol.assets import assets_folder, builtin_datasets
from workers.protocol.catalogue import known_dataset, known_model, read_catalogue
from workers.protocol.options import options_of, text_of
from workers.protocol.pipeline import (
    Pipeline,
    chain_of,
    check_pipeline,
    following,
    format_pipeline,
    parse_pipeline,
    read_pipeline,
)
from workers.protocol.recipe import (
    Gate,
    Model,
    Recipe,
    Source,
    Training,
    format_recipe,
    parse_recipe,
    read_recipe,
    sections,
)
from workers.protocol.refusal import Refusal
from workers.protocol.rewards import MathAnswer, RewardModel

GOOD = 'name = "x"\n[[data]]\nsource = "builtin:arithmetic"\n'


FORMER = [
    ("preference", "centring", "center_rewards_coefficient", 0.01),
    ("preference", "sft_weight", "rpo_alpha", 1.0),
    ("distill", "on_policy", "lmbda", 0.25),
    ("distill", "divergence", "beta", 0.25),
    ("rl", "mask_truncated", "mask_truncated_completions", True),
    ("rl", "advantage_scaling", "scale_rewards", "none"),
    ("rl", "updates_per_batch", "num_iterations", 3),
    ("training", "warmup", "warmup_ratio", 0.1),
    ("training", "assistant_only", "assistant_only_loss", False),
    ("evaluation", "max_answer_tokens", "max_completion_tokens", 99),
]


@pytest.mark.parametrize(("table", "old", "new", "value"), FORMER)
def test_former_keys_are_read_with_a_note(table: str, old: str, new: str, value: Any) -> None:
    written = GOOD + msgspec.toml.encode({table: {old: value}}).decode()
    notes: list[str] = []

    recipe = parse_recipe(written, say=notes.append)

    assert getattr(getattr(recipe, table), new) == value
    (note,) = notes
    assert f"{table}.{old}" in note
    assert f"{table}.{new}" in note
    assert old not in format_recipe(recipe).split()


def test_a_gate_may_name_a_metric_as_it_was_called() -> None:
    notes: list[str] = []
    gate = '[evaluation]\ngate = { metric = "longer_wins", min_gain = 0.1 }\n'

    recipe = parse_recipe(GOOD + gate, say=notes.append)

    assert recipe.evaluation.gate == Gate(metric="length_bias", min_gain=0.1)
    assert len(notes) == 1


def test_both_names_of_a_key_are_refused() -> None:
    text = GOOD + "[training]\nwarmup = 0.1\nwarmup_ratio = 0.1\n"
    with pytest.raises(Refusal, match=r"training\.warmup_ratio"):
        parse_recipe(text)


def test_what_a_file_leaves_out_is_its_stages_default() -> None:
    dpo = 'stage = "dpo"\n' + GOOD
    plain = parse_recipe(dpo)
    sized = parse_recipe(dpo + '[model]\nbase = "org/name"\n')
    run = '[model]\nbase = "run:one"\n'
    said = parse_recipe(dpo + "[training]\nlearning_rate = 2e-5\n")

    assert plain.training.learning_rate == 1e-3, "the starter is tiny"
    assert plain.preference.rpo_alpha == 1.0
    assert sized.training.learning_rate == 1e-5
    assert sized.training.batch_size == Training().batch_size
    assert parse_recipe(dpo + run).training.learning_rate == 1e-5, "its size is not known"
    rooted = parse_recipe(dpo + run, root_of={"run:one": "starter"}.__getitem__)
    assert rooted.training.learning_rate == 1e-3
    assert said.training.learning_rate == 2e-5


def test_stages_of_a_pipeline_go_by_its_root() -> None:
    text = (
        'name = "two"\n[[stages]]\nname = "a"\ndata = [{source = "builtin:arithmetic"}]\n'
        '[[stages]]\nname = "b"\nstage = "dpo"\ndata = [{source = "builtin:preferences"}]\n'
        'model = { base = "BASE" }\n'
    )
    for base in ("previous", "stage:a"):
        second = parse_pipeline(text.replace("BASE", base)).stages[1]
        assert second.training.learning_rate == 1e-3


def test_what_is_written_reads_back_equal() -> None:
    recipe = parse_recipe(GOOD + "[training]\nlearning_rate = 3e-4\nseed = 7\n")
    assert parse_recipe(format_recipe(recipe)) == recipe
    assert recipe.training.learning_rate == 3e-4


def test_a_gate_is_there_only_where_it_is_set() -> None:
    plain = parse_recipe(GOOD)
    assert plain.evaluation.gate is None
    assert "gate" not in format_recipe(plain)
    gated = parse_recipe(GOOD + '[evaluation]\ngate = { metric = "reward" }\n')
    assert gated.evaluation.gate == Gate(metric="reward", min_gain=0.0)
    pipeline = Pipeline(name="two", stages=[plain, gated])
    assert parse_pipeline(format_pipeline(pipeline)) == pipeline


@pytest.mark.parametrize(
    ("text", "path", "advice"),
    [
        ('naem = "x"\n', "naem", "Did you mean 'name'?"),
        (GOOD + "[training]\nlearning_rte = 1\n", "training.learning_rte", "learning_rate"),
        (GOOD + '[training]\nlearning_rate = "fast"\n', "training.learning_rate", "default"),
        (GOOD + "[training]\nbatch_size = -1\n", "training.batch_size", "Micro-batch"),
        (GOOD + '[model]\nmethod = "magic"\n', "model.method", "LoRA"),
        ('[[data]]\nsorce = "a"\n', "data[0].sorce", "source"),
        ('stage = "magic"\n' + GOOD, "stage", "sft"),
        ('stage = ["sft"]\n' + GOOD, "stage", "sft"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_path(text: str, path: str, advice: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_recipe(text, "r.toml")
    assert path in caught.value.what
    assert "r.toml" in caught.value.what
    assert advice in caught.value.remedy + caught.value.cause


def test_impossible_combinations_are_refused() -> None:
    for text in (
        'name = "x"\n',
        GOOD + '[model]\nmethod = "qlora"\n[training]\nprecision = "fp32"\n',
        'name = " "\n[[data]]\nsource = "a"\n',
        GOOD + '[training]\nreasoning = "read"\nassistant_only_loss = false\n',
        GOOD + '[model]\nengine = "unsloth"\n[lora]\nexperts = "on"\n',
        'stage = "dpo"\n' + GOOD + '[preference]\nloss = "exo_pair"\n',
        'stage = "dpo"\n' + GOOD + '[preference]\nloss = "robust"\n',
    ):
        with pytest.raises(Refusal):
            parse_recipe(text)


JUDGE = '[[rewards]]\nkind = "reward_model"\nmodel = "run:judge"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('stage = "grpo"\n' + GOOD + '[rl]\nalgorithm = "ppo"\n' + JUDGE, "stage 'grpo'"),
        ('stage = "rlhf"\n' + GOOD, "no reward model is named"),
        ('stage = "rlhf"\n' + GOOD + '[[rewards]]\nkind = "math_answer"\n', "no reward model"),
        (
            'stage = "rlhf"\n' + GOOD + '[rl]\nalgorithm = "ppo"\n[model]\nmethod = "qlora"\n'
            + JUDGE,
            "'ppo' with model.method = 'qlora'",
        ),
        ('stage = "distill"\n' + GOOD, "distill.teacher is missing"),
        ('stage = "kto"\n' + GOOD + "[training]\nbatch_size = 1\n", "batch_size = 1"),
        (
            'stage = "kto"\n' + GOOD + "[training]\neffective_batch_size = 16\n"
            "gradient_accumulation = 16\n",
            "gradient_accumulation = 16 in stage 'kto'",
        ),
    ],
)  # fmt: skip
def test_a_stage_says_what_it_cannot_do_without(text: str, words: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse_recipe(text)
    assert words in refused.value.what
    assert refused.value.remedy


RUN = '[model]\nbase = "run:x"\ncontinue_adapter = true\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('stage = "dpo"\n' + GOOD + "[training]\nneftune_noise_alpha = 5\n", "stage 'dpo'"),
        ('stage = "orpo"\n' + GOOD + "[training]\nactivation_offloading = true\n",
         "activation_offloading = true in stage 'orpo'"),
        ('stage = "kto"\n' + GOOD + "[training]\ngroup_by_length = true\n", "stage 'kto'"),
        (GOOD + "[training]\ngroup_by_length = true\npacking = true\n", "packing = true"),
        (GOOD + '[model]\nmethod = "qlora"\n[lora]\ninit = "pissa"\n', "method = 'qlora'"),
        (GOOD + '[model]\nengine = "unsloth"\n[lora]\ninit = "olora"\n', "engine = 'unsloth'"),
        (GOOD + '[model]\nengine = "unsloth"\n[lora]\ninit = "gaussian"\n', "engine = 'unsloth'"),
        (GOOD + '[model]\nengine = "unsloth"\n[training]\nattention = "sdpa"\n', "attention"),
        (GOOD + "[model]\ncontinue_adapter = true\n", "model.base = 'starter'"),
        (GOOD + RUN + 'method = "full"\n', "model.method = 'full'"),
        (GOOD + RUN + '[lora]\ninit = "pissa"\n', "lora.init = 'pissa'"),
        (GOOD + RUN + '[lora]\nmodules_to_save = "lm_head"\n', "with lora.modules_to_save"),
        ('stage = "reward"\n' + GOOD + RUN, "stage 'reward'"),
        (GOOD + "[training]\nembedding_learning_rate = 1e-5\n", "without lora.modules_to_save"),
        (GOOD + "[evaluation]\nkeep_best = true\n", "without evaluation.every_steps"),
        (GOOD + "[evaluation]\nearly_stopping_patience = 2\nevery_steps = 5\nholdout = 0\n",
         "without held-out rows"),
    ],
)  # fmt: skip
def test_a_method_is_refused_where_it_cannot_be(text: str, words: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse_recipe(text)
    assert words in refused.value.what
    assert refused.value.cause
    assert refused.value.remedy


def test_methods_that_go_together_are_taken() -> None:
    """Muon in full with an embedding rate, LoRA+ over four bits, offloading of DPO, an adapter
    that is trained further."""
    for text in (
        GOOD + '[model]\nmethod = "full"\n[training]\noptimizer = "muon"\n'
        "embedding_learning_rate = 1e-5\n",
        GOOD + '[model]\nmethod = "qlora"\n[lora]\nplus_ratio = 16\nrslora = true\n',
        'stage = "dpo"\n' + GOOD + "[training]\nactivation_offloading = true\n",
        GOOD + RUN + "[training]\nembedding_learning_rate = 1e-5\n",
        'stage = "grpo"\n' + GOOD + RUN + '[[rewards]]\nkind = "math_answer"\n',
    ):
        assert parse_recipe(text)


def test_ppo_takes_a_batch_of_any_size_and_several_rewards() -> None:
    more = '[rl]\nalgorithm = "ppo"\n[training]\nbatch_size = 6\n[[rewards]]\nkind = "length"\n'
    assert len(parse_recipe('stage = "rlhf"\n' + GOOD + more + JUDGE).rewards) == 2


def test_a_missing_or_broken_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="There is no recipe"):
        read_recipe(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("name = ")
    with pytest.raises(Refusal, match="not valid TOML"):
        read_recipe(broken)
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'name = "caf\xe9"')
    with pytest.raises(Refusal, match="UTF-8"):
        read_recipe(latin)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-5, "1e-05"),
        (0.3, "0.3"),
        (2.0, "2"),
        (1 / 3, "0.3333333333333333"),
        (8, "8"),
        ("a", "a"),
    ],
)
def test_a_form_shows_a_value_as_it_is_read_back(value: Any, text: str) -> None:
    assert text_of(value) == text
    assert type(value)(text) == value


def test_every_option_is_declared_with_label_help_and_default() -> None:
    for path, section in sections().items():
        declared = {option.key: option for option in options_of(section)}
        for option in declared.values():
            assert option.label, path
            assert option.help.endswith("."), option
        if section is Training:
            assert declared["learning_rate"].default == 1e-4
            assert declared["batch_size"].minimum == 0
            assert declared["gradient_checkpointing"].choices == ("auto", "on", "off")
            assert declared["scheduler"].choices == ("cosine", "linear", "constant")


def test_the_recipes_that_come_along_are_valid_and_tell_what_they_need() -> None:
    paths = sorted((assets_folder() / "recipes").glob("*.toml"))
    assert len(paths) >= 5
    for path in paths:
        pipeline = read_pipeline(path)
        assert pipeline.summary
        assert pipeline.memory_source
        for recipe in pipeline.stages:
            base = recipe.model.base
            assert known_model(base) or base.startswith(("starter", "previous", "stage:")), base
            assert parse_recipe(format_recipe(recipe)) == recipe
            for source in recipe.data:
                assert _known(source), source


TEMPLATES = {"Qwen/Qwen3-14B": "trl:qwen3", "Qwen/Qwen3-4B-Base": "trl:qwen3"}
"""Their own chat templates, as TRL ships them, of models that learn from conversations."""
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Two and two?"},
    {"role": "assistant", "content": "Four."},
    {"role": "user", "content": "And one?"},
    {"role": "assistant", "content": "Five."},
]


def test_the_recipes_that_come_along_learn_every_answer_of_a_conversation() -> None:
    """Of models whose template writes earlier answers otherwise too."""
    from workers.data.reader import Row
    from workers.data.tokenize.chat_template import end_turns, set_chat_template
    from workers.data.tokenize.encode import encode
    from workers.engines.tokenizer import read_tokenizer
    from workers.fetch import Located

    located = Located("starter", assets_folder() / "starter" / "model")
    talking = {
        recipe.model.base: recipe
        for path in (assets_folder() / "recipes").glob("*.toml")
        for recipe in read_pipeline(path).stages
        if recipe.stage == "sft" and known_model(recipe.model.base)
    }
    assert set(talking) == set(TEMPLATES)
    for base, recipe in talking.items():
        tokenizer: Any = read_tokenizer(located)
        set_chat_template(tokenizer, TEMPLATES[base], recipe.model.thinking)
        end_turns(tokenizer)
        row = Row(prompt=TALK[:-1], completion=TALK[-1:])
        encodings = encode(row, "sft", tokenizer)
        learnt = "".join(
            tokenizer.decode([one for one in encoding.labels if one >= 0]) for encoding in encodings
        )
        assert learnt.count("Four.<|im_end|>") == learnt.count("Five.<|im_end|>") == 1


def _known(source: Source) -> bool:
    name = source.source.removeprefix("builtin:")
    return name in builtin_datasets() or known_dataset(source) is not None


def test_the_catalogue_gives_sources_and_admits_what_was_not_verified() -> None:
    catalogue = read_catalogue()
    assert len(catalogue.models) >= 20
    assert len(catalogue.datasets) >= 9
    for entry in (*catalogue.models, *catalogue.datasets):
        assert entry.source
        assert entry.licence or entry.verified  # no licence is made up: a source has none
        assert entry.duties
        assert entry.verified == ("from memory" not in entry.source)


def test_a_pipeline_names_the_stage_at_fault() -> None:
    with pytest.raises(Refusal, match=r"stages\[1\]\.training\.batch_sise"):
        parse_pipeline(PIPELINE.replace("batch_size", "batch_sise"))
    with pytest.raises(Refusal, match=r"stage 2: training\.batch_size"):
        parse_pipeline(PIPELINE.replace("batch_size = 8", "batch_size = 7"))
    with pytest.raises(Refusal, match="first stage"):
        parse_pipeline(PIPELINE.replace('base = "starter"', 'base = "previous"'))


def test_what_was_never_a_file_is_checked_as_one() -> None:
    pipeline = parse_pipeline(PIPELINE)
    check_pipeline(pipeline)
    first, second = pipeline.stages
    cold = msgspec.structs.replace(second, rl=msgspec.structs.replace(second.rl, temperature=0.0))
    for stages, told in (
        ([first, cold], r"stages\[\]\.rl\.temperature|stages\[1\]\.rl\.temperature"),
        ([cold], r"recipe: rl\.temperature"),
        ([first, msgspec.structs.replace(second, rewards=[])], "stage 2: rewards is missing"),
        ([second], "first stage"),
        ([], "no stages"),
    ):
        with pytest.raises(Refusal, match=told):
            check_pipeline(msgspec.structs.replace(pipeline, stages=stages), "the recipe")


def test_a_chain_of_runs_leads_to_the_model_that_it_began_with() -> None:
    runs = {
        "first": Recipe(stage="sft", model=Model(base="smollm2")),
        "second": Recipe(stage="dpo", model=Model(base="run:first")),
        "third": Recipe(stage="kto", model=Model(base="run:gone")),
    }

    def recipe_of(run: str) -> Recipe | None:
        if run == "no-training":
            return None
        if run not in runs:
            raise Refusal("It is gone.", "", "")
        return runs[run]

    assert chain_of("run:second", recipe_of) == ("smollm2", ["sft", "dpo"])
    assert chain_of("org/name", recipe_of) == ("org/name", [])
    assert chain_of("run:third", recipe_of) == ("run:gone", ["kto"])
    assert chain_of("run:no-training", recipe_of) == ("", [])


def test_later_stages_name_the_runs_that_earlier_ones_became() -> None:
    second = parse_pipeline(PIPELINE).stages[1]
    rewards = [RewardModel(model="previous"), RewardModel(model="stage:first"), MathAnswer()]
    third = msgspec.structs.replace(
        second, model=Model(base="stage:first"), rewards=[RewardModel(model="previous")]
    )
    left = following([msgspec.structs.replace(second, rewards=rewards), third], "first", "abc")
    assert [recipe.model.base for recipe in left] == ["run:abc", "run:abc"]
    assert [reward.model for reward in left[0].rewards[:2]] == ["run:abc", "run:abc"]  # type: ignore[union-attr]
    assert left[1].rewards == third.rewards  # its own `previous` comes later


PIPELINE = """
name = "two"
[[stages]]
[stages.model]
base = "starter"
[[stages.data]]
source = "builtin:arithmetic"
[[stages]]
stage = "grpo"
[stages.model]
base = "previous"
[[stages.data]]
source = "builtin:arithmetic"
[stages.training]
batch_size = 8
[[stages.rewards]]
kind = "math_answer"
"""


def test_a_reward_of_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    text = PIPELINE.replace("math_answer", "maths_answer")
    with pytest.raises(Refusal, match="rewards") as caught:
        parse_pipeline(text)
    assert "math_answer" in caught.value.remedy
