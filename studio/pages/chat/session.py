"""One model to talk to: its worker, and what it is saying now."""

from __future__ import annotations

import contextlib
import os

import psutil
from PySide6.QtCore import QObject, Signal

from studio.jobs import Jobs, JobUpdate
from workers.protocol.events import Answered, Event, Phase, Ready, Token
from workers.protocol.jobs import Chat
from workers.protocol.refusal import Refusal
from workers.protocol.requests import Cancel, Say

STOP_GRACE_S = 5.0


class ChatSession(QObject):
    """Answers one conversation at a time; what was broken off is not heard any more."""

    told = Signal(str)
    """How far loading is, or what was loaded."""
    streamed = Signal(str)
    answered = Signal(object)
    """An `Answered`."""
    ended = Signal(str, str)
    """The worker is gone: cause and remedy, both empty where nothing failed."""

    def __init__(self, jobs: Jobs) -> None:
        super().__init__()
        self._jobs = jobs
        self._job = ""
        self._dropped = 0
        self.model = ""
        """A .gguf file or a run's folder; empty while nobody is there."""
        self.ready = self.answering = False

    def open(self, model: str) -> None:
        """Ends what was there and loads a model; raises `Refusal` where no worker can start."""
        self.leave()
        me = psutil.Process(os.getpid())
        task = Chat(model=model, owner_pid=me.pid, owner_started=me.create_time())
        self._job = self._jobs.start(task, "chat")
        self.model = model

    def leave(self) -> None:
        """Ends the worker; it would also end by itself when this process is gone."""
        if self._job:
            self._jobs.stop(self._job, STOP_GRACE_S)
        self._forget()

    def _forget(self) -> None:
        self._job = self.model = ""
        self._dropped = 0
        self.ready = self.answering = False

    def say(self, say: Say) -> None:
        """Asks for an answer; raises `Refusal` where that cannot be written."""
        self._jobs.tell(self._job, say)
        self.answering = True

    def hush(self) -> None:
        """Breaks the answer off; what there is of it still comes."""
        if self.answering:
            with contextlib.suppress(Refusal):  # a full disk: the answer goes on to its end
                self._jobs.tell(self._job, Cancel())

    def drop(self) -> None:
        """Breaks the answer off and hears no more of it."""
        if self.answering:
            self.hush()
            self._dropped += 1
            self.answering = False

    def hear(self, news: list[JobUpdate]) -> None:
        for heard in news:
            if not self._job or heard.job != self._job:
                continue
            for line in heard.lines:
                self._take(line.event)
            if heard.status != "running":
                self._end()

    def _take(self, event: Event) -> None:
        match event:
            case Phase(name=name):
                self.told.emit(name)
            case Ready(detail=detail):
                self.ready = True
                self.told.emit(detail)
            case Token(text=text) if not self._dropped:
                self.streamed.emit(text)
            case Answered() if self._dropped:
                self._dropped -= 1
            case Answered() if self.answering:
                self.answering = False
                self.answered.emit(event)

    def _end(self) -> None:
        failure = self._jobs.failure(self._job)
        self._forget()
        self.ended.emit(*failure)
