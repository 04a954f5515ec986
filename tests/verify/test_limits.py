"""Limits can be lowered, never removed; one call has one budget."""

from __future__ import annotations

import time
from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest

from margo_supplychain.errors import BudgetError, CancelledError
from margo_supplychain.verify.limits import Budget, Control, Limits


@pytest.mark.parametrize("name", [one.name for one in fields(Limits)])
def test_limits_can_be_lowered_only(name: str) -> None:
    default = getattr(Limits(), name)
    for value in (1, default - 1, default):
        assert getattr(Limits(**{name: value}), name) == value
    wrong: list[Any] = [0, -1, default + 1, True, 1.0, None, "1"]
    for value in wrong:
        with pytest.raises(ValueError, match=f"limit {name} is .* expected 1 to"):
            Limits(**{name: value})


def test_a_budget_of_bytes() -> None:
    budget = Budget(Control(max_bytes=10))
    budget.spend(4)
    budget.spend(6)
    with pytest.raises(BudgetError, match="read more than its 10 bytes") as caught:
        budget.spend(1)
    assert caught.value.hint is not None


def test_a_budget_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    budget = Budget(Control(deadline=timedelta(seconds=2)))
    now = 101.9
    budget.check()
    now = 102.0
    with pytest.raises(BudgetError, match=r"took longer than its 0:00:02"):
        budget.check()


def test_cancelling() -> None:
    stop = False
    budget = Budget(Control(cancelled=lambda: stop))
    budget.check()
    stop = True
    with pytest.raises(CancelledError, match="the caller cancelled"):
        budget.check()


def test_the_end_is_the_end_for_everybody() -> None:
    answers = iter([True, False])
    budget = Budget(Control(cancelled=lambda: next(answers), max_bytes=10))
    for _ in range(3):
        with pytest.raises(CancelledError, match="the caller cancelled"):
            budget.check()
    budget = Budget(Control(max_bytes=10))
    with pytest.raises(BudgetError, match="more than its 10 bytes") as first:
        budget.spend(11)
    with pytest.raises(BudgetError, match="more than its 10 bytes") as second:
        budget.check()
    assert first.value is not second.value  # a thread each may raise it


def test_progress() -> None:
    said: list[tuple[str, int, int]] = []
    Budget(Control(progress=lambda *told: said.append(told))).report("blob", 1, 2)
    assert said == [("blob", 1, 2)]
    Budget(None).report("blob", 1, 2)
    Budget(None).check()
    Budget(None).spend(1 << 30)
