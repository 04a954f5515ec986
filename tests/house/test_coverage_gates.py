"""The coverage gates count what they should (tests/coverage_gates.py)."""

from __future__ import annotations

from typing import Any

from tests.coverage_gates import failures


def measured(covered: int, total: int) -> dict[str, Any]:
    return {
        "summary": {
            "covered_lines": covered,
            "num_statements": total,
            "covered_branches": 0,
            "num_branches": 0,
        },
        "missing_lines": list(range(total - covered)),
        "missing_branches": [[3, -1]] if covered < total else [],
    }


REPORT = {
    "files": {
        "lib/site-packages/margo_supplychain/verify/a.py": measured(9, 9),
        "lib/site-packages/margo_supplychain/verify/b.py": measured(8, 9),
        "lib/site-packages/margo_supplychain/formats/c.py": measured(3, 4),
    }
}
VERIFY = "margo_supplychain/verify/"
FORMATS = "margo_supplychain/formats/"


def test_a_gate_that_is_reached_says_nothing() -> None:
    assert failures({VERIFY: 90, FORMATS: 75}, REPORT, {VERIFY, FORMATS}) == []


def test_a_gate_that_is_missed_names_the_lines() -> None:
    said = failures({VERIFY: 100}, REPORT, {VERIFY})
    assert said == [
        "margo_supplychain/verify/: 94.4 %, at least 100 %",
        "    margo_supplychain/verify/b.py  lines: 0  branches: 3->exit",
    ]


def test_measuring_nothing_is_a_failure_unless_there_is_nothing() -> None:
    gates = {"margo_supplychain/threshold.py": 100}
    assert failures(gates, REPORT, set()) == []
    (said,) = failures(gates, REPORT, set(gates))
    assert said.endswith("nothing of it was measured")
