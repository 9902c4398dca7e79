"""Talking through Transformers: the samples that were asked for, piece by piece, broken off."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from workers.chat import Ended, TransformersChatModel
from workers.data.tokenize.chat_template import render
from workers.fetch import Located
from workers.protocol.requests import Say

TURNS = [{"role": "user", "content": "What is 12 + 34?"}]


@pytest.fixture(scope="module")
def chat_model(tiny: Path) -> TransformersChatModel:
    return TransformersChatModel(Located("tiny", tiny))


def _asked(chat_model: TransformersChatModel, **sampling: object) -> tuple[str, Ended]:
    pieces: list[str] = []
    say = Say(messages=TURNS, **({"max_tokens": 24} | sampling))  # type: ignore[arg-type]
    ended = chat_model.answer(say, pieces.append, lambda: False)
    assert all(pieces)
    return "".join(pieces), ended


def _logits(chat_model: TransformersChatModel, written: list[int]) -> torch.Tensor:
    """What the model foretells behind the prompt and some tokens, (vocabulary,)."""
    tokenizer, model = chat_model._tokenizer, chat_model._model
    text = render(TURNS, tokenizer, generation=True)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"] + written
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1].float()


def test_at_temperature_0_the_likeliest_token_is_taken(
    chat_model: TransformersChatModel,
) -> None:
    text, ended = _asked(chat_model, temperature=0.0)
    written: list[int] = []
    while len(written) < 24:
        token = int(_logits(chat_model, written).argmax())
        if token in chat_model._ends:
            break
        written.append(token)
    whole = chat_model._tokenizer.decode(written, skip_special_tokens=True)
    assert whole.startswith(text)
    assert set(whole[len(text) :]) <= {"\N{REPLACEMENT CHARACTER}"}  # half a character at most
    assert ended.tokens == len(written)
    assert ended.finish == ("length" if len(written) == 24 else "stop")


def test_a_seed_gives_the_same_answer_again(chat_model: TransformersChatModel) -> None:
    warm = {"temperature": 1.5, "top_p": 1.0}
    first = _asked(chat_model, seed=7, **warm)
    assert _asked(chat_model, seed=7, **warm) == first
    assert _asked(chat_model, seed=8, **warm) != first
    assert _asked(chat_model, **warm) != _asked(chat_model, **warm)


def test_only_the_nucleus_is_drawn_from_at_the_temperature_asked_for(
    chat_model: TransformersChatModel,
) -> None:
    temperature, top_p, draws = 2.0, 0.2, 400
    shares = torch.softmax(_logits(chat_model, []) / temperature, dim=-1)
    ordered, order = shares.sort(descending=True)
    kept = int((ordered.cumsum(-1) - ordered < top_p).sum())
    assert 1 < kept < len(order)
    nucleus = {int(token): float(share) for token, share in zip(order[:kept], ordered[:kept] /
               ordered[:kept].sum(), strict=True)}  # fmt: skip
    counts = dict.fromkeys(nucleus, 0)
    tokenizer = chat_model._tokenizer
    texts = {tokenizer.decode([token], skip_special_tokens=True): token for token in nucleus}
    for seed in range(draws):
        text, _ = _asked(chat_model, temperature=temperature, top_p=top_p, seed=seed, max_tokens=1)
        if text:  # half a character is held back
            counts[texts[text]] += 1
    for token, number in counts.items():
        if number:
            share = nucleus[token]
            assert abs(number / draws - share) < 4 * (share * (1 - share) / draws) ** 0.5 + 0.01


def test_settings_that_the_makers_left_take_no_part(tiny: Path) -> None:
    plain = TransformersChatModel(Located("tiny", tiny))
    assert plain._model.generation_config.top_k == 0
    assert plain._model.generation_config.repetition_penalty is None


def test_an_answer_is_broken_off_after_the_token_at_hand(
    chat_model: TransformersChatModel,
) -> None:
    looks = iter([False, False, True])
    say = Say(messages=TURNS, max_tokens=24, temperature=0.0)
    ended = chat_model.answer(say, lambda piece: None, lambda: next(looks))
    assert ended == Ended("asked", 3)


def test_a_character_of_several_tokens_comes_whole(chat_model: TransformersChatModel) -> None:
    from workers.engines.streaming import Stream

    tokenizer, pieces = chat_model._tokenizer, []
    ids = tokenizer("数: 12", add_special_tokens=False)["input_ids"]
    stream = Stream(tokenizer, "", chat_model._ends, pieces.append, lambda: False)
    stream.put(torch.tensor([[1, 2, 3]]))  # the prompt
    for token in (*ids, tokenizer.eos_token_id):
        stream.put(torch.tensor([token]))
    assert "".join(pieces) == "数: 12"
    assert pieces[0] == "数"
    assert (stream.finish, stream.written) == ("stop", ids)
