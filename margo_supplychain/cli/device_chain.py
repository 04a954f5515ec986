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
from margo_supplychain.formats.plain_text import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from margo_supplychain.formats.reports import Report

FORMAT: Final = 1
STEP: Final = 4  # of the plan, see verify.verifier
_RECORD: Final = 3
_SHORT: Final = 12


def trace_of(report: Report) -> Mapping[str, Any] | None:
    """Return how the chain was judged; None if none was."""
    found: Mapping[str, Any] | None = report.facts(STEP).get("trace")
    return found


def provenance_line(facts: Mapping[str, Any]) -> str:
    """Return what `device verify` says of a proof in one line."""
    tier = facts.get("provenance")
    said = ["none demanded" if tier == "none" else str(tier)]
    if tier == "summary":
        said = [f"a summary by {_keys(facts['signers'])}"]
    elif tier == "full":
        people = len(facts["functionaries"])
        said = [
            counted(len(facts["steps"]), "step"),
            counted(people, "functionary", "functionaries"),
        ]
    if facts.get("layout") is not None:
        said.append(f"layout {facts['layout']}")
    if facts.get("statements"):
        said.append(counted(len(facts["statements"]), "statement"))
    return ", ".join(said)


def proof_data(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a proof is worth, for programs."""
    return {
        "tier": facts["provenance"],
        "layout": facts.get("layout"),
        "layoutDigest": facts.get("layout digest"),
        "layoutSignedBy": list(facts.get("layout signatures", ())),
        "steps": list(facts.get("steps", ())),
        "functionaries": list(facts.get("functionaries", ())),
        "summary": {
            "verifier": facts["verifier"],
            "verified": facts["verified"],
            "keyIds": list(facts["signers"]),
        }
        if facts["provenance"] == "summary"
        else None,
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
    for link in trace["unexpected"]:
        lines.append(f"  {quoted(link['step'])}, which is no step of the layout")
        lines.append(f"    {_link(link)}")
    lines += ["what joins the steps:"] if trace["edges"] else []
    for edge in trace["edges"]:
        took = counted(edge["artifacts"], "artifact")
        lines.append(
            f"  {edge['from']} and {edge['to']} have {took} in common, such as "
            f"{quoted(edge['example'])}"
        )
    lines += _release(trace["release"])
    for found in trace["findings"]:
        lines.append(f"not proven: {found['text']}")
        if found.get("wanted"):
            lines.append(f"  wanted: {found['wanted']}")
    if trace["more_findings"]:
        lines.append(f"not proven: {trace['more_findings']} more")
    return lines


def release_of(report: Report) -> str | None:
    """Return name and version of the release that was looked at; None if none was."""
    found: str | None = report.facts(_RECORD).get("release")
    return found


def why_not(error: Exception | None) -> dict[str, str | None] | None:
    """Return what an answer was refused for, before the chain or behind it too."""
    if error is None:
        return None
    facts = {name: getattr(error, name, None) for name in ("reason", "found", "wanted")}
    return {"message": str(error), **facts}


def document(report: Report, error: Exception | None = None) -> bytes:
    """Return the whole trace as one JSON document (schema `trace.schema.json`)."""
    value = {
        "format": FORMAT,
        "subject": report.subject,
        "release": release_of(report),
        "verdict": report.verdict,
        "code": report.code,
        "time": report.time,
        "error": why_not(error),
        "trace": trace_of(report),
    }
    return json.dumps(as_json(value), indent=2, ensure_ascii=True).encode() + b"\n"


def _step(step: Mapping[str, Any]) -> list[str]:
    joined = "" if step["connected"] else ", joined with the release by nothing"
    lines = [f"  {step['name']}, by {step['threshold']} or more{joined}"]
    lines += [f"    {_link(one)}" for one in step["links"]] or ["    no link"]
    lines += [f"    {one['of']:<9}  {_rule(one)}" for one in step["rules"]]
    return lines


def _link(link: Mapping[str, Any]) -> str:
    digest = link["digest"].partition(":")[2][:_SHORT]
    who = "" if link["keyid"] is None else f" by {link['keyid'][:_SHORT]}"
    why = "" if link["why"] is None else f": {link['why']}"
    return f"link {digest}{who} {link['outcome']}{why}"


def _rule(rule: Mapping[str, Any]) -> str:
    artifacts = rule["artifacts"]
    such = f", such as {quoted(artifacts[0])}" if artifacts else ""
    if rule["outcome"] == "failed":
        found = "" if rule["found"] is None else f": found {rule['found']}"
        return f"{rule['rule']}  fails{such}{found}"
    if not rule["consumed"]:
        asks = rule["rule"].startswith(("DISALLOW ", "REQUIRE "))
        return f"{rule['rule']}  {'holds' if asks else 'took nothing'}"
    return f"{rule['rule']}  {counted(rule['consumed'], 'artifact')}{such}"


def _release(release: Mapping[str, Any]) -> list[str]:
    products = release["products"]
    wrong = [one for one in products if one["outcome"] == "failed"]
    if not wrong:
        count = counted(len(products), "product")
        return [f"{release['step']} made this release: {count} with its digests"]
    return [
        f"{release['step']} did not make {quoted(one['name'])} of this release"
        for one in wrong
    ]


def _keys(found: Iterable[str]) -> str:
    return ", ".join(one[:_SHORT] for one in found)
