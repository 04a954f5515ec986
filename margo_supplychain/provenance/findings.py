"""What a chain of links lacks, told to whoever has to mend it.

A finding is a value, not an error: all of them are collected before anyone decides.
Its `reason` is one word for programs (docs/reference/errors.md); its text names the
step, the rule and the artifact; `found` and `wanted` say what is there, and what would
satisfy it.

Example:
    >>> str(Finding("missing-step", "step test has no link", step="test"))
    'step test has no link'
"""

from __future__ import annotations

from typing import Any, NamedTuple

from margo_supplychain.errors import ProvenanceError


class Finding(NamedTuple):
    """One reason why a chain is not proven.

    Args:
        reason: which way, one word for programs.
        text: one lower-case line for people.
        step, rule, artifact: where it shows.
        found, wanted: what is there, and what would satisfy it.
        stricter: the case in which in-toto itself would have passed
            (`provenance.stricter`); None where it refuses too, or where this follows
            from another finding that names it.
    """

    reason: str
    text: str
    step: str | None = None
    rule: str | None = None
    artifact: str | None = None
    found: str | None = None
    wanted: str | None = None
    stricter: str | None = None

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values, without those that are not known."""
        return {
            name: value for name, value in self._asdict().items() if value is not None
        }

    def error(self) -> ProvenanceError:
        """Return it as the error of a document that can't be judged any further."""
        return ProvenanceError(
            self.text,
            reason=self.reason,
            step=self.step,
            rule=self.rule,
            artifact=self.artifact,
            found=self.found,
            wanted=self.wanted,
        )
