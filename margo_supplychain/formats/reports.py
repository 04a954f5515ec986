"""Reports: the evidence for yes and for no, as values that can be written down.

A report says what was checked against what; it proves nothing by itself, and is signed,
if at all, by its reader.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from margo_supplychain.formats.times import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

FORMAT: Final = 1
_NO_FACTS: Final[Mapping[str, Any]] = {}
Verdict = Literal["verified", "rejected", "inconclusive"]


class Violation(NamedTuple):
    """One demand of a policy that is not met.

    Args:
        rule: id of the rule, such as `closure-complete`.
        text: one line: what was found, what was demanded.
        inconclusive: the facts to judge it are missing (an untrusted clock), so the
            answer is "could not tell" and not "no".
    """

    rule: str
    text: str
    inconclusive: bool = False


class Step(NamedTuple):
    """One numbered step of the verification plan and what it found."""

    number: int
    title: str
    outcome: Literal["passed", "failed", "not reached"]
    facts: Mapping[str, Any] = _NO_FACTS


class Report(NamedTuple):
    """What was asked, what each step found, and the verdict.

    Args:
        subject: what was asked, such as `acme/pump-monitor ^1.0`.
        verdict: the first word of the answer.
        code: the error's slug, or `verified`.
        time: the time that was used for expiry (UTC).
        steps: the numbered steps in order.
        violations: every violation of a policy.
    """

    subject: str
    verdict: Verdict
    code: str
    time: datetime
    steps: tuple[Step, ...]
    violations: tuple[Violation, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values (schema `report.schema.json`)."""
        return {
            "format": FORMAT,
            "subject": self.subject,
            "verdict": self.verdict,
            "code": self.code,
            "time": format_time(self.time),
            "steps": [
                {
                    "number": step.number,
                    "title": step.title,
                    "outcome": step.outcome,
                    "facts": dict(step.facts),
                }
                for step in self.steps
            ],
            "violations": [
                {
                    "rule": one.rule,
                    "text": one.text,
                    "inconclusive": one.inconclusive,
                }
                for one in self.violations
            ],
        }

    def to_json(self) -> bytes:
        """Return the report as one deterministic JSON document."""
        text = json.dumps(self.to_dict(), sort_keys=True, ensure_ascii=False, indent=2)
        return text.encode() + b"\n"
