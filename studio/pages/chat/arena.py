"""Two models answer the same words, without their names, and the user votes.

The winner's answer goes on as the conversation. Votes are on disk as soon as they are cast; a click
makes a dataset of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QPlainTextEdit,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from studio.jobs import Jobs, JobUpdate
from studio.pages.chat.session import ChatSession
from studio.theme import SPACE, Theme
from studio.votes import Made, Tally, Verdict, Vote, Votes, labelled, pairs, tally, write_rows
from studio.widgets.bubbles import Bubbles
from studio.widgets.composer import Composer
from studio.widgets.notice import Banner
from studio.widgets.text import button, label
from workers.protocol.events import Answered
from workers.protocol.refusal import Refusal
from workers.protocol.requests import Say
from workers.protocol.stages import STAGES

VERDICTS: list[tuple[Verdict, str, str]] = [
    ("left", "Left is better", "arrow-left"),
    ("right", "Right is better", "arrow-right"),
    ("tie", "Tie", "equals"),
    ("both_good", "Both good", "thumbs-up"),
    ("both_bad", "Both bad", "thumbs-down"),
]
KINDS = [("Pairs, for DPO and reward models", "pairs"), ("Thumbs, for KTO", "labels")]
"""As `StageSpec.supervision` calls them."""
REASONS = {
    "tie": "ties", "both_good": "both good", "both_bad": "both bad", "same": "twice the same words",
    "left": "with a winner", "right": "with a winner", "up": "labels", "down": "labels",
}  # fmt: skip


class Side(QWidget):
    """One answer, growing as it comes, and after the vote who gave it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._streamed = ""
        self.title = label(name, "label")
        self.title.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.text = QPlainTextEdit()
        self.text.setReadOnly(True)
        self.text.setObjectName(f"answer-{name.lower()}")
        self.text.setAccessibleName(f"{name} answer")
        self.text.setMinimumHeight(64)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE // 2)
        column.addWidget(self.title)
        column.addWidget(self.text, 1)

    def begin(self) -> None:
        self._streamed = ""
        self.title.setText(self._name)
        self.text.setPlainText("…")

    def stream(self, piece: str) -> None:
        self._streamed += piece

    def settle(self, text: str) -> None:
        self._streamed = ""
        self.text.setPlainText(text or "(no words)")

    def reveal(self, model: str, *, won: bool) -> None:
        self.title.setText(f"{self._name}: {model}{', preferred' if won else ''}")

    def paint(self) -> None:
        if self._streamed and self.text.toPlainText() != self._streamed:
            self.text.setPlainText(self._streamed)
            bar = self.text.verticalScrollBar()
            bar.setValue(bar.maximum())


class Arena(QWidget):
    """Two models, one composer, two answers side by side, a vote."""

    data_made = Signal(str, str)
    """A dataset was made and a stage is to learn from it: path and stage."""

    def __init__(
        self,
        jobs: Jobs,
        theme: Theme,
        votes: Votes,
        sampled: Callable[[], dict[str, Any] | None],
    ) -> None:
        super().__init__()
        self._jobs = jobs
        self._votes = votes
        self._sampled = sampled
        self._cast: list[Vote] | None = None
        self._partners = [ChatSession(jobs), ChatSession(jobs)]
        self._order = [0, 1]
        """Which partner stands left, which right."""
        self._said: dict[int, str] = {}
        self._asked: dict[str, Any] = {}
        self._messages: list[dict[str, str]] = []
        self._due = False
        """Both have answered and the user is to vote."""
        self.models = [_box("arena-first", "First model"), _box("arena-second", "Second model")]
        self.banner = Banner(theme)
        self.bubbles = Bubbles(
            "Choose two models, then ask. Which of them answers left is drawn anew every time.",
            theme,
        )
        self.sides = [Side("Left"), Side("Right")]
        self.composer = Composer("arena-composer", 56)
        self.state = label("", "muted", wrap=True)
        self.score = label("", "muted", wrap=True)
        self._make_buttons(theme)
        self._lay_out()
        self._connect()
        self._show_state()

    def _make_buttons(self, theme: Theme) -> None:
        self.send = button("Send", theme, "paper-plane-right", kind="primary", name="arena-send")
        self.votes: dict[Verdict, QPushButton] = {
            verdict: button(words, theme, icon, name=f"vote:{verdict}")
            for verdict, words, icon in VERDICTS
        }
        self.kind = QComboBox()
        self.kind.setObjectName("arena-kind")
        self.kind.setAccessibleName("Kind of dataset")
        for words, kind in KINDS:
            self.kind.addItem(words, kind)
        self.make = button("Make a dataset", theme, "table", name="make-dataset")
        self.onward = {
            spec.id: button(spec.votes_words, theme, "rocket-launch", name=f"train:{spec.id}")
            for spec in STAGES.values() if spec.votes_words
        }  # fmt: skip

    def _lay_out(self) -> None:
        self._vote_row = _row(*self.votes.values())
        self._onward = _row(*self.onward.values())
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE)
        column.addWidget(_row(*self.models, stretch=True))
        column.addWidget(self.banner)
        column.addWidget(self._onward)
        column.addWidget(self.bubbles, 2)
        self._answers = _row(*self.sides, stretch=True)
        column.addWidget(self._answers, 3)
        column.addWidget(self._vote_row)
        column.addWidget(self.composer)
        foot = QHBoxLayout()
        foot.setSpacing(SPACE)
        foot.addWidget(self.state, 1)
        foot.addWidget(self.send)
        column.addLayout(foot)
        made = QHBoxLayout()
        made.setSpacing(SPACE)
        made.addWidget(self.score, 1)
        made.addWidget(self.kind)
        made.addWidget(self.make)
        column.addLayout(made)
        self._answers.hide()
        self._onward.hide()

    def _connect(self) -> None:
        for at, (box, partner) in enumerate(zip(self.models, self._partners, strict=True)):
            box.activated.connect(lambda _=0, at=at: self._on_model_chosen(at))
            partner.told.connect(self._on_told)
            partner.streamed.connect(lambda text, at=at: self._side_of(at).stream(text))
            partner.answered.connect(lambda answer, at=at: self._on_answered(at, answer))
            partner.ended.connect(self._on_ended)
        for verdict, made in self.votes.items():
            made.clicked.connect(partial(self._on_voted, verdict))
        for stage, made in self.onward.items():
            made.clicked.connect(
                lambda _=False, stage=stage: self.data_made.emit(self._made, stage)
            )
        self.composer.sent.connect(self._on_send)
        self.send.clicked.connect(self._on_send)
        self.make.clicked.connect(self._on_make)

    _made = ""
    """The dataset that was made last."""

    # The models

    def offer(self, models: list[tuple[str, str]]) -> None:
        """Models to choose from: what they are called, and where they lie."""
        for box in self.models:
            present = box.currentData()
            box.clear()
            box.addItem("Choose a model…", "")
            for words, model in models:
                box.addItem(words, model)
            if present and box.findData(present) < 0:
                box.addItem(Path(present).name, present)
            box.setCurrentIndex(max(0, box.findData(present)))

    def showEvent(self, event: Any) -> None:
        self._cast = self._votes.read()
        self._show_score()
        super().showEvent(event)

    def _on_model_chosen(self, at: int) -> None:
        partner, model = self._partners[at], self.models[at].currentData()
        if model == partner.model:
            return
        self.begin_anew()
        self.banner.hide()
        partner.leave()
        self._show_score()
        if model and model == self._partners[1 - at].model:
            self.banner.tell("Both are the same model.", "", "Choose two that differ.")
            self._show_state()
            return
        try:
            if model:
                partner.open(model)
        except Refusal as refusal:
            self.banner.tell(refusal.what, refusal.cause, refusal.remedy)
        self._show_state("Starting" if model else "")

    def leave(self) -> None:
        for partner in self._partners:
            partner.leave()

    @property
    def _ready(self) -> bool:
        return all(partner.ready for partner in self._partners)

    @property
    def _answering(self) -> bool:
        return any(partner.answering for partner in self._partners)

    def _side_of(self, partner: int) -> Side:
        return self.sides[self._order.index(partner)]

    # The conversation

    def _on_send(self) -> None:
        if not self._ready or self._answering or self._due:
            return
        sampled = self._sampled()
        if sampled is None:
            self._show_state("Mend the marked field under Talk to one first.")
            return
        text = self.composer.take()
        if not text:
            return
        self.banner.hide()
        self._onward.hide()
        self._order = random.sample([0, 1], 2)
        self._said.clear()
        self._asked = dict(sampled)
        self._messages.append({"role": "user", "content": text})
        self.bubbles.add("user", text)
        for side in self.sides:
            side.begin()
        self._answers.show()
        system = sampled.pop("system")
        head = [{"role": "system", "content": system}] if system else []
        try:
            for partner in self._partners:
                partner.say(Say(messages=[*head, *self._messages], **sampled))
        except Refusal as refusal:
            self.banner.tell(refusal.what, refusal.cause, refusal.remedy)
        self.composer.setFocus()
        self._show_state()

    def _on_answered(self, at: int, answer: Answered) -> None:
        self._said[at] = answer.text
        self._side_of(at).settle(answer.text)
        self._due = len(self._said) == len(self._partners)
        self._show_state()

    def _on_voted(self, verdict: Verdict, _: bool = False) -> None:
        self.vote(verdict)

    def vote(self, verdict: Verdict) -> None:
        """Keeps the vote, tells the names, and goes on with the winner's answer."""
        if not self._due:
            return
        system = self._asked.get("system", "")
        head = [{"role": "system", "content": system}] if system else []
        vote = Vote(
            prompt=[*head, *self._messages],
            answers=[self._said[at] for at in self._order],
            models=[self._partners[at].model for at in self._order],
            verdict=verdict,
            settings=self._asked,
        )
        try:
            kept = self._votes.add(vote)
        except Refusal as refusal:
            self.banner.tell(refusal.what, refusal.cause, refusal.remedy)
            return
        self._cast = [*(self._cast or []), kept]
        self._due = False
        self._go_on(1 if verdict == "right" else 0, bool(vote.winner))
        self._show_score()
        self._show_state()
        self.composer.setFocus()

    def _go_on(self, winner: int, clear: bool) -> None:
        """Takes one side's answer as the conversation's; of a tie, the left one's."""
        text = self._said[self._order[winner]]
        self._messages.append({"role": "assistant", "content": text})
        self.bubbles.add("assistant", text or "(no words)")
        for place, side in enumerate(self.sides):
            side.reveal(self._name(self._order[place]), won=clear and place == winner)

    def begin_anew(self) -> None:
        """Forgets the conversation; the votes stay."""
        for partner in self._partners:
            partner.drop()
        self._due = False
        self._messages.clear()
        self._said.clear()
        self.bubbles.clear()
        self._answers.hide()
        self._show_state()

    def hear(self, news: list[JobUpdate]) -> None:
        for partner in self._partners:
            partner.hear(news)

    def paint(self) -> None:
        for side in self.sides:
            side.paint()

    def _on_told(self, words: str) -> None:
        self._show_state("" if self._ready else words)
        if self._ready and any(box.hasFocus() for box in self.models):
            self.composer.setFocus()

    def _on_ended(self, cause: str, remedy: str) -> None:
        if cause:
            self.banner.tell(cause, "", remedy)
        for box, partner in zip(self.models, self._partners, strict=True):
            if not partner.model:
                box.setCurrentIndex(0)
        self.begin_anew()

    def _show_state(self, text: str = "") -> None:
        waiting = "Vote, and the conversation goes on." if self._due else ""
        self.state.setText(waiting or text)
        self._vote_row.setVisible(self._due)
        self.send.setEnabled(self._ready and not self._due and not self._answering)

    # The votes

    def _name(self, partner: int) -> str:
        """What a model is called, in full where the other is called the same."""
        names = [box.currentText().partition("   ") for box in self.models]
        called, _, more = names[partner]
        alike = names[0][0] == names[1][0]
        return more if alike and more else called.removesuffix(", as trained")

    def _show_score(self) -> None:
        first, second = (box.currentData() or "" for box in self.models)
        counted = tally(self._cast or [], first, second)
        if first and second and counted.votes:
            self.score.setText(in_words(counted, self._name(0), self._name(1)))
        else:
            number = len(self._cast or [])
            self.score.setText(f"{number} vote{'' if number == 1 else 's'} in all." if number
                               else "No votes yet.")  # fmt: skip
        self.make.setEnabled(bool(self._cast))

    def _on_make(self) -> None:
        kind = self.kind.currentData()
        made = (pairs if kind == "pairs" else labelled)(self._cast or [])
        self._onward.hide()
        if not made.rows:
            need = "a winner" if kind == "pairs" else "a thumb, both good or both bad"
            self.banner.tell("No vote makes a row.", f"It takes votes with {need}.",
                             _left_out(made))  # fmt: skip
            return
        try:
            path = write_rows(self._jobs.home.root, made.rows,
                              "arena" if kind == "pairs" else "labels")  # fmt: skip
        except Refusal as refusal:
            self.banner.tell(refusal.what, refusal.cause, refusal.remedy)
            return
        self._made = str(path)
        self.banner.inform(f"{_count(len(made.rows), 'row')} written to {path}.", _left_out(made))
        for stage, onward in self.onward.items():
            onward.setVisible(STAGES[stage].supervision == kind)
        self._onward.show()


def in_words(counted: Tally, first: str, second: str) -> str:
    """A tally as a sentence, with the first model's share, a tie counting half."""
    low, high = counted.interval
    return (
        f"{_count(counted.votes, 'vote')}: {first} {counted.first}, {second} {counted.second}, "
        f"ties {counted.ties}. {first} wins {counted.rate:.0%} (95% interval {low:.0%} to "
        f"{high:.0%})."
    )


def _left_out(made: Made) -> str:
    counts: dict[str, int] = {}
    for reason, number in made.left_out.items():
        words = REASONS[reason]
        counts[words] = counts.get(words, 0) + number
    told = ", ".join(f"{number} {words}" for words, number in counts.items())
    return f"Left out: {told}." if told else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _box(name: str, words: str) -> QComboBox:
    box = QComboBox()
    box.setObjectName(name)
    box.setAccessibleName(words)
    box.setMinimumContentsLength(12)
    box.wheelEvent = lambda event: event.ignore()  # a passing wheel must not change it
    return box


def _row(*widgets: QWidget, stretch: bool = False) -> QWidget:
    """Widgets beside one another, sharing the width or standing at the left."""
    holder = QWidget()
    row = QHBoxLayout(holder)
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(SPACE)
    for widget in widgets:
        row.addWidget(widget, int(stretch))
    if not stretch:
        row.addStretch(1)
    return holder
