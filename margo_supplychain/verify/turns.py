"""Whose turn it is, and for how long: nobody uses up the time of those behind.

A source just above the minimum rate would else take a whole call, run after run, while
others that have the same bytes are never asked. So each has its share of the time that
is left; who used it up is asked again when nobody else had it.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, TypeVar, final

from margo_supplychain.errors import TooSlowError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from margo_supplychain.verify.limits import Budget

T = TypeVar("T")


@final
class Turn:
    """One source's share of the time; it begins now.

    Args:
        seconds: how much; infinite if nobody is left to ask.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends = time.monotonic() + seconds
        self.is_over = False

    def check(self, url: str) -> None:
        """Raise if it is another's turn.

        Raises:
            TooSlowError: about the source of this URL.
        """
        if time.monotonic() > self._ends:
            self.is_over = True
            raise TooSlowError(
                f"{url} was not done in {self._seconds:.1f} s, its share of the time "
                "while others are left to ask",
                url=url,
            )


def turns(items: Iterable[T], budget: Budget) -> Iterator[tuple[T, Turn]]:
    """Yield each item with its turn, and once more those whose turn was over."""
    waiting, late = list(items), list[T]()
    for is_first in (True, False):
        for number, item in enumerate(waiting):
            others = len(waiting) - number - 1 + len(late)
            turn = Turn(budget.left / (others + 1) if others else math.inf)
            yield item, turn
            if turn.is_over and is_first:
                late.append(item)
        waiting, late = late, []
