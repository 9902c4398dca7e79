"""One model to talk to: its worker, and what it is saying now."""

from __future__ import annotations

import contextlib

from PySide6.QtCore import QObject, Signal

from studio.jobs import Jobs
from studio.session import Ending, Session
from workers.protocol.events import Answered, Phase, Ready, Token
from workers.protocol.jobs import Chat
from workers.protocol.refusal import Refusal
from workers.protocol.requests import Cancel, Say, UseCpu

STOP_GRACE_S = 5.0


class ChatSession(QObject):
    """Answers one conversation at a time; what was broken off is not passed on any more."""

    progressed = Signal(str)
    """How far loading is, or what was loaded."""
    waits = Signal(str)
    """Another job has the card, and the user has not settled what is done then: who has it; empty
    once that is over."""
    streamed = Signal(str)
    answered = Signal(object)
    """An `Answered`."""
    ended = Signal(str, str)
    """The worker is gone: cause and remedy, both empty where nothing failed."""

    def __init__(self, jobs: Jobs) -> None:
        super().__init__()
        self._jobs = jobs
        self._session: Session | None = None
        self._dropped = 0
        """Answers that were broken off and of which the last word is still to come."""
        self.model = ""
        """A .gguf file or a run's folder; empty while nobody is there."""
        self.ready = self.answering = False
        self.thinking = ""
        """Whether the model thinks where nothing is asked for; empty where it has no switch."""

    def open(self, model: str) -> None:
        """Ends what was there and loads a model; raises `Refusal` where no worker can start."""
        self.leave()
        task = Chat(model=model, when_busy=self._jobs.settings.when_busy)
        self._session = Session.start(self._jobs, task, grace_s=STOP_GRACE_S)
        self._session.on(Phase, self._on_phase)
        self._session.on(Ready, self._on_ready).on(Token, self._on_token)
        self._session.on(Answered, self._on_answered).on(Ending, self._on_ended)
        self.model = model

    def leave(self) -> None:
        """Ends the worker; it would also end by itself when this process is gone."""
        if self._session is not None:
            self._session.close()
        self._forget()

    def _forget(self) -> None:
        self._session = None
        self.model = ""
        self.waits.emit("")
        self._dropped = 0
        self.ready = self.answering = False
        self.thinking = ""

    def use_cpu(self) -> None:
        """Does not wait for the card any longer."""
        if self._session is not None:
            with contextlib.suppress(Refusal):  # a full disk: it waits on
                self._session.send(UseCpu())

    def say(self, say: Say) -> None:
        """Asks for an answer; raises `Refusal` where that cannot be written."""
        assert self._session is not None
        self._session.send(say)
        self.answering = True

    def cancel(self) -> None:
        """Breaks the answer off; what there is of it still comes."""
        if self.answering and self._session is not None:
            with contextlib.suppress(Refusal):  # a full disk: the answer goes on to its end
                self._session.send(Cancel())

    def drop(self) -> None:
        """Breaks the answer off and passes no more of it on."""
        if self.answering:
            self.cancel()
            self._dropped += 1
            self.answering = False

    def _on_phase(self, phase: Phase) -> None:
        self.progressed.emit(phase.name)
        self.waits.emit(self._jobs.settings.question(phase.name))

    def _on_ready(self, ready: Ready) -> None:
        self.ready = True
        self.thinking = ready.thinking
        self.progressed.emit(ready.detail)

    def _on_token(self, token: Token) -> None:
        if not self._dropped:
            self.streamed.emit(token.text)

    def _on_answered(self, answer: Answered) -> None:
        if self._dropped:
            self._dropped -= 1
        elif self.answering:
            self.answering = False
            self.answered.emit(answer)

    def _on_ended(self, ending: Ending) -> None:
        self._forget()
        self.ended.emit(ending.cause, ending.remedy)
