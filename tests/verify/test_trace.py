"""The report is written as the steps are taken, for yes and for no."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from margo_supplychain.errors import FetchError, PolicyError, RollbackError
from margo_supplychain.formats.reports import Violation
from margo_supplychain.verify.trace import TITLES, Trace

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def taken() -> Trace:
    trace = Trace("acme/pump-monitor *")
    trace.time = NOON
    with trace.step(0) as facts:
        facts["publishers"] = ["acme"]
    with pytest.raises(KeyError, match="broke"):
        _break(trace)
    return trace


def _break(trace: Trace) -> None:
    with trace.step(1) as facts:
        facts["root"] = 1
        raise KeyError("broke")


def test_steps_are_numbered_and_titled() -> None:
    report = taken().report("verified", "verified")
    assert [(one.number, one.title, one.outcome) for one in report.steps] == [
        (0, TITLES[0], "passed"),
        (1, TITLES[1], "failed"),
    ]
    assert [dict(one.facts) for one in report.steps] == [
        {"publishers": ["acme"]},
        {"root": 1},
    ]
    assert (report.subject, report.time) == ("acme/pump-monitor *", NOON)


def test_a_plan_that_begins_anew() -> None:
    trace = taken()
    trace.clear()
    assert trace.report("verified", "verified").steps == ()


def test_no_and_could_not_tell() -> None:
    no = RollbackError("older", role="root", trusted=2, offered=1)
    taken().attach(no)
    assert no.report is not None
    assert (no.report.verdict, no.report.code) == ("rejected", "rollback")
    assert len(no.report.steps) == 2
    unknown = FetchError("gone", url="here")
    taken().attach(unknown)
    assert unknown.report is not None
    assert (unknown.report.verdict, unknown.report.code) == ("inconclusive", "fetch")


def test_every_violation_is_in_the_report() -> None:
    found = tuple(Violation(rule="signed", text=text) for text in ("one", "two"))
    error = PolicyError("two things", violations=found)
    taken().attach(error)
    assert error.report is not None
    assert error.report.violations == found


def test_the_first_report_stays() -> None:
    error = FetchError("gone", url="here")
    taken().attach(error)
    first = error.report
    Trace("something else").attach(error)
    assert error.report is first
