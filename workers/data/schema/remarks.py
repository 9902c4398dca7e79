"""What reading a row passed over, for whoever wants to tell it."""

from __future__ import annotations

from collections import Counter


class Remarks:
    """Of one row."""

    def __init__(self) -> None:
        self.questions = 0
        """Conversations in it that went on behind their last answer; what followed is left out."""
        self.unread: set[str] = set()
        """Keys of turns that nothing looks at."""


class RemarkCount:
    """Remarks on the usable rows of a dataset."""

    def __init__(self) -> None:
        self.questions = 0
        self.unread: Counter[str] = Counter()
        """Rows by the key of their turns that nothing looks at."""

    def add(self, row: Remarks) -> None:
        self.questions += bool(row.questions)
        self.unread.update(row.unread)
