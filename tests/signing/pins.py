"""A PIN handler for tokens that answers and remembers what it was asked."""

from __future__ import annotations


class Pins:
    """Answers every question with one PIN, which a test may change."""

    def __init__(self, answer: str = "123456") -> None:
        self.answer = answer
        self.asked: list[tuple[str, int | None]] = []

    def __call__(self, *, token: str, tries_left: int | None) -> str:
        self.asked.append((token, tries_left))
        return self.answer
