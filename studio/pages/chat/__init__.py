"""The Chat screen: talk to an exported file or to a run as it was trained, token by token, rate
what it says, or let two models answer and vote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QPlainTextEdit,
    QVBoxLayout,
    QWidget,
)

from studio.jobs import Jobs
from studio.pages.chat.arena import Arena
from studio.pages.chat.session import ChatSession
from studio.theme import SPACE, Theme
from studio.votes import Vote, Votes
from studio.widgets.bubbles import Bubbles
from studio.widgets.card import Card
from studio.widgets.composer import Composer
from studio.widgets.form import OptionForm
from studio.widgets.notice import Banner, EmptyState
from studio.widgets.page import Page
from studio.widgets.text import button, label
from studio.widgets.waiting import WaitNotice
from workers.protocol.events import Answered
from workers.protocol.exports import differs, read_parity
from workers.protocol.options import Option
from workers.protocol.refusal import Refusal
from workers.protocol.requests import Say
from workers.protocol.stages import talks

SAMPLING = [
    Option("temperature", float, 0.7, "Temperature",
           "0 always takes the likeliest word; higher is bolder.", minimum=0.0, maximum=2.0),
    Option("top_p", float, 0.95, "Top-p", "Share of likely words to draw from.", minimum=0.01,
           maximum=1.0),
    Option("max_tokens", int, 512, "Max completion tokens", "Longer answers are truncated.",
           unit="tokens", minimum=1, maximum=8192),
    Option("thinking", str, "auto", "Thinking", "Whether it thinks before it answers; auto is as "
           "it was trained.", choices=("auto", "on", "off")),
]  # fmt: skip


class ChatPage(Page):
    new_asked = Signal()
    data_made = Signal(str, str)
    """A dataset was made of votes, and a stage is to learn from it: path and stage."""

    def __init__(self, jobs: Jobs, theme: Theme) -> None:
        super().__init__("Chat", "Talk to what you trained.", scrolls=False)
        self._jobs = jobs
        self._votes = Votes(jobs.home.root)
        self.session = ChatSession(jobs)
        self._messages: list[dict[str, str]] = []
        self.models = QComboBox()
        self.models.setObjectName("chat-model")
        self.models.setAccessibleName("Model to talk to")
        self.models.setMinimumWidth(320)
        self.models.activated.connect(self._on_model_chosen)
        self.banner = Banner(theme)
        self.wait = WaitNotice(theme, "chat-on-cpu")
        self.bubbles = Bubbles("Choose a model above, then say something.", theme)
        self.bubbles.rated.connect(self._on_rated)
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
        self.arena = Arena(jobs, theme, self._votes, self._sampled)
        self.arena.data_made.connect(self.data_made)
        self.arena.hide()
        self._connect()
        self._empty = EmptyState(
            "chat-circle", "Nobody to talk to yet",
            "Train a model, and it can be talked to here; or open any GGUF file.",
            "Train a model", theme,
        )  # fmt: skip
        self._empty.action.clicked.connect(self.new_asked)
        self.body.addWidget(self._content, 1)
        self.body.addWidget(self.arena, 1)
        self.body.addWidget(self._empty, 1)
        self._show_state()

    def _connect(self) -> None:
        self.session.progressed.connect(self._on_progressed)
        self.session.waits.connect(self.wait.ask)
        self.wait.cpu_chosen.connect(self.session.use_cpu)
        self.session.streamed.connect(self.bubbles.stream)
        self.session.answered.connect(self._on_answered)
        self.session.ended.connect(self._on_ended)

    def _make_buttons(self, theme: Theme) -> None:
        self.send = button("Send", theme, "paper-plane-right", kind="primary", name="send")
        self.send.clicked.connect(self._on_send)
        self.cancel = button("Stop answer", theme, "stop", name="cancel-answer")
        self.cancel.clicked.connect(self.session.cancel)
        self.fresh = button("New chat", theme, "plus", name="new-chat")
        self.fresh.clicked.connect(self._on_fresh_asked)
        self.open_file = button("Open GGUF…", theme, "folder-open", name="open-gguf")
        self.open_file.clicked.connect(self._on_open_file)
        self.compare = button("Compare two", theme, "scales", name="compare")
        self.compare.setToolTip("Let two models answer, vote, and make a dataset of the votes")
        self.compare.clicked.connect(lambda: self._show_arena(not self._comparing))
        self._comparing = False
        self.action_row.addWidget(self.compare)
        self.action_row.addWidget(self.open_file)
        self.action_row.addWidget(self.fresh)

    def _make_content(self) -> QWidget:
        talk = QVBoxLayout()
        talk.setSpacing(SPACE)
        talk.addWidget(self.models)
        talk.addWidget(self.banner)
        talk.addWidget(self.wait)
        talk.addWidget(self.bubbles, 1)
        talk.addWidget(self.composer)
        row = QHBoxLayout()
        row.setSpacing(SPACE)
        row.addWidget(self.state, 1)
        row.addWidget(self.cancel)
        row.addWidget(self.send)
        talk.addLayout(row)
        side = Card("How it speaks")
        side.setFixedWidth(264)
        side.body.addWidget(label("System prompt", "label"))
        side.body.addWidget(self.system)
        for field in self.sampling.fields.values():
            side.body.addWidget(field)
        self.sampling.fields["thinking"].hide()  # until a model is there that has a switch
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
            checked = read_parity(self._jobs.folder(row.id) / "exports")
            for file in self._jobs.store.exports_of(row.id):
                path = Path(file.path)
                if file.kind.startswith("gguf") and path.exists():
                    apart = ", differs from it" if differs(checked.get(path.name)) else ""
                    self.models.addItem(f"{path.name}   of {row.name}{apart}", file.path)
            if row.has_weights and talks(row.stage):
                folder = str(self._jobs.folder(row.id))
                self.models.addItem(f"{row.name}, as trained   {row.id}", folder)
        if present and self.models.findData(present) < 0:
            self.models.addItem(Path(present).name, present)
        self.models.setCurrentIndex(max(0, self.models.findData(present)))
        offered = [(self.models.itemText(at), self.models.itemData(at))
                   for at in range(1, self.models.count())]  # fmt: skip
        self.arena.offer(offered)
        self._show_what_there_is()

    def _show_what_there_is(self) -> None:
        anything = self.models.count() > 1
        self._content.setVisible(anything and not self._comparing)
        self.arena.setVisible(anything and self._comparing)
        self._empty.setVisible(not anything)
        self.compare.setVisible(anything)

    def _show_arena(self, comparing: bool) -> None:
        self._comparing = comparing
        self.compare.setText("Talk to one" if comparing else "Compare two")
        self.open_file.setVisible(not comparing)
        self._show_what_there_is()

    # The model

    def open(self, model: str) -> None:
        """Talks to a .gguf file, or to a run by its folder."""
        self._offer_models()
        if self.models.findData(model) < 0:
            self.models.addItem(Path(model).name, model)
        self.models.setCurrentIndex(self.models.findData(model))
        self._show_arena(False)
        self._on_model_chosen()
        self.composer.setFocus()

    def receive(self, request: object) -> None:
        """A .gguf file, or a run by its folder."""
        if isinstance(request, str):
            self.open(request)

    def _on_model_chosen(self) -> None:
        self.session.leave()
        self._on_fresh()
        self.banner.hide()
        model = self.models.currentData()
        if not model:
            return
        try:
            self.session.open(model)
        except Refusal as refusal:
            self.banner.refuse(refusal)
        self._show_state("Starting")

    def _on_open_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open GGUF", "", "Models (*.gguf)")
        if path:
            self.open(path)

    def leave(self) -> None:
        """Ends the workers; the votes lie on disk already."""
        self.session.leave()
        self.arena.leave()

    # The conversation

    def _sampled(self) -> dict[str, Any] | None:
        """How answers are sampled, system prompt included; None while a field is at fault."""
        if self.sampling.faults:
            return None
        return {"system": self.system.toPlainText().strip(), **self.sampling.values}

    def _on_send(self) -> None:
        if not self.session.ready or self.session.answering:
            return
        sampled = self._sampled()
        if sampled is None:
            self.state.setText("Mend the marked field first.")
            return
        text = self.composer.take()
        if not text:
            return
        self._messages.append({"role": "user", "content": text})
        self.bubbles.add("user", text)
        self.bubbles.begin_answer()
        system = sampled.pop("system")
        head = [{"role": "system", "content": system}] if system else []
        try:
            self.session.say(Say(messages=[*head, *self._messages], **sampled))
        except Refusal as refusal:
            self.banner.refuse(refusal)
        self.composer.setFocus()
        self._show_state()

    def _on_fresh(self) -> None:
        self.session.drop()
        self._messages.clear()
        self.bubbles.clear()
        self._show_state()

    def _on_fresh_asked(self) -> None:
        if self._comparing:
            self.arena.begin_anew()
        else:
            self._on_fresh()

    def _on_progressed(self, words: str) -> None:
        self.sampling.fields["thinking"].setVisible(bool(self.session.thinking))
        self._show_state(words)
        if self.session.ready and self.models.hasFocus():
            self.composer.setFocus()

    def _on_answered(self, answer: Answered) -> None:
        self._messages.append({"role": "assistant", "content": answer.text})
        self.bubbles.end_answer(answer.text, _figures(answer), rateable=True)
        self._show_state()

    def _on_rated(self, turn: int, good: bool) -> None:
        """Keeps an answer's label; the turns of the bubbles are those of the messages."""
        sampled = self._sampled() or {}
        system = sampled.get("system", "")
        head = [{"role": "system", "content": system}] if system else []
        vote = Vote(
            prompt=[*head, *self._messages[:turn]],
            answers=[self._messages[turn]["content"]],
            models=[self.models.currentData() or ""],
            verdict="up" if good else "down",
            settings=sampled,
        )
        try:
            self._votes.add(vote)
        except Refusal as refusal:
            self.banner.refuse(refusal)

    def _on_ended(self, cause: str, remedy: str) -> None:
        if cause:
            self.banner.tell(cause, "", remedy)
        self._show_state()

    def refresh(self) -> None:
        self.bubbles.paint()
        self.arena.paint()

    def _show_state(self, text: str = "") -> None:
        self.state.setText(text)
        self.send.setEnabled(self.session.ready and not self.session.answering)
        self.cancel.setVisible(self.session.answering)


def _figures(answered: Answered) -> str:
    ends = {"length": "  ·  truncated at max completion tokens", "asked": "  ·  stopped"}
    return (
        f"{answered.tokens} tokens  ·  {answered.tokens_per_second:.0f} tokens/s  ·  first after "
        f"{answered.first_token_seconds:.2f} s{ends.get(answered.finish, '')}"
    )
