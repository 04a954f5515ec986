"""Several publishers in one registry, who take turns as a test says.

Each runs in a thread of its own and stops ahead of the requests that `gate` names; only
one runs at a time. `every_order` tries each order in which they can reach the gates.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PATIENCE = 60.0  # seconds until a test that hangs ends


@dataclass
class Turn:
    """One publisher: what it does, and what came of it."""

    action: Callable[[Callable[[str], None]], Any]
    gate: Callable[[str], bool]
    result: Any = None
    error: BaseException | None = None
    done: bool = False
    trace: list[str] = field(default_factory=list)
    _go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _stopped: threading.Semaphore = field(
        default_factory=lambda: threading.Semaphore(0)
    )

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def step(self) -> None:
        """Let it go on to its next gate, or to its end."""
        self._go.release()
        if not self._stopped.acquire(timeout=PATIENCE):
            raise AssertionError(f"hangs after {self.trace}")

    def _before(self, what: str) -> None:
        if self.gate(what):
            self.trace.append(what)
            self._stopped.release()
            self._go.acquire()

    def _run(self) -> None:
        self._go.acquire()
        try:
            self.result = self.action(self._before)
        except BaseException as why:  # noqa: BLE001 - given to the test that asked
            self.error = why
        self.done = True
        self._stopped.release()


def take_turns(
    turns: Sequence[Turn],
    choices: Sequence[int],
    look: Callable[[], object] = lambda: None,
) -> list[tuple[int, int]]:
    """Run publishers to their ends; look after each step.

    Args:
        turns: the publishers.
        choices: who goes on, among those who are not done; then the first.
        look: called after each step.

    Returns:
        For each step: who was chosen, and among how many.
    """
    for one in turns:
        one.start()
    taken: list[tuple[int, int]] = []
    while waiting := [one for one in turns if not one.done]:
        choice = choices[len(taken)] if len(taken) < len(choices) else 0
        choice = min(choice, len(waiting) - 1)
        taken.append((choice, len(waiting)))
        waiting[choice].step()
        look()
    return taken


def every_order(
    run: Callable[[Sequence[int]], list[tuple[int, int]]], *, depth: int
) -> Iterator[list[int]]:
    """Call `run` with each sequence of choices; yield those that were taken.

    Args:
        run: takes choices, and returns those that were taken, each among how many.
        depth: how many choices are varied; then the first who can goes on.
    """
    choices: list[int] = []
    while True:
        taken = run(choices)
        yield [choice for choice, _ in taken]
        del taken[depth:]
        while taken and taken[-1][0] + 1 >= taken[-1][1]:
            taken.pop()
        if not taken:
            return
        choices = [choice for choice, _ in taken[:-1]] + [taken[-1][0] + 1]
