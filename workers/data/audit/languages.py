"""Guesses the language that the rows of a dataset are in."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

SURE = 0.95
"""The probability from which a guess counts."""
LANGUAGE_LETTERS = 40
"""The letters that a guess needs."""
LANGUAGES = (
    "ar", "bn", "cs", "da", "de", "el", "en", "es", "fa", "fi", "fr", "he", "hi", "hu", "id", "it",
    "ja", "ko", "nl", "no", "pl", "pt", "ro", "ru", "sv", "th", "tr", "uk", "ur", "vi", "zh",
)  # fmt: skip
"""Languages with much text; guesses among fewer are surer."""


def is_wordy(text: str) -> bool:
    """Whether a text has letters enough for a guess."""
    return sum(map(str.isalpha, text[:400])) >= LANGUAGE_LETTERS


@cache
def language_guesser() -> Callable[[str], str]:
    """Gives a function that guesses a text's language, or nothing where it is not sure.

    The first call reads its model, which takes half a second.
    """
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    known = set(identifier.labels)
    identifier.set_languages([name for name in LANGUAGES if name in known])

    def guess(text: str) -> str:
        name, sure = identifier.classify(re.sub(r"```.*?```|<[^>]*>|\\\w+|\d+", " ", text[:800]))
        return name if sure >= SURE else ""

    return guess
