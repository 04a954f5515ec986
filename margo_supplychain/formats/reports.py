"""Reports: the evidence for yes and for no, as values that can be written down.

A report says what was checked against what; it proves nothing by itself, and is signed,
if at all, by its reader: `Report.to_vsa` is what others can read of it then.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from margo_supplychain.formats.times import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.versions import Version

FORMAT: Final = 1
VERIFIER: Final = "urn:margo-supplychain:device"
FUNCTIONARIES: Final = "x-functionaries"
"""A field of ours in summaries: all names of the keys whose links counted."""
PROVEN: Final = "MARGO_PROVENANCE"
"""The level of a release whose chain was judged; SLSA's own are not evaluated."""
_SCHEME: Final = "margo-supplychain:"
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

    def facts(self, number: int) -> Mapping[str, Any]:
        """Return what a step found; empty when it was not reached."""
        return next(
            (step.facts for step in self.steps if step.number == number), _NO_FACTS
        )

    def to_vsa(self, *, verifier: str = VERIFIER) -> bytes:
        """Return an unsigned verification summary: a Statement v1 for others to read.

        It names everything that was judged by digest, so that it stands for this very
        release alone (https://slsa.dev/verification_summary/v1).

        Args:
            verifier: a URI, who says so.

        Raises:
            ValueError: nothing was decided, no release was looked at, or it was judged
                by a summary itself.
        """
        if self.verdict == "inconclusive":
            raise ValueError("nothing was decided")
        found, proof = self.facts(3), self.facts(4)
        if "artifact" not in found:
            raise ValueError("no release was looked at")
        if proof.get("provenance") == "summary":
            raise ValueError("it was judged by a summary of somebody else")
        from margo_supplychain.formats.predicates import SUMMARY
        from margo_supplychain.formats.release_products import MANIFEST_PRODUCT
        from margo_supplychain.formats.statements import Subject, statement_bytes
        from margo_supplychain.version import __version__

        passed = self.verdict == "verified"
        policy = found["publisher policy"]
        steps = proof.get("steps", ())
        keyids = {one.lower() for step in steps for one in step["functionaries"]}
        levels = ["SLSA_BUILD_LEVEL_UNEVALUATED"]
        if proof.get("layout") is not None:
            levels.append(PROVEN)
        predicate = {
            "verifier": {
                "id": verifier,
                "version": {"margo-supplychain": __version__},
            },
            "timeVerified": format_time(self.time),
            "resourceUri": f"{_SCHEME}{found['release']}",
            "policy": {
                "uri": f"{_SCHEME}{policy['path']}",
                "digest": {"sha256": policy["sha256"]},
            },
            "inputAttestations": [
                {"uri": uri, "digest": {algorithm: value}}
                for uri, digest in _inputs(found, proof)
                for algorithm, _, value in [digest.partition(":")]
            ],
            "verificationResult": "PASSED" if passed else "FAILED",
            "verifiedLevels": levels if passed else ["FAILED"],
            FUNCTIONARIES: sorted({*keyids, *proof.get("key ids", ())}),
        }
        artifact = found["artifact"].partition(":")
        subject = Subject(MANIFEST_PRODUCT, {artifact[0]: artifact[2]})
        return statement_bytes([subject], SUMMARY, predicate)

    def to_json(self) -> bytes:
        """Return the report as one deterministic JSON document."""
        text = json.dumps(self.to_dict(), sort_keys=True, ensure_ascii=False, indent=2)
        return text.encode() + b"\n"


def resource_of(name: ReleaseName, version: Version) -> str:
    """Return what summaries call a release."""
    return f"{_SCHEME}{name}@{version}"


def _inputs(
    found: Mapping[str, Any], proof: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Return URI and digest of everything that a proof was judged by."""
    inputs = [(f"{_SCHEME}{found['record path']}", f"sha256:{found['record']}")]
    if "steps" in proof:
        layout = f"{_SCHEME}{proof['layout path']}"
        inputs.append((layout, proof["layout digest"]))
        for step in proof["steps"]:
            link = f"{layout}#{step['name']}"
            inputs += [(link, digest) for digest in step["links"]]
    inputs += [(one["type"], one["digest"]) for one in proof.get("statements", ())]
    return inputs
