"""Chat templates by name: how a conversation becomes the one text that a model reads.

Written from the formats as their makers describe them. Each turn is written behind what came
before and changes none of it, so that the tokens of every answer can be told apart. Knows
tokenizers, but no weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from workers.protocol.recipe import Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OWN = "own"
"""What the model's own template is called, where it is none of ours."""


class Written(NamedTuple):
    """A template as Jinja text, and the token that ends an answer in it."""

    text: str
    end: str
    """Empty where the model's own end token is written."""


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

TEMPLATES: dict[Template, Written] = {
    "chatml": Written(CHATML, "<|im_end|>"),
    "llama-3": Written(LLAMA_3, "<|eot_id|>"),
    "gemma": Written(GEMMA, "<end_of_turn>"),
    "mistral": Written(MISTRAL, ""),
    "alpaca": Written(ALPACA, ""),
}
"""Every name that `workers.protocol.recipe.Template` knows besides auto."""


def dress(tokenizer: PreTrainedTokenizerBase, template: Template = "auto") -> str:
    """Gives a tokenizer a template, and tells its name.

    `auto` keeps the model's own and gives ChatML where there is none. A template by name brings
    its end token along where the model has it as one token: else generation would go on behind
    an answer that was learnt to its end.
    """
    if template != "auto":
        written = TEMPLATES[template]
        tokenizer.chat_template = written.text
        if written.end and is_one_token(tokenizer, written.end):
            tokenizer.eos_token = written.end
    elif tokenizer.chat_template is None:
        tokenizer.chat_template = CHATML
    return name_of(tokenizer.chat_template)


def name_of(text: Any) -> str:
    """The name of a template by its text; `own` for one that is none of ours."""
    return next((name for name, written in TEMPLATES.items() if written.text == text), OWN)


def is_one_token(tokenizer: PreTrainedTokenizerBase, mark: str) -> bool:
    """Whether a mark is a token of its own, instead of being spelt in pieces."""
    ids = cast("list[int]", tokenizer(mark, add_special_tokens=False)["input_ids"])
    return len(ids) == 1 and ids[0] != tokenizer.unk_token_id
