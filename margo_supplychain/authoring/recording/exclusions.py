"""What somebody asked to leave out, and how often each wish was met.

A pattern without a slash (`*.pyc`, `.git`) is about names: of files and directories,
wherever they lie. One with a slash (`build/tmp`, `docs/*.md`) is about paths from the
place where the recording stands. `*`, `?` and `[…]` never cross a slash. A directory
that is left out is not looked into. Nothing is left out unasked.

Example:
    >>> left_out = Exclusions(["*.pyc"])
    >>> left_out.take("src/a.pyc"), left_out.take("src/a.py"), left_out.counts()
    (True, False, {'*.pyc': 1})
"""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING, Final, final

from margo_supplychain.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Match = Callable[[str], re.Match[str] | None]

MAX_PATTERNS: Final = 100
MAX_PATTERN: Final = 500  # characters
_STEPS: Final = frozenset({"", ".", "..", "**"})


@final
class Exclusions:
    """Patterns, and how many files and directories each has taken.

    Args:
        patterns: as they were typed.

    Raises:
        FormatError: a pattern that could never mean what it says.
    """

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        found = dict.fromkeys(patterns)
        if len(found) > MAX_PATTERNS:
            raise FormatError(
                f"{len(found)} exclusions are given, expected up to {MAX_PATTERNS}"
            )
        # By the number of steps: a pattern and what it matches have equally many.
        self._by_length: dict[int, list[tuple[str, list[Match]]]] = {}
        for one in found:
            steps = _compiled(one)
            self._by_length.setdefault(len(steps), []).append((one, steps))
        self._counts = dict.fromkeys(found, 0)

    def __bool__(self) -> bool:
        return bool(self._counts)

    def take(self, path: str) -> bool:
        """Say whether a file or directory is left out, and count it.

        Args:
            path: from the place where the recording stands.
        """
        steps = path.split("/")
        for length in {1, len(steps)} & self._by_length.keys():
            # A pattern of one step is about the name, wherever it lies.
            found = steps[-length:]
            for pattern, matches in self._by_length[length]:
                if all(map(_matches, matches, found)):
                    self._counts[pattern] += 1
                    return True
        return False

    def take_below(self, path: str) -> bool:
        """Say the same of a file that was not walked to: its directories count."""
        if not self:
            return False
        parts = path.split("/")
        return any(self.take("/".join(parts[:n])) for n in range(1, len(parts) + 1))

    def counts(self) -> dict[str, int]:
        """Return how many files and directories each pattern has taken."""
        return dict(self._counts)


def _compiled(pattern: str) -> list[Match]:
    steps = pattern.removesuffix("/").split("/")
    if len(pattern) > MAX_PATTERN or _STEPS & set(steps) or not pattern.isprintable():
        raise FormatError(
            f"exclusion {pattern!r:.80} is no pattern, expected a name (*.pyc) or a "
            "path from here (build/tmp)",
            hint="`*` stays inside one name; a directory takes all that is in it",
        )
    # fnmatch lets `*` cross a slash: step by step there is none to cross.
    return [re.compile(fnmatch.translate(one)).match for one in steps]


def _matches(match: Match, step: str) -> bool:
    return match(step) is not None
