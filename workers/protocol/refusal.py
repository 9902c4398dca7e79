"""A refusal: the environment's or the user's fault, told in three answers. Ours are plain bugs."""

from __future__ import annotations


class Refusal(Exception):
    """What happened, the likely cause, and what to do now; shown to people as it stands."""

    def __init__(self, what: str, cause: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        return " ".join(part for part in (self.what, self.cause, self.remedy) if part)
