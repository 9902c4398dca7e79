"""`encode` and `fit` give what TRL's own trainers prepare of the same rows, for every stage.

TRL renders, tokenizes, masks and truncates 200 raw rows by itself; its datasets, through its own
collators where those truncate, are the measure. Where ours differ on purpose, the test says how.
Audit and token view then count the same tokens in the loss.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import trl
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import (
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    GRPOTrainer,
    KTOConfig,
    KTOTrainer,
    RewardConfig,
    RewardTrainer,
    RLOOConfig,
    RLOOTrainer,
    SFTConfig,
    SFTTrainer,
)
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.gkd import GKDConfig, GKDTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from tests.torch.varied_rows import (
    ROWS,
    assistant,
    rows_for,
    user,
)
from workers.data.audit.audit import Audit
from workers.data.reader import Row
from workers.data.tokenize.chat_template import render
from workers.data.tokenize.encode import IGNORED, Example, encode, fit, units
from workers.data.tokenize.token_counts import TokenCounter
from workers.data.tokenize.token_view import TokenViewer
from workers.protocol.assets import assets_folder
from workers.protocol.recipe import Stage

STARTER = assets_folder() / "starter" / "model"
MAX_LENGTH = 96
"""Many rows are longer, some by their prompt alone."""
Sequence = tuple[list[int], list[int]]
"""Token ids and labels."""


# Tokenizers

SYMBOLS = {
    "starter": [],
    "qwen2_5": ["<tool_call>", "</tool_call>"],
    "llama3": ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
}
ENDS = {"starter": "<|im_end|>", "qwen2_5": "<|im_end|>", "llama3": "<|eot_id|>"}
MARKED = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}"
    "{% endgeneration %}{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The starter's template with the marks from which TRL takes the assistant's tokens; those that it
ships it marks itself."""


@pytest.fixture(scope="module", params=SYMBOLS)
def template(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def tokenizer(template: str) -> Any:
    """The starter's tokenizer, with its own template or one that TRL ships."""
    made: Any = AutoTokenizer.from_pretrained(STARTER)
    made.add_special_tokens({"additional_special_tokens": SYMBOLS[template]})
    made.eos_token = ENDS[template]
    if template != "starter":
        folder = Path(trl.__file__).parent / "chat_templates"
        made.chat_template = (folder / f"{template}.jinja").read_text()
    return made


def model_for(tokenizer: Any, kind: Any = AutoModelForCausalLM, **options: Any) -> Any:
    model = kind.from_pretrained(STARTER, **options)
    model.resize_token_embeddings(len(tokenizer))
    model.config.pad_token_id = tokenizer.pad_token_id
    return model


def prepared(
    tmp_path: Path, trainer: Any, config: Any, tokenizer: Any, columns: list[dict[str, Any]],
    *, model: Any = None, options: dict[str, Any] | None = None, **more: Any,
) -> Any:  # fmt: skip
    """TRL's trainer on raw rows."""
    return trainer(
        model=model or model_for(tokenizer),
        args=config(
            output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none",
            gradient_checkpointing=False, **(options or {}),
        ),
        train_dataset=Dataset.from_list(columns),
        processing_class=tokenizer,
        **more,
    )  # fmt: skip


def ours(stage: Stage, tokenizer: Any, rows: list[Row], limit: int) -> list[Example]:
    return [one for row in rows for one in fit(encode(row, stage, tokenizer), stage, limit)]


def pairs_of(examples: list[Example]) -> list[Sequence]:
    return [(one.input_ids, one.labels) for one in examples]


def masked(ids: list[int], mask: list[int]) -> list[int]:
    return [token if kept else IGNORED for token, kept in zip(ids, mask, strict=True)]


def collated(trainer: Any) -> list[Sequence]:
    """The sequences of TRL's batches of one row, without padding; a pair gives two."""
    made: list[Sequence] = []
    for row in trainer.train_dataset:
        batch = trainer.data_collator([row])
        for ids, seen, mask in zip(
            batch["input_ids"], batch["attention_mask"], batch["completion_mask"], strict=True
        ):
            length = int(seen.sum())
            ids = ids[:length].tolist()
            made.append((ids, masked(ids, mask[:length].tolist())))
    return made


def columns_of(row: Row) -> dict[str, Any]:
    """A raw row as TRL wants it."""
    made = {"prompt": row.prompt, "completion": row.completion}
    return made | {"label": row.label} if row.label is not None else made


def pair_columns(row: Row) -> dict[str, Any]:
    return {"prompt": row.prompt, "chosen": row.completion, "rejected": row.rejected}


# Supervised fine-tuning


def test_sft(tmp_path: Path, template: str, tokenizer: Any) -> None:
    """The assistant's tokens of every turn. TRL's marked Qwen2.5 template also trains the line
    breaks around a turn, which no model has to write: ours mask them."""
    rows = rows_for("sft", tools=template == "qwen2_5")
    columns = [
        {"messages": row.messages, "tools": json.dumps(row.tools) if row.tools else None}
        for row in rows
    ]
    unmarked = tokenizer.chat_template
    if template == "starter":
        tokenizer.chat_template = MARKED
    options = {"max_length": MAX_LENGTH, "assistant_only_loss": True}
    trainer = prepared(tmp_path, SFTTrainer, SFTConfig, tokenizer, columns, options=options)
    tokenizer.chat_template = unmarked
    theirs = [(row["input_ids"], row["labels"]) for row in trainer.train_dataset]
    made = pairs_of(ours("sft", tokenizer, rows, MAX_LENGTH))
    assert len(made) > ROWS / 2
    if template != "qwen2_5":
        assert made == theirs
        return
    by_ids = {tuple(ids): labels for ids, labels in theirs}
    for ids, labels in made:
        trained = by_ids.pop(tuple(ids))
        more = {one for one, our in zip(trained, labels, strict=True) if one != our}
        assert {tokenizer.decode(one) for one in more} <= {"\n"}
    for left_out in by_ids.values():  # truncated so that line breaks alone are trained
        assert {tokenizer.decode(one) for one in left_out if one != IGNORED} == {"\n"}


def test_sft_of_all_turns(tmp_path: Path, tokenizer: Any) -> None:
    rows = rows_for("sft")
    columns = [{"messages": row.messages} for row in rows]
    options = {"max_length": MAX_LENGTH}
    trainer = prepared(tmp_path, SFTTrainer, SFTConfig, tokenizer, columns, options=options)
    theirs = [(row["input_ids"], row["labels"]) for row in trainer.train_dataset]
    examples = [
        one
        for row in rows
        for one in fit(encode(row, "sft", tokenizer, assistant_only=False), "sft", MAX_LENGTH)
    ]
    assert pairs_of(examples) == theirs


def test_distill(tmp_path: Path, tokenizer: Any) -> None:
    """TRL's GKD trains the last answer alone, a line break behind it included, and truncates from
    the left, so that prompts lose their beginning. Ours are the sequences of SFT: every answer up
    to its end token, truncated from the right."""
    rows = rows_for("distill")
    columns = [{"messages": row.messages} for row in rows]
    trainer = prepared(
        tmp_path, GKDTrainer, GKDConfig, tokenizer, columns, teacher_model=model_for(tokenizer),
        options={"max_length": 4096},
    )  # fmt: skip
    examples = ours("distill", tokenizer, rows, 4096)
    assert pairs_of(examples) == pairs_of(ours("sft", tokenizer, rows, 4096))
    for row, example in zip(trainer.train_dataset, examples, strict=True):
        batch = trainer.data_collator([row])
        assert batch["input_ids"][0].tolist() == example.input_ids
        last = [label for label in batch["labels"][0].tolist() if label != IGNORED]
        trained = [label for label in example.labels if label != IGNORED]
        ended = len(last) - (tokenizer.decode(last[-1]) == "\n")
        assert trained[-ended:] == last[:ended]


def test_cpt(tmp_path: Path, tokenizer: Any) -> None:
    """TRL cuts the ends of long documents off; ours go on in further windows."""
    rows = rows_for("cpt")
    columns = [{"text": row.text} for row in rows]
    options = {"max_length": None}
    trainer = prepared(tmp_path, SFTTrainer, SFTConfig, tokenizer, columns, options=options)
    theirs = [(row["input_ids"], row["labels"]) for row in trainer.train_dataset]
    assert [
        (one.input_ids, one.labels) for row in rows for one in encode(row, "cpt", tokenizer)
    ] == theirs
    for row, (ids, _) in zip(rows, theirs, strict=True):
        first, *others = fit(encode(row, "cpt", tokenizer), "cpt", MAX_LENGTH)
        assert (first.input_ids, first.labels) == (ids[:MAX_LENGTH], ids[:MAX_LENGTH])
        assert [*first.labels, *(label for one in others for label in one.labels[1:])] == ids


# Preferences


@pytest.mark.parametrize("stage", ["dpo", "ipo"])
def test_dpo(tmp_path: Path, tokenizer: Any, stage: Stage) -> None:
    rows = rows_for(stage)
    columns = [pair_columns(row) for row in rows]
    options = {"max_length": MAX_LENGTH, "loss_type": ["ipo" if stage == "ipo" else "sigmoid"]}
    trainer = prepared(tmp_path, DPOTrainer, DPOConfig, tokenizer, columns, options=options)
    assert pairs_of(ours(stage, tokenizer, rows, MAX_LENGTH)) == collated(trainer)


def test_kto(tmp_path: Path, tokenizer: Any) -> None:
    """A pair gives a desirable and an undesirable completion."""
    rows = rows_for("kto")
    unpaired = [
        single
        for row in rows
        for single in (
            [Row(prompt=row.prompt, completion=row.completion, label=True),
             Row(prompt=row.prompt, completion=row.rejected, label=False)]
            if row.rejected else [row]
        )
    ]  # fmt: skip
    columns = [columns_of(row) for row in unpaired]
    options = {"max_length": MAX_LENGTH, "per_device_train_batch_size": 2}
    trainer = prepared(tmp_path, KTOTrainer, KTOConfig, tokenizer, columns, options=options)
    made = ours("kto", tokenizer, rows, MAX_LENGTH)
    assert pairs_of(made) == collated(trainer)
    assert [one.desirable for one in made] == trainer.train_dataset["label"]


def test_reward(tmp_path: Path, tokenizer: Any) -> None:
    """Both leave out pairs that do not fit whole. The loss is of the whole sequence's score, so
    that TRL has no labels: ours say which tokens are the completion's."""
    rows = rows_for("reward")
    columns = [pair_columns(row) for row in rows]
    model = model_for(tokenizer, AutoModelForSequenceClassification, num_labels=1)
    options = {"max_length": MAX_LENGTH}
    trainer = prepared(
        tmp_path, RewardTrainer, RewardConfig, tokenizer, columns, model=model, options=options
    )
    theirs = [
        ids for row in trainer.train_dataset for ids in (row["chosen_ids"], row["rejected_ids"])
    ]
    made = ours("reward", tokenizer, rows, MAX_LENGTH)
    assert [one.input_ids for one in made] == theirs
    assert len(made) < 2 * ROWS
    assert all(one.trained_tokens for one in made)


@pytest.mark.parametrize(
    ("stage", "trainer", "config"),
    [
        ("simpo", CPOTrainer, CPOConfig),
        ("cpo", CPOTrainer, CPOConfig),
        ("orpo", ORPOTrainer, ORPOConfig),
    ],
)
def test_pairs_without_a_reference(
    tmp_path: Path, tokenizer: Any, stage: Stage, trainer: Any, config: Any
) -> None:
    """TRL puts an end token behind what the template renders, also where that ends the turn itself
    and a line break follows; ours train what the template renders. TRL keeps max_length less the
    longer answer of pairs that do not fit; ours keep all that fits, as DPO does."""
    rows = rows_for(stage)
    columns = [pair_columns(row) for row in rows]
    made = prepared(
        tmp_path, trainer, config, tokenizer, columns, options={"max_length": 4096}
    ).train_dataset
    theirs: list[Sequence] = [
        (row[f"{side}_input_ids"], row[f"{side}_labels"])
        for row in made
        for side in ("chosen", "rejected")
    ]
    end = tokenizer.eos_token_id
    for one, (ids, labels) in zip(ours(stage, tokenizer, rows, 4096), theirs, strict=True):
        added = [] if one.input_ids[-1] == end else [end]
        assert one.input_ids + added == ids
        assert one.labels + added == labels
    assert pairs_of(ours(stage, tokenizer, rows, MAX_LENGTH)) == pairs_of(
        ours("dpo", tokenizer, rows, MAX_LENGTH)
    )


# Prompts


@pytest.mark.parametrize(
    ("stage", "trainer", "config"),
    [("grpo", GRPOTrainer, GRPOConfig), ("rlhf", RLOOTrainer, RLOOConfig)],
)
def test_prompts(tmp_path: Path, tokenizer: Any, stage: Stage, trainer: Any, config: Any) -> None:
    """TRL takes prompts of any length; ours leave out those beyond max_length."""
    rows = rows_for(stage)
    columns = [{"prompt": row.prompt} for row in rows]
    made = prepared(
        tmp_path, trainer, config, tokenizer, columns, reward_funcs=[lambda completions, **_: []],
    )  # fmt: skip
    prompts = [row["prompt"] for row in made.train_dataset]
    theirs, *_ = made._tokenize_prompts(prompts)
    assert [one.input_ids for one in ours(stage, tokenizer, rows, 4096)] == theirs
    assert [one.input_ids for one in ours(stage, tokenizer, rows, MAX_LENGTH)] == [
        ids for ids in theirs if len(ids) <= MAX_LENGTH
    ]
    assert all(not one.trained_tokens for one in ours(stage, tokenizer, rows, 4096))


def test_a_template_whose_prompt_is_no_prefix_loses_no_token_of_an_answer(tokenizer: Any) -> None:
    """TRL takes the answer from where the prompt's tokens end, so that an empty thought in the
    generation prompt costs it the first words of every answer; ours stand whole behind the prompt
    as it is at inference."""
    plain = tokenizer.chat_template
    rows = rows_for("dpo")[:20]
    whole = ours("dpo", tokenizer, rows, 4096)
    tokenizer.chat_template = plain.replace("assistant\\n' }}", "assistant\\n<think></think>' }}")
    if tokenizer.chat_template == plain:
        tokenizer.chat_template = plain + "{% if add_generation_prompt %}<think></think>{% endif %}"
    try:
        found = ours("dpo", tokenizer, rows, 4096)
        assert [one.completion_ids for one in found] == [one.completion_ids for one in whole]
        asked = [render(row.prompt, tokenizer, generation=True) for row in rows for _ in range(2)]
        assert all("<think></think>" in prompt for prompt in asked)
        thinks = ["<think>" in str([row.completion, row.rejected]) for row in rows for _ in "ab"]
        assert True in thinks
        assert [one.prompt_ids for one in found] == [
            plainly.prompt_ids
            if thinking
            else tokenizer(prompt, add_special_tokens=False)["input_ids"]
            for prompt, thinking, plainly in zip(asked, thinks, whole, strict=True)
        ]
    finally:
        tokenizer.chat_template = plain


# Those who count


def counts(stage: Stage, tokenizer: Any, rows: list[Row], limit: int) -> Iterator[tuple[int, int]]:
    """Tokens, and tokens in the loss, of every row by `encode` and `fit`."""
    for row in rows:
        encodings = encode(row, stage, tokenizer)
        taken = [one for unit in units(encodings, stage) for one in fit(unit, stage, limit)]
        trained = sum(one.trained_tokens for one in taken)
        yield sum(len(one.input_ids) for one in encodings), trained


@pytest.mark.parametrize("stage", get_args(Stage))
@pytest.mark.parametrize("limit", [4096, MAX_LENGTH])
def test_counts_audit_and_view_have_the_trainers_tokens_in_the_loss(
    template: str, tokenizer: Any, stage: Stage, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.data.audit.audit.language_guesser", lambda: lambda text: "")
    rows = rows_for(stage, tools=template == "qwen2_5")
    exact = list(counts(stage, tokenizer, rows, limit))
    batched = TokenCounter(tokenizer, stage, limit).count(rows)
    assert [(one.tokens, one.trained) for one in batched if not isinstance(one, str)] == exact
    audited = Audit(rows, tokenizer, stage, limit).run().tokens
    assert audited is not None
    assert (audited.total, audited.trained) == tuple(map(sum, zip(*exact, strict=True)))
    viewer = TokenViewer(tokenizer)
    views = [viewer.views(row, at, stage, limit) for at, row in enumerate(rows)]
    assert [sum(view.trained for view in both) for both in views] == [one for _, one in exact]


def test_a_pair_of_several_turns_trains_its_last_answers_alone(tokenizer: Any) -> None:
    """The audit once counted the answers inside the prompt as well."""
    turns = [user("a"), assistant("b"), user("c")]
    row = Row(prompt=turns, completion=[assistant("d")], rejected=[assistant("e")])
    examples = ours("dpo", tokenizer, [row], 512)
    audited = Audit([row], tokenizer, "dpo", 512).run().tokens
    assert audited is not None
    assert audited.trained == sum(one.trained_tokens for one in examples)
    assert [tokenizer.decode(one.completion_ids)[0] for one in examples] == ["d", "e"]
