"""Makes the starter model's tokenizer: a small BPE vocabulary that every runtime splits alike.

The GGUF converter drops the order of merges of a vocabulary without a `tokenizer.model` (it writes
one score for all), so llama.cpp joins pairs from the left while transformers joins the first-learnt
pair first. With an ordinary vocabulary the two differ on some words. Here they cannot: every token
of more than one character begins with a space sign, a capital or a backslash, goes on with
characters that begin no token, and each of its beginnings is a token as well. At any moment a word
has one pair that can be joined, so every order of joining ends the same.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from mixture import Reading, readings
from tokenizers import processors
from transformers import AddedToken, LlamaTokenizer

SIZE = 2048
SEED = "vocabulary"
ROWS = 40_000
LONGEST = 12
SPACE = "▁"
STARTS = SPACE + string.ascii_uppercase + "\\"
PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~"
ACCENTED = "àáâäåæçèéêëíîïñóôöøúûüßœ€£°×÷–—‘’“”…"
CONTROLS = ("<unk>", "<|pad|>", "<|im_start|>", "<|im_end|>")
TAGS = ("<think>", "</think>", "assistant", "system", "user")
"""Whole wherever they stand. The roles are among them since every turn begins with one."""

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""ChatML. No generation marks: llama-cpp-python compiles the template with a plain Jinja, which
refuses them."""


def write_tokenizer(folder: Path) -> None:
    """Writes tokenizer.json and its settings; on purpose no `tokenizer.model`."""
    vocabulary, merges = _vocabulary()
    tokenizer = LlamaTokenizer(
        vocab=vocabulary,
        merges=merges,
        unk_token="<unk>",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        add_prefix_space=False,
        model_max_length=512,
        chat_template=TEMPLATE,
    )
    # Tags come after the vocabulary: only so does the converter mark them as tokens of their own.
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in TAGS])
    assert len(tokenizer) == SIZE, len(tokenizer)
    # Changes no ids, but tells the converter to write `add_bos_token = false` (llama.cpp's default
    # is true); transformers drops the setting of that name whenever it saves a tokenizer.
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.save_pretrained(folder)


def _vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Token to id, and the pairs that BPE joins, most frequent first."""
    singles = [*CONTROLS, *(f"<0x{byte:02X}>" for byte in range(256))]
    singles += [SPACE, *string.digits, *string.ascii_letters, "\\", *PUNCTUATION, *ACCENTED]
    room = SIZE - len(TAGS) - len(singles)
    beginnings = _frequent_beginnings(room)
    tokens = [*singles, *beginnings]
    assert len(set(tokens)) == len(tokens)
    return {token: at for at, token in enumerate(tokens)}, [(t[:-1], t[-1]) for t in beginnings]


def _frequent_beginnings(room: int) -> list[str]:
    """The commonest word beginnings; a beginning is never rarer than what continues it."""
    counts: Counter[str] = Counter()
    for word, times in _words().items():
        for length in range(2, min(len(word), LONGEST) + 1):
            counts[word[:length]] += times
    ranked = sorted(counts, key=lambda token: (-counts[token], len(token), token))
    return ranked[:room]


def _words() -> Counter[str]:
    """Stretches that can become tokens, as often as they occur in the mixture."""
    words: Counter[str] = Counter()
    for row in islice(readings(SEED), ROWS):
        for text in _texts(row):
            words.update(_stretches(text.replace(" ", SPACE)))
    return words


def _texts(row: Reading) -> Iterator[str]:
    yield from (row.system, row.prompt)
    yield from re.split("|".join(TAGS), row.answer)


def _stretches(text: str) -> Iterator[str]:
    """A start character with the lower-case letters after it; `\\boxed{` with its bracket."""
    at = 0
    while at < len(text):
        end = at + 1
        if text[at] in STARTS:
            while end < len(text) and text[end] in string.ascii_lowercase:
                end += 1
            if text[at] == "\\" and end < len(text) and text[end] == "{":
                end += 1
            if end - at > 1:
                yield text[at:end]
        at = end
