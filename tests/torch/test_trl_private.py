"""Private names of TRL and Transformers: all that are used are listed, and are as they were."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
from transformers import Trainer
from trl import GRPOTrainer

import workers.train
from workers.train import distill, grpo, ppo, preference, reward_model, sft, tokenized
from workers.train.trl_private import PRIVATE_NAMES, PrivateName

LISTED = {private.name for private in PRIVATE_NAMES}
MODULES = (distill, grpo, ppo, preference, reward_model, sft, tokenized)


def owner_of(private: PrivateName) -> Any:
    module, _, name = private.owner.rpartition(".")
    found = importlib.import_module(module)
    return getattr(found, name, None) or importlib.import_module(private.owner)


@pytest.mark.parametrize("private", PRIVATE_NAMES, ids=lambda one: f"{one.owner}.{one.name}")
def test_a_private_name_is_as_it_was(private: PrivateName) -> None:
    owner = owner_of(private)
    if private.source:
        assert private.source in inspect.getsource(owner)
        return
    parameters = list(inspect.signature(getattr(owner, private.name)).parameters)
    first = parameters[1:] if inspect.isclass(owner) else parameters
    assert tuple(first[: len(private.parameters)]) == private.parameters


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_every_private_method_that_a_trainer_overrides_is_listed() -> None:
    trainers = {
        kind
        for module in MODULES
        for kind in vars(module).values()
        if inspect.isclass(kind) and issubclass(kind, Trainer) and "workers" in kind.__module__
    }
    assert any(issubclass(kind, GRPOTrainer) for kind in trainers)
    for kind in trainers:
        theirs = [base for base in kind.__mro__ if "workers" not in base.__module__]
        overridden = {
            name
            for base in kind.__mro__
            if "workers" in base.__module__
            for name in vars(base)
            if is_private(name) and any(name in vars(one) for one in theirs)
        }
        assert overridden <= LISTED, kind


def test_every_private_name_that_is_read_is_listed() -> None:
    trees = [ast.parse(path.read_text()) for path in Path(workers.train.__path__[0]).glob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    read = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    stored = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    named = {node.id for node in nodes if isinstance(node, ast.Name)}
    defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    foreign = {name for name in read if is_private(name)} - stored - named - defined
    assert foreign <= LISTED
