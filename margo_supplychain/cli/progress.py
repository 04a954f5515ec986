"""How far long work is: bars on a terminal, a line now and then elsewhere.

Work that ends soon shows nothing, and neither does anything with `-q`. What is shown
goes to stderr and is gone from a terminal when the work ends; the result of a command
never depends on it.

Example:
    >>> with progress(invocation) as tell:  # doctest: +SKIP
    ...     verifier.fetch(release, to, control=Control(progress=tell))
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Protocol, final

from margo_supplychain.cli.describe import counted, size
from margo_supplychain.cli.output import is_terminal, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from margo_supplychain.cli.bars import Bars
    from margo_supplychain.cli.invocation import Invocation

PATIENCE: Final = 0.5  # seconds of silence before a terminal shows bars
INTERVAL: Final = 5.0  # seconds between two lines where there is no terminal
_LONGEST: Final = 40  # characters of a part's name
_DIGEST: Final = re.compile(r"([a-z0-9]+:[0-9a-f]{12})[0-9a-f]{20,}", re.ASCII)


@contextmanager
def progress(invocation: Invocation) -> Iterator[Callable[[str, int, int], None]]:
    """Give the callback that long work calls with a part, bytes so far and in all.

    Any thread may call it; bytes in all are 0 while nobody knows them. A note of the
    invocation takes away what is shown, and the next call shows it again.
    """
    display = _display(invocation)
    if display is None:
        yield _nothing
        return
    shown = _Shown(display)
    invocation.showing = shown.end
    try:
        yield shown.tell
    finally:
        shown.end()
        invocation.showing = None


def _nothing(what: str, done: int, total: int) -> None:
    del what, done, total


def _display(invocation: Invocation) -> _Display | None:
    if invocation.verbosity < 0 or sys.stderr is None or sys.stderr.closed:
        return None
    if is_terminal(sys.stderr) and os.environ.get("TERM") not in {"dumb", "unknown"}:
        return _OnTerminal()
    return _Lines(invocation)


class _Display(Protocol):
    def show(self, head: str, what: str, done: int, total: int) -> None:
        """Show how far one part is, and `head` about all of them."""

    def end(self) -> None:
        """Leave nothing where other output comes next."""


@final
class _Shown:
    """One display, told by any thread."""

    def __init__(self, display: _Display) -> None:
        self._display = display
        self._lock = threading.Lock()
        self._parts: dict[str, int] = {}  # those on their way, and their bytes
        self._finished = 0
        self._bytes = 0

    def tell(self, what: str, done: int, total: int) -> None:
        # A terminal that is gone must not end the work.
        with self._lock, suppress(OSError):
            # A part that is begun anew counts from its beginning.
            self._bytes += done - self._parts.get(what, 0)
            self._parts[what] = done
            if 0 < total <= done:
                del self._parts[what]
                self._finished += 1
            head = f"{counted(self._finished, 'part')} done, {size(self._bytes)}"
            self._display.show(head, _named(what), done, total)

    def end(self) -> None:
        with self._lock, suppress(OSError):
            self._display.end()


@final
class _Lines:
    """A line every few seconds, for logs."""

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        self._next = time.monotonic() + INTERVAL

    def show(self, head: str, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + INTERVAL
            self._invocation.line(f"{head}; {what} {far(done, total)}")

    def end(self) -> None:
        pass


@final
class _OnTerminal:
    """Bars, once somebody has waited for a moment."""

    def __init__(self) -> None:
        self._from = time.monotonic() + PATIENCE
        self._bars: Bars | None = None

    def show(self, head: str, what: str, done: int, total: int) -> None:
        if self._bars is None:
            if time.monotonic() < self._from:
                return
            # rich costs as much as a verification: only where somebody looks on.
            from margo_supplychain.cli.bars import Bars

            self._bars = Bars()
        self._bars.show(head, what, done, total)

    def end(self) -> None:
        bars, self._bars = self._bars, None
        if bars is not None:
            bars.end()


def far(done: int, total: int) -> str:
    """Return how far a part is: `42 % of 256 MB`."""
    return f"{100 * done // total} % of {size(total)}" if total > 0 else size(done)


def _named(what: str) -> str:
    text = visible(what)
    found = _DIGEST.fullmatch(text)
    return found[1] if found is not None else text[:_LONGEST]
