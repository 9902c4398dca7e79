"""Jobs take turns on a card: one training, bench or export at a time, or chats together.

With several cards a job takes the freest. What its process may see is settled here, before PyTorch
is imported: one card at most, so that no Trainer spreads a model over two (`nn.DataParallel`, which
TRL does not support).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack

import psutil

from workers.card_lock import hold, holders, keep
from workers.cards import IN_ORDER, VISIBLE, usable_cards
from workers.device import CPU_ALONE
from workers.host import Host, owner_lives
from workers.protocol.cards import WAITING, Card, Device, Holder
from workers.protocol.checkpoints import last_step
from workers.protocol.events import Finished, Note, Paused, Phase, Stopped
from workers.protocol.faults import kind_of
from workers.protocol.jobs import Bench, Chat, Export, OwnedTask, Probe, Score, Task, Train
from workers.protocol.requests import UseCpu
from workers.protocol.rewards import RewardModel

NAMED = "FINETUNE_STUDIO_CARD"
"""The card that this process has, by its UUID. Set by somebody else, it names what jobs take turns
on where NVIDIA's library knows of no card."""
LOOK_EVERY_S = 0.2
Environment = dict[str, str]
ON_CPU: Environment = {VISIBLE: "-1", CPU_ALONE: "1"}
"""CUDA takes -1 for no card; an empty value would be no variable on Windows."""


def device_of(task: Task) -> Device | None:
    """Where a task computes; None for one that needs no card."""
    match task:
        case Train(recipe=recipe):
            return recipe.training.device
        case Bench(recipe=recipe, samples=samples):
            by_model = any(isinstance(reward, RewardModel) for reward in recipe.rewards)
            return recipe.training.device if samples or by_model else None
        case Chat(device=device) | Score(device=device):
            return device
        case Export() | Probe():
            return "auto"
        case _:
            return None


@contextlib.contextmanager
def turn(host: Host) -> Iterator[bool]:
    """Within, this process has what its job computes on.

    Yields:
        Whether the job is to be done now; not where it ended while it waited, which has been said.
    """
    device = device_of(host.job.task)
    with ExitStack() as stack:
        seen: Environment | None = {}
        if device == "cpu":
            seen = ON_CPU
        elif device == "auto":
            seen = _on_card(host, _cards(), stack)
        if seen is not None:
            stack.enter_context(_environment(seen))
        try:
            yield seen is not None
        except Exception as fault:
            if kind_of(fault) == "out_of_memory" and seen is not ON_CPU:
                _keep(host)
            raise


def _keep(host: Host) -> None:
    """Keeps the card for a training run, which may go on in a fresh process."""
    card = os.environ.get(NAMED)
    if card and isinstance(host.job.task, Train):
        with contextlib.suppress(OSError):
            keep(card, _me(host))


def _cards() -> list[Card]:
    """The cards that may be taken, the freest first."""
    named = os.environ.get(NAMED)
    found = usable_cards() or ([Card(key=named)] if named else [])
    return sorted(found, key=lambda card: card.free_bytes, reverse=True)


def _on_card(host: Host, cards: list[Card], stack: ExitStack) -> Environment | None:
    """Takes a card until the stack ends, and waits for one where others have them all.

    Returns:
        What makes the process see that card alone, or what it does instead; None where the job
        ended meanwhile.
    """
    if not cards:
        return {} if VISIBLE in os.environ else {VISIBLE: "0"}
    told = ""
    while (mine := _first_free(host, cards, stack)) is None:
        by = next((holder.words for card in cards for holder in holders(card.key)), "")
        by = by or "another job begins on it"
        if _does_without(host):
            host.emit(Note(text=f"The GPU is busy: {by}. This runs on the CPU."))
            return ON_CPU
        words = f"{WAITING}: {by}"
        if words != told:
            host.emit(Phase(name=words))
            told = words
        if _ended(host):
            return None
        time.sleep(LOOK_EVERY_S)
    return _seeing(mine)


def _seeing(card: Card) -> Environment:
    """What makes a process see one card alone.

    It is named by its number: vLLM takes no UUID (https://github.com/vllm-project/vllm/issues/20939).
    """
    if card.key == os.environ.get(NAMED):
        return {}
    return {VISIBLE: str(card.index), NAMED: card.key, **IN_ORDER}


def _first_free(host: Host, cards: list[Card], stack: ExitStack) -> Card | None:
    """The first card that can be held, which it is from now on."""
    shared = isinstance(host.job.task, OwnedTask)
    for card in cards:
        try:
            held = hold(card.key, _me(host), shared=shared)
        except OSError as fault:
            text = f"Jobs cannot take turns on the GPU here: {fault}. This one begins at once."
            host.emit(Note(text=text, level="warning"))
            return card
        if held is not None:
            stack.enter_context(held)
            return card
    return None


def _me(host: Host) -> Holder:
    me, job = psutil.Process(), host.job
    return Holder(
        pid=me.pid, started=me.create_time(), job=str(host.folder), name=job.name, kind=job.kind
    )


def _does_without(host: Host) -> bool:
    task = host.job.task
    rather_cpu = isinstance(task, Chat | Score) and task.when_busy == "cpu"
    return rather_cpu or isinstance(task, Probe) or host.requests.heard(UseCpu)


def _ended(host: Host) -> bool:
    """Whether a job that waits is to end, which is said then.

    A training run rests: stopped would say that it has a result.
    """
    task, asked = host.job.task, host.requests
    if isinstance(task, OwnedTask):
        ending = Finished() if asked.stop_asked or not owner_lives(task) else None
    elif not asked.end_asked:
        ending = None
    elif isinstance(task, Train):
        detail = "Ended when asked, while it waited for the GPU."
        ending = Paused(step=last_step(host.folder), detail=detail)
    else:
        ending = Stopped(detail="Stopped when asked, while it waited for the GPU.")
    if ending is not None:
        host.emit(ending)
    return ending is not None


@contextlib.contextmanager
def _environment(variables: Environment) -> Iterator[None]:
    """Sets variables of this process for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
