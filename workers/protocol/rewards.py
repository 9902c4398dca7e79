"""What a reward of a recipe can be: one struct a kind, each option declared once.

`[[rewards]]` tables are told apart by their `kind`. What each computes stands in workers/rewards.
To add a reward: its struct here, with its name in `AnyReward`, and the module of workers/rewards
that it names, whose `build(reward, home, stack)` makes its scorer.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, get_args

import msgspec

from workers.protocol.options import option

THOUGHT_AND_BOX = r"^<think>.+</think>\s*\\boxed\{[^{}]+\}\s*$"


class Reward(
    msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, tag_field="kind"
):
    """One part of the reward; the parts are added up by weight."""

    module: ClassVar[str]
    """Of workers/rewards: where its scorer is built."""
    top: ClassVar[float | None] = None
    """The highest value that it gives; None where there is none, or it is not known."""
    measures: ClassVar[Literal["right", "form", ""]] = ""
    """Whether it pays for being right or for the form of an answer, which the health coach holds
    against each other; empty for neither."""

    weight: Annotated[
        float, option("Weight", "How much this part counts in the sum; may be negative.")
    ] = 1.0


class Format(Reward, frozen=True, tag="format"):
    """1 when the whole answer has the form, else 0; with tags, the share of them in order."""

    module = "form"
    top = 1.0
    measures = "form"

    pattern: Annotated[
        str,
        option("Pattern", "Regular expression that the whole answer must match; . takes in lines."),
    ] = THOUGHT_AND_BOX
    tags: Annotated[
        str,
        option("Tags", "Instead of a pattern: tags that must open and close once, in this order."),
    ] = ""


class MathAnswer(Reward, frozen=True, tag="math_answer"):
    """1 when the final answer equals the row's, as mathematics: 1/2 is 0.5."""

    module = "answers"
    top = 1.0
    measures = "right"

    boxed_only: Annotated[
        bool,
        option("Boxed only", "Only what stands in \\boxed{} counts as the final answer."),
    ] = True


class Match(Reward, frozen=True, tag="match"):
    """1 when the final answer is the row's text, or matches a pattern."""

    module = "answers"
    top = 1.0
    measures = "right"

    mode: Annotated[
        Literal["exact", "choice", "contains", "regex"],
        option(
            "Mode",
            "exact compares the final answer; choice finds the one option letter in it; contains "
            "looks anywhere; regex looks for the pattern.",
        ),
    ] = "exact"
    pattern: Annotated[
        str, option("Pattern", "For regex; its first group, if any, must equal the row's answer.")
    ] = ""
    case_sensitive: Annotated[bool, option("Case matters", "Tell capitals from small letters.")] = (
        False
    )


class JsonSchema(Reward, frozen=True, tag="json_schema"):
    """1 when the answer is JSON that fits a schema, a quarter when it is JSON at all."""

    module = "form"
    top = 1.0
    measures = "form"

    schema: Annotated[
        str, option("Schema", "JSON Schema as text; empty asks for any JSON object.")
    ] = ""


class Length(Reward, frozen=True, tag="length"):
    """0 while the answer's length is right, falling to -1 where it is far off.

    Towards the top this is DAPO's soft overlong punishment (Yu et al. 2025, eq. 13).
    """

    module = "style"
    top = 0.0

    min_tokens: Annotated[
        int,
        option("Shortest", "Below it the reward falls to -1 at no tokens.", ge=0, unit="tokens"),
    ] = 0
    max_tokens: Annotated[
        int, option("Longest", "At it and beyond, the reward is -1.", ge=1, unit="tokens")
    ] = 256
    buffer_tokens: Annotated[
        int, option("Buffer", "The reward falls over so many tokens before the longest.", ge=0,
                    unit="tokens"),
    ] = 64  # fmt: skip


class Repetition(Reward, frozen=True, tag="repetition"):
    """Minus the share of n-grams of words that repeat an earlier one (Yeo et al. 2025)."""

    module = "style"
    top = 0.0

    ngram: Annotated[int, option("Words together", "Length of the n-grams.", ge=1, le=20)] = 3


class Language(Reward, frozen=True, tag="language"):
    """The probability that the answer is in a language, 0 to 1."""

    module = "style"
    top = 1.0
    measures = "form"

    language: Annotated[str, option("Language", "ISO 639-1 code, for example en or de.")] = "en"


class ReasoningGym(Reward, frozen=True, tag="reasoning_gym"):
    """The score that a reasoning-gym task's own verifier gives, 0 to 1."""

    module = "gym"
    top = 1.0
    measures = "right"

    task: Annotated[str, option("Task", "Name of the task, for example chain_sum.")]


class CodeTests(Reward, frozen=True, tag="code_tests"):
    """The share of the row's tests (assert lines) that the answer's Python code passes."""

    module = "code"
    top = 1.0
    measures = "right"

    seconds: Annotated[
        float, option("Time limit", "For all samples of a step together.", gt=0, unit="s")
    ] = 20.0
    memory_mb: Annotated[
        int, option("Memory limit", "For each sample.", ge=64, unit="MB")
    ] = 512  # fmt: skip
    without_bubblewrap: Annotated[
        bool,
        option("Run without bubblewrap", "Model-written code may then read this user's files."),
    ] = False


class RewardModel(Reward, frozen=True, tag="reward_model"):
    """The score of a trained reward model."""

    module = "models"

    model: Annotated[str, option("Reward model", "run:ID of a reward run, a folder or a hub id.")]


class Judge(Reward, frozen=True, tag="judge"):
    """A language model's mark from 0 to 10, divided by ten, over an OpenAI-compatible endpoint."""

    module = "models"

    url: Annotated[
        str, option("Endpoint", "The server's address; llama.cpp and Ollama both offer one.")
    ] = "http://localhost:11434/v1"
    model: Annotated[str, option("Model", "The judge's name on that server.")] = ""
    rubric: Annotated[
        str, option("Rubric", "What a good answer is; the judge reads it before each answer.")
    ] = "The answer is correct, complete and easy to follow."
    seconds: Annotated[
        float, option("Time limit", "For all samples of a step together.", gt=0, unit="s")
    ] = 60.0


class Python(Reward, frozen=True, tag="python"):
    """Your own function `reward(prompt, completion, answer) -> float`, run in the sandbox."""

    module = "code"

    code: Annotated[str, option("Code", "Python that defines reward(prompt, completion, answer).")]
    seconds: Annotated[
        float, option("Time limit", "For all samples of a step together.", gt=0, unit="s")
    ] = 10.0
    memory_mb: Annotated[
        int, option("Memory limit", "For each sample.", ge=64, unit="MB")
    ] = 512  # fmt: skip


AnyReward = (
    Format | MathAnswer | Match | JsonSchema | Length | Repetition | Language | ReasoningGym
    | CodeTests | RewardModel | Judge | Python
)  # fmt: skip

KINDS: dict[str, type[Reward]] = {
    str(kind.__struct_config__.tag): kind for kind in get_args(AnyReward)
}


def kind_of(reward: Reward) -> str:
    return str(type(reward).__struct_config__.tag)


def names_of(rewards: list[AnyReward]) -> list[str]:
    """A name for each, unique: the kind, numbered where it comes again."""
    names: list[str] = []
    for reward in rewards:
        kind = kind_of(reward)
        again = sum(name.partition("#")[0] == kind for name in names)
        names.append(f"{kind}#{again + 1}" if again else kind)
    return names
