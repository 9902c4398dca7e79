"""One text for each answer: the prompt as the model reads it at inference, and behind it the answer
as the chat template writes it, up to its end of turn.

Right for templates that rewrite earlier turns, since each answer has its history as it will be. The
prompt may open a thought (DeepSeek-R1, Qwen3.5) or skip it (Gemma 4, Qwen3 with thinking off):

    prompt     before an answer that thinks          before one that does not
    neither    as the template writes it             as the template writes it
    opens      the thinking, the mark that closes    the mark that closes the thought, which the
               it, the answer                        model would have to write, the answer
    skips      the thinking, in place of the part    the answer
               that skips it, which is told

Where a template drops the thinking of a given answer (DeepSeek-R1), it is written as the model
writes it. Where a template ends no answer, the tokenizer's end token is added, which is told.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

from workers.data.schema.messages import Message
from workers.data.tokenize.chat_template import OTHER_TEMPLATE
from workers.data.tokenize.completeness import check_answer, check_tools, letters
from workers.data.tokenize.rendered import Conversation, Rendered, Span, shared_length
from workers.data.tokenize.thought import MARKS, Block, Head, block_of, head_of, split_thought
from workers.protocol.refusal import Refusal

TAG = re.compile(r"(</[^>]+>|[\]})])\Z")
"""What ends a call of a tool and no turn: a closing tag or bracket."""
MARK = re.compile(r"[<\[]|(?<=\n)")
"""Where a part of a head may begin: at a mark or a line."""
CLOSES = "The prompt opens a thought: before this answer, which has none, it is closed again."
THINKS = (
    "The prompt at inference skips thinking, and this answer thinks: it is trained behind a prompt "
    'without that part. Set model.thinking = "on".'
)
ENDS = "The chat template ends no answer, and the model would never stop: {} is added behind it."


HEADED = "The prompt begins no answer behind what a tool gave: {} is learnt with the answer."
WITHIN = "What ends an answer, {}, stands within this one too, where generation would stop."


class Parts(NamedTuple):
    """A prompt, the answer behind it, and how they differ from inference."""

    prompt: str
    answer: str
    differences: tuple[str, ...] = ()


def answer_of(talk: Conversation, index: int, *, last_only: bool = False) -> Rendered:
    """The text that trains the answer at `index`.

    Args:
        last_only: white space behind the end of turn is trained too, as TRL lays out preferences.

    Raises:
        Refusal: the template does not take the conversation up to there, writes the answer
            elsewhere, or leaves out a part of it.
    """
    message = talk.messages[index]
    prompt, answer, differences = _parts(talk, index)
    differences += oddities(talk, index, answer)
    end, added = end_of(answer, 0, message, talk.tokenizer)
    if added:
        differences = (*differences, ENDS.format(added))
    elif last_only:
        end += len(answer[end:]) - len(answer[end:].lstrip())
    text = prompt + answer[:end] + added
    check_answer(message, text[len(prompt) :])
    check_tools(talk.messages[: index + 1], talk.tools, text)
    begin = len(prompt)
    if last_only and CLOSES in differences:  # no preference: both answers of a pair begin so
        begin += len(_closed(answer))
    return Rendered(
        text,
        [(begin, len(text))],
        "per answer",
        len(prompt) if is_separable(talk.tokenizer) else 0,
        index + 1,
        thought_in(text, (begin, len(text)), message),
        (*talk.differences, *differences),
    )


def _closed(answer: str) -> str:
    """What an answer begins with that closes a thought at once."""
    block = block_of(answer)
    return answer.removesuffix(block.behind.lstrip()) if block else ""


def _parts(talk: Conversation, index: int) -> Parts:
    """The prompt and all that is written behind it, the end of turn among it."""
    prompt, whole = talk.asked(index), talk.through(index + 1)
    begin = _begin(talk, index)
    head = head_of(prompt[begin:])
    if not whole.startswith(prompt[:begin] + head.text):  # the head stands in every rendering
        begin, head = 0, head_of(prompt)
    lead = prompt[:begin] + head.text
    thought, _ = split_thought(talk.messages[index])
    turn = _turn(whole, lead, talk.messages[:index], talk.messages[index])
    block = block_of(turn)
    shown = bool(thought) and letters(thought) in letters(turn)
    match head.state:
        case "none" if not thought or shown:
            return Parts(prompt, turn)
        case "none":
            return Parts(prompt, _thinking(_marks_of(talk), thought, block, turn))
        case "closed" if thought or talk.thinks:
            kept = shown or not thought
            written = turn if kept else _thinking(head.marks, thought, block, turn)
            return Parts(lead, written, (THINKS,))
        case "closed":
            said = block.behind if block else turn
            return Parts(prompt, said.lstrip() if prompt[-1:].isspace() else said)
        case _ if whole.startswith(prompt) and (shown or (block and not thought)):
            return Parts(prompt, whole[len(prompt) :], () if thought else (CLOSES,))
        case _ if thought:
            return Parts(prompt, _opened(head, thought, block, turn, shown=shown))
        case _:
            return Parts(prompt, _closing(prompt, head, block) + _said(block, turn), (CLOSES,))


def _begin(talk: Conversation, index: int) -> int:
    """Where in the prompt the head of the answer begins."""
    if not index:
        return 0
    prompt, before = talk.asked(index), talk.through(index)
    return len(before) if prompt.startswith(before) else shared_length(prompt, before)


def _turn(whole: str, lead: str, history: list[Message], message: Message) -> str:
    """The answer's turn behind its head, as the template writes it when it is given.

    Where the template writes the history otherwise then (Mistral Nemo moves the system's text), it
    is what follows the same marks behind the last question, or begins with what the answer says.
    """
    if whole.startswith(lead):
        return whole[len(lead) :]
    said = split_thought(message)[1].strip()
    asked = history[-1]["content"].strip() if history else ""
    behind = lead.rpartition(asked)[2]
    at = whole.rfind(said) if said else len(whole)
    for begin in [found.start() for found in MARK.finditer(behind)]:
        head = behind[begin:]
        turn = whole[whole.rfind(head, 0, at) + len(head) :]
        if head in whole[:at] and not (asked and asked in turn):
            return turn
    if said and at >= 0 and asked in whole[:at]:
        return whole[at:]
    check_answer(message, whole)
    raise Refusal(
        "The model's chat template writes a question otherwise once it is answered.",
        "Where the answer begins cannot be told.",
        OTHER_TEMPLATE,
    )


def _marks_of(talk: Conversation) -> tuple[str, str]:
    """What the template knows thinking by."""
    template = str(talk.tokenizer.get_chat_template())
    return next((marks for marks in MARKS if marks[1] in template), MARKS[0])


def _said(block: Block | None, turn: str) -> str:
    return block.behind.lstrip() if block else turn


def _thinking(marks: tuple[str, str], thought: str, block: Block | None, turn: str) -> str:
    """The thinking and the answer as the model writes them, of which the template drops one."""
    return f"{marks[0]}\n{thought}\n{marks[1]}\n\n{_said(block, turn).lstrip()}"


def _opened(head: Head, thought: str, block: Block | None, turn: str, *, shown: bool) -> str:
    """The thinking and the answer behind a prompt that has opened the thought already."""
    if shown and block:
        return turn[turn.index(block.thought) :]
    if shown:
        return turn.lstrip()
    return f"{thought}\n{head.marks[1]}\n\n{_said(block, turn).lstrip()}"


def _closing(prompt: str, head: Head, block: Block | None) -> str:
    """What closes an open thought at once: as the template writes an empty one, where it does."""
    if block:
        return block.closing.removesuffix(block.behind.lstrip())
    return ("\n" if prompt.endswith("\n") else "\n\n") + f"{head.marks[1]}\n\n"


def oddities(talk: Conversation, index: int, answer: str) -> tuple[str, ...]:
    """What the template itself writes so that training and inference cannot be alike."""
    message = talk.messages[index]
    head, mark = _missing_head(talk, index), str(talk.tokenizer.eos_token or "")
    end, _ = end_of(answer, 0, message, talk.tokenizer)
    written = answer[:end].replace(message["content"].strip(), "")
    told = [HEADED.format(head)] if head and answer.lstrip().startswith(head) else []
    return (*told, *([WITHIN.format(mark)] if mark and written.count(mark) > 1 else []))


def _missing_head(talk: Conversation, index: int) -> str:
    """What begins an answer in the prompt elsewhere, for one behind what a tool gave."""
    if not index or talk.messages[index - 1]["role"] != "tool":
        return ""
    first = next(at for at, turn in enumerate(talk.messages, 1) if turn["role"] == "user")
    before, prompt = talk.through(first), talk.asked(first)
    return prompt.removeprefix(before).strip() if prompt.startswith(before) else ""


# Ends


def end_of(text: str, begin: int, message: Message, tokenizer: Any) -> tuple[int, str]:
    """Where an answer ends that begins at `begin` and is the last one in a text, its end of turn
    included, and what is missing there: the end token where the template writes none."""
    said = split_thought(message)[1].strip()
    at = text.rfind(said, begin) if said else -1
    behind = at + len(said) if at >= 0 else begin
    for call in message.get("tool_calls", ()):
        behind = max(behind, text.rfind(call["function"]["name"]))
    mark = tokenizer.eos_token or ""
    found = text.find(mark, behind) if mark else -1
    if found >= 0:
        return found + len(mark), ""
    end = max(behind, len(text.rstrip()))
    calls = "tool_calls" in message and TAG.search(text[:end]) is not None
    return end, mark if end == behind or calls else ""


def thought_in(text: str, span: Span, message: Message) -> tuple[Span, ...]:
    """Where in a span the answer thinks: up to what it says, or to the mark that closes it."""
    thought, said = split_thought(message)
    if not thought:
        return ()
    begin, end = span
    at = text.rfind(said.strip(), begin, end) if said.strip() else -1
    if at < 0:
        block = block_of(text[begin:end])
        closed = max((text.find(closer, begin, end) + len(closer) for _, closer in MARKS
                      if closer in text[begin:end]), default=begin)  # fmt: skip
        at = end - len(block.behind) if block else closed
    return ((begin, at),)


def is_separable(tokenizer: Any) -> bool:
    """Whether a text gives the same tokens behind another one: SentencePiece's older models put a
    space before every text."""
    return _is_separable(tokenizer, len(tokenizer))


@lru_cache(maxsize=16)
def _is_separable(tokenizer: Any, _size: int) -> bool:
    ids = tokenizer("a", add_special_tokens=False)["input_ids"]
    return not tokenizer.convert_ids_to_tokens(ids)[0].startswith("▁")
