"""Writing a chat template on the Data page: tried on the chosen row, kept, saved under a name.

What is typed is a draft on disk until it is saved, so that neither closing the editor nor a crash
loses it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QWidget
from superqt.utils import qdebounced

from studio.theme import Theme
from studio.widgets.template_editor import TemplateEditor
from studio.widgets.tokenview import TokensView
from workers.protocol import wire
from workers.protocol.events import TemplateShown, TemplateTried
from workers.protocol.refusal import Refusal
from workers.protocol.requests import ShowTemplate, TryTemplate
from workers.protocol.templates import (
    ENDINGS,
    is_file,
    read_template,
    saved_templates,
    template_label,
)

TRY_AFTER_MS = 400
"""A template is tried when nothing was typed for so long."""
DRAFT = "template.jinja"
NAME = re.compile(r"[\w][\w .-]{0,60}")
AGAIN = "This is what you wrote last and did not save. Undo brings back {name}."


class TemplateWork(QObject):
    asked = Signal(object)
    """A request for the worker."""

    def __init__(
        self, theme: Theme, home: Path, tokens: TokensView, row: Callable[[], tuple[int, str, str]]
    ) -> None:
        """Follows the button of the token view.

        Args:
            home: the studio's home.
            row: the chosen row's number, its text where it was edited, and the stage.
        """
        super().__init__(tokens)
        self._theme, self._home, self._tokens, self._row = theme, home, tokens, row
        self._editor: TemplateEditor | None = None
        self._asked = self._due = False
        self._tried_row = -1
        self._written_soon = qdebounced(self._on_settled, timeout=TRY_AFTER_MS)
        tokens.edit_asked.connect(lambda: self.open(tokens))
        tokens.templates.offer_saved(saved_templates(home))

    @property
    def _draft(self) -> Path:
        return self._home / "drafts" / DRAFT

    @property
    def editor(self) -> TemplateEditor | None:
        """The open editor."""
        return self._editor if self._editor is not None and self._editor.isVisible() else None

    def open(self, parent: QWidget) -> None:
        """Shows the editor with the chosen template."""
        if self._editor is None:
            self._editor = TemplateEditor(self._theme, parent.window())
            self._editor.text_asked.connect(self._ask_text)
            self._editor.edited.connect(lambda _: self._written_soon())
            self._editor.save_asked.connect(self.save)
        self._editor.start.offer_saved(saved_templates(self._home))
        self._editor.start.choose(self._tokens.template)
        self._editor.name.setText(self._name_of(self._tokens.template))
        self._editor.begin("")
        self._ask_text(self._tokens.template)
        self._editor.show()

    def forget(self) -> None:
        """The worker is another: what it was asked is not answered any more."""
        self._asked, self._due = False, self._editor is not None

    def _ask_text(self, template: str) -> None:
        self.asked.emit(ShowTemplate(model=self._tokens.model, template=template))

    def take(self, event: TemplateShown | TemplateTried) -> None:
        """What the worker said."""
        editor = self._editor
        if editor is None:
            return
        if isinstance(event, TemplateTried):
            self._asked = False
            editor.show_tried(event.views, event.reason, event.line, event.findings)
        elif event.reason:
            editor.say(event.reason)
        else:
            self._put(editor, event)

    def _put(self, editor: TemplateEditor, shown: TemplateShown) -> None:
        """A template's text; behind it what was written last, where that was never saved."""
        first = not editor.text
        kept = self._kept() if first else ""
        (editor.begin if first else editor.put_text)(shown.jinja)
        if is_file(shown.template):
            editor.name.setText(self._name_of(shown.template))
        if kept and kept != shown.jinja:
            editor.put_text(kept)
            editor.say(AGAIN.format(name=template_label(shown.template)))
        self._due = True

    def _kept(self) -> str:
        try:
            return read_template(self._draft)
        except Refusal:
            return ""

    def _name_of(self, template: str) -> str:
        """The name under which a template was saved here; empty for any other."""
        saved = is_file(template) and Path(template).parent == self._home / "templates"
        return template_label(template) if saved else ""

    # Trying

    def look(self) -> None:
        """On the page's clock: tries what was written, on the row that is chosen."""
        editor = self.editor
        if editor is None or self._asked or not editor.text:
            return
        row, text, stage = self._row()
        if row < 0 or not (self._due or row != self._tried_row):
            return
        self._asked, self._due, self._tried_row = True, False, row
        editor.show_row(f"Row {row + 1:,}")
        self.asked.emit(TryTemplate(
            row=row, jinja=editor.text, text=text, stage=stage, model=self._tokens.model,
            max_length=self._tokens.max_length,
        ))  # fmt: skip

    def _on_settled(self) -> None:
        """Some time after the last letter: kept on disk, and to be tried."""
        self._due = True
        if self._editor is None or not self._editor.text:
            return
        try:
            self._draft.parent.mkdir(parents=True, exist_ok=True)
            wire.write_atomically(self._draft, self._editor.text.encode())
        except OSError as fault:
            self._editor.say(f"What you write cannot be kept on disk: {fault.strerror}.")

    # Saving

    def save(self, name: str, text: str) -> None:
        """Keeps the template under a name and chooses it."""
        editor = self._editor
        assert editor is not None
        path = self._home / "templates" / f"{name}{ENDINGS[0]}"
        if not NAME.fullmatch(name):
            editor.say("Give it a name of letters, digits, spaces, dots and hyphens.")
            editor.name.setFocus()
            return
        if path.exists() and str(path) != editor.start.template:
            editor.say(f"There is a template called {name} already. Choose another name, or start "
                       "from that one to change it.")  # fmt: skip
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            wire.write_atomically(path, text.encode())
        except OSError as fault:
            editor.say(f"It could not be saved: {fault.strerror}. Free some space.")
            return
        self._written_soon.cancel()
        self._draft.unlink(missing_ok=True)
        self._tokens.templates.offer_saved(saved_templates(self._home))
        self._tokens.templates.choose(str(path))
        self._tokens.changed.emit()
        editor.close()
