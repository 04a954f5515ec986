"""The numbered steps of one verification, written down as they are taken."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from margo_supplychain.errors import (
    PolicyError,
    SupplyChainError,
    VerificationError,
)
from margo_supplychain.formats.reports import Report, Step, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from margo_supplychain.formats.reports import Verdict

TITLES: Final = (
    "store and clock",
    "trust metadata",
    "resolve the pin",
    "record and manifest",
    "provenance",
    "policy",
    "content",
    "deployment",
    "evidence",
)


class Trace:
    """Collects steps and makes the report.

    Args:
        subject: what was asked.
    """

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._steps: list[Step] = []
        self.time: datetime = datetime.fromtimestamp(0, UTC)

    @contextmanager
    def step(self, number: int) -> Iterator[dict[str, Any]]:
        """Take one step; what is put in the dictionary becomes its facts."""
        facts: dict[str, Any] = {}
        try:
            yield facts
        except BaseException:
            self._steps.append(
                Step(number=number, title=TITLES[number], outcome="failed", facts=facts)
            )
            raise
        self._steps.append(
            Step(number=number, title=TITLES[number], outcome="passed", facts=facts)
        )

    def clear(self) -> None:
        """Forget the steps: the plan is begun anew."""
        self._steps.clear()

    def report(
        self, verdict: Verdict, code: str, violations: Sequence[Violation] = ()
    ) -> Report:
        """Return the report as it stands."""
        return Report(
            subject=self._subject,
            verdict=verdict,
            code=code,
            time=self.time,
            steps=tuple(self._steps),
            violations=tuple(violations),
        )

    def attach(self, error: SupplyChainError) -> None:
        """Give an error the report of how far the verification came."""
        if error.report is not None:
            return
        verdict: Verdict = (
            "rejected" if isinstance(error, VerificationError) else "inconclusive"
        )
        violations = error.violations if isinstance(error, PolicyError) else ()
        error.report = self.report(verdict, error.code, violations)
