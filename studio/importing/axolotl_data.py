"""The datasets of an Axolotl config: their types decide the stage, the columns and the template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from studio.importing.account import CHOOSE_DATA, Account, Unfit
from studio.importing.datasets import (
    BEYOND,
    BEYOND_REACH,
    USUAL,
    exists,
    found_beside,
    keep_parts,
    mapped,
    on_hub,
    source_of,
)
from studio.importing.settings import mixed
from workers.protocol.recipe import Column

PLAIN_TEXT = ("completion", "pretrain", "pretraining")
ALPACA = ("alpaca", "alpaca_w_system", "gpteacher", "explainchoice", "summarizetldr",
          "concisechoice", "reflection", "jeopardy", "creative_acr", "context_qa")  # fmt: skip
"""Types that write "### Instruction:" and "### Response:" around the columns, whatever the model's
own template is."""
FAMILIES = {"chatml": "chatml", "llama3": "llama-3"}
"""Beginnings of preference types that write a template of their own."""
COLUMNS: dict[str, Column] = {
    "field_messages": "messages",
    "field_chosen": "chosen",
    "field_rejected": "rejected",
    "field_tools": "tools",
}
TEXT: dict[str, Column] = {"field": "text", "text_column": "text"}
OWN_TYPE: dict[str, Column] = {
    "type.field_instruction": "prompt",
    "type.field_prompt": "prompt",
    "type.field_input": "prompt",
    "type.field_output": "completion",
    "type.field_completion": "completion",
    "type.field_system": "system",
    "type.field_chosen": "chosen",
    "type.field_rejected": "rejected",
    "type.field_label": "label",
}
"""Columns of a type that the config itself describes."""
KNOWN_TURNS = ({"role": "role", "content": "content"}, {"role": "from", "content": "value"})
FORMATS = ("format", "no_input_format", "system_format", "prompt_format", "chosen_format",
           "rejected_format", "completion_format", "system_prompt")  # fmt: skip
REWRITES = ("_transform", ".transform")


def carry_datasets(account: Account) -> None:
    """The datasets, and what their types say of the stage and the template.

    Raises:
        Unfit: they are of kinds that one stage cannot learn together.
    """
    key = "pretraining_dataset" if account.get("pretraining_dataset") else "datasets"
    given = account.get(key)
    entries = given if isinstance(given, list) else [given] if given else []
    if not entries:
        account.lack("data", "The config names no dataset.", "It has no datasets.",
                     CHOOSE_DATA)  # fmt: skip
        return
    kinds = {_kind(account, f"{key}[{number}]") for number in range(len(entries))}
    if "text" in kinds and len(kinds) > 1:
        raise Unfit(
            "data", "The config mixes plain text with questions and answers.",
            "A stage here learns one of the two.", "Make two configs of it, one for each.",
        )  # fmt: skip
    if "text" in kinds and account.held("stage") == "sft":
        account.put("stage", "cpt")
    if key == "pretraining_dataset":
        account.put("stage", "cpt")
    if kinds == {"alpaca"} and account.held("model.template", "auto") == "auto":
        account.change(f"{key}[0].type", "it writes ### Instruction: and ### Response:, whatever "
                       "the model's own template is", "model.template", "alpaca")  # fmt: skip
    _carry_family(account, key, len(entries))
    mixed(account, key, [_source(account, f"{key}[{n}]") for n in range(len(entries))])
    _carry_test(account)


def _kind(account: Account, at: str) -> str:
    """What rows of a type hold: text, alpaca or chat."""
    if isinstance(account.get(f"{at}.type"), dict):
        return "chat"
    kind = account.text(f"{at}.type")
    if not kind and at.startswith("datasets"):
        account.lack("data", "A dataset of the config has no type.", "Its rows are token ids then, "
                     "which only the model that they were made for can read.",
                     f"Give the rows as text. {CHOOSE_DATA}")  # fmt: skip
    if kind.endswith(REWRITES):
        account.lack("data", f"The dataset's rows are rewritten by Python: {kind}.",
                     "A config names such code, it does not hold it.",
                     f"Write the rows as the code would. {CHOOSE_DATA}")  # fmt: skip
    if kind in PLAIN_TEXT or at.startswith("pretraining"):
        return "text"
    return "alpaca" if kind in ALPACA else "chat"


def _carry_family(account: Account, key: str, count: int) -> None:
    """The template that a preference type brings along."""
    if account.get("chat_template") is not None:
        return
    kinds = [account.get(f"{key}[{number}].type") for number in range(count)]
    heads = {kind.partition(".")[0] for kind in kinds if isinstance(kind, str)}
    families = {FAMILIES[head] for head in heads & FAMILIES.keys()}
    if len(families) == 1:
        account.change(f"{key}[0].type", "it writes this template itself", "model.template",
                       families.pop())  # fmt: skip


def _source(account: Account, at: str) -> dict[str, Any]:
    path = account.text(f"{at}.path")
    if not path or path.startswith(("<", "$")):
        account.lack("data", "A dataset of the config has no name yet.",
                     f"Its path reads {path or 'nothing'}.",
                     CHOOSE_DATA)  # fmt: skip
    made = source_of(account, _with_files(account, at, path), account.text(f"{at}.name"),
                     account.text(f"{at}.split"), split_key=f"{at}.split")  # fmt: skip
    keep_parts(account, made["source"], f"{at}.name", f"{at}.split")
    account.keep(f"{at}.path", f"data.source = {made['source']}")
    made |= _mapping(account, at)
    _tell_turns(account, at)
    if account.get(f"{at}.type") is not None and not account.is_told(f"{at}.type"):
        account.keep(f"{at}.type", "rows are told by their columns")
    if account.get(f"{at}.ds_type") is not None:
        account.keep(f"{at}.ds_type", "files are told by their names")
    return made


def _with_files(account: Account, at: str, path: str) -> str:
    """The path, led to the one file that is asked for; refuses what lies in the cloud."""
    if path.startswith(BEYOND):
        account.lack("data", f"{path} lies in the cloud.", BEYOND_REACH, f"Fetch it. {CHOOSE_DATA}")
    files = account.names(f"{at}.data_files")
    if not files:
        return path if on_hub(path) else found_beside(path, account.path)
    local = found_beside(path, account.path)
    folder = exists(local) and Path(local).is_dir()
    if len(files) == 1 and (folder or not on_hub(path)):
        account.keep(f"{at}.data_files", "part of data.source")
        return str(Path(local) / files[0]) if folder else files[0]
    account.change(f"{at}.data_files", "single files cannot be asked for; the whole dataset is "
                   "read")  # fmt: skip
    return path


def _mapping(account: Account, at: str) -> dict[str, Any]:
    if isinstance(account.get(f"{at}.type"), dict):
        for name in FORMATS:
            if account.get(f"{at}.type.{name}") is not None:
                account.change(f"{at}.type.{name}", "the chat template writes what stands around "
                               "the columns")  # fmt: skip
        return mapped(account, at, OWN_TYPE)
    kind = account.text(f"{at}.type")
    if kind in PLAIN_TEXT or at.startswith("pretraining"):
        return mapped(account, at, TEXT)
    columns: dict[str, Column] = dict(COLUMNS)
    turns = account.text(f"{at}.field_messages")
    if account.text(f"{at}.field_chosen") and turns:
        columns["field_messages"] = "prompt"
        if turns in USUAL["messages"]:
            del columns["field_messages"]
            account.keep(f"{at}.field_messages", f"{turns} is found by its name")
    return mapped(account, at, columns)


def _tell_turns(account: Account, at: str) -> None:
    """The names of a turn's parts and roles; told where rows would have to be renamed."""
    names = account.get(f"{at}.message_property_mappings")
    if isinstance(names, dict):
        known = any(names.items() <= one.items() for one in KNOWN_TURNS)
        tell = account.keep if known else account.change
        tell(f"{at}.message_property_mappings", "turns are read by role and content, or from and "
             "value" + ("" if known else "; rename them in the file"))  # fmt: skip
    for key in ("message_field_role", "message_field_content"):
        if account.get(f"{at}.{key}") is not None:
            account.keep(f"{at}.{key}", "turns are read by role and content, or from and value")
    if account.get(f"{at}.roles") is not None:
        account.keep(f"{at}.roles", "roles are known by their usual names")
    trained = account.names(f"{at}.roles_to_train")
    if trained and set(trained) != {"assistant"}:
        account.change(
            f"{at}.roles_to_train", "answers are learnt; other turns where a row says so"
        )
    elif trained:
        account.keep(f"{at}.roles_to_train", "answers are learnt")
    for key in ("field_thinking", "template_thinking_key"):
        if account.get(f"{at}.{key}") is not None:
            account.keep(f"{at}.{key}", "thinking beside an answer is found by its usual names")
    if account.get(f"{at}.drop_system_message"):
        account.change(f"{at}.drop_system_message", "system messages stay; remove them in the file")


def _carry_test(account: Account) -> None:
    """A test set, if there is one."""
    tests = account.get("test_datasets")
    if not isinstance(tests, list) or not account.text("test_datasets[0].path"):
        return
    at = "test_datasets[0]"
    named = account.text(f"{at}.path")
    made = source_of(account, named if on_hub(named) else found_beside(named, account.path),
                     account.text(f"{at}.name"), account.text(f"{at}.split"),
                     split_key=f"{at}.split")  # fmt: skip
    keep_parts(account, made["source"], f"{at}.name", f"{at}.split")
    for key in ("type", "ds_type"):
        if account.get(f"{at}.{key}") is not None:
            account.keep(f"{at}.{key}", "rows are told by their columns")
    account.carry(f"{at}.path", "evaluation.test", made["source"])
    if len(tests) > 1:
        account.change("test_datasets", "one test set is measured on, the first")
