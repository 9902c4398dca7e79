"""Does the exported file talk like the trained model? Tokens, template, end of turn, next words.

The trained model answers a few prompts greedily; the file is then led along the very same tokens
(teacher forcing), so that one early difference does not count against all that follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch

from workers.data.tokenize.chat_template import render
from workers.engines import Loaded
from workers.engines.merge import Merged
from workers.protocol.events import Checked
from workers.protocol.exports import EXPORTS

if TYPE_CHECKING:
    from llama_cpp import Llama

PROMPTS = ("Hello! Who are you?", "Name three colours.", "What is 12 + 30?")
ANSWER_TOKENS = 32
LONGEST_TOKENS = 2048
"""Prompt and answer together: longer prompts lose their beginning, so that a comparison stays
affordable. The logits alone take tokens times vocabulary times four bytes."""
CLEAR_MARGIN = 0.1
"""A next token is clear when it is by so much more probable than the second. Only clear ones are
held to agree: between two about equally likely words a rounding decides."""


class Spoken(msgspec.Struct):
    """One prompt with the trained model's greedy answer."""

    text: str
    """The prompt as rendered by the chat template."""
    text_ids: list[int]
    prompt_ids: list[int]
    """Those at the end of `text_ids` that were answered."""
    answer_ids: list[int]
    log_probabilities: np.ndarray
    """(answer tokens, vocabulary), float32: the trained model's, at each answer token."""


class Reference(msgspec.Struct):
    spoken: list[Spoken]
    template: str
    eos_id: int


def ask(merged: Loaded | Merged, prompts: list[str]) -> Reference:
    """The trained model's answers to the run's own prompts and a few plain ones."""
    asked = [*prompts[:2], *PROMPTS]
    tokenizer = merged.tokenizer
    return Reference(
        spoken=[_speak(merged, prompt) for prompt in asked],
        template=str(tokenizer.chat_template),
        eos_id=int(tokenizer.eos_token_id),  # type: ignore[arg-type]
    )


def _speak(merged: Loaded | Merged, prompt: str) -> Spoken:
    text = render([{"role": "user", "content": prompt}], merged.tokenizer, generation=True)
    text_ids: list[int] = merged.tokenizer(text, add_special_tokens=False)["input_ids"]
    ids = text_ids[-_longest(merged) :]
    with torch.no_grad():
        output = merged.model.generate(  # type: ignore[operator]
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=ANSWER_TOKENS,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            pad_token_id=merged.tokenizer.pad_token_id,
        )
    logits = torch.stack([step[0] for step in output.logits]).float()
    return Spoken(
        text=text,
        text_ids=text_ids,
        prompt_ids=ids,
        answer_ids=output.sequences[0, len(ids) :].tolist(),
        log_probabilities=torch.log_softmax(logits, dim=-1).numpy(),
    )


def _longest(merged: Loaded | Merged) -> int:
    """Tokens of a prompt that are kept, the answer's room taken off."""
    context = getattr(merged.model.config.get_text_config(), "max_position_embeddings", None)
    return min(LONGEST_TOKENS, context or LONGEST_TOKENS) - ANSWER_TOKENS


def compare(path: Path, kind: str, reference: Reference) -> Iterator[Checked]:
    """The checks of one GGUF file; a file that does not load fails the first and ends there."""
    import llama_cpp

    context = max(len(spoken.prompt_ids) + len(spoken.answer_ids) for spoken in reference.spoken)
    try:
        llama = llama_cpp.Llama(str(path), n_ctx=context, logits_all=True, verbose=False, seed=0)
    except (ValueError, RuntimeError) as fault:
        yield Checked(
            check=f"{kind}: loads",
            passed=False,
            detail=str(fault),
            remedy="Do not use this file: export merged 16-bit, and talk to the run as trained.",
        )
        return
    try:
        yield Checked(
            check=f"{kind}: loads",
            passed=True,
            detail=f"{llama_cpp.llama_model_n_params(llama.model):,} weights",
        )
        yield _same_tokens(llama, kind, reference)
        yield _same_template(llama, kind, reference)
        yield _same_words(llama, kind, reference)
    finally:
        llama.close()


def _same_tokens(llama: Llama, kind: str, reference: Reference) -> Checked:
    different = [
        spoken.text
        for spoken in reference.spoken
        if llama.tokenize(spoken.text.encode(), add_bos=False, special=True) != spoken.text_ids
    ]
    total = len(reference.spoken)
    detail = f"{total - len(different)} of {total} prompts give the same token ids"
    return Checked(
        check=f"{kind}: same tokens",
        passed=not different,
        detail=detail,
        remedy="The file reads text otherwise than it was trained: do not use it. Export merged "
        "16-bit, and talk to the run as trained."
        if different
        else "",
    )


def _same_template(llama: Llama, kind: str, reference: Reference) -> Checked:
    metadata = llama.metadata
    template = metadata.get("tokenizer.chat_template", "") == reference.template
    end = llama.token_eos() == reference.eos_id
    detail = f"chat template {'same' if template else 'differs'}, end-of-turn token " + (
        "same" if end else "differs"
    )
    return Checked(
        check=f"{kind}: same template",
        passed=template and end,
        detail=detail,
        remedy=""
        if template and end
        else "Give the program that runs the file the run's own template and end-of-turn token.",
    )


def _same_words(llama: Llama, kind: str, reference: Reference) -> Checked:
    """Clear next tokens have to agree; where none is clear, the probabilities have to be alike."""
    agreed, divergences, informations = [], [], []
    for spoken in reference.spoken:
        theirs = _log_probabilities(llama, spoken)
        ours = spoken.log_probabilities[:, : theirs.shape[1]]
        same = theirs.argmax(axis=-1) == np.array(spoken.answer_ids)
        agreed.append(same[_clear(ours)])
        divergences.append((np.exp(ours) * (ours - theirs)).sum(axis=-1))
        informations.append((np.exp(ours) * ours).sum(axis=-1) + np.log(ours.shape[1]))
    same, divergence = np.concatenate(agreed), float(np.concatenate(divergences).mean())
    kept = _kept(divergence, float(np.concatenate(informations).mean()))
    least = EXPORTS[f"gguf:{kind}"].least_agreement or 0.0
    share = float(same.mean()) if same.size else kept
    words = (
        f"{share:.1%} of {same.size} clear next tokens agree"
        if same.size
        else f"no next token is clear; of what the model says beyond chance {share:.1%} is kept"
    )
    passed = share >= least
    return Checked(
        check=f"{kind}: same words",
        passed=passed,
        detail=f"{words} (at least {least:.0%} asked), mean KL {divergence:.4f} nats"
        + _truncated_note(reference),
        remedy="" if passed else "Take a less compressed type, or look at what the file answers.",
    )


def _kept(divergence: float, information: float) -> float:
    """The share of the model's own distance from equal probabilities that the file's distance from
    the model does not take away; both in nats, 0 where a model gives all tokens the same."""
    return max(0.0, 1.0 - divergence / information) if information > 0 else 0.0


def _truncated_note(reference: Reference) -> str:
    truncated = [one for one in reference.spoken if len(one.prompt_ids) < len(one.text_ids)]
    if not truncated:
        return ""
    last = max(len(one.prompt_ids) for one in truncated)
    return f"; of {len(truncated)} long prompts only the last {last:,} tokens were asked"


def _clear(log_probabilities: np.ndarray) -> np.ndarray:
    """Per token, whether the most probable one leads clearly; (answer tokens,), bool."""
    second, first = np.sort(np.exp(log_probabilities), axis=-1)[:, -2:].T
    return first - second >= CLEAR_MARGIN


def _log_probabilities(llama: Llama, spoken: Spoken) -> np.ndarray:
    """The file's log-probabilities at each answer token, led along the reference's own tokens."""
    ids = [*spoken.prompt_ids, *spoken.answer_ids]
    llama.reset()
    llama.eval(ids)
    first = len(spoken.prompt_ids) - 1
    logits = np.array(llama.scores[first : len(ids) - 1], dtype=np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
