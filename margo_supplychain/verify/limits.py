"""What one call may cost: sizes, counts, time. Limits can be lowered, never removed."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Never

from margo_supplychain.errors import BudgetError, CancelledError

if TYPE_CHECKING:
    from collections.abc import Callable

    from margo_supplychain.errors import InconclusiveError

_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Most bytes or items that a device reads of each kind; `parallel` at once.

    `attestations` are those of one release in all.

    Raises:
        ValueError: for a limit below 1 or above its default.
    """

    root: int = 512_000
    timestamp: int = 16_384
    snapshot: int = 8 * _MIB
    targets: int = 16 * _MIB
    record: int = _MIB
    policy: int = _MIB
    manifest: int = 4 * _MIB
    layout: int = _MIB
    attestation: int = 64 * _MIB
    attestations: int = 256 * _MIB
    root_rotations: int = 2_048
    delegations: int = 32
    blobs: int = 10_000
    content: int = 1 << 40
    parallel: int = 4

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            most: Any = one.default
            if type(value) is not int or not 1 <= value <= most:
                raise ValueError(f"limit {one.name} is {value!r}, expected 1 to {most}")


class Control(NamedTuple):
    """One call's budget and callbacks.

    Callbacks may be called by other threads than the caller's, one at a time.

    Args:
        deadline: how long the call may take in all.
        max_bytes: most bytes it may read from sources.
        progress: called with what is read, bytes so far and bytes in all.
        cancelled: asked now and then; True ends the call with `CancelledError`.
    """

    deadline: timedelta = timedelta(hours=6)
    max_bytes: int = 1 << 40
    progress: Callable[[str, int, int], None] | None = None
    cancelled: Callable[[], bool] | None = None


class Budget:
    """What is left of one call's `Control`; the only clock here is monotonic.

    Thread-safe. Once the call must end, it stays so: every thread is told the same.
    """

    def __init__(self, control: Control | None) -> None:
        self._control = control if control is not None else Control()
        self._ends = time.monotonic() + self._control.deadline.total_seconds()
        self._left = self._control.max_bytes
        self._over: Callable[[], InconclusiveError] | None = None
        self._lock = threading.Lock()

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return max(0.0, self._ends - time.monotonic())

    def check(self) -> None:
        """Raise if the call must end now.

        Raises:
            BudgetError: past the deadline, or too much was read.
            CancelledError: the caller cancelled.
        """
        with self._lock:
            self._check()

    def spend(self, size: int) -> None:
        """Count bytes that were read.

        Raises:
            BudgetError: more than the call may read.
        """
        with self._lock:
            self._spend(size)

    def report(self, what: str, done: int, total: int) -> None:
        """Tell the caller how far it is."""
        with self._lock:
            if self._control.progress is not None:
                self._control.progress(what, done, total)

    def _check(self) -> None:
        cancelled = self._control.cancelled
        if self._over is not None:
            raise self._over()
        if cancelled is not None and cancelled():
            self._end(lambda: CancelledError("the caller cancelled"))
        if time.monotonic() >= self._ends:
            self._end(
                lambda: BudgetError(
                    f"the call took longer than its {self._control.deadline}",
                    hint="give it more time, or look why the source is slow",
                )
            )

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            self._end(
                lambda: BudgetError(
                    f"the call read more than its {self._control.max_bytes} bytes",
                    hint="give it more bytes, or look what the source sends",
                )
            )

    def _end(self, why: Callable[[], InconclusiveError]) -> Never:
        self._over = why  # each thread raises an error of its own
        raise why()
