"""The tables of a recipe that every stage looks at: model, adapter, data, training, evaluation."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from workers.protocol.cards import Device
from workers.protocol.options import option

Template = str
"""How a conversation becomes one text; auto is the model's own, chatml where it has none.

`workers.protocol.templates` knows the names.
"""
Method = Literal["lora", "qlora", "dora", "full"]
Thinking = Literal["auto", "on", "off"]
Effort = Literal["", "low", "medium", "high"]
Reasoning = Literal["learn", "read", "drop"]
Engine = Literal["auto", "transformers", "unsloth"]
TooLong = Literal["drop", "cut"]
"""What becomes of a row whose answer does not fit into training.max_length tokens."""


class Section(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A table of the recipe file."""


class Model(Section, frozen=True):
    base: Annotated[
        str,
        option(
            "Base model",
            "What to start from: starter, smollm2, a hub id like org/name, a folder, or run:ID.",
        ),
    ] = "starter"
    method: Annotated[
        Method,
        option(
            "Method",
            "LoRA trains a small adapter; QLoRA does so over 4-bit weights; DoRA also learns "
            "magnitudes; full trains every weight.",
        ),
    ] = "lora"
    template: Annotated[
        Template,
        option(
            "Chat template",
            "auto takes the model's own, chatml where it has none. Others: chatml, llama-3, gemma, "
            "mistral, alpaca, trl:NAME for one that TRL ships, or the path of a .jinja file.",
            advanced=True,
        ),
    ] = "auto"
    thinking: Annotated[
        Thinking,
        option(
            "Thinking",
            "Whether the model thinks before it answers, where its chat template has a switch; "
            "auto goes by whether the answers to learn do.",
        ),
    ] = "auto"
    reasoning_effort: Annotated[
        Effort,
        option(
            "Reasoning effort",
            "How long it thinks, where its chat template has levels; unset is the template's own.",
            advanced=True,
        ),
    ] = ""
    engine: Annotated[
        Engine,
        option("Engine", "Which library loads and speeds up the model.", advanced=True),
    ] = "auto"


class Lora(Section, frozen=True):
    rank: Annotated[
        int, option("LoRA rank", "Size of the adapter; 8 to 64 is usual.", ge=1, le=1024)
    ] = 16
    alpha: Annotated[
        int,
        option("LoRA alpha", "Scale of the adapter; once or twice the rank is usual.", ge=1),
    ] = 32
    dropout: Annotated[
        float,
        option("LoRA dropout", "Share of adapter inputs dropped.", ge=0, lt=1, advanced=True),
    ] = 0.0
    targets: Annotated[
        str,
        option(
            "Target modules",
            "Layers that get an adapter: all-linear (of the language model), all-linear+vision "
            "(towers too), or names separated by commas.",
            advanced=True,
        ),
    ] = "all-linear"
    experts: Annotated[
        Literal["auto", "on", "off"],
        option(
            "Experts",
            "Whether a mixture's experts get an adapter; auto gives them one with all-linear.",
            advanced=True,
        ),
    ] = "auto"


Column = Literal[
    "messages",
    "prompt",
    "completion",
    "chosen",
    "rejected",
    "answer",
    "label",
    "text",
    "system",
    "tools",
    "history",
    "segments",
    "reasoning",
]
"""What a column of a dataset can be to us."""


Documents = Literal["auto", "blank_lines", "endoftext", "lines", "file"]
"""Where a text file's documents end."""


class Source(Section, frozen=True):
    source: Annotated[
        str,
        option(
            "Dataset",
            "builtin:NAME, a file or folder (JSON lines, JSON, CSV, Parquet, Arrow or text, also "
            ".gz and .zst), or org/name[:split] on the hub.",
        ),
    ]
    weight: Annotated[
        float,
        option("Weight", "Share of this dataset in a mixture, against the others.", gt=0),
    ] = 1.0
    limit: Annotated[
        int,
        option(
            "Rows at most",
            "Takes so many rows of this dataset, spread over it by hash; 0 takes all.",
            unit="rows",
            ge=0,
            advanced=True,
        ),
    ] = 0
    licence: Annotated[
        str,
        option(
            "Licence",
            "The dataset's licence, as SPDX writes it; empty looks for it in the catalogue and on "
            "the dataset's card.",
            advanced=True,
        ),
    ] = ""
    mapping: Annotated[
        dict[str, Column],
        option(
            "Columns",
            "Their columns to ours (messages, prompt, completion, chosen, rejected, answer, label, "
            "text, system, tools, history, segments, reasoning), instead of detection.",
            advanced=True,
        ),
    ] = {}
    documents: Annotated[
        Documents,
        option(
            "Documents",
            "Where a text file's documents end: blank_lines, endoftext (<|endoftext|>), lines, "
            "or file for all of it as one; auto goes by the file.",
            advanced=True,
        ),
    ] = "auto"
    bad_rows: Annotated[
        Literal["refuse", "skip"],
        option(
            "Bad rows",
            "refuse stops at rows that cannot be used; skip leaves them out and lists them.",
            advanced=True,
        ),
    ] = "refuse"


class Training(Section, frozen=True):
    max_steps: Annotated[
        int,
        option(
            "Steps",
            "Optimizer steps; 0 trains for the given epochs instead.",
            ge=0,
            on_resume=True,
        ),
    ] = 60
    epochs: Annotated[
        float,
        option("Epochs", "Passes over the data when steps is 0.", gt=0, le=1000, on_resume=True),
    ] = 1.0
    learning_rate: Annotated[
        float,
        option("Learning rate", "Peak step size; 1e-4 to 2e-4 suits LoRA, 1e-5 full.", gt=0, lt=1),
    ] = 1e-4
    batch_size: Annotated[
        int,
        option(
            "Batch size",
            "Examples at once on the device; lower it first when memory is short.",
            unit="examples",
            ge=1,
            le=1024,
            on_resume=True,
        ),
    ] = 8
    gradient_accumulation: Annotated[
        int,
        option(
            "Gradient accumulation",
            "Batches added up before each step.",
            ge=1,
            le=1024,
            on_resume=True,
        ),
    ] = 1
    max_length: Annotated[
        int,
        option(
            "Max sequence length",
            "Most tokens of an example; plain text that is longer is split, without loss.",
            unit="tokens",
            ge=8,
            le=1_048_576,
            on_resume=True,
        ),
    ] = 1024
    too_long: Annotated[
        TooLong,
        option(
            "Rows that are too long",
            "drop leaves out rows longer than the max sequence length; cut truncates them, which "
            "teaches the model to break off.",
            advanced=True,
        ),
    ] = "drop"
    seed: Annotated[
        int, option("Seed", "The same seed gives the same run.", ge=0, le=2**32 - 1)
    ] = 0
    scheduler: Annotated[
        Literal["cosine", "linear", "constant"],
        option("Schedule", "How the learning rate falls after warm-up.", advanced=True),
    ] = "cosine"
    warmup_ratio: Annotated[
        float,
        option(
            "Warm-up",
            "Share of the steps in which the rate climbs.",
            ge=0,
            lt=1,
            advanced=True,
            formerly="warmup",
        ),
    ] = 0.05
    weight_decay: Annotated[
        float, option("Weight decay", "Pull of the weights to zero.", ge=0, le=1, advanced=True)
    ] = 0.01
    max_grad_norm: Annotated[
        float,
        option(
            "Gradient clipping",
            "Longest gradient let through; 0 lets all through.",
            ge=0,
            advanced=True,
            on_resume=True,
        ),
    ] = 1.0
    precision: Annotated[
        Literal["auto", "bf16", "fp16", "fp32"],
        option(
            "Precision", "Number format; auto takes bf16 where the device has it.", advanced=True
        ),
    ] = "auto"
    device: Annotated[
        Device,
        option(
            "Device",
            "auto computes on the GPU where there is one; cpu leaves it alone.",
            advanced=True,
            on_resume=True,
        ),
    ] = "auto"
    gradient_checkpointing: Annotated[
        bool,
        option(
            "Gradient checkpointing",
            "Less memory for about a third more time.",
            advanced=True,
            on_resume=True,
        ),
    ] = False
    packing: Annotated[
        bool,
        option("Packing", "Join short examples into full-length ones.", advanced=True),
    ] = False
    assistant_only_loss: Annotated[
        bool,
        option(
            "Train answers only",
            "Only the assistant's tokens count; prompts are masked.",
            advanced=True,
            formerly="assistant_only",
        ),
    ] = True
    reasoning: Annotated[
        Reasoning,
        option(
            "Thinking in answers",
            "What is done with the data's thinking: learn puts it in the loss, read leaves it in "
            "the context and masks it, drop takes it out.",
            advanced=True,
        ),
    ] = "learn"
    save_every_steps: Annotated[
        int,
        option(
            "Checkpoint every",
            "Steps between checkpoints; 0 keeps the result alone.",
            unit="steps",
            ge=0,
            advanced=True,
            on_resume=True,
        ),
    ] = 50


class Gate(Section, frozen=True):
    """What a run must reach on the held-out rows to be promoted."""

    metric: Annotated[
        str, option("Gate metric", "The held-out measure looked at.", on_resume=True)
    ] = "accuracy"
    min_gain: Annotated[
        float,
        option(
            "Least gain", "How much it must rise (for loss: fall) over the start.", on_resume=True
        ),
    ] = 0.0


class Evaluation(Section, frozen=True):
    holdout: Annotated[
        float,
        option(
            "Held-out share",
            "Share of the rows kept apart to measure on, up to the held-out rows at most.",
            ge=0,
            lt=0.9,
        ),
    ] = 0.1
    every_steps: Annotated[
        int,
        option(
            "Evaluate every",
            "Steps between measurements; 0 measures before and after only.",
            unit="steps",
            ge=0,
            advanced=True,
            on_resume=True,
        ),
    ] = 0
    max_rows: Annotated[
        int,
        option(
            "Held-out rows at most",
            "No more rows than these are held out and measured; all others are learnt from.",
            unit="rows",
            ge=1,
            advanced=True,
        ),
    ] = 64

    test: Annotated[
        str,
        option("Test set", "A dataset to measure on instead of the held-out share.", advanced=True),
    ] = ""
    max_completion_tokens: Annotated[
        int,
        option(
            "Max measured completion tokens",
            "Answers that are checked are truncated after so many tokens.",
            unit="tokens",
            ge=1,
            le=131_072,
            advanced=True,
            on_resume=True,
            formerly="max_answer_tokens",
        ),
    ] = 256
    gate: Gate | None = None
    """Decides whether the next stage of a pipeline starts; without one it always does."""
