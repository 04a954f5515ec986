"""How a chain was judged, for `--explain`: bounded, deterministic, ready for JSON.

Whatever links and layouts hold, a trace names at most 10 artifacts of a rule, 1000 in
all, and cuts what is long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from margo_supplychain.provenance.engine import Applied, Edge, Judged
    from margo_supplychain.provenance.findings import Finding
    from margo_supplychain.provenance.layouts import Layout
    from margo_supplychain.provenance.rules import Side
    from margo_supplychain.provenance.signed_links import Seen

MOST_ARTIFACTS: Final = 1000
MOST_FINDINGS: Final = 200
MOST_PRODUCTS: Final = 100
MOST_TEXT: Final = 400  # characters of a name or a reason
END: Final = "(end of the rules)"
"""What stands in a trace for the refusal of what no rule accounts for."""


def trace_of(
    layout: Layout,
    seen: Sequence[Seen],
    judged: Sequence[tuple[str, Side, Judged]],
    edges: Sequence[Edge],
    joined: Collection[str],
    findings: Sequence[Finding],
) -> dict[str, Any]:
    """Return how a chain was judged; `chain` adds how the release was compared."""
    tracing = _Tracing()
    names = {step.name for step in layout.steps}
    return {
        "steps": [
            {
                "name": step.name,
                "threshold": step.threshold,
                "links": [
                    row for one in seen if one.step == step.name for row in _links(one)
                ],
                "rules": [
                    tracing.rule(side, applied)
                    for name, side, found in judged
                    if name == step.name
                    for applied in found.applied
                ],
                "connected": step.name in joined,
            }
            for step in layout.steps
        ],
        "unexpected": [
            {"step": cut(one.step)} | row
            for one in seen
            if one.step not in names
            for row in _links(one)
        ],
        "edges": [
            {
                "from": one.source,
                "to": one.target,
                "artifacts": one.artifacts,
                "example": cut(one.example),
            }
            for one in edges
        ],
        "findings": [
            {name: cut(text) for name, text in one.to_dict().items()}
            for one in findings[:MOST_FINDINGS]
        ],
        "more_findings": max(0, len(findings) - MOST_FINDINGS),
    }


def _links(one: Seen) -> list[dict[str, Any]]:
    """Return one row for each key that signed a link and counts, or did."""
    rows: list[tuple[str | None, str, str | None]] = [
        (keyid, "counted", None) for keyid in sorted(one.signers.values())
    ]
    why = "the publisher policy revokes this functionary"
    rows += [(keyid, "revoked", why) for keyid in sorted(one.revoked)]
    rows += [(None, "refused", cut(finding.text)) for finding in one.findings]
    return [
        {"digest": str(one.digest), "keyid": keyid, "outcome": outcome, "why": why}
        for keyid, outcome, why in rows
    ]


class _Tracing:
    """Counts the artifacts that a trace still may name."""

    def __init__(self) -> None:
        self._left = MOST_ARTIFACTS

    def rule(self, side: Side, one: Applied) -> dict[str, Any]:
        """Return how one rule went."""
        shown = [cut(name) for name in one.artifacts[: self._left]]
        self._left -= len(shown)
        return {
            "of": side,
            "rule": END if one.rule is None else cut(one.rule.text),
            "outcome": "passed" if one.passed else "failed",
            "consumed": one.total if one.passed else 0,
            "artifacts": shown,
            "found": None if one.found is None else cut(one.found),
            "wanted": None if one.wanted is None else cut(one.wanted),
        }


def cut(text: str) -> str:
    """Return a text of bounded length."""
    return text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 1]}…"
