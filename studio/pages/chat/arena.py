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
    QHBoxLayout,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from studio.jobs import Jobs
from studio.pages.chat.session import ChatSession
from studio.pages.chat.side import Side
from studio.theme import SPACE, Theme
from studio.votes import Made, Tally, Verdict, Vote, Votes, labelled, pairs, tally, write_rows
from studio.widgets.bubbles import Bubbles
from studio.widgets.combo import ComboBox
from studio.widgets.composer import Composer
from studio.widgets.notice import Banner
from studio.widgets.text import button, label
from studio.widgets.waiting import WaitNotice
from workers.protocol.events import Answered
from workers.protocol.refusal import Refusal
from workers.protocol.requests import Say
from workers.protocol.stages import STAGES

LETTERS = 12
"""Of a model's name, so many are to be seen at least."""
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
        self.sessions = [ChatSession(jobs), ChatSession(jobs)]
        self._order = [0, 1]
        """Which session stands left, which right."""
        self._said: dict[int, str] = {}
        self._asked: dict[str, Any] = {}
        self._messages: list[dict[str, str]] = []
        self._due = False
        """Both have answered and the user is to vote."""
        self.models = [
            ComboBox("arena-first", "First model", LETTERS),
            ComboBox("arena-second", "Second model", LETTERS),
        ]
        self.banner = Banner(theme)
        self.wait = WaitNotice(theme, "arena-on-cpu")
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
        self.kind = ComboBox("arena-kind", "Kind of dataset")
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
        column.addWidget(self.wait)
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
        for at, (box, session) in enumerate(zip(self.models, self.sessions, strict=True)):
            box.activated.connect(lambda _=0, at=at: self._on_model_chosen(at))
            session.progressed.connect(self._on_progressed)
            session.waits.connect(self.wait.ask)
            self.wait.cpu_chosen.connect(session.use_cpu)
            session.streamed.connect(lambda text, at=at: self._side_of(at).stream(text))
            session.answered.connect(lambda answer, at=at: self._on_answered(at, answer))
            session.ended.connect(self._on_ended)
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
        session, model = self.sessions[at], self.models[at].currentData()
        if model == session.model:
            return
        self.begin_anew()
        self.banner.hide()
        session.leave()
        self._show_score()
        if model and model == self.sessions[1 - at].model:
            self.banner.tell("Both are the same model.", "", "Choose two that differ.")
            self._show_state()
            return
        try:
            if model:
                session.open(model)
        except Refusal as refusal:
            self.banner.refuse(refusal)
        self._show_state("Starting" if model else "")

    def leave(self) -> None:
        for session in self.sessions:
            session.leave()

    @property
    def _ready(self) -> bool:
        return all(session.ready for session in self.sessions)

    @property
    def _answering(self) -> bool:
        return any(session.answering for session in self.sessions)

    def _side_of(self, session: int) -> Side:
        return self.sides[self._order.index(session)]

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
            for session in self.sessions:
                session.say(Say(messages=[*head, *self._messages], **sampled))
        except Refusal as refusal:
            self.banner.refuse(refusal)
        self.composer.setFocus()
        self._show_state()

    def _on_answered(self, at: int, answer: Answered) -> None:
        self._said[at] = answer.text
        self._side_of(at).settle(answer.text)
        self._due = len(self._said) == len(self.sessions)
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
            models=[self.sessions[at].model for at in self._order],
            verdict=verdict,
            settings=self._asked,
        )
        try:
            kept = self._votes.add(vote)
        except Refusal as refusal:
            self.banner.refuse(refusal)
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
        for session in self.sessions:
            session.drop()
        self._due = False
        self._messages.clear()
        self._said.clear()
        self.bubbles.clear()
        self._answers.hide()
        self._show_state()

    def paint(self) -> None:
        for side in self.sides:
            side.paint()

    def _on_progressed(self, words: str) -> None:
        self._show_state("" if self._ready else words)
        if self._ready and any(box.hasFocus() for box in self.models):
            self.composer.setFocus()

    def _on_ended(self, cause: str, remedy: str) -> None:
        if cause:
            self.banner.tell(cause, "", remedy)
        for box, session in zip(self.models, self.sessions, strict=True):
            if not session.model:
                box.setCurrentIndex(0)
        self.begin_anew()

    def _show_state(self, text: str = "") -> None:
        waiting = "Vote, and the conversation goes on." if self._due else ""
        self.state.setText(waiting or text)
        self._vote_row.setVisible(self._due)
        self.send.setEnabled(self._ready and not self._due and not self._answering)

    # The votes

    def _name(self, session: int) -> str:
        """What a model is called, in full where the other is called the same."""
        names = [box.currentText().partition("   ") for box in self.models]
        called, _, more = names[session]
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
            self.banner.refuse(refusal)
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
    counted = ", ".join(f"{number} {words}" for words, number in counts.items())
    return f"Left out: {counted}." if counted else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


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
