"""The tables of docs/memory.md that hold the arithmetic to the simulated steps and to what others
have published.

python -m tests.workers.memory_page    writes them anew
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import msgspec

from workers.estimate import GIB, Estimate, Geometry, estimate, geometry_of, known_geometry
from workers.estimate import longest_sequence as longest_that_fits
from workers.protocol.recipe import Lora, Model, Recipe, Training
from workers.protocol.stages import spec_of

PAGE = Path(__file__).parents[2] / "docs" / "memory.md"
RECORD: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("simulated.json").read_text(encoding="utf-8")
)
LLAMA_2_7B = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
    "vocab_size": 32000, "tie_word_embeddings": False,
}  # fmt: skip
LLAMA_8B, LLAMA_3B = "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.2-3B"


class Published(NamedTuple):
    """A figure that somebody measured."""

    source: str
    model: str
    method: str
    rank: int
    micro: int
    longest: int
    effective: int
    gigabytes: float

    def estimate(self) -> Estimate:
        recipe = Recipe(
            model=Model(base=self.model, method=self.method),  # type: ignore[arg-type]
            lora=Lora(rank=self.rank),
            training=Training(effective_batch_size=self.effective),
        )
        return estimate(
            recipe, sizes(self.model), micro=self.micro, longest=self.longest, checkpointing=True
        )


def sizes(model: str) -> Geometry:
    found = geometry_of(LLAMA_2_7B) if model == "Llama-2-7B" else known_geometry(model)
    assert found is not None
    return found


FACTORY = [
    Published("LLaMA-Factory", "Llama-2-7B", "lora", 8, 4, 1024, 8, 17),
    Published("LLaMA-Factory", "Llama-2-7B", "qlora", 8, 4, 1024, 8, 9),
    Published("LLaMA-Factory", "Llama-2-7B", "qlora", 8, 1, 1024, 4, 6),
    Published("LLaMA-Factory", "Llama-2-7B", "qlora", 8, 1, 2048, 4, 7),
    Published("LLaMA-Factory", "Llama-2-7B", "qlora", 8, 1, 4096, 4, 9),
    Published("LLaMA-Factory", "Llama-2-7B", "qlora", 8, 1, 8192, 4, 12),
    Published("LLaMA-Factory", "Llama-2-7B", "qlora", 8, 1, 16384, 4, 19),
    Published("LLaMA-Factory", "Llama-2-7B", "qlora", 8, 1, 32768, 4, 32),
]
"""The same libraries on an A100, with FlashAttention 2 (its wiki, "Performance comparison", 2024).
No chunks: logits of all tokens are there in 32 bits."""
TORCHTUNE = [
    Published("torchtune", LLAMA_8B, "lora", 8, 2, 2048, 2, 16.2),
    Published("torchtune", LLAMA_8B, "qlora", 8, 2, 2048, 2, 7.4),
]
"""Packed rows, compiled, on an RTX 4090 (its README, September 2024)."""
UNSLOTH = [
    Published("Unsloth", LLAMA_3B, "qlora", 16, 1, 512, 1, 3.5),
    Published("Unsloth", LLAMA_3B, "lora", 16, 1, 512, 1, 8),
    Published("Unsloth", "mistralai/Mistral-7B-v0.3", "qlora", 16, 1, 512, 1, 5),
    Published("Unsloth", "mistralai/Mistral-7B-v0.3", "lora", 16, 1, 512, 1, 19),
    Published("Unsloth", LLAMA_8B, "qlora", 16, 1, 512, 1, 6),
    Published("Unsloth", LLAMA_8B, "lora", 16, 1, 512, 1, 22),
    Published("Unsloth", "google/gemma-2-9b", "qlora", 16, 1, 512, 1, 6.5),
    Published("Unsloth", "google/gemma-2-9b", "lora", 16, 1, 512, 1, 24),
    Published("Unsloth", "Qwen/Qwen3-14B", "qlora", 16, 1, 512, 1, 8.5),
    Published("Unsloth", "Qwen/Qwen3-14B", "lora", 16, 1, 512, 1, 33),
]
"""The least for models of 3, 7, 8, 9 and 14B, of no length that is told (its documentation,
"Requirements"); one row of 512 tokens is taken here."""
UNSLOTH_LONGEST = {8: (2972, 0), 12: (21848, 932), 16: (40724, 2551), 24: (78475, 5789)}
"""Tokens of the longest row of Llama 3.1 8B over four bits, rank 32, one at a time, by the card's
GB: with Unsloth, and with the libraries that it is compared with (its documentation, "Benchmarks");
0 where none fits."""


def error(step: dict[str, Any]) -> float:
    """How far the estimate is off, as a share of what was simulated."""
    recipe = msgspec.convert(step["recipe"], Recipe)
    judged = known_geometry(step["reward"] or step["model"])
    found = estimate(
        recipe,
        sizes(step["model"]),
        micro=step["micro"],
        longest=step["longest"],
        checkpointing=step["checkpointing"],
        teacher=known_geometry(step["teacher"]) if step["teacher"] else None,
        reward=judged if spec_of(recipe.stage).scored_by == "reward_model" else None,
    )
    return found.counted / step["peak"] - 1


def errors() -> dict[str, float]:
    return {
        f"{number} {step['model']} {step['recipe']['stage']} {step['recipe']['model']['method']} "
        f"{step['micro']} x {step['longest']}": error(step)
        for number, step in enumerate(RECORD)
    }


def against_simulation() -> str:
    """By stage: how many steps, and how far the arithmetic is off at the mean and at the worst."""
    groups: dict[str, list[float]] = {}
    for step in RECORD:
        groups.setdefault(step["recipe"]["stage"], []).append(error(step))
    groups["all"] = [error(step) for step in RECORD]
    rows = [
        [stage, str(len(found)), f"{fmean(map(abs, found)):.1%}", f"{max(found, key=abs):+.1%}"]
        for stage, found in groups.items()
    ]
    return table(["stage", "steps", "mean error", "worst"], rows)


def against_published() -> str:
    rows = []
    for one in (*FACTORY, *TORCHTUNE, *UNSLOTH):
        found = one.estimate()
        band = f"{found.low / GIB:.1f} to {found.high / GIB:.1f}"
        name = one.model.rpartition("/")[2]
        step = f"{one.micro} x {one.longest:,}"
        rows.append([one.source, name, one.method, str(one.rank), step, f"{one.gigabytes:g}", band])
    heads = ["measured by", "model", "method", "rank", "rows x tokens", "theirs", "ours"]
    return table(heads, rows)


def longest_rows() -> str:
    """Tokens of the longest row that surely fits, with three sets of options."""
    options = [
        Training(effective_batch_size=1),
        Training(effective_batch_size=1, optimizer="adamw_8bit"),
        Training(effective_batch_size=1, optimizer="adamw_8bit", activation_offloading=True),
    ]
    model, lora = Model(base=LLAMA_8B, method="qlora"), Lora(rank=32)
    rows = []
    for card, (theirs, plain) in UNSLOTH_LONGEST.items():
        found = [
            longest_that_fits(Recipe(model=model, lora=lora, training=one), sizes(LLAMA_8B),
                              card * GIB)
            for one in options
        ]  # fmt: skip
        told = [theirs, plain, *found]
        rows.append([f"{card} GB", *(f"{tokens:,}" if tokens else "none" for tokens in told)])
    heads = ["card", "Unsloth", "Transformers, by Unsloth", "ours", "with 8-bit AdamW",
             "and activations in RAM"]  # fmt: skip
    return table(heads, rows)


def table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


TABLES = {
    "against simulation": against_simulation,
    "against published": against_published,
    "longest rows": longest_rows,
}


def written(page: str) -> str:
    """The page with its tables as they are now, each between its marks."""
    for name, make in TABLES.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
        before, _, rest = page.partition(begin)
        page = before + begin + make() + end + rest.partition(end)[2]
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
