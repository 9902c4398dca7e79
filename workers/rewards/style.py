"""Rewards for how an answer is said: its length, its repetitions, its language."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from workers.protocol.rewards import Language, Length, Repetition
from workers.rewards.sample import Each, Sample, Scorer, unusable


def build(reward: Length | Repetition | Language, _home: Path, _stack: ExitStack) -> Scorer:
    match reward:
        case Length():
            return Each(lambda sample: length_score(sample.tokens, reward))
        case Repetition():
            return Each(lambda sample: -repeated_share(sample.completion, reward.ngram))
        case Language():
            return Each(_speaks(reward.language))


def length_score(tokens: int, reward: Length) -> float:
    """0 within the bounds, falling evenly to -1 (Yu et al. 2025, DAPO, eq. 13, for the top)."""
    soft = reward.max_tokens - reward.buffer_tokens
    if tokens >= reward.max_tokens:
        return -1.0
    if tokens > soft:
        return (soft - tokens) / reward.buffer_tokens
    if tokens < reward.min_tokens:
        return tokens / reward.min_tokens - 1.0
    return 0.0


def repeated_share(text: str, ngram: int) -> float:
    """The share of n-grams of words that stood earlier in the text, 0 to 1."""
    words = text.lower().split()
    found = [tuple(words[at : at + ngram]) for at in range(len(words) - ngram + 1)]
    return 1 - len(set(found)) / len(found) if found else 0.0


def _speaks(language: str) -> Callable[[Sample], float]:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    if language not in identifier.labels:
        raise unusable(
            "language", f"'{language}' is no language it knows.",
            "Write an ISO 639-1 code, for example en or de.",
        )  # fmt: skip

    def score(sample: Sample) -> float:
        said = sample.completion.strip()
        return dict(identifier.rank(said))[language] if said else 0.0

    return score
