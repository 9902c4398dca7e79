"""Whether a rendered text holds what its messages say: templates leave things out."""

from __future__ import annotations

import json

from workers.data.schema.messages import Message
from workers.data.tokenize.chat_template import OTHER_TEMPLATE, Tools
from workers.data.tokenize.thought import split_thought
from workers.protocol.refusal import Refusal


def check_tools(messages: list[Message], tools: Tools, text: str) -> None:
    """Refuses a template that leaves out the tools, their calls or what they gave."""
    calls = [call for message in messages for call in message.get("tool_calls", ())]
    named = [called["function"]["name"] for called in calls]
    named += [tool.get("function", tool).get("name", "") for tool in tools]
    given = [message["content"].strip() for message in messages if message["role"] == "tool"]
    shown = all(name in text for name in named) and all(
        one in text or json.dumps(one, ensure_ascii=False)[1:-1] in text for one in given
    )
    if not shown:
        raise _without_tools(named[0] if named else "a tool")


def _without_tools(name: str) -> Refusal:
    return Refusal(
        "The model's chat template leaves out tools that the data calls.",
        f"The call of {name}, or what it gave, is not in the text that the model would read.",
        "Choose a model whose template knows tools, or take those rows out.",
    )


def check_answer(answer: Message, shown: str) -> None:
    """Refuses a template that drops a part of an answer, its thinking most often."""
    written = letters(shown)
    called = [call["function"]["name"] for call in answer.get("tool_calls", ())]
    if missing := [name for name in called if letters(name) not in written]:
        raise _without_tools(missing[0])
    if not all(letters(part) in written for part in split_thought(answer)):
        raise Refusal(
            "The model's chat template leaves out or changes a part of the answer.",
            "Thinking between <think> and </think> is what templates drop most often.",
            "Take the thinking out of the answers to train without it. " + OTHER_TEMPLATE,
        )


def letters(text: str) -> str:
    """A text without white space and capitals, which templates may change."""
    return "".join(text.split()).casefold()
