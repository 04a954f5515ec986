"""How a release was made, from the trace of step 4: one line, words, JSON, a picture.

The trace is what `provenance.chain` wrote down while it judged: bounded, and there for
yes and for no. Nothing is judged here; names in it are strangers' and are shown as
`cli.output` shows everything.

Example:
    >>> provenance_line({"provenance": "none"})
    'none demanded'
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from margo_supplychain.cli.describe import counted
from margo_supplychain.cli.output import as_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from margo_supplychain.formats.reports import Report

FORMAT: Final = 1
STEP: Final = 4  # of the plan, see verify.verifier
_SHORT: Final = 12
_MANIFEST: Final = "release/manifest"


def facts_of(report: Report) -> Mapping[str, Any]:
    """Return what step 4 found; empty when it was not reached."""
    for step in report.steps:
        if step.number == STEP:
            return step.facts
    return {}


def trace_of(report: Report) -> Mapping[str, Any] | None:
    """Return how the chain was judged; None if none was."""
    found: Mapping[str, Any] | None = facts_of(report).get("trace")
    return found


def provenance_line(facts: Mapping[str, Any]) -> str:
    """Return what `device verify` says of a proof in one line."""
    tier = facts.get("provenance")
    if tier == "full":
        steps = counted(len(facts["steps"]), "step")
        people = counted(len(facts["functionaries"]), "functionary", "functionaries")
        return f"{steps}, {people}, layout {facts['layout']}"
    if tier == "summary":
        return f"a summary by {_keys(facts['signers'])}, layout {facts['layout']}"
    return "none demanded" if tier == "none" else str(tier)


def proof_data(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a proof is worth, for programs."""
    return {
        "tier": facts["provenance"],
        "layout": facts.get("layout"),
        "steps": list(facts.get("steps", ())),
        "functionaries": list(facts.get("functionaries", ())),
        "statements": list(facts.get("statements", ())),
    }


def words(report: Report) -> list[str]:
    """Return the chain in words: steps with their signers and rules, what joins them.

    Empty when no chain was judged.
    """
    trace = trace_of(report)
    if trace is None:
        return []
    lines = ["how it was made, step by step:"]
    for step in trace["steps"]:
        lines += _step(step)
    for edge in trace["edges"]:
        took = counted(edge["artifacts"], "artifact")
        example = f", such as {edge['example']}" if edge.get("example") else ""
        lines.append(f"  {edge['to']} took {took} from {edge['from']}{example}")
    for found in trace["findings"]:
        lines.append(f"  not proven: {found['text']}")
    return lines


def document(report: Report) -> bytes:
    """Return the whole trace as one JSON document (schema `trace.schema.json`)."""
    value = {
        "format": FORMAT,
        "subject": report.subject,
        "verdict": report.verdict,
        "code": report.code,
        "time": report.time,
        "trace": trace_of(report),
    }
    return json.dumps(as_json(value), indent=2, ensure_ascii=True).encode() + b"\n"


def _step(step: Mapping[str, Any]) -> list[str]:
    joined = "" if step["connected"] else ", joined to the release by nothing"
    lines = [f"  {step['name']}, {step['threshold']} of its functionaries must sign"]
    lines[0] += joined
    for link in step["links"]:
        said = f": {link['why']}" if link.get("why") else ""
        who = _keys([link["keyid"]] if link.get("keyid") else [])
        named = f"link {_hex(link['digest'])} by {who}"
        lines.append(f"    {named}, {link['outcome']}{said}")
    width = max((len(one["of"]) for one in step["rules"]), default=0)
    lines += [f"    {one['of']:<{width}}  {_rule(one)}" for one in step["rules"]]
    return lines


def _rule(rule: Mapping[str, Any]) -> str:
    if rule["outcome"] == "failed":
        found, wanted = rule.get("found"), rule.get("wanted")
        text = f"{rule['rule']}: failed"
        if found is not None:
            text += f", found {found}"
        return text if wanted is None else f"{text}, wanted {wanted}"
    if not rule["consumed"]:
        return f"{rule['rule']}: nothing to object to"
    artifacts = rule["artifacts"]
    such = f", such as {artifacts[0]}" if artifacts else ""
    return f"{rule['rule']}: {counted(rule['consumed'], 'artifact')}{such}"


def _keys(found: Any) -> str:
    return ", ".join(one[:_SHORT] for one in found) or "nobody known"


def _hex(digest: str) -> str:
    return digest.partition(":")[2][:_SHORT] or digest[:_SHORT]
