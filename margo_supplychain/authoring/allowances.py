"""How long, and how much, vendors' registries may be read in one run of `repo accept`.

Everybody waits while a vendor's content is fetched, with the repository locked; so a
slow registry, or a large one, is the business of its vendor alone.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, BinaryIO, Final, final

from margo_supplychain.authoring.overlay import Nowhere
from margo_supplychain.verify.limits import Budget, Control

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.transport.protocols import Source

MOST_TIME: Final = 3600.0  # seconds, for one vendor
MOST_TIME_IN_ALL: Final = 2 * 3600.0
MAX_FETCHED: Final = 64 << 30  # bytes, of one vendor


class Allowances:
    """What is left of each vendor's time and bytes, and of everybody's together."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._bytes: dict[str, int] = {}
        self._in_all = MOST_TIME_IN_ALL

    @contextmanager
    def of(self, vendor: str) -> Iterator[Allowance]:
        """Let somebody fetch for a vendor; what he takes is taken off."""
        seconds = min(self._seconds.get(vendor, MOST_TIME), self._in_all)
        size = self._bytes.get(vendor, MAX_FETCHED)
        began = time.monotonic()
        allowance = Allowance(seconds, size)
        try:
            yield allowance
        finally:
            took = time.monotonic() - began
            self._seconds[vendor] = self._seconds.get(vendor, MOST_TIME) - took
            self._bytes[vendor] = size - allowance.used
            self._in_all -= took


@final
class Allowance:
    """What may be fetched now.

    Args:
        seconds: until it ends; none if it is not above 0.
        size: bytes.

    Attributes:
        used: bytes that were asked for.
    """

    def __init__(self, seconds: float, size: int) -> None:
        deadline = timedelta(seconds=max(seconds, 0.0))
        self._budget = Budget(Control(deadline=deadline, max_bytes=max(size, 0)))
        self.used = 0

    def check(self) -> None:
        """Raise if it is used up.

        Raises:
            BudgetError: it is.
        """
        self._budget.check()

    def spend(self, size: int) -> None:
        """Count bytes before they are asked for.

        Raises:
            BudgetError: more than are left.
        """
        self._budget.check()
        self.used += size
        self._budget.spend(size)


@final
class Metered(Nowhere):
    """Content of a source, within an allowance; a `Source` of blobs alone.

    Args:
        source: has it.
        allowance: what may be read.
    """

    def __init__(self, source: Source, allowance: Allowance) -> None:
        super().__init__(source.url)
        self._source = source
        self._allowance = allowance

    @contextmanager
    def blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> Iterator[BinaryIO]:
        """Open content; see `Source.blob`.

        Raises:
            BudgetError: here or later in the stream, when the allowance is used up.
        """
        self._allowance.spend(what.size - start)

        def both(size: int) -> None:
            self._allowance.check()
            if tick is not None:
                tick(size)

        with self._source.blob(what, start=start, tick=both) as stream:
            yield stream
