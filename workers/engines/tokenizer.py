"""The tokenizer that training, speaking and looking at data share; no weights, no torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from workers.data.tokenize.chat_template import end_turns, set_chat_template
from workers.fetch import Located, locate_model
from workers.protocol.recipe import Effort, Model, Stage, Template, Thinking
from workers.protocol.refusal import Refusal
from workers.protocol.sources import HUB_MODEL
from workers.protocol.stages import spec_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBE = "The  year 12345 isn't\tover,\n\n  DON'T worry: naïve Grüße 東京 🙂 (x+=1);\r\n"
"""What families split differently: blanks, digits, endings, line breaks, letters, signs."""


def load_tokenizer(
    located: Located,
    template: Template = "auto",
    *,
    thinking: Thinking = "auto",
    effort: Effort = "",
    turns: bool = True,
) -> PreTrainedTokenizerBase:
    """The newest tokenizer on the way, with the chat template asked for.

    `auto` takes the model's own, ChatML where it has none, and lets it think as an earlier run has
    set. Its end token is the one that ends an answer; without `turns`, for plain text, it stays
    the one that ends a document.

    Raises:
        Refusal: the template has no switch for the thinking or the effort asked for.
    """
    tokenizer = read_tokenizer(located)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    set_chat_template(tokenizer, template, thinking, effort)
    if turns:
        end_turns(tokenizer, stopping_tokens(located))
    return tokenizer


def tokenizer_for(model: Model, located: Located, stage: Stage) -> PreTrainedTokenizerBase:
    """The tokenizer as a recipe's table `model` asks for it in a stage."""
    return load_tokenizer(
        located, model.template, thinking=model.thinking, effort=model.reasoning_effort,
        turns=spec_of(stage).templated,
    )  # fmt: skip


def read_tokenizer(located: Located) -> PreTrainedTokenizerBase:
    """The newest tokenizer on the way, as it lies in its folder."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    adapters = [*located.adapters, *([located.continued] if located.continued else [])]
    folders = [*reversed(adapters), located.folder]
    folder = next(f for f in folders if (f / "tokenizer_config.json").is_file())
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if as_written(tokenizer, folder / "tokenizer.json"):
        return tokenizer
    return PreTrainedTokenizerFast.from_pretrained(folder)


class _Written(msgspec.Struct):
    """Of a tokenizer.json what splits text before its merges."""

    pre_tokenizer: msgspec.Raw = msgspec.Raw(b"null")


def as_written(tokenizer: Any, path: Path) -> bool:
    """Whether a byte-level tokenizer splits text as its tokenizer.json says.

    Transformers 5 rebuilds the splitting from the class that tokenizer_config.json names and leaves
    the file's own out. Of DeepSeek-R1-Distill-Llama, LlamaTokenizerFast over Llama 3's vocabulary,
    that makes a SentencePiece tokenizer that loses every space.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    if type(tokenizer) is PreTrainedTokenizerFast or not path.is_file():
        return True
    written = bytes(msgspec.json.decode(path.read_bytes(), type=_Written).pre_tokenizer)
    if b'"ByteLevel"' not in written:
        return True
    ids = Tokenizer.from_file(str(path)).encode(PROBE, add_special_tokens=False).ids
    return tokenizer(PROBE, add_special_tokens=False)["input_ids"] == ids


def locate_tokenizer(base: str, home: Path, say: Callable[[str], None]) -> Located:
    """Where a base's tokenizer is; a folder needs no weights beside it.

    Args:
        base: as a recipe names it.
        home: the studio's home.
        say: told, in the user's words, when something slow begins.

    Raises:
        Refusal: there is no such base, or the hub does not give it.
    """
    folder = Path(base).expanduser()
    if (folder / "tokenizer_config.json").is_file():
        return Located(base, folder)
    if HUB_MODEL.fullmatch(base) and not folder.is_dir():
        return Located(base, _from_hub(base))
    return locate_model(base, home, say)


def _from_hub(repository: str) -> Path:
    """The files of a hub repository that tell its words, without its weights."""
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt"]
    try:
        return Path(snapshot_download(repository, allow_patterns=patterns))
    except Exception as fault:
        raise Refusal(
            f"The tokenizer of {repository} could not be fetched.",
            f"The hub is out of reach, or has no such model ({type(fault).__name__}).",
            "Check the id, or take starter, smollm2 or a folder.",
        ) from fault


def stopping_tokens(located: Located) -> list[int]:
    """The end tokens that the model's generation settings name."""
    path = located.folder / "generation_config.json"
    try:
        named: Any = msgspec.json.decode(path.read_bytes()).get("eos_token_id")
    except (OSError, msgspec.DecodeError, AttributeError):
        return []
    return [named] if isinstance(named, int) else list(named or [])
