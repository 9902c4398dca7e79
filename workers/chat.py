"""Talks: answers each Say with Tokens, from a GGUF through llama.cpp or a run through Transformers.

Ends on Stop, or when the studio that owns it is gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from workers.data.tokenize.template_head import mode_of, values_for
from workers.data.tokenize.template_traits import rendered
from workers.data.tokenize.thought import head_of
from workers.device import on_cpu_alone
from workers.fetch import Located, locate_run
from workers.host import Host, serve
from workers.protocol import wire
from workers.protocol.events import Answered, Finished, Phase, Ready, Token
from workers.protocol.jobs import Chat
from workers.protocol.refusal import Refusal
from workers.protocol.requests import Say

CONTEXT_TOKENS = 4096
GGUF_MAGIC = b"GGUF"
QUESTION = [{"role": "user", "content": "?"}]
"""Shows whether a template opens a thought in every prompt, as DeepSeek-R1's does."""


class Ended(NamedTuple):
    """How an answer ended."""

    finish: str
    """`stop` by itself, `length` at the max completion tokens, `asked` when it was broken off."""
    tokens: int
    """Without the one that ends it."""


class ChatModel(Protocol):
    """A loaded model that answers."""

    detail: str
    thinking: str
    """Whether it thinks where nothing is asked for, on or off; empty where it has no switch."""

    def answer(
        self, say: Say, show: Callable[[str], None], interrupted: Callable[[], bool]
    ) -> Ended:
        """Answers the last turn.

        Args:
            show: called with each piece of the answer as it comes.
            interrupted: asked after each token whether to break off.
        """
        ...


def run(host: Host) -> None:
    """Runs a chat job from its folder's job.json to its ending event."""
    task = host.job.task
    assert isinstance(task, Chat)
    host.emit(Phase(name="Loading the model"))
    chat_model = open_chat_model(Path(task.model), Path(host.job.home), host)
    host.emit(Ready(model=task.model, detail=chat_model.detail, thinking=chat_model.thinking))
    serve(host, {Say: lambda say: _answer(host, chat_model, say)})
    host.emit(Finished())


def open_chat_model(model: Path, home: Path, host: Host) -> ChatModel:
    """The right model for a .gguf file, a run's folder or a model folder."""
    if model.suffix == ".gguf":
        return GgufChatModel(model)
    from workers.engines.merged import spoken_base

    def say(text: str) -> None:
        host.emit(Phase(name=text))

    if (model / wire.JOB).is_file():
        located = locate_run(model, home, say)
    elif (model / "config.json").is_file():
        located = Located(str(model), model)
    else:
        raise Refusal(
            f"There is no model at {model}.",
            "It is neither a .gguf file, nor a run, nor a folder with config.json.",
            "Export a run first, or choose another file.",
        )
    return TransformersChatModel(spoken_base(located, home, say))


def _answer(host: Host, chat_model: ChatModel, say: Say) -> None:
    began = time.perf_counter()
    pieces: list[str] = []
    shown_at: list[float] = []

    def show(piece: str) -> None:
        shown_at.append(time.perf_counter())
        pieces.append(piece)
        host.emit(Token(text=piece))

    finish, tokens = chat_model.answer(say, show, host.requests.interrupted)
    ended = time.perf_counter()
    first = shown_at[0] if shown_at else ended
    # Speed is that of writing: the time to the first token, spent on reading, stands by itself.
    writing = max(ended - first, 1e-9)
    host.emit(
        Answered(
            text="".join(pieces),
            tokens=tokens,
            tokens_per_second=round(max(tokens - 1, 0) / writing, 2),
            first_token_seconds=round(first - began, 3),
            finish=finish,
        )
    )


class GgufChatModel:
    """A GGUF file in llama.cpp, with the chat template that the file carries."""

    def __init__(self, path: Path) -> None:
        _check_gguf(path)
        import llama_cpp

        layers = 0 if on_cpu_alone() else -1
        try:
            self._llama = llama_cpp.Llama(
                str(path), n_ctx=CONTEXT_TOKENS, n_gpu_layers=layers, verbose=False
            )
        except (ValueError, RuntimeError) as fault:
            raise Refusal(
                f"llama.cpp cannot load {path}.",
                f"The file may be cut off, or of a kind it does not know ({fault}).",
                "Export it again, or choose another file.",
            ) from fault
        weights = llama_cpp.llama_model_n_params(self._llama.model)
        self.detail = f"{weights:,} weights, llama.cpp {llama_cpp.__version__}"
        self._template = self._llama.metadata.get("tokenizer.chat_template", "")
        self.thinking = mode_of(self._template)
        asked = rendered(self._template, QUESTION, add_generation_prompt=True)
        self._opens = head_of(asked).state == "open"

    def answer(
        self, say: Say, show: Callable[[str], None], interrupted: Callable[[], bool]
    ) -> Ended:
        finish, tokens = "stop", 0
        if self.thinking or self._opens:
            self._ask_with(say, show)
        stream: Any = self._llama.create_chat_completion(
            messages=say.messages,  # type: ignore[arg-type]
            tools=say.tools or None,  # type: ignore[arg-type]
            max_tokens=say.max_tokens,
            temperature=say.temperature,
            top_p=say.top_p,
            seed=say.seed,
            stream=True,
        )
        for chunk in stream:
            choice = chunk["choices"][0]
            finish = choice["finish_reason"] or finish
            if piece := choice["delta"].get("content"):
                tokens += 1
                show(piece)
                if interrupted():
                    return Ended("asked", tokens)
        return Ended(finish, tokens)

    def _ask_with(self, say: Say, show: Callable[[str], None]) -> None:
        """Renders the next prompt with thinking or without, and shows a thought that it opens."""
        from llama_cpp.llama_chat_format import (
            Jinja2ChatFormatter,
            chat_formatter_to_chat_completion_handler,
        )

        llama: Any = self._llama
        end, begin = (
            llama.detokenize([token], special=True).decode() if token >= 0 else ""
            for token in (llama.token_eos(), llama.token_bos())
        )
        form = Jinja2ChatFormatter(self._template, end, begin, stop_token_ids=[llama.token_eos()])

        def formatted(**given: Any) -> Any:
            made = form(**given, **values_for(self._template, say.thinking))
            head = head_of(made.prompt)
            if head.state == "open":
                show(made.prompt[len(head.text) :])
            return made

        self._llama.chat_handler = chat_formatter_to_chat_completion_handler(formatted)


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
    """A run's weights in Transformers: the model exactly as it was trained."""

    def __init__(self, located: Located) -> None:
        from transformers import GenerationConfig

        from workers.engines.transformers import load_for_speaking
        from workers.evaluate import turn_ends

        loaded = load_for_speaking(located)
        self._model: Any = loaded.model
        self._tokenizer: Any = loaded.tokenizer
        self._ends = turn_ends(loaded.model, loaded.tokenizer)
        # What the model's makers sample with must not take part: `generate` fills in from there.
        self._model.generation_config = GenerationConfig(
            eos_token_id=sorted(self._ends), pad_token_id=self._tokenizer.pad_token_id, top_k=0
        )
        self.detail = f"{loaded.model.num_parameters():,} weights, {loaded.device}"
        self.thinking = mode_of(str(self._tokenizer.get_chat_template()))

    def answer(
        self, say: Say, show: Callable[[str], None], interrupted: Callable[[], bool]
    ) -> Ended:
        """Greedy at temperature 0, else nucleus sampling (Holtzman et al. 2020) with `top_p`."""
        import torch
        from transformers.generation.stopping_criteria import StoppingCriteriaList

        from workers.data.tokenize.chat_template import render
        from workers.data.tokenize.completion import answer_turn
        from workers.engines.streaming import Stream

        turns = [
            answer_turn(turn["content"], self._tokenizer) if turn["role"] == "assistant" else turn
            for turn in say.messages
        ]
        text = render(
            turns, self._tokenizer, generation=True, tools=say.tools, thinking=say.thinking
        )
        ids = self._tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        ids = ids.to(self._model.device)  # (1, prompt)
        torch.seed() if say.seed is None else torch.manual_seed(say.seed)
        sampling = (
            {"do_sample": True, "temperature": say.temperature, "top_p": say.top_p}
            if say.temperature > 0
            else {"do_sample": False}
        )
        stream = Stream(self._tokenizer, text, self._ends, show, interrupted)
        self._model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=say.max_tokens,
            streamer=stream, stopping_criteria=StoppingCriteriaList([stream]), **sampling,
        )  # fmt: skip
        return Ended(stream.finish, len(stream.written))
