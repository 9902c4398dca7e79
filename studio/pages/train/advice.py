"""The first step: two or three questions that end at the lightest way to the goal."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QVBoxLayout, QWidget

from studio.advice import Advice, DataKind, advise, relevant_questions
from studio.draft import DraftModel
from studio.pages.train.step import Step
from studio.theme import SPACE, Theme
from studio.widgets.card import Card, Choices
from studio.widgets.combo import ComboBox
from studio.widgets.text import button, label
from workers.protocol.stages import spec_of

DATA_KINDS: dict[DataKind, tuple[str, str]] = {
    "examples": ("Examples of good answers", "graduation-cap"),
    "pairs": ("Pairs of a better and a worse answer", "thumbs-up"),
    "labels": ("Thumbs up and down on answers", "thumbs-down"),
    "checkable": ("Questions whose answers can be checked", "medal"),
    "pairs_and_prompts": ("Pairs, and many more questions", "star"),
    "text": ("Plain text", "book"),
    "teacher": ("A larger model to copy", "student"),
    "nothing": ("Nothing yet", "lightning"),
}
TUNED = [
    ("Not yet, or I do not know", False),
    ("Yes: an instruct or chat model, or a run of mine", True),
]
MEMORY = [
    ("A laptop, or a GPU below 8 GB", "laptop"),
    ("A GPU with 8 to 24 GB", "card"),
    ("More than 24 GB", "large"),
]


class AdviceStep(Step):
    """What is answered here leads to a stage; a draft does not say what it was chosen for."""

    name = "Advice"
    taken = Signal(object)
    """An `Advice` that the user wants to follow."""
    skipped = Signal()

    def __init__(self, model: DraftModel, theme: Theme) -> None:
        super().__init__(model)
        self.have = Choices(theme, columns=4)
        for key, (title, icon) in DATA_KINDS.items():
            self.have.add(f"have:{key}", title, "", icon)
        self.tuned = _box("advice-tuned", "What the base has learnt", TUNED)
        self.memory = _box("advice-memory", "Memory", MEMORY)
        skip = button("I know what I want", theme, name="skip-advice")
        skip.clicked.connect(self.skipped)
        head = QHBoxLayout()
        head.setSpacing(2 * SPACE)
        head.addWidget(label("What do you have?", "heading"), 1)
        head.addWidget(skip)
        self._base = _asked("Has the base model been fine-tuned to answer?", self.tuned)
        self._room = _asked("How much memory is there?", self.memory)
        others = QHBoxLayout()
        others.setSpacing(2 * SPACE)
        others.addWidget(self._base, 1)
        others.addWidget(self._room, 1)
        self.body.addLayout(head)
        self.body.addWidget(self.have)
        self.body.addLayout(others)
        self.body.addWidget(self._make_answer(theme))
        self.body.addStretch(1)
        self.have.changed.connect(self._show)
        self.tuned.currentIndexChanged.connect(self._show)
        self.memory.currentIndexChanged.connect(self._show)
        self._show()

    def _make_answer(self, theme: Theme) -> QWidget:
        self.answer = Card()
        self.way = label("", "heading", wrap=True)
        self.why, self.needs, self.cost, self.then = (label("", "", wrap=True) for _ in range(4))
        take = button("Take this", theme, kind="primary", name="take-advice")
        take.clicked.connect(lambda: self.taken.emit(self.advice))
        row = QHBoxLayout()
        row.setSpacing(2 * SPACE)
        row.addWidget(self.way, 1)
        row.addWidget(take)
        self.answer.body.addLayout(row)
        self.answer.body.addWidget(self.why)
        for words, widget in (("Data", self.needs), ("Cost", self.cost)):
            line = QVBoxLayout()
            line.setSpacing(SPACE // 2)
            line.addWidget(label(words, "label"))
            line.addWidget(widget)
            self.answer.body.addLayout(line)
        self.answer.body.addWidget(self.then)
        return self.answer

    @property
    def chosen(self) -> DataKind | None:
        """What the user has, once it was said."""
        return next((key for key in DATA_KINDS if f"have:{key}" in self.have.chosen), None)

    @property
    def advice(self) -> Advice | None:
        """What the answers so far lead to."""
        if self.chosen is None:
            return None
        return advise(self.chosen, self.tuned.currentData(), self.memory.currentData())

    def _show(self) -> None:
        found, have = self.advice, self.chosen
        by_base, by_memory = relevant_questions(have) if have else (False, False)
        self._base.setVisible(by_base)
        self._room.setVisible(by_memory)
        self.answer.setVisible(found is not None)
        if found is None:
            return
        names = [spec_of(stage).short for stage in found.steps]
        self.way.setText(" → ".join([names[0][:1].upper() + names[0][1:], *names[1:]]))
        self.why.setText(found.why)
        self.needs.setText(found.data)
        self.cost.setText(found.cost)
        self.then.setText(afterwards(found.steps))
        self.then.setVisible(len(names) > 1)


def afterwards(steps: Sequence[str]) -> str:
    """What is to be done after the first of several runs."""
    if any(spec_of(stage).scored_by == "reward_model" for stage in steps):
        return (
            "Each is a run of its own. The reward model and RLHF both start from the model that "
            "answers; the reward model then scores what RLHF tries."
        )
    return (
        f"The first run is {spec_of(steps[0]).short}. When it has ended, choose Train on from it "
        "in its menu under Runs."
    )


def _box(name: str, words: str, options: Sequence[tuple[str, object]]) -> QComboBox:
    box = ComboBox(name, words, least_letters=12)
    for text, value in options:
        box.addItem(text, value)
    return box


def _asked(question: str, box: QComboBox) -> QWidget:
    holder = QWidget()
    column = QVBoxLayout(holder)
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(SPACE // 2)
    column.addWidget(label(question, "label", wrap=True))
    column.addWidget(box)
    return holder
