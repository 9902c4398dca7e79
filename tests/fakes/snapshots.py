"""A hub snapshot of a tiny random model: real vocabulary, real chat template, two layers of 64.

What a family is stands in `families.py`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
import transformers
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

NORMAL, UNKNOWN, CONTROL, USER_DEFINED = range(1, 5)
"""Token types, as GGUF and SentencePiece both number them."""

STRING, ARRAY = 8, 9
NUMBERS = {**dict(enumerate("BbHhIif?")), 10: "Q", 11: "q", 12: "d"}
"""GGUF's types of values."""

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r"\s*[\r\n]+|\s+(?!\S)|\s+"
SPLITS = {
    "qwen2": rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{REST}",
    "qwen35": rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{REST}",
    "llama-bpe": rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}"
    rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{REST}",
}
"""What a byte-level vocabulary splits text by before its merges."""


class Family(NamedTuple):
    """How a family's snapshot is made."""

    config: str
    """The configuration's class in Transformers."""
    options: dict[str, Any]
    vocabulary: str
    """Its GGUF file, `ggml-vocab-NAME.gguf`."""
    template: str
    """A file under `templates/`, `trl:NAME`, or the template itself."""
    eos: str
    pad: str
    bos: str = ""
    stops: tuple[str, ...] = ()
    """What generation_config.json names besides `eos`."""
    special: tuple[str, ...] = ()
    """Special tokens put in place of reserved ones, or behind the others."""
    plain: tuple[str, ...] = ()
    """Added tokens that are text, such as <think>."""
    tokenizer: str = "PreTrainedTokenizerFast"
    """`tokenizer_class`, as the family's tokenizer_config.json has it."""
    renamed: dict[str, str] = {}  # noqa: RUF012
    rstrip: bool = False
    """Whether its special tokens swallow the blanks behind them."""

    @property
    def model_class(self) -> str:
        """The class that its checkpoints name under `architectures`."""
        whole = "vision_config" in self.options
        name = self.config.removesuffix("Config").removesuffix("Text")
        return name + ("ForConditionalGeneration" if whole else "ForCausalLM")


SIZE = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 2048, "initializer_range": 0.5,
}  # fmt: skip


class Vocabulary(NamedTuple):
    """What a vocabulary's GGUF file holds."""

    tokens: list[str]
    types: list[int]
    merges: list[tuple[str, str]]
    scores: list[float]
    kind: str
    """gpt2 (byte-level BPE), llama (SentencePiece) or gemma4."""
    split: str
    """The name of what it splits text by."""


def write_snapshot(family: Family, folder: Path, models_folder: Path, seed: int) -> None:
    """All files of a family's snapshot; `models_folder` is llama.cpp's `models`."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = read_vocabulary(models_folder / f"ggml-vocab-{family.vocabulary}.gguf")
    vocabulary = with_tokens(vocabulary, family)
    write_tokenizer(vocabulary, family, folder)
    (folder / "chat_template.jinja").write_text(_template(family.template, models_folder))
    write_model(family, vocabulary.tokens, folder, seed)


def read_vocabulary(path: Path) -> Vocabulary:
    with path.open("rb") as file:
        fields = dict(_metadata(file))

    def field(name: str, default: Any) -> Any:
        return fields.get(f"tokenizer.ggml.{name}", default)

    merges = [tuple(merge.split(" ", 1)) for merge in field("merges", [])]
    return Vocabulary(
        tokens=field("tokens", []), types=field("token_type", []), merges=merges,
        scores=field("scores", []), kind=field("model", ""), split=field("pre", ""),
    )  # fmt: skip


def _metadata(file: BinaryIO) -> Iterator[tuple[str, Any]]:
    """A GGUF file's fields; gguf-py's own reader takes half a minute for a large vocabulary."""
    _magic, _version, _tensors, count = struct.unpack("<4sIQQ", file.read(24))
    for _ in range(count):
        name = _value(file, STRING)
        yield name, _value(file, *struct.unpack("<I", file.read(4)))


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == STRING:
        (length,) = struct.unpack("<Q", file.read(8))
        return file.read(length).decode()
    if kind == ARRAY:
        inner, count = struct.unpack("<IQ", file.read(12))
        return [_value(file, inner) for _ in range(count)]
    layout = "<" + NUMBERS[kind]
    return struct.unpack(layout, file.read(struct.calcsize(layout)))[0]


def with_tokens(vocabulary: Vocabulary, family: Family) -> Vocabulary:
    """The vocabulary with a family's own added tokens; unnamed padding behind them is left out."""
    tokens = [family.renamed.get(token, token) for token in vocabulary.tokens]
    types = list(vocabulary.types)
    while tokens[-1].startswith("[PAD"):
        del tokens[-1], types[-1]
    free = [at for at, token in enumerate(tokens) if token.startswith("<|reserved_special_token_")]
    for token in (*family.special, *family.plain):
        kind = CONTROL if token in family.special else USER_DEFINED
        if free:
            tokens[at := free.pop(0)], types[at] = token, kind
        else:
            tokens.append(token)
            types.append(kind)
    scores = [*vocabulary.scores[: len(tokens)], *[0.0] * (len(tokens) - len(vocabulary.scores))]
    return vocabulary._replace(tokens=tokens, types=types, scores=scores)


def write_tokenizer(vocabulary: Vocabulary, family: Family, folder: Path) -> None:
    """tokenizer.json, tokenizer_config.json and, for SentencePiece, tokenizer.model."""
    backend = _backend(vocabulary, family)
    added = [at for at, kind in enumerate(vocabulary.types) if kind in (CONTROL, USER_DEFINED)]
    if vocabulary.kind == "llama":
        write_sentencepiece(vocabulary, family, folder / "tokenizer.model")
        added = sorted({*added, vocabulary.tokens.index("<unk>")})
    decoder: dict[str, Any] = {}
    for at in added:
        token = vocabulary.tokens[at]
        special = vocabulary.types[at] != USER_DEFINED
        rstrip = family.rstrip and token not in ("<unk>", family.bos, family.eos)
        made = AddedToken(token, special=special, normalized=False, rstrip=rstrip)
        (backend.add_special_tokens if special else backend.add_tokens)([made])
        decoder[str(at)] = {
            "content": token, "lstrip": False, "normalized": False, "rstrip": rstrip,
            "single_word": False, "special": special,
        }  # fmt: skip
        assert backend.token_to_id(token) == at, (token, at, backend.token_to_id(token))
    backend.save(str(folder / "tokenizer.json"))
    named = {"eos_token": family.eos, "pad_token": family.pad, "bos_token": family.bos or None}
    if vocabulary.kind != "gpt2":
        named["unk_token"] = "<unk>"
    config = {
        "tokenizer_class": family.tokenizer, **named, "added_tokens_decoder": decoder,
        "model_max_length": SIZE["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
    }  # fmt: skip
    if "Llama" in family.tokenizer and vocabulary.kind == "llama":
        config |= {"add_bos_token": True, "add_eos_token": False, "legacy": False}
    if vocabulary.kind == "gemma4":  # what is no special token by name, the converter spells out
        controls = [vocabulary.tokens[at] for at in added if vocabulary.types[at] == CONTROL]
        config["extra_special_tokens"] = [one for one in controls if one not in named.values()]
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False))


def _backend(vocabulary: Vocabulary, family: Family) -> Tokenizer:
    ids = {token: at for at, token in enumerate(vocabulary.tokens)}
    if vocabulary.kind == "gpt2":
        backend = _byte_level(vocabulary, ids)
    else:
        backend = _space_marked(vocabulary, ids, gemma=family.tokenizer == "GemmaTokenizer")
    if family.bos and family.tokenizer in ("CohereTokenizer", "GemmaTokenizer", "LlamaTokenizer",
                                           "PreTrainedTokenizerFast"):  # fmt: skip
        at = vocabulary.tokens.index(family.bos)
        backend.post_processor = processors.TemplateProcessing(
            single="bos $A", pair="bos $A $B",
            special_tokens=[{"id": "bos", "ids": [at], "tokens": [family.bos]}],
        )  # fmt: skip
    return backend


def _byte_level(vocabulary: Vocabulary, ids: dict[str, int]) -> Tokenizer:
    ignore = vocabulary.split == "llama-bpe"
    backend = Tokenizer(models.BPE(ids, vocabulary.merges, ignore_merges=ignore))
    split = SPLITS.get(vocabulary.split)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)
    first = (
        pre_tokenizers.Digits(individual_digits=True)
        if split is None
        else pre_tokenizers.Split(Regex(split), behavior="isolated", invert=False)
    )
    backend.pre_tokenizer = (
        byte_level if vocabulary.split == "gpt-2" else pre_tokenizers.Sequence([first, byte_level])
    )
    if vocabulary.split.startswith("qwen"):
        backend.normalizer = normalizers.NFC()
    backend.decoder = decoders.ByteLevel()
    return backend


def _space_marked(vocabulary: Vocabulary, ids: dict[str, int], *, gemma: bool) -> Tokenizer:
    """SentencePiece's BPE in the Tokenizers library: ▁ for a space, bytes for what is unknown."""
    merges = vocabulary.merges or merges_of(vocabulary)
    backend = Tokenizer(
        models.BPE(ids, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    marked = normalizers.Replace(" ", "▁")
    if gemma:
        backend.normalizer = marked
        backend.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    else:
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), marked])
        steps.append(decoders.Strip(content=" ", left=1))
    backend.decoder = decoders.Sequence(steps)
    return backend


def merges_of(vocabulary: Vocabulary) -> list[tuple[str, str]]:
    """SentencePiece's scores as merges: every pair of pieces that makes one, the best first."""
    ids = {token: at for at, token in enumerate(vocabulary.tokens)
           if vocabulary.types[at] == NORMAL}  # fmt: skip
    found = []
    for token, at in ids.items():
        halves = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        pairs = [pair for pair in halves if pair[0] in ids and pair[1] in ids]
        pairs.sort(key=lambda pair: (ids[pair[0]], ids[pair[1]]))
        found += [(-vocabulary.scores[at], at, pair) for pair in pairs]
    return [pair for _, _, pair in sorted(found, key=lambda one: one[:2])]


def write_sentencepiece(vocabulary: Vocabulary, family: Family, path: Path) -> None:
    """A real tokenizer.model; pieces behind its first unbroken part are added tokens elsewhere."""
    from sentencepiece import sentencepiece_model_pb2

    made_types: Any = sentencepiece_model_pb2  # protobuf makes its classes at run time
    proto = made_types.ModelProto()
    own = len(vocabulary.tokens)
    if family.vocabulary == "phi-3":
        own = 32000  # its added tokens stand in tokenizer_config.json alone
    rows = zip(vocabulary.tokens, vocabulary.types, vocabulary.scores, strict=True)
    for token, kind, score in list(rows)[:own]:
        known = {"<unk>": UNKNOWN, "</s>": CONTROL}
        proto.pieces.add(piece=token, type=known.get(token, kind), score=score)
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    trainer.model_type, trainer.vocab_size, trainer.byte_fallback = trainer.BPE, own, True
    trainer.bos_piece, trainer.eos_piece = vocabulary.tokens[1], vocabulary.tokens[2]
    normalizer.name, normalizer.remove_extra_whitespaces = "identity", False
    normalizer.add_dummy_prefix = family.tokenizer != "GemmaTokenizer"
    path.write_bytes(proto.SerializeToString())


def _template(named: str, models_folder: Path) -> str:
    if named.startswith("trl:"):
        return (files("trl") / f"chat_templates/{named[4:]}.jinja").read_text()
    if named.endswith(".jinja"):
        return (models_folder / "templates" / named).read_text()
    return named


def write_model(family: Family, tokens: list[str], folder: Path, seed: int) -> None:
    """config.json, generation_config.json and random weights in bf16."""
    ids = {token: at for at, token in enumerate(tokens)}
    config = _config(family, -(-len(tokens) // 64) * 64, ids)
    torch.manual_seed(seed)
    model = getattr(transformers, family.model_class)(config)
    ends = [ids[token] for token in (family.eos, *family.stops)]
    model.generation_config = transformers.GenerationConfig(
        **_named(family, ids) | {"eos_token_id": ends if len(ends) > 1 else ends[0]}
    )
    model.to(torch.bfloat16).save_pretrained(folder)


def _named(family: Family, ids: dict[str, int]) -> dict[str, Any]:
    return {"eos_token_id": ids[family.eos], "pad_token_id": ids[family.pad],
            "bos_token_id": ids.get(family.bos)}  # fmt: skip


def _config(family: Family, size: int, ids: dict[str, int]) -> Any:
    """The configuration; where an option named *_token_id or *_token_index is a token, its id."""
    common = {**SIZE, "vocab_size": size, **_named(family, ids)}
    options: dict[str, Any] = {
        name: ids[value] if isinstance(value, str) and "_token_i" in name else value
        for name, value in family.options.items()
    }
    if "text_config" in options:
        text = {**common, "vocab_size_per_layer_input": size, **options["text_config"]}
        return getattr(transformers, family.config)(**options | {"text_config": text})
    return getattr(transformers, family.config)(**common | options)
