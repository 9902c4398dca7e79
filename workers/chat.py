"""Talks: answers each Say with Tokens, from a GGUF through llama.cpp or a run through Transformers.

Ends on Stop, or when the studio that owns it is gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from workers.fetch import Located, locate_run
from workers.host import Host, owner_lives
from workers.protocol import wire
from workers.protocol.events import Answered, Finished, Phase, Ready, Token
from workers.protocol.jobs import Chat
from workers.protocol.refusal import Refusal
from workers.protocol.requests import Cancel, Say, Stop

LISTEN_EVERY_S = 0.03
OWNER_EVERY_S = 1.0
CONTEXT_TOKENS = 4096
GGUF_MAGIC = b"GGUF"


class ChatModel(Protocol):
    """A loaded model that answers."""

    detail: str

    def answer(self, say: Say) -> Iterator[str]:
        """Pieces of the answer; `finish` is set when they end."""
        ...

    finish: str
    tokens: int


def run(host: Host) -> None:
    """Runs a chat job from its folder's job.json to its ending event."""
    task = host.job.task
    assert isinstance(task, Chat)
    host.emit(Phase(name="Loading the model"))
    chat_model = open_chat_model(Path(task.model), Path(host.job.home), host)
    host.emit(Ready(model=task.model, detail=chat_model.detail))
    while not host.requests.stop_asked and owner_lives(task):
        _listen(host, chat_model)
    host.emit(Finished())


def open_chat_model(model: Path, home: Path, host: Host) -> ChatModel:
    """The right speaker for a .gguf file, a run's folder or a model folder."""
    if model.suffix == ".gguf":
        return GgufChatModel(model)
    if (model / wire.JOB).is_file():
        located = locate_run(model, home, lambda text: host.emit(Phase(name=text)))
    elif (model / "config.json").is_file():
        located = Located(str(model), model)
    else:
        raise Refusal(
            f"There is no model at {model}.",
            "It is neither a .gguf file, nor a run, nor a folder with config.json.",
            "Export a run first, or choose another file.",
        )
    return TransformersChatModel(located)


def _listen(host: Host, chat_model: ChatModel) -> None:
    until = time.monotonic() + OWNER_EVERY_S
    while time.monotonic() < until:
        for request in (taken := host.requests.take()):
            if isinstance(request, Stop):
                return
            if isinstance(request, Say):
                host.requests.put_back(taken[taken.index(request) + 1 :])
                _answer(host, chat_model, request)
                break
        else:
            time.sleep(LISTEN_EVERY_S)


def _answer(host: Host, chat_model: ChatModel, say: Say) -> None:
    began = time.perf_counter()
    first: float | None = None
    pieces: list[str] = []
    finish = ""
    for piece in chat_model.answer(say):
        first = first or time.perf_counter()
        pieces.append(piece)
        host.emit(Token(text=piece))
        if _hushed(host):
            finish = "asked"
            break
    ended = time.perf_counter()
    # Speed is that of writing: the time to the first token, spent on reading, is told apart.
    writing = max(ended - (first or began), 1e-9)
    host.emit(
        Answered(
            text="".join(pieces),
            tokens=chat_model.tokens,
            tokens_per_second=round(max(chat_model.tokens - 1, 0) / writing, 2),
            first_token_seconds=round((first or ended) - began, 3),
            finish=finish or chat_model.finish,
        )
    )


def _hushed(host: Host) -> bool:
    taken = host.requests.take()
    host.requests.put_back([request for request in taken if isinstance(request, Say)])
    return any(isinstance(request, Cancel | Stop) for request in taken)


class GgufChatModel:
    """A GGUF file in llama.cpp, with the chat template that the file carries."""

    def __init__(self, path: Path) -> None:
        _check_gguf(path)
        import llama_cpp

        try:
            self._llama = llama_cpp.Llama(
                str(path), n_ctx=CONTEXT_TOKENS, n_gpu_layers=-1, verbose=False
            )
        except (ValueError, RuntimeError) as fault:
            raise Refusal(
                f"llama.cpp cannot load {path}.",
                f"The file may be cut off, or of a kind it does not know ({fault}).",
                "Export it again, or choose another file.",
            ) from fault
        weights = llama_cpp.llama_model_n_params(self._llama.model)
        self.detail = f"{weights:,} weights, llama.cpp {llama_cpp.__version__}"
        self.finish = "stop"
        self.tokens = 0

    def answer(self, say: Say) -> Iterator[str]:
        self.finish, self.tokens = "stop", 0
        stream: Any = self._llama.create_chat_completion(
            messages=say.messages,  # type: ignore[arg-type]
            max_tokens=say.max_tokens,
            temperature=say.temperature,
            top_p=say.top_p,
            seed=say.seed,
            stream=True,
        )
        for chunk in stream:
            choice = chunk["choices"][0]
            self.finish = choice["finish_reason"] or self.finish
            piece = choice["delta"].get("content")
            if piece:
                self.tokens += 1
                yield piece


def _check_gguf(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(len(GGUF_MAGIC))
    except OSError as fault:
        raise Refusal(
            f"{path} cannot be opened: {fault.strerror}.",
            "It was moved or deleted, or belongs to somebody else.",
            "Export the run again, or choose another file.",
        ) from fault
    if magic != GGUF_MAGIC:
        raise Refusal(
            f"{path} is not a GGUF file.",
            "Its first four bytes are not 'GGUF'; the download may be incomplete.",
            "Choose another file.",
        )


class TransformersChatModel:
    """A run's weights in Transformers, adapters merged: the model exactly as it was trained."""

    def __init__(self, located: Located) -> None:
        from workers.engines.transformers import load_for_speaking

        self._loaded = load_for_speaking(located)
        self.detail = f"{self._loaded.model.num_parameters():,} weights, {self._loaded.device}"
        self.finish = "stop"
        self.tokens = 0

    def answer(self, say: Say) -> Iterator[str]:
        """Token by token with a key-value cache, so that an answer can be broken off anywhere."""
        import torch

        from workers.data.tokenize.chat_template import render
        from workers.evaluate import turn_ends

        model, tokenizer = self._loaded.model, self._loaded.tokenizer
        self.finish, self.tokens = "length", 0
        text = render(say.messages, tokenizer, generation=True)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        pick = _sampler(say, torch.Generator(device="cpu"))
        ends = turn_ends(model, tokenizer)
        cache, shown, written = None, "", []
        given = ids.to(model.device)
        for _ in range(say.max_tokens):
            with torch.no_grad():
                output = model(input_ids=given, past_key_values=cache, use_cache=True)
            token = pick(output.logits[0, -1].float().cpu())
            if token in ends:
                self.finish = "stop"
                return
            cache, given = output.past_key_values, torch.tensor([[token]], device=model.device)
            written.append(token)
            self.tokens += 1
            so_far = str(tokenizer.decode(written, skip_special_tokens=True))
            if so_far.endswith("\N{REPLACEMENT CHARACTER}"):
                continue  # half a character: its other bytes are still to come
            yield so_far[len(shown) :]
            shown = so_far


def _sampler(say: Say, generator: Any) -> Callable[[Any], int]:
    """Picks the next token from logits (vocabulary,): greedy at temperature 0, else nucleus
    sampling (Holtzman et al. 2020) with `top_p`."""
    import torch

    generator.manual_seed(say.seed) if say.seed is not None else generator.seed()

    def pick(logits: torch.Tensor) -> int:
        if say.temperature == 0:
            return int(logits.argmax())
        ordered, order = torch.softmax(logits / say.temperature, dim=-1).sort(descending=True)
        ordered[ordered.cumsum(-1) - ordered >= say.top_p] = 0.0
        return int(order[torch.multinomial(ordered, 1, generator=generator)])

    return pick
