"""A PIN handler for tokens that answers and remembers what it was asked."""

from __future__ import annotations


class Pins:
    """Answers every question with one PIN, which a test may change.

    Attributes:
        asked: the label of each token that asked, and its tries.
        names: all that each of them said of itself.
    """

    def __init__(self, answer: str = "123456") -> None:
        self.answer = answer
        self.asked: list[tuple[str, int | None]] = []
        self.names: list[str] = []

    def __call__(self, *, token: str, tries_left: int | None) -> str:
        self.asked.append((token.partition(";")[0], tries_left))
        self.names.append(token)
        return self.answer
