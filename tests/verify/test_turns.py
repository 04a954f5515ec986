"""Turns: who is asked, in which order, and for how long."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import TooSlowError
from margo_supplychain.verify import limits
from margo_supplychain.verify import turns as module
from margo_supplychain.verify.limits import Budget, Control
from margo_supplychain.verify.turns import Turn, turns

if TYPE_CHECKING:
    from collections.abc import Collection

DEADLINE = 60


class Clock:
    """The only time there is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        time = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr(module, "time", time)
        monkeypatch.setattr(limits, "time", time)

    def asked(self, names: str, slow: Collection[str]) -> dict[str, list[int]]:
        """Return who was asked, in order, and the seconds that each one took."""
        found: dict[str, list[int]] = {}
        ends = self.now + DEADLINE
        budget = Budget(Control(deadline=timedelta(seconds=DEADLINE)))
        for name, turn in turns(names, budget):
            began = self.now
            while name in slow and self.now < ends:
                self.now += 0.25
                try:
                    turn.check(name)
                except TooSlowError:
                    break
            found.setdefault(name, []).append(int(self.now - began))
        return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize(
    ("names", "slow", "expected"),
    [
        ("", "", {}),
        ("a", "", {"a": [0]}),
        ("abc", "", {"a": [0], "b": [0], "c": [0]}),
        # Whoever is alone has all the time.
        ("a", "a", {"a": [60]}),
        ("abc", "c", {"a": [0], "b": [0], "c": [60]}),
        # Who was too slow is asked again when nobody else had it.
        ("abc", "a", {"a": [20, 39], "b": [0], "c": [0]}),
        # The last one leaves time for those that come again.
        ("ab", "ab", {"a": [30, 7], "b": [15, 7]}),
        ("abc", "abc", {"a": [20, 6], "b": [13, 5], "c": [9, 5]}),
    ],
)
def test_turns(
    clock: Clock, names: str, slow: str, expected: dict[str, list[int]]
) -> None:
    assert clock.asked(names, slow) == expected


def test_a_turn_that_is_over(clock: Clock) -> None:
    turn = Turn(1.5)
    turn.check("memory:")
    clock.now += 1.5
    turn.check("memory:")
    assert not turn.is_over
    clock.now += 0.1
    with pytest.raises(TooSlowError, match=r"^memory: was not done in 1\.5 s, its sha"):
        turn.check("memory:")
    assert turn.is_over


def test_what_is_left_of_a_budget(clock: Clock) -> None:
    budget = Budget(Control(deadline=timedelta(seconds=DEADLINE)))
    assert budget.left == DEADLINE
    clock.now += 2 * DEADLINE
    assert budget.left == 0
