"""The tables of a recipe that every stage looks at: model and training."""

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

Optimizer = Literal["auto", "adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit", "muon"]
Attention = Literal[
    "auto", "sdpa", "eager", "flex_attention", "flash_attention_2", "flash_attention_3",
    "kernels-community/flash-attn2",
]  # fmt: skip
"""As Transformers names its implementations."""


LEARNING, SPEED, STOPPING = "Optimizer and adapter", "Speed and memory", "The best of a run"
"""Groups of advanced options."""


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
    continue_adapter: Annotated[
        bool,
        option(
            "Continue the adapter",
            "Trains the adapter of the run that is the base further, as it is, instead of a second "
            "one on top of it.",
            advanced=True,
        ),
    ] = False


class Training(Section, frozen=True):
    max_steps: Annotated[
        int,
        option(
            "Steps",
            "Optimizer steps; 0 trains for the given epochs instead.",
            ge=0,
            on_resume=True,
        ),
    ] = 0
    epochs: Annotated[
        float,
        option("Epochs", "Passes over the data when steps is 0.", gt=0, le=1000, on_resume=True),
    ] = 1.0
    learning_rate: Annotated[
        float,
        option("Learning rate", "Peak step size; 1e-4 to 2e-4 suits LoRA, 1e-5 full.", gt=0, lt=1),
    ] = 1e-4
    effective_batch_size: Annotated[
        int,
        option(
            "Batch size",
            "Examples to each optimizer step, be they completions or pairs; auto is the "
            "micro-batch times accumulation where one is given, else what suits the stage.",
            unit="examples",
            zero="auto",
            ge=0,
            le=65_536,
            on_resume=True,
        ),
    ] = 0
    batch_size: Annotated[
        int,
        option(
            "Micro-batch",
            "Examples at once on the device; auto takes as many as fit. It changes memory and "
            "speed, not what is learnt; in kto and ppo also the latter.",
            unit="examples",
            zero="auto",
            ge=0,
            le=1024,
            advanced=True,
            on_resume=True,
        ),
    ] = 0
    gradient_accumulation: Annotated[
        int,
        option(
            "Gradient accumulation",
            "Micro-batches added up before each step; auto follows from the batch size.",
            zero="auto",
            ge=0,
            le=65_536,
            advanced=True,
            on_resume=True,
        ),
    ] = 0
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
        bool | Literal["auto"],
        option(
            "Gradient checkpointing",
            "Much less memory for about a third more time; auto does so on a GPU.",
            advanced=True,
            on_resume=True,
        ),
    ] = "auto"
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
    save_total_limit: Annotated[
        int,
        option(
            "Checkpoints kept",
            "The newest so many are kept, older ones are removed.",
            ge=1,
            le=1000,
            advanced=True,
            group=SPEED,
            on_resume=True,
        ),
    ] = 2
    optimizer: Annotated[
        Optimizer,
        option(
            "Optimizer",
            "adamw_8bit keeps its state in a quarter of the memory, paged_adamw_8bit also moves it "
            "to RAM when the GPU is full; muon turns matrices to orthogonal steps. auto is AdamW.",
            advanced=True,
            group=LEARNING,
            on_resume=True,
        ),
    ] = "auto"
    embedding_learning_rate: Annotated[
        float,
        option(
            "Embedding learning rate",
            "Of embeddings and the output layer where they are trained whole; a tenth of the "
            "learning rate is usual.",
            ge=0,
            lt=1,
            advanced=True,
            group=LEARNING,
            zero="same",
        ),
    ] = 0.0
    neftune_noise_alpha: Annotated[
        float,
        option(
            "Embedding noise",
            "Noise on the embeddings against learning by heart (NEFTune); 5 is usual.",
            ge=0,
            le=100,
            advanced=True,
            group=LEARNING,
            zero="off",
        ),
    ] = 0.0
    packing_strategy: Annotated[
        Literal["bfd", "bfd_split", "wrapped"],
        option(
            "Packing strategy",
            "bfd fills rows with whole examples, bfd_split splits those that are longer, wrapped "
            "cuts one endless text, in which examples see each other.",
            advanced=True,
            group=SPEED,
        ),
    ] = "bfd"
    group_by_length: Annotated[
        bool,
        option(
            "Group by length",
            "Batches of examples of like length: less padding, in a less random order.",
            advanced=True,
            group=SPEED,
        ),
    ] = False
    attention: Annotated[
        Attention,
        option(
            "Attention",
            "How attention is computed; auto is the model's own choice, usually sdpa. Flash "
            "attention needs its package and a GPU.",
            advanced=True,
            group=SPEED,
            on_resume=True,
        ),
    ] = "auto"
    activation_offloading: Annotated[
        bool,
        option(
            "Activation offloading",
            "Keeps what the backward pass needs in RAM instead of on the GPU, for some time.",
            advanced=True,
            group=SPEED,
            on_resume=True,
        ),
    ] = False
    torch_compile: Annotated[
        bool,
        option(
            "Compile the model",
            "PyTorch's compiler: some minutes at the start, then faster steps on a GPU.",
            advanced=True,
            group=SPEED,
            on_resume=True,
        ),
    ] = False
    liger_kernel: Annotated[
        Literal["auto", "on", "off"],
        option(
            "Liger kernels",
            "Fused losses that never hold all logits; auto takes them where they are installed "
            "and agree with the model's own loss.",
            advanced=True,
            group=SPEED,
            on_resume=True,
        ),
    ] = "auto"
