"""What a model answered: the steps of a run with each group's answers and what they were worth,
and the first answer to a prompt beside the latest. Text stays text, never HTML.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from PySide6.QtCore import QModelIndex, QSignalBlocker, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QFont,
    QTextCharFormat,
    QTextCursor,
    QTextFrameFormat,
    QTextLength,
    QTextTableFormat,
)
from PySide6.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QHBoxLayout,
    QHeaderView,
    QListWidget,
    QSplitter,
    QStackedLayout,
    QTableView,
    QTextEdit,
    QVBoxLayout,
    QWidget,
)

from studio.theme import SPACE, Theme
from studio.widgets.tablemodel import TableModel
from studio.widgets.text import button, label, one_line
from workers.protocol.rollouts import Group, Rollouts, Sampling

STEPS_WIDE = 112
SHORT = 90
"""Characters of a prompt where it stands on one line."""
EARLIER = 20
"""Answers between the first and the latest that are kept for reading, for each prompt."""
LONGEST = 4000
"""Characters of a sampled answer that are shown."""


class AnswersModel(TableModel):
    """One group's answers, the best advantage first."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._names: list[str] = []
        self.samples: list[Sampling] = []

    def show(self, rewards: list[str], samples: list[Sampling]) -> None:
        self.beginResetModel()
        self._names = list(rewards)
        self.samples = sorted(samples, key=lambda one: -one.advantage)
        self.endResetModel()

    @property
    def columns(self) -> list[str]:
        return ["Advantage", "Total", *self._names, "Tokens"]

    def rowCount(self, parent: Any = None) -> int:
        return len(self.samples)

    def data(self, index: QModelIndex | Any, role: int = 0) -> Any:
        one = self.samples[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return self._cells(one)[index.column()]
        if role == Qt.ItemDataRole.ForegroundRole and index.column() == 0 and one.advantage:
            colours = self._theme.palette
            return QColor(colours.good if one.advantage > 0 else colours.bad)
        if role == Qt.ItemDataRole.ToolTipRole:
            return "\n".join(one.faults) or None
        return None

    def _cells(self, one: Sampling) -> list[str]:
        rewards = [_score(value) for value in [*one.rewards, *[None] * len(self._names)]]
        tokens = f"{one.tokens}, truncated" if one.truncated else str(one.tokens)
        return [
            _signed(one.advantage), _score(one.reward), *rewards[: len(self._names)], tokens,
        ]  # fmt: skip


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−") if round(value, 2) else "0"


def _score(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}".replace("-", "−")


class Reader(QTextEdit):
    """Read-only text, put together from pieces in a few inks."""

    def __init__(self, name: str, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self.setReadOnly(True)
        self.setAccessibleName(name)
        self.setTabChangesFocus(True)
        self.document().setDocumentMargin(SPACE)

    def write(self, at: QTextCursor, text: str, ink: str = "text", *, bold: bool = False) -> None:
        look = QTextCharFormat()
        look.setForeground(QColor(getattr(self._theme.palette, ink)))
        look.setFontWeight(QFont.Weight.DemiBold if bold else QFont.Weight.Normal)
        at.insertText(text.replace("\r", ""), look)


class AnswerText(Reader):
    """One answer in full, what was wrong with its rewards, and what was asked."""

    def show_answer(self, group: Group, one: Sampling) -> None:
        self.clear()
        at = self.textCursor()
        self.write(at, one.text or "(an empty answer)", "text" if one.text else "muted")
        if one.truncated:
            self.write(at, f"\n\nTruncated after {one.tokens} tokens.", "warning")
        for fault in one.faults:
            self.write(at, f"\n\nNo score: {fault}", "bad")
        self.write(at, "\n\nPrompt\n", "muted", bold=True)
        self.write(at, group.prompt, "muted")
        if group.answer:
            self.write(at, "\n\nRight answer\n", "muted", bold=True)
            self.write(at, group.answer, "muted")
        self.moveCursor(QTextCursor.MoveOperation.Start)


class StepsView(QWidget):
    """The steps of a run; for the chosen one its prompts, and for a prompt its answers.

    Follows the latest step until another is picked. Asks for a step's answers by `wanted`; the
    owner reads them and hands them in by `show_rollouts`, or says by `say` why there are none.
    """

    wanted = Signal(int)

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self.numbers: list[int] = []
        self.step: int | None = None
        self.following = True
        self._rollouts: Rollouts | None = None
        self.model = AnswersModel(theme)
        self.steps = QListWidget()
        self.steps.setObjectName("steps")
        self.steps.setAccessibleName("Steps")
        self.steps.setUniformItemSizes(True)
        self.steps.setSpacing(SPACE // 4)
        self.steps.currentRowChanged.connect(self._on_row)
        self.latest = button("Latest", theme, kind="quiet", name="latest-step")
        self.latest.setToolTip("Go to the latest step, and stay with it while the run goes on")
        self.latest.clicked.connect(self.follow)
        self._words = label("", "muted", wrap=True)
        self._words.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._words.setContentsMargins(SPACE, SPACE, SPACE, SPACE)
        self._answers = self._make_answers()
        self._stack = QStackedLayout()
        left = QVBoxLayout()
        left.setSpacing(SPACE // 2)
        left.addWidget(self.steps, 1)
        left.addWidget(self.latest)
        self.steps.setFixedWidth(STEPS_WIDE)
        self.latest.setFixedWidth(STEPS_WIDE)
        row = QHBoxLayout(self)
        row.setContentsMargins(SPACE, SPACE, SPACE, SPACE)
        row.setSpacing(SPACE)
        row.addLayout(left)
        row.addLayout(self._stack, 1)  # first: what it shows needs a parent, or is a window
        self._stack.addWidget(self._words)
        self._stack.addWidget(self._answers)
        theme.changed.connect(self._show_answer)
        self.clear()

    def _make_answers(self) -> QWidget:
        self.prompts = QComboBox()
        self.prompts.setObjectName("prompts")
        self.prompts.setAccessibleName("Prompt")
        self.prompts.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.prompts.currentIndexChanged.connect(self._on_prompt)
        self.table = self._make_table()
        self.text = AnswerText("Answer", self._theme)
        self.text.setObjectName("answer")
        split = QSplitter()
        split.setChildrenCollapsible(False)
        split.setHandleWidth(SPACE)
        split.addWidget(self.table)
        split.addWidget(self.text)
        split.setSizes([520, 380])
        holder = QWidget()
        column = QVBoxLayout(holder)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE)
        column.addWidget(self.prompts)
        column.addWidget(split, 1)
        return holder

    def _make_table(self) -> QTableView:
        table = QTableView()
        table.setObjectName("answers")
        table.setAccessibleName("Answers")
        table.setModel(self.model)
        table.setShowGrid(False)
        table.setTabKeyNavigation(False)
        table.setSelectionBehavior(QTableView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QTableView.SelectionMode.SingleSelection)
        table.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        table.setCornerWidget(QWidget())
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(32)
        head = table.horizontalHeader()
        head.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft)
        head.setHighlightSections(False)
        head.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        table.selectionModel().currentRowChanged.connect(self._show_answer)
        return table

    # Steps

    def clear(self) -> None:
        self.numbers, self.step, self._rollouts = [], None, None
        self.following = True
        self.latest.setEnabled(False)
        with QSignalBlocker(self.steps):
            self.steps.clear()
        self.say("No step has been taken yet. Each one's answers and rewards appear here.")

    def show_steps(self, numbers: list[int]) -> None:
        """The steps there are; goes to the latest one while it is followed."""
        if numbers != self.numbers:
            self._list(numbers)
        if numbers and (self.following or self.step not in numbers):
            self._choose(len(numbers) - 1)

    def _list(self, numbers: list[int]) -> None:
        same = numbers[: len(self.numbers)] == self.numbers
        with QSignalBlocker(self.steps):
            if not same:
                self.steps.clear()
                self.step = self.step if self.step in numbers else None
            new = numbers[len(self.numbers) :] if same else numbers
            self.steps.addItems([f"Step {number}" for number in new])
            self.numbers = list(numbers)
            if self.step is not None:
                self.steps.setCurrentRow(numbers.index(self.step))

    def pick(self, step: int) -> None:
        """Chooses the step nearest to one."""
        if self.numbers:
            near = min(self.numbers, key=lambda number: abs(number - step))
            self.steps.setCurrentRow(self.numbers.index(near))

    def follow(self) -> None:
        """Goes to the latest step and stays with it."""
        self.following = True
        if self.numbers:
            self._choose(len(self.numbers) - 1)

    def _choose(self, row: int) -> None:
        """Goes to a row on the program's own account."""
        with QSignalBlocker(self.steps):
            self.steps.setCurrentRow(row)
        self._ask(row)

    def _on_row(self, row: int) -> None:
        if row >= 0:
            self.following = row == len(self.numbers) - 1
            self._ask(row)

    def _ask(self, row: int) -> None:
        self.latest.setEnabled(not self.following)
        if self.numbers[row] != self.step:
            self.step = self.numbers[row]
            self.wanted.emit(self.step)

    def resizeEvent(self, event: Any) -> None:
        super().resizeEvent(event)
        self.steps.scrollToItem(self.steps.currentItem())

    # One step

    def say(self, words: str) -> None:
        """One sentence in place of answers."""
        self._rollouts = None
        self._words.setText(words)
        self._stack.setCurrentWidget(self._words)

    @property
    def words(self) -> str:
        """What is said in place of answers, if anything is."""
        return self._words.text() if self._stack.currentWidget() is self._words else ""

    def show_rollouts(self, rollouts: Rollouts) -> None:
        if not rollouts.groups:
            self.say(f"No answers of step {rollouts.step} were kept.")
            return
        kept = self.prompts.currentIndex() if self._rollouts is not None else 0
        self._rollouts = rollouts
        total = len(rollouts.groups)
        with QSignalBlocker(self.prompts):
            self.prompts.clear()
            for number, group in enumerate(rollouts.groups, start=1):
                self.prompts.addItem(f"{number} of {total}   {one_line(group.prompt, SHORT)}")
            self.prompts.setCurrentIndex(min(max(kept, 0), total - 1))
        self._stack.setCurrentWidget(self._answers)
        self._on_prompt()

    def _group(self) -> Group | None:
        at = self.prompts.currentIndex()
        if self._rollouts is None or not 0 <= at < len(self._rollouts.groups):
            return None
        return self._rollouts.groups[at]

    def _on_prompt(self) -> None:
        group = self._group()
        if group is None or self._rollouts is None:
            return
        self.model.show(self._rollouts.rewards, group.samples)
        self.text.clear()
        if group.samples:
            self.table.selectRow(0)

    def _show_answer(self, *_: object) -> None:
        group, row = self._group(), self.table.currentIndex().row()
        if group is not None and 0 <= row < len(self.model.samples):
            self.text.show_answer(group, self.model.samples[row])


class FirstAndNow(Reader):
    """The same prompts answered at different steps: the first answer beside the latest."""

    def __init__(self, theme: Theme) -> None:
        super().__init__("Samples", theme)
        self.setObjectName("samples")
        self.setStyleSheet("QTextEdit { border: none; }")
        self._answers: dict[str, list[tuple[int, str]]] = defaultdict(list)
        self._stale = False
        theme.changed.connect(self._on_theme_changed)

    def forget(self) -> None:
        self._answers.clear()
        self._stale = True

    def add(self, step: int, prompt: str, answer: str) -> None:
        """Takes an answer; one of a later step that is being taken again gives way to it."""
        answers = [one for one in self._answers[prompt] if one[0] < step]
        if len(answers) > EARLIER + 1:
            del answers[1]
        self._answers[prompt] = [*answers, (step, answer[:LONGEST])]
        self._stale = True

    def paint(self) -> None:
        """Writes it anew if something came; the reader's place is kept."""
        if not self._stale:
            return
        self._stale = False
        bar = self.verticalScrollBar()
        place = bar.value()
        self.clear()
        at = self.textCursor()
        if not self._answers:
            self.write(at, "The model's answers to the same prompts, first and now, appear here.",
                       "muted")  # fmt: skip
        for number, (prompt, answers) in enumerate(self._answers.items()):
            if number:
                at.insertBlock()
            self._write_prompt(at, prompt, answers)
        bar.setValue(place)

    def _write_prompt(self, at: QTextCursor, prompt: str, answers: list[tuple[int, str]]) -> None:
        self.write(at, prompt, bold=True)
        shown = [answers[0], answers[-1]] if len(answers) > 1 else answers
        half = QTextLength(QTextLength.Type.PercentageLength, 100 / len(shown))
        form = QTextTableFormat()
        form.setBorderStyle(QTextFrameFormat.BorderStyle.BorderStyle_None)
        form.setBorder(0)
        form.setCellPadding(SPACE // 2)
        form.setWidth(QTextLength(QTextLength.Type.PercentageLength, 100))
        form.setColumnWidthConstraints([half] * len(shown))
        table = at.insertTable(1, len(shown), form)
        for column, (step, answer) in enumerate(shown):
            cell = table.cellAt(0, column).firstCursorPosition()
            title = "Now" if column else "First"
            self.write(cell, f"{title}, step {step}\n", "muted")
            self.write(cell, answer)
        at.movePosition(QTextCursor.MoveOperation.End)
        for step, answer in reversed(answers[1:-1]):
            self.write(at, f"Step {step}   ", "muted")
            self.write(at, f"{one_line(answer, SHORT)}\n")

    def _on_theme_changed(self) -> None:
        self._stale = True
