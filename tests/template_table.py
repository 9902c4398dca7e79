"""How exactly every template's answers are trained: measured, and written to docs/templates.md.

    python -m tests.template_table MODELS [NAME ...]

MODELS is llama.cpp's folder of models, with the templates in it; names limit what is measured.

Each template takes nine kinds of row. What is trained is held to what was written into the row,
word for word, and the prompt to what transformers makes of the same history by itself.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tests.fakes.templates import call_end_of, end_of, template_paths, tokenizer_for
from workers.data.schema.row import Row
from workers.data.tokenize.chat_template import end_turns
from workers.data.tokenize.encode import IGNORED, Encoding, encode
from workers.data.tokenize.reasoning import as_handed
from workers.data.tokenize.template_head import with_defaults
from workers.protocol.recipe import Stage
from workers.protocol.refusal import Refusal

OTHER_PROMPT = "the prompt has other tokens"
PAGE = Path(__file__).parents[1] / "docs" / "templates.md"
Verdict = Literal["exact", "told", "refused", "wrong", "raw"]
CALL = {"type": "function", "id": "call00001",
        "function": {"name": "weatherlookup", "arguments": {"city": "Lissabonville"}}}  # fmt: skip
TOOL = {"type": "function", "function": {
    "name": "weatherlookup", "description": "Weather toolword.",
    "parameters": {"type": "object", "required": ["city"], "properties": {
        "city": {"type": "string", "description": "Cityword."}}}}}  # fmt: skip
WRITTEN = ("analysis", "final", "commentary", "all", "json", "constrain", "to=user", "user",
           "assistant", "Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]", "response",
           "message", "role=", "thought", "think", "to=self", '"')  # fmt: skip
"""What templates write around an answer besides their tokens."""


def said(*turns: str) -> list[dict[str, Any]]:
    """Turns by the user and the assistant, who take turns; a thought before its answer by `>`."""
    made: list[dict[str, Any]] = []
    for at, turn in enumerate(turns):
        thought, found, text = turn.rpartition(">")
        content = f"<think>\n{thought}\n</think>\n\n{text}" if found else text
        made.append({"role": ("user", "assistant")[at % 2], "content": content})
    return made


def beside(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turns with their thinking beside the content."""
    made = []
    for turn in turns:
        thought, found, text = turn["content"].partition("\n</think>\n\n")
        thinking = {"content": text, "reasoning_content": thought.removeprefix("<think>\n")}
        made.append(turn | (thinking if found else {}))
    return made


MULTI = ("Alphafrage one?", "Bravoantwort two.", "Charliefrage three?", "Deltaantwort four.",
         "Echofrage five?", "Foxtrotantwort six.")  # fmt: skip
THINKS = (MULTI[0], f"Golfgedanke seven.>{MULTI[1]}", MULTI[2], f"Hotelgedanke eight.>{MULTI[3]}")
SYSTEM = {"role": "system", "content": "Indiasystem nine."}
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "single": said(*MULTI[:2]),
    "multi": said(*MULTI),
    "system": [SYSTEM, *said(*MULTI[:4])],
    "think": said(*THINKS[:2]),
    "thinks": said(*THINKS),
    "stripped": said(*MULTI[:3], THINKS[3]),
    "tools": [
        *said(MULTI[0]),
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "name": "weatherlookup", "tool_call_id": "call00001",
         "content": "Julietwetter ten."},
        *said(*MULTI[:2])[1:],
    ],
}  # fmt: skip
CONVERSATIONS["beside"] = beside(CONVERSATIONS["thinks"])
KINDS = (*CONVERSATIONS, "pair")
THINKING = ("think", "thinks", "stripped", "beside")


class Cell(NamedTuple):
    verdict: Verdict
    why: str = ""
    differences: tuple[str, ...] = ()
    source: str = ""

    @property
    def trains_exactly(self) -> bool:
        return self.verdict == "exact" or (self.verdict == "told" and self.why == OTHER_PROMPT)


def measure(name: str, tokenizer: Any, kind: str) -> Cell:
    """One kind of row with one template."""
    if kind == "pair":
        prompt = said(MULTI[0], MULTI[1], MULTI[2])
        row = Row(prompt=prompt, completion=said("", MULTI[3])[1:], rejected=said("", MULTI[5])[1:])
        return _measured(name, tokenizer, row, "dpo", [[*prompt, *row.completion],
                                                       [*prompt, *row.rejected]])  # fmt: skip
    messages = CONVERSATIONS[kind]
    row = Row(prompt=messages[:-1], completion=messages[-1:],
              tools=[TOOL] if kind == "tools" else [])  # fmt: skip
    talks = [messages[: at + 1] for at, turn in enumerate(messages) if turn["role"] == "assistant"]
    return _measured(name, tokenizer, row, "sft", talks)


def _measured(
    name: str, tokenizer: Any, row: Row, stage: Stage, talks: list[list[dict[str, Any]]]
) -> Cell:
    try:
        made = encode(row, stage, tokenizer)
    except Refusal as refusal:
        return Cell("refused", f"{refusal.what} {refusal.cause}")
    except Exception as fault:
        return Cell("raw", f"{type(fault).__name__}: {fault}")
    runs = [(one, run) for one in made for run in _runs(one)]
    told = tuple(dict.fromkeys(text for one in made for text in one.differences))
    if len(runs) != len(talks):
        return Cell("wrong", f"{len(runs)} answers are trained instead of {len(talks)}", told)
    prompts = True
    for (encoding, (begin, end)), talk in zip(runs, talks, strict=True):
        ids = encoding.input_ids
        if fault := fault_of(name, tokenizer, tokenizer.decode(ids[begin:end]), talk):
            headed = any(text.startswith("The prompt begins no answer") for text in told)
            return Cell("told" if headed else "wrong", fault, told, made[0].mask_source)
        prompts = prompts and ids[:begin] in _asked(tokenizer, talk[:-1], row.tools)
    if not prompts:
        verdict = "told" if told else "wrong"
        return Cell(verdict, OTHER_PROMPT, told, made[0].mask_source)
    return Cell("exact", "", told, made[0].mask_source)


def _runs(encoding: Encoding) -> list[tuple[int, int]]:
    trained = [label != IGNORED for label in encoding.labels]
    begins = [at for at, on in enumerate(trained) if on and (at == 0 or not trained[at - 1])]
    ends = [at + 1 for at, on in enumerate(trained) if on and trained[at + 1 : at + 2] != [True]]
    return list(zip(begins, ends, strict=True))


def _asked(tokenizer: Any, history: list[dict[str, Any]], tools: Any) -> list[list[int]]:
    """The prompt as transformers makes it of the history, with its thinking where the row has it
    and beside the content, as programs that keep it apart send it."""
    made = []
    for turns in (history, beside(history)):
        handed = as_handed(turns, tokenizer)
        for given in [tools] if tools else [None, []]:  # Hermes needs a list, though an empty one
            with contextlib.suppress(TypeError):
                made.append(tokenizer.apply_chat_template(
                    handed, tools=given, add_generation_prompt=True, return_dict=False
                ))  # fmt: skip
                break
    return made


def fault_of(name: str, tokenizer: Any, trained: str, talk: list[dict[str, Any]]) -> str:
    """What is wrong about the trained text of a conversation's last answer; empty for nothing."""
    answer, others = talk[-1], talk[:-1]
    thought, _, text = answer["content"].rpartition("</think>")
    thought = thought.replace("<think>", "").strip() or answer.get("reasoning_content", "")
    parts = list(filter(None, (thought, text.strip())))
    for call in answer.get("tool_calls", ()):
        parts += [call["function"]["name"], *call["function"]["arguments"].values()]
    rest = trained
    for part in parts:
        if not rest.count(part) or (rest.count(part) > 1 and "tool_calls" not in answer):
            return f"{part!r} is trained {rest.count(part)} times: {trained!r}"
        rest = rest.replace(part, "")
    for turn in others:
        for word in turn["content"].split():
            if len(word) > 8 and word in rest:
                return f"{word!r} of the {turn['role']} is trained: {trained!r}"
    end = call_end_of(name) if "tool_calls" in answer else end_of(name)
    if not trained.rstrip().endswith(end):
        return f"it does not end with {end}: {trained!r}"
    if "tool_calls" in answer:
        return ""
    if trained.rpartition(parts[-1])[2].count(end) != 1:
        return f"it does not end once: {trained!r}"
    for word in [*sorted(tokenizer.all_special_tokens, key=len, reverse=True), *WRITTEN]:
        rest = rest.replace(word, "")
    rest = re.sub(r"</?[a-z:_]+>", "", rest)
    return f"more than the answer is trained: {trained!r}" if rest.strip() else ""


def cells_of(name: str, template: str) -> dict[str, Cell]:
    """All kinds with one template, thinking switched on for rows that think and off for others."""
    found = {}
    for kind in KINDS:
        tokenizer = tokenizer_for(name, template)
        switched(tokenizer, thinks=kind in THINKING)
        end_turns(tokenizer)
        found[kind] = measure(name, tokenizer, kind)
    return found


def switched(tokenizer: Any, *, thinks: bool) -> None:
    """Switches thinking as a run does by its rows."""
    tokenizer.chat_template = with_defaults(tokenizer.chat_template, "on" if thinks else "off")


SIGNS = {"exact": "o", "told": "t", "refused": "r", "wrong": "**W**", "raw": "**x**"}
HEAD = """# Chat templates

Every chat template that TRL {trl} and llama.cpp's package (llama-cpp-python {llama}) ship for use,
with nine kinds of row each: what is trained, held word for word to what the row says, and the
prompt, token for token, to what `apply_chat_template` gives at inference. Written by
`python -m tests.template_table MODELS`; a test keeps it true.

**{share} of {total} cells** train exactly the answers; {most} without the column `beside`. {told}
differ from inference and say how, {refused} are refused with the reason, {wrong} are wrong.

- **o** exact: the trained tokens are the answers, with their thinking and their end of turn, and
  before each stands the prompt of inference. An empty thought that the template writes before an
  answer, or the mark that closes a thought which the prompt has opened, is learnt with it.
- **t** told: the prompt is another than at inference, or a mark is learnt with the answer; the
  token view and the run say which.
- **r** refused: the row is left out, with the reason. Most of these templates know no tools.

How a mask is made is tried in this order, and shown in the token view:

1. *One text for all answers*, where every beginning of the conversation, as it is asked at
   inference, begins the whole. A template that marks answers with `{{% generation %}}` says where
   they end.
2. *One text for each answer*, with its history as the model reads it at inference: where the
   template rewrites earlier turns, opens or skips a thought in the prompt, or ends no answer.

TRL's templates for training (`trl:NAME_training`) can be chosen by name. They are not taken by
themselves: they train text that the model never reads at inference (Qwen3's keeps all thinking),
and no kind of row here is exact with them that is not without.

Columns: {columns}.
"""
ABOUT = """
`system` has two turns behind a system turn, `think` one answer that thinks, `thinks` two,
`stripped` thinking in the last answer alone, `tools` a call, what it gave, and an answer, `beside`
the thinking of `thinks` in a field of its own, `pair` two answers to one conversation as DPO learns
them. Thinking is switched on for rows that think, and off for others, as a run does. The tokenizers
are stand-ins that have each template's marks as tokens.
"""


def table(models: Path, names: list[str]) -> dict[str, dict[str, Cell]]:
    """The cells of the templates named, of all where none is."""
    paths = template_paths(models)
    return {name: cells_of(name, paths[name].read_text()) for name in names or paths}


def page(found: dict[str, dict[str, Cell]]) -> str:
    """docs/templates.md."""
    cells = [cell for kinds in found.values() for cell in kinds.values()]
    count = Counter(cell.verdict for cell in cells)
    asked = [cell for kinds in found.values() for kind, cell in kinds.items() if kind != "beside"]
    exact = sum(cell.trains_exactly for cell in asked)
    head = HEAD.format(
        trl=version("trl"), llama=version("llama-cpp-python"), total=len(cells),
        share=sum(cell.trains_exactly for cell in cells), told=count["told"],
        refused=count["refused"], wrong=count["wrong"] + count["raw"], columns=", ".join(KINDS),
        most=f"{exact} of {len(asked)} ({exact / len(asked):.1%})",
    )  # fmt: skip
    rows = [f"| template | {' | '.join(KINDS)} |", "|---" * (len(KINDS) + 1) + "|"]
    notes: dict[str, list[str]] = {}
    for name, kinds in found.items():
        signs = [SIGNS[kinds[kind].verdict] for kind in KINDS]
        rows.append(f"| {name} | {' | '.join(signs)} |")
        for kind, cell in kinds.items():
            if cell.verdict != "exact":
                why = cell.why if cell.verdict == "refused" else " ".join(cell.differences)
                notes.setdefault(" ".join(why.split()), []).append(f"{name} ({kind})")
    reasons = [f"- {why} {', '.join(where)}" for why, where in sorted(notes.items())]
    parts = [head + ABOUT, "\n".join(rows), "## What is told or refused", "\n".join(reasons)]
    return "\n\n".join(parts) + "\n"


def main(models: Path, names: list[str]) -> None:
    found = table(models, names)
    if not names:
        PAGE.write_text(page(found))
    for name, kinds in found.items():
        print(name[:44].ljust(45), "".join(SIGNS[kinds[kind].verdict][-3:] for kind in KINDS))
        for kind, cell in kinds.items():
            if cell.verdict != "exact" or names:
                print("     ", kind, cell)
    print(Counter(cell.verdict for kinds in found.values() for cell in kinds.values()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
