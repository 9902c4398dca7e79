"""Chat templates by name: how a conversation becomes the one text that a model reads.

Written from the formats as their makers describe them. Each turn is written behind what came
before and changes none of it, so that the tokens of every answer can be told apart. Where a
tokenizer lacks the token that ends an answer in a template, its own end token takes that place.
Knows tokenizers, but no weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from workers.data.schema.messages import Message
from workers.data.schema.row import Row
from workers.data.tokenize.reasoning import as_handed
from workers.data.tokenize.template_head import (
    check_switches,
    defaults_of,
    for_answers,
    switches_of,
    values_for,
    with_defaults,
    without_defaults,
)
from workers.data.tokenize.template_traits import traits_of
from workers.protocol.recipe import Effort, Reasoning, Stage, Template, Thinking
from workers.protocol.refusal import Refusal
from workers.protocol.stages import spec_of
from workers.protocol.templates import template_label, template_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBE = "\ue000"
"""Stands for an answer where only what a template writes around it is looked at; of no meaning to
a template."""
OWN = "own"
"""What the model's own template is called, where it is none of ours."""
Tools = Sequence[dict[str, Any]]
"""Definitions of tools, as a template takes them."""
OTHER_TEMPLATE = (
    'Choose another template (model.template = "chatml" takes all turns), or leave such rows out '
    'with bad_rows = "skip".'
)
"""What helps wherever the model's own template does not go with a row."""


BEGIN, END = "{{ bos_token }}", "{{ eos_token }}"


class ChatTemplate(NamedTuple):
    """A template as Jinja text, and the token that ends an answer in it."""

    text: str
    end: str
    """Empty where the model's own end token is written."""

    def variants(self) -> set[str]:
        """Every text that `written_for` may give."""
        texts = {self.text, self.text.replace(self.end, END)} if self.end else {self.text}
        return texts | {BEGIN + text for text in texts}


CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""OpenAI's ChatML, also for base models that bring no template of their own.

https://github.com/openai/openai-python/blob/v0.28.1/chatml.md
"""

LLAMA_3 = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}"
    "<|end_header_id|>\n\n{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
"""Meta's Llama 3: https://www.llama.com/docs/model-cards-and-prompt-formats/meta-llama-3/"""

_SYSTEM_FIRST = (
    "{% set lead = messages[0]['content'] | trim + '\n\n' "
    "if messages and messages[0]['role'] == 'system' else '' %}"
    "{% for message in messages if message['role'] != 'system' %}"
    "{% set led = (lead if loop.first else '') + message['content'] | trim %}"
)
"""The system's text stands before the first of the user's, for want of a role of its own."""

GEMMA = (
    "{{ bos_token }}" + _SYSTEM_FIRST + "<start_of_turn>"
    "{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n{{ led }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
"""Google's Gemma, which knows user and model alone, and puts a system's text into the first turn.

https://ai.google.dev/gemma/docs/core/prompt-structure
"""

MISTRAL = (
    "{{ bos_token }}" + _SYSTEM_FIRST + "{% if message['role'] == 'assistant' %} {{ led }}"
    "{{ eos_token }}{% else %}[INST] {{ led }} [/INST]{% endif %}{% endfor %}"
)
"""Mistral 7B Instruct: the model's end token ends an answer, and [/INST] begins the next.

https://huggingface.co/mistralai/Mistral-7B-Instruct-v0.2#instruction-format
"""

ALPACA_LEAD = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request."
)
ALPACA = (
    "{{ bos_token }}{% if messages and messages[0]['role'] == 'system' %}"
    "{{ messages[0]['content'] | trim }}{% else %}" + ALPACA_LEAD + "{% endif %}"
    "{% for message in messages if message['role'] != 'system' %}"
    "{% if message['role'] == 'assistant' %}{{ message['content'] | trim }}{{ eos_token }}"
    "{% else %}{{ '\n\n### Instruction:\n' }}{{ message['content'] | trim }}\n\n### Response:\n"
    "{% endif %}{% endfor %}"
)
"""Stanford's Alpaca; a system's text stands in place of the sentence that leads in.

https://github.com/tatsu-lab/stanford_alpaca#data-release
"""

TEMPLATES: dict[Template, ChatTemplate] = {
    "chatml": ChatTemplate(CHATML, "<|im_end|>"),
    "llama-3": ChatTemplate(LLAMA_3, "<|eot_id|>"),
    "gemma": ChatTemplate(GEMMA, "<end_of_turn>"),
    "mistral": ChatTemplate(MISTRAL, ""),
    "alpaca": ChatTemplate(ALPACA, ""),
}
"""Every name of `workers.protocol.templates.OURS`."""


def set_chat_template(
    tokenizer: PreTrainedTokenizerBase,
    template: Template = "auto",
    thinking: Thinking = "auto",
    effort: Effort = "",
) -> str:
    """Gives a tokenizer a template, and tells its name.

    Args:
        template: auto keeps the model's own and gives ChatML where there is none.
        thinking: whether the model thinks; auto keeps what an earlier run has set.
        effort: how long it thinks; empty keeps the same.

    Raises:
        Refusal: there is no template by that name, its file cannot be read, or it has no switch
            for what is asked.
    """
    former = tokenizer.chat_template
    if template in TEMPLATES or (template == "auto" and former is None):
        chosen = TEMPLATES["chatml" if template == "auto" else template]
        tokenizer.chat_template = written_for(chosen, tokenizer)
    elif template != "auto":
        tokenizer.chat_template = template_text(template)
    said = defaults_of(former).date if isinstance(former, str) else ""
    today = date.fromisoformat(said) if said else datetime.now().date()
    check_switches(tokenizer.get_chat_template(), thinking, effort)
    rewrite_template(tokenizer, lambda text: with_defaults(text, thinking, effort, today))
    known = template == "auto" or template in TEMPLATES
    return name_of(tokenizer.chat_template) if known else template_label(template)


def rewrite_template(tokenizer: PreTrainedTokenizerBase, change: Callable[[str], str]) -> None:
    """Changes the text of a tokenizer's template; of each where it has several by name."""
    held: Any = tokenizer.chat_template
    several = isinstance(held, dict)
    changed = {name: change(one) for name, one in held.items()} if several else change(held)
    tokenizer.chat_template = changed


def think_by_data(
    tokenizer: PreTrainedTokenizerBase,
    rows: Iterable[Row],
    stage: Stage,
    reasoning: Reasoning = "learn",
) -> str:
    """Lets the model think where the answers to learn do; tells what was set against the
    template's own mode, and is empty where nothing was.

    Of stages that learn no answers the template stays as it is.
    """
    former: str = tokenizer.get_chat_template()
    if not spec_of(stage).learns_answers or not switches_of(without_defaults(former)).thinking:
        return ""
    thought = reasoning != "drop" and any(row.thinks for row in rows)
    rewrite_template(tokenizer, lambda text: for_answers(text, thought=thought))
    if defaults_of(tokenizer.get_chat_template()).thinking == defaults_of(former).thinking:
        return ""
    if thought:
        return (
            "Answers in the data come with thinking, so the model is asked to think, here and in "
            "every exported file. Set model.thinking = 'off' to ask it without."
        )
    return (
        "No answer in the data comes with thinking, so the model is asked to answer without, here "
        "and in every exported file. Set model.thinking = 'on' to let it think all the same."
    )


def written_for(template: ChatTemplate, tokenizer: PreTrainedTokenizerBase) -> str:
    """A template's text for one tokenizer.

    It begins with the begin token where the tokenizer begins every text so. Where the token that
    ends an answer would be spelt in pieces, at which no generation stops, the tokenizer's own end
    token stands for it.
    """
    text = template.text
    if begins_documents(tokenizer) and BEGIN not in text:
        text = BEGIN + text
    if template.end and tokenizer.eos_token and not is_one_token(tokenizer, template.end):
        text = text.replace(template.end, END)
    return text


def replaced_end(tokenizer: PreTrainedTokenizerBase) -> str:
    """The mark for which the tokenizer's own end token stands in its template; empty for none."""
    known = TEMPLATES.get(cast("Template", name_of(tokenizer.chat_template)))
    replaced = known and known.end and known.end not in cast("str", tokenizer.chat_template)
    return known.end if known and replaced else ""


def begins_documents(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer begins every text with its begin token, as Llama's and Gemma's do."""
    begin = tokenizer.bos_token_id
    return begin is not None and tokenizer("a")["input_ids"][:1] == [begin]  # type: ignore[index]


def render(
    messages: list[Message],
    tokenizer: PreTrainedTokenizerBase,
    *,
    generation: bool = False,
    tools: Tools = (),
    thinking: Thinking = "auto",
) -> str:
    """The text that the model sees; `generation` adds the head of the answer to come.

    Thinking in turns is handed on as the template reads it; `thinking` asks for it, or for none,
    against what the template is set to.

    Raises:
        Refusal: the template does not take the conversation, a system turn for example.
    """
    none = [] if traits_of(tokenizer.get_chat_template()).empty_tools else None
    try:
        return tokenizer.apply_chat_template(  # type: ignore[return-value]
            as_handed(messages, tokenizer), tools=list(tools) or none, tokenize=False,
            add_generation_prompt=generation,
            **values_for(str(tokenizer.get_chat_template()), thinking),
        )  # fmt: skip
    except Exception as fault:  # templates raise what they like
        raise Refusal(
            f"The model's chat template does not take this conversation: {fault}.",
            "Some templates know no system turn, or no turns but the user's and the assistant's.",
            OTHER_TEMPLATE,
        ) from fault


def end_turns(tokenizer: PreTrainedTokenizerBase, known: Iterable[int] = ()) -> None:
    """Makes the token that ends an answer in the template the tokenizer's end token.

    It often is another: Gemma's and Phi's tokenizers name the end of a document, base models know
    nothing of the template they are taught. What is trained to end an answer has to be what
    generation stops at.

    Args:
        known: further tokens at which the model's generation stops.
    """
    end = turn_end(tokenizer, known)
    if end is not None:
        tokenizer.eos_token = cast("str", tokenizer.convert_ids_to_tokens(end))


def turn_end(tokenizer: PreTrainedTokenizerBase, known: Iterable[int] = ()) -> int | None:
    """The token that ends an answer, found by rendering one; None where no token of its own does.

    It is the first one behind the answer. Where several stand without anything between them, as
    in Command R7B's end of response and of turn, it is the one that generation knows.
    """
    spoken = [{"role": "user", "content": "?"}, {"role": "assistant", "content": PROBE}]
    try:
        text = cast("str", tokenizer.apply_chat_template(spoken, tokenize=False))
    except Exception:  # templates raise what they like; the rows will tell
        return None
    _, found, behind = text.rpartition(PROBE)
    if not found or not behind.strip():
        return None
    ids = cast("list[int]", tokenizer(behind.lstrip(), add_special_tokens=False)["input_ids"])
    marks = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    run = list(itertools.takewhile(marks.__contains__, ids))
    stops = [*known, tokenizer.eos_token_id]
    named = next((token for token in run if token in stops), None)
    if named is None:
        followed = _followed(spoken, tokenizer)
        named = next((token for token in ids if token in stops and token in followed), None)
    return named if named is not None or not run else run[0]


def _followed(spoken: list[Message], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What stands behind an answer that a question follows: Phi's end of a document does not,
    Kimi's end of a turn does, with words before it."""
    try:
        text = cast("str", tokenizer.apply_chat_template(
            [*spoken, spoken[0]], tokenize=False, add_generation_prompt=True
        ))  # fmt: skip
    except Exception:  # templates raise what they like
        return []
    behind = text.rpartition(PROBE)[2]
    return cast("list[int]", tokenizer(behind, add_special_tokens=False)["input_ids"])


def name_of(text: Any) -> str:
    """The name of a template by its text; `own` for one that is none of ours."""
    bare = without_defaults(text) if isinstance(text, str) else text
    return next((name for name, known in TEMPLATES.items() if bare in known.variants()), OWN)


def is_one_token(tokenizer: PreTrainedTokenizerBase, mark: str) -> bool:
    """Whether a mark is a token of its own, instead of being spelt in pieces."""
    ids = cast("list[int]", tokenizer(mark, add_special_tokens=False)["input_ids"])
    return len(ids) == 1 and ids[0] != tokenizer.unk_token_id
