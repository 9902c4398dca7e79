"""The step of the data: the mixture, a look at the first rows, a check, and what to measure on."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QLineEdit, QVBoxLayout

from studio.draft import DraftModel, Reading
from studio.draft_source import DraftSource
from studio.jobs import Jobs
from studio.pages.train.catalogue import HubSets
from studio.pages.train.check import DatasetCheck
from studio.pages.train.fit import FitCard
from studio.pages.train.preview import Preview
from studio.pages.train.sources import FILES, SourceLine, TestChooser
from studio.pages.train.step import Step
from studio.theme import SPACE, Theme
from studio.widgets.card import Card
from studio.widgets.mixture import MixtureBar
from studio.widgets.text import button, label
from workers.protocol.browse import Opening
from workers.protocol.catalogue import builtin_sets
from workers.protocol.licences import clashes
from workers.protocol.recipe import Source
from workers.protocol.sources import BUILTIN


class DataStep(Step):
    name = "Data"
    look_asked = Signal(object)
    """A `Source` that is to be seen row by row."""

    def __init__(self, jobs: Jobs, model: DraftModel, theme: Theme) -> None:
        super().__init__(model)
        self._theme = theme
        self._offered = ""
        """The stage that built-in sets are offered for; they are read when they are to be seen."""
        self._shown: tuple[DraftSource, ...] | None = None
        self.setAcceptDrops(True)
        self.lines: list[SourceLine] = []
        self.builtin = QComboBox()
        self.builtin.setObjectName("builtin")
        self.builtin.setAccessibleName("Built-in dataset")
        self.hub_sets = HubSets(self._theme)
        self.hub_sets.added.connect(self.add)
        self.path = QLineEdit()
        self.path.setObjectName("data-path")
        self.path.setPlaceholderText(
            "A file, a folder, or org/name:split on the hub; or drop files here"
        )
        self.path.setAccessibleName("Dataset file")
        self._list = QVBoxLayout()
        self._empty = label("Nothing chosen yet. Add a built-in set or a file of your own.",
                            "muted", wrap=True)  # fmt: skip
        self.preview = Preview(jobs, theme)
        self.preview.counted.connect(self._on_counted)
        self.preview.opened.connect(self._on_opened)
        self.preview.mapped.connect(self._on_mapped)
        self.fit = FitCard(model, theme)
        self.check = DatasetCheck(jobs, model, theme)
        self.mixture = MixtureBar(theme)
        self.clashes = label("", "", wrap=True, select=True)
        self.test = TestChooser(theme)
        self.test.chosen.connect(lambda source: model.change(test=source))
        self.body.addWidget(label("What to learn from", "heading"))
        self.body.addLayout(self._adders())
        self.body.addWidget(self._chosen_card())
        self.body.addWidget(self.fit)
        self.body.addWidget(self.preview)
        self.body.addWidget(self.check)
        self.body.addWidget(self.test)
        self.body.addStretch(1)
        self.show_draft()

    def _chosen_card(self) -> Card:
        chosen = Card("Training data")
        chosen.body.addWidget(self.mixture)
        chosen.body.addWidget(self._empty)
        chosen.body.addLayout(self._list)
        chosen.body.addWidget(self.clashes)
        return chosen

    def _adders(self) -> QVBoxLayout:
        add_builtin = button("Add built-in", self._theme, "plus", name="add-builtin")
        add_builtin.clicked.connect(lambda: self.add(f"{BUILTIN}{self.builtin.currentText()}"))
        add = button("Add file", self._theme, "plus", name="add-file")
        add.clicked.connect(self._on_add)
        self.path.returnPressed.connect(self._on_add)
        browse = button("Browse…", self._theme, "folder-open", name="browse-data")
        browse.clicked.connect(self._on_browse)
        files, builtins = QHBoxLayout(), QHBoxLayout()
        for widget in (self.path, browse, add):
            files.addWidget(widget, 1 if widget is self.path else 0)
        builtins.addWidget(self.builtin, 1)
        builtins.addWidget(add_builtin)
        column = QVBoxLayout()
        column.setSpacing(SPACE)
        column.addLayout(files)
        column.addLayout(builtins)
        column.addWidget(self.hub_sets)
        return column

    # What is shown

    def showEvent(self, event: Any) -> None:
        self._offer()
        super().showEvent(event)

    def show_draft(self) -> None:
        if self.isVisible():
            self._offer()
        if self.test.value != self.draft.test:
            self.test.choose(self.draft.test)
        if self.draft.sources != self._shown:
            self._show_sources(self.draft.sources)

    def _offer(self) -> None:
        """Offers the built-in sets that serve the stage."""
        stage = self.draft.stage
        if stage == self._offered:
            return
        self._offered = stage
        present = self.builtin.currentText()
        self.builtin.clear()
        self.builtin.addItems(builtin_sets(stage))
        self.builtin.setCurrentIndex(max(0, self.builtin.findText(present)))
        self.hub_sets.offer(stage)
        self.test.offer(builtin_sets(stage, test=True))

    def _show_sources(self, sources: tuple[DraftSource, ...]) -> None:
        before, self._shown = [line.source for line in self.lines], sources
        self._keep_lines([one.source for one in sources])
        for place, one in enumerate(sources):
            if place < len(self.lines):
                self.lines[place].show_source(one)
            else:
                self._append(one)
        self._empty.setVisible(not sources)
        self._show_mixture(sources)
        last = sources[-1].given if sources else None
        self.preview.show_source(
            last and Source(source=last.source, mapping=last.mapping, documents=last.documents)
        )
        if before != [line.source for line in self.lines]:
            self.check.offer([line.source for line in self.lines])

    def _keep_lines(self, wanted: list[str]) -> None:
        """Drops the lines of datasets that are gone, or all where their order is another."""
        kept = [line for line in self.lines if line.source in wanted]
        if [line.source for line in kept] != wanted[: len(kept)]:
            kept = []
        for line in [line for line in self.lines if line not in kept]:
            self._drop(line)

    def _append(self, draft: DraftSource) -> None:
        line = SourceLine(draft, self._theme)
        line.remove.clicked.connect(lambda: self.remove(line.source))
        line.look_asked.connect(lambda: self.look_asked.emit(line.value))
        line.documents_chosen.connect(
            lambda rule: self.draft_model.become(self.draft.with_documents(line.source, rule))
        )
        line.edited.connect(lambda field, text: self._on_edited(line.source, field, text))
        self.lines.append(line)
        self._list.addWidget(line)

    def _drop(self, line: SourceLine) -> None:
        self.lines.remove(line)
        self._list.removeWidget(line)
        line.hide()
        line.deleteLater()

    def _show_mixture(self, sources: tuple[DraftSource, ...]) -> None:
        self.mixture.show_weights([(one.source, one.share or 0.0) for one in sources])
        found = clashes([line.licensed for line in self.lines])
        self.clashes.setText("\n".join(f"⚠ {words}" for words in found))
        self.clashes.setVisible(bool(found))

    # What is changed

    def add(self, source: str) -> None:
        self.draft_model.become(self.draft.with_source(Source(source=source)))

    def remove(self, source: str) -> None:
        self.draft_model.become(self.draft.without_source(source))

    def use(self, source: Source) -> None:
        """Takes up a dataset as it was looked at, in place of the same one without that."""
        self.draft_model.become(self.draft.with_source_read_as(source))

    def _on_edited(self, source: str, field: str, text: str) -> None:
        self.draft_model.become(self.draft.with_source_changed(source, **{field: text}))

    def _on_counted(self) -> None:
        self.draft_model.change(rows=dict(self.preview.counts))

    def _on_opened(self, source: str, opening: Opening) -> None:
        known = Reading(tuple(opening.stages), "" if opening.format else opening.why)
        self.draft_model.change(readings={**self.draft.readings, source: known})

    def _on_mapped(self, source: Source) -> None:
        self.draft_model.become(self.draft.with_mapping(source.source, source.mapping))

    def _on_add(self) -> None:
        self.add(self.path.text().strip())
        self.path.clear()

    def _on_browse(self) -> None:
        paths, _ = QFileDialog.getOpenFileNames(self, "Datasets", "", FILES)
        for path in paths:
            self.add(path)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if event.mimeData().hasUrls() and not _are_recipes(event):
            event.acceptProposedAction()
        else:
            event.ignore()  # the page opens recipes

    def dropEvent(self, event: QDropEvent) -> None:
        for url in event.mimeData().urls():
            self.add(url.toLocalFile())
        event.setDropAction(Qt.DropAction.CopyAction)
        event.accept()


def _are_recipes(event: QDropEvent) -> bool:
    names = [url.fileName().lower() for url in event.mimeData().urls()]
    return all(name.endswith((".toml", ".yaml", ".yml")) for name in names)
