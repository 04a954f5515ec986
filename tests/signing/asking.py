"""A pin handler that answers and remembers what it was asked."""

from __future__ import annotations

from typing import Final

PASSPHRASE: Final = "correct horse battery"


class Asked:
    """Answers every question with one passphrase."""

    def __init__(self, answer: str = PASSPHRASE) -> None:
        self.answer = answer
        self.tokens: list[str] = []

    def __call__(self, *, token: str, tries_left: int | None) -> str:
        assert tries_left is None
        self.tokens.append(token)
        return self.answer
