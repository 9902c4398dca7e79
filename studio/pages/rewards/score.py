"""A trained reward model by itself: a prompt, some answers, and what it thinks of each, live."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QPlainTextEdit, QVBoxLayout, QWidget

from studio.jobs import Jobs
from studio.session import Ending, Session
from studio.theme import SPACE, Theme
from studio.widgets.card import Card
from studio.widgets.combo import ComboBox
from studio.widgets.notice import Banner, EmptyState
from studio.widgets.text import button, label
from studio.widgets.waiting import WaitNotice
from workers.protocol.events import AnswersScored, Phase, Ready
from workers.protocol.jobs import Score
from workers.protocol.refusal import Refusal
from workers.protocol.requests import ScoreAnswers, UseCpu
from workers.protocol.stages import talks

REST_S = 0.4
"""So long nothing was typed before answers are scored anew."""
MOST = 6
CLOSE = 0.1
"""Scores that lie nearer are as good as equal: the better is preferred in 52 % at most."""


class AnswerLine(QWidget):
    """One answer and its score."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.text = _editor(f"score-answer:{number}", f"Answer {number}", 72)
        self.score = label("", "figure")
        self.score.setMinimumWidth(88)
        self.score.setAlignment(Qt.AlignmentFlag.AlignRight)
        head = QHBoxLayout()
        head.addWidget(label(f"Answer {number}", "label"), 1)
        head.addWidget(self.score)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE // 2)
        column.addLayout(head)
        column.addWidget(self.text)


class ScoreView(QWidget):
    """Picks a reward model, starts it on first use, and scores what is typed."""

    train_asked = Signal()
    """There is no reward model yet."""

    def __init__(self, jobs: Jobs, theme: Theme) -> None:
        super().__init__()
        self._jobs = jobs
        self._session: Session | None = None
        self._changed_at: float | None = None
        self._asked: list[int] | None = None
        """The places of the answers that are being scored."""
        self.models = ComboBox("score-model", "Reward model", least_letters=24)
        self.models.activated.connect(self._on_model_chosen)
        self.banner = Banner(theme)
        self.wait = WaitNotice(theme, "score-on-cpu")
        self.wait.cpu_chosen.connect(self._on_cpu_chosen)
        self.prompt = _editor("score-prompt", "Prompt", 72)
        self.prompt.setPlaceholderText("What was asked")
        self.lines: list[AnswerLine] = []
        self._list = QVBoxLayout()
        self._list.setSpacing(SPACE + SPACE // 2)
        self.more = button("Add an answer", theme, "plus", name="add-answer")
        self.more.clicked.connect(self.add_line)
        self.state = label("", "muted")
        self.verdict = label("", "", wrap=True, select=True)
        self._content = self._make_content()
        self._empty = EmptyState(
            "star", "No reward model yet",
            "Train one on pairs of answers, then see here what it likes.",
            "Train one", theme,
        )  # fmt: skip
        self._empty.action.clicked.connect(self.train_asked)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._content, 0, Qt.AlignmentFlag.AlignTop)
        column.addWidget(self._empty, 1)
        self.prompt.textChanged.connect(self._on_typed)
        self.add_line()
        self.add_line()

    def _make_content(self) -> QWidget:
        card = Card("Score answers")
        card.body.addWidget(self.models)
        card.body.addWidget(self.banner)
        card.body.addWidget(self.wait)
        card.body.addWidget(label("Prompt", "label"))
        card.body.addWidget(self.prompt)
        card.body.addLayout(self._list)
        row = QHBoxLayout()
        row.setSpacing(2 * SPACE)
        row.addWidget(self.more)
        row.addWidget(self.state, 1)
        card.body.addLayout(row)
        card.body.addWidget(self.verdict)
        return card

    def add_line(self) -> None:
        """Room for one more answer."""
        line = AnswerLine(len(self.lines) + 1)
        line.text.textChanged.connect(self._on_typed)
        self.lines.append(line)
        self._list.addWidget(line)
        self.more.setEnabled(len(self.lines) < MOST)

    def showEvent(self, event: Any) -> None:
        present = self.models.currentData()
        self.models.clear()
        for row in self._jobs.store.jobs("train"):
            if row.has_weights and not talks(row.stage):
                self.models.addItem(f"{row.name}   {row.id}", f"run:{row.id}")
        self.models.setCurrentIndex(max(0, self.models.findData(present)))
        some = self.models.count() > 0
        self._content.setVisible(some)
        self._empty.setVisible(not some)
        super().showEvent(event)

    # The worker

    def _on_model_chosen(self) -> None:
        self.leave()
        self._on_typed()

    def leave(self) -> None:
        """Ends the worker; it would also end by itself when this process is gone."""
        if self._session is not None:
            self._session.close()
        self._session = self._asked = None
        self.wait.hide()

    def _start(self) -> Session:
        when_busy = self._jobs.settings.when_busy
        task = Score(model=self.models.currentData(), when_busy=when_busy)
        session = Session.start(self._jobs, task)
        session.on(Phase, self._on_phase)
        session.on(Ready, lambda ready: self.state.setText(ready.detail))
        session.on(AnswersScored, self._on_scored).on(Ending, self._on_ended)
        self.state.setText("Starting")
        return session

    def _on_phase(self, phase: Phase) -> None:
        self.state.setText(phase.name)
        self.wait.ask(self._jobs.settings.question(phase.name))

    def _on_cpu_chosen(self) -> None:
        if self._session is not None:
            with contextlib.suppress(Refusal):  # a full disk: it waits on
                self._session.send(UseCpu())

    def _on_typed(self) -> None:
        self._changed_at = time.monotonic()

    def refresh(self) -> None:
        """On the page's clock: asks anew once the typing rests and the last answer has come."""
        if self._changed_at is None or self._asked is not None or not self.isVisible():
            return
        if time.monotonic() - self._changed_at < REST_S:
            return
        self._changed_at = None
        self._ask()

    def _ask(self) -> None:
        texts = {at: line.text.toPlainText().strip() for at, line in enumerate(self.lines)}
        filled = [at for at, text in texts.items() if text]
        prompt = self.prompt.toPlainText().strip()
        self._clear()
        if not filled or not prompt or not self.models.currentData():
            return
        try:
            if self._session is None:
                self.banner.hide()
                self._session = self._start()
            turns = [{"role": "user", "content": prompt}]
            answers = [texts[at] for at in filled]
            self._session.send(ScoreAnswers(prompt=turns, answers=answers))
        except Refusal as refusal:
            self.banner.refuse(refusal)
            return
        self._asked = filled

    def _clear(self) -> None:
        self.verdict.setText("")
        for line in self.lines:
            line.score.setText("")

    def _on_scored(self, event: AnswersScored) -> None:
        if self._asked is not None:
            self._show_scores(dict(zip(self._asked, event.scores, strict=False)))
            self._asked = None

    def _show_scores(self, scores: dict[int, float | None]) -> None:
        for at, score in scores.items():
            self.lines[at].score.setText("none" if score is None else f"{score:+.2f}")
        known = {at + 1: score for at, score in scores.items() if score is not None}
        self.verdict.setText(in_words(known))

    def _on_ended(self, ending: Ending) -> None:
        if ending.cause or ending.remedy:
            self.banner.tell(ending.cause, "", ending.remedy)
        self._session = self._asked = None
        self.wait.hide()
        self.state.setText("")


def preferred(better: float, worse: float) -> float:
    """The probability that the first of two answers is preferred (Bradley and Terry 1952)."""
    return 1 / (1 + math.exp(-max(-700.0, min(700.0, better - worse))))


def in_words(scores: dict[int, float]) -> str:
    """Which answer a reward model prefers and how surely, by the answers' numbers."""
    order = sorted(scores, key=lambda number: -scores[number])
    if len(order) < 2:
        return "A score means something only beside another: add a second answer." if order else ""
    first, second = order[:2]
    apart = scores[first] - scores[second]
    if apart < CLOSE:
        words = f"Answers {first} and {second} are as good as equal: {apart:.2f} lie between them."
    else:
        share = preferred(scores[first], scores[second])
        words = (
            f"Answer {first} is preferred to answer {second} with a probability of {share:.0%}: it "
            f"scores {apart:.2f} more, and the probability is 1 / (1 + e^-{apart:.2f}) "
            "(Bradley-Terry)."
        )
    return words if len(order) == 2 else f"{words} From best to worst: {_ranked(order, scores)}."


def _ranked(order: Sequence[int], scores: dict[int, float]) -> str:
    signs = [" = " if scores[one] == scores[other] else " > " for one, other in pairwise(order)]
    return "".join(f"{number}{sign}" for number, sign in zip(order, [*signs, ""], strict=True))


def _editor(name: str, words: str, height: int) -> QPlainTextEdit:
    editor = QPlainTextEdit()
    editor.setObjectName(name)
    editor.setAccessibleName(words)
    editor.setFixedHeight(height)
    editor.setTabChangesFocus(True)
    return editor
