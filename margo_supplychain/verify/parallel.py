"""The same act for many items, several at once, with an outcome that no race decides.

The error that is raised is that of the first item that failed, in the order of the
items: what comes after a failure is stopped, what came before it goes on to its end.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, TypeVar, final

from margo_supplychain.errors import CancelledError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

_LOOK: Final = 0.5  # seconds between two looks of the caller's thread


def for_each(
    items: Sequence[T],
    act: Callable[[T, Callable[[], None]], None],
    *,
    at_once: int,
    look: Callable[[], None],
) -> None:
    """Call `act(item, go_on)` for each item.

    Nothing of it runs any more when this returns or raises.

    Args:
        items: in the order that decides between errors.
        act: does the work; calls `go_on` at least every second, which raises when the
            work is no longer wanted.
        at_once: how many items; 1 uses no other thread.
        look: called now and then by this thread; what it raises ends everything.
    """
    if at_once == 1 or len(items) < 2:
        for item in items:
            act(item, look)
        return
    # Costs some start-up, and a small device may do without.
    from concurrent.futures import ThreadPoolExecutor, wait

    race = _Race(len(items))
    with ThreadPoolExecutor(at_once) as pool:
        tasks = [
            pool.submit(race.run, number, item, act)
            for number, item in enumerate(items)
        ]
        try:
            while wait(tasks, timeout=_LOOK).not_done:
                look()
        except BaseException:
            race.end(-1)
            raise
    for task in tasks:
        task.result()


@final
class _Race:
    """How far it is still worth going."""

    def __init__(self, count: int) -> None:
        self._last = count  # items beyond this one are not wanted
        self._lock = threading.Lock()

    def end(self, number: int) -> None:
        """Stop what comes after an item."""
        with self._lock:
            self._last = min(self._last, number)

    def run(
        self, number: int, item: T, act: Callable[[T, Callable[[], None]], None]
    ) -> None:
        """Take one item to its end."""

        def go_on() -> None:
            if number > self._last:
                raise CancelledError("something before it failed")

        go_on()
        try:
            act(item, go_on)
        except BaseException:
            self.end(number)
            raise
