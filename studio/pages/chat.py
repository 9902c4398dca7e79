"""The Chat screen: talk to an exported file or to a run as it was trained, token by token."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psutil
from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QPlainTextEdit,
    QVBoxLayout,
    QWidget,
)

from studio.jobs import Heard, Jobs
from studio.theme import SPACE, Theme
from studio.widgets.bubbles import Bubbles
from studio.widgets.card import Card
from studio.widgets.form import OptionForm
from studio.widgets.notice import Banner, EmptyState
from studio.widgets.page import Page
from studio.widgets.text import button, label
from workers.protocol.events import Answered, Event, Phase, Ready, Token
from workers.protocol.jobs import Chat
from workers.protocol.options import Option
from workers.protocol.refusal import Refusal
from workers.protocol.requests import Hush, Say

STOP_GRACE_S = 5.0
SAMPLING = [
    Option("temperature", float, 0.7, "Temperature",
           "0 always takes the likeliest word; higher is bolder.", minimum=0.0, maximum=2.0),
    Option("top_p", float, 0.95, "Top-p", "Share of likely words to draw from.", minimum=0.01,
           maximum=1.0),
    Option("max_tokens", int, 512, "Longest answer", "The answer is cut here.", unit="tokens",
           minimum=1, maximum=8192),
]  # fmt: skip


class Composer(QPlainTextEdit):
    """Where the user writes: Enter sends, Shift+Enter breaks the line."""

    sent = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("composer")
        self.setAccessibleName("Your message")
        self.setPlaceholderText("Say something.  Enter sends, Shift+Enter begins a new line.")
        self.setFixedHeight(72)
        self.setTabChangesFocus(True)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        enter = event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if enter and not event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            self.sent.emit()
        else:
            super().keyPressEvent(event)


class ChatPage(Page):
    new_asked = Signal()

    def __init__(self, jobs: Jobs, theme: Theme) -> None:
        super().__init__("Chat", "Talk to what you trained.", scrolls=False)
        self._jobs = jobs
        self._job = ""
        self._ready = self._answering = False
        self._messages: list[dict[str, str]] = []
        self.models = QComboBox()
        self.models.setObjectName("chat-model")
        self.models.setAccessibleName("Model to talk to")
        self.models.setMinimumWidth(320)
        self.models.activated.connect(self._on_model_chosen)
        self.banner = Banner(theme)
        self.bubbles = Bubbles("Choose a model above, then say something.")
        self.composer = Composer()
        self.composer.sent.connect(self._on_send)
        self.state = label("", "muted")
        self._make_buttons(theme)
        self.system = QPlainTextEdit()
        self.system.setObjectName("system-prompt")
        self.system.setAccessibleName("System prompt")
        self.system.setPlaceholderText("Optional: who the model is to be")
        self.system.setMaximumHeight(96)
        self.sampling = OptionForm(SAMPLING, theme)
        self._content = self._make_content()
        self._empty = EmptyState(
            "chat-circle", "Nobody to talk to yet",
            "Train a model, and it can be talked to here; or open any GGUF file.",
            "Train a model", theme,
        )  # fmt: skip
        self._empty.action.clicked.connect(self.new_asked)
        self.body.addWidget(self._content, 1)
        self.body.addWidget(self._empty, 1)
        self._show_state()

    def _make_buttons(self, theme: Theme) -> None:
        self.send = button("Send", theme, "paper-plane-right", kind="primary", name="send")
        self.send.clicked.connect(self._on_send)
        self.hush = button("Stop answer", theme, "stop", name="hush")
        self.hush.clicked.connect(lambda: self._jobs.tell(self._job, Hush()))
        self.fresh = button("New chat", theme, "plus", name="new-chat")
        self.fresh.clicked.connect(self._on_fresh)
        self.open_file = button("Open GGUF…", theme, "folder-open", name="open-gguf")
        self.open_file.clicked.connect(self._on_open_file)
        self.action_row.addWidget(self.open_file)
        self.action_row.addWidget(self.fresh)

    def _make_content(self) -> QWidget:
        talk = QVBoxLayout()
        talk.setSpacing(SPACE)
        talk.addWidget(self.models)
        talk.addWidget(self.banner)
        talk.addWidget(self.bubbles, 1)
        talk.addWidget(self.composer)
        row = QHBoxLayout()
        row.setSpacing(SPACE)
        row.addWidget(self.state, 1)
        row.addWidget(self.hush)
        row.addWidget(self.send)
        talk.addLayout(row)
        side = Card("How it speaks")
        side.setFixedWidth(264)
        side.body.addWidget(label("System prompt", "label"))
        side.body.addWidget(self.system)
        for field in self.sampling.fields.values():
            side.body.addWidget(field)
        side.body.addStretch(1)
        content = QWidget()
        columns = QHBoxLayout(content)
        columns.setContentsMargins(0, 0, 0, 0)
        columns.setSpacing(3 * SPACE)
        columns.addLayout(talk, 1)
        columns.addWidget(side, 0, Qt.AlignmentFlag.AlignTop)
        return content

    def showEvent(self, event: Any) -> None:
        self._offer_models()
        super().showEvent(event)

    def _offer_models(self) -> None:
        present = self.models.currentData()
        self.models.clear()
        self.models.addItem("Choose a model…", "")
        for row in self._jobs.store.jobs("train"):
            for file in self._jobs.store.exports_of(row.id):
                if file.kind.startswith("gguf") and Path(file.path).exists():
                    self.models.addItem(f"{Path(file.path).name}   of {row.name}", file.path)
            if row.resting:
                folder = str(self._jobs.folder(row.id))
                self.models.addItem(f"{row.name}, as trained   {row.id}", folder)
        if present and self.models.findData(present) < 0:
            self.models.addItem(Path(present).name, present)
        self.models.setCurrentIndex(max(0, self.models.findData(present)))
        anything = self.models.count() > 1
        self._content.setVisible(anything)
        self._empty.setVisible(not anything)

    # The model

    def open(self, model: str) -> None:
        """Talks to a .gguf file, or to a run by its folder."""
        self._offer_models()
        if self.models.findData(model) < 0:
            self.models.addItem(Path(model).name, model)
        self.models.setCurrentIndex(self.models.findData(model))
        self._content.show()
        self._empty.hide()
        self._on_model_chosen()

    def open_run(self, run: str) -> None:
        self.open(str(self._jobs.folder(run)))

    def _on_model_chosen(self) -> None:
        self.leave()
        self._on_fresh()
        self.banner.hide()
        model = self.models.currentData()
        if not model:
            return
        me = psutil.Process(os.getpid())
        task = Chat(model=model, owner_pid=me.pid, owner_started=me.create_time())
        try:
            self._job = self._jobs.start(task, "chat")
        except Refusal as refusal:
            self.banner.tell(refusal.what, refusal.cause, refusal.remedy)
        self._show_state("Starting")

    def _on_open_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open GGUF", "", "Models (*.gguf)")
        if path:
            self.open(path)

    def leave(self) -> None:
        """Ends the chat's worker; it would also end by itself when this process is gone."""
        if self._job:
            self._jobs.stop(self._job, STOP_GRACE_S)
        self._job = ""
        self._ready = self._answering = False

    # The conversation

    def _on_send(self) -> None:
        text = self.composer.toPlainText().strip()
        if not text or not self._ready or self._answering:
            return
        if self.sampling.faults:
            self.state.setText("Mend the marked field first.")
            return
        self.composer.clear()
        self._messages.append({"role": "user", "content": text})
        self.bubbles.add("user", text)
        self.bubbles.begin_answer()
        system = self.system.toPlainText().strip()
        head = [{"role": "system", "content": system}] if system else []
        self._jobs.tell(self._job, Say(messages=[*head, *self._messages], **self.sampling.values))
        self._answering = True
        self._show_state()

    def _on_fresh(self) -> None:
        if self._answering:
            self._jobs.tell(self._job, Hush())
            self._answering = False
        self._messages.clear()
        self.bubbles.clear()
        self._show_state()

    def hear(self, news: list[Heard]) -> None:
        for heard in news:
            if heard.job != self._job:
                continue
            for line in heard.lines:
                self._take(line.event)
            if heard.status != "running":
                self._end()

    def _take(self, event: Event) -> None:
        match event:
            case Phase(name=name):
                self._show_state(name)
            case Ready(detail=detail):
                self._ready = True
                self._show_state(detail)
                self.composer.setFocus()
            case Token(text=text):
                self.bubbles.stream(text)
            case Answered() if self._answering:
                self._messages.append({"role": "assistant", "content": event.text})
                self._answering = False
                self.bubbles.end_answer(event.text, _figures(event))
                self._show_state()

    def _end(self) -> None:
        row = self._jobs.store.job(self._job)
        if row is not None and row.status == "failed":
            self.banner.tell(row.cause, "", row.remedy)
        self._job = ""
        self._ready = self._answering = False
        self._show_state()

    def refresh(self) -> None:
        self.bubbles.paint()

    def _show_state(self, text: str = "") -> None:
        self.state.setText(text)
        self.send.setEnabled(self._ready and not self._answering)
        self.hush.setVisible(self._answering)
        self.composer.setEnabled(self._ready)


def _figures(answered: Answered) -> str:
    ends = {"length": "  ·  cut at the longest answer", "asked": "  ·  stopped"}
    return (
        f"{answered.tokens} tokens  ·  {answered.tokens_per_second:.0f} tokens/s  ·  first after "
        f"{answered.first_token_seconds:.2f} s{ends.get(answered.finish, '')}"
    )
